//! Versions of code: uploaded by the command line and the API, given shares of the requests, rolled back, killed for.

use std::path::Path;
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use stockade_serve::{AdminClient, AskError};

use crate::client::{get, run, send};
use crate::killed_child::kills;
use crate::server::{PATIENCE, PLAIN, Server, stockade, write};

fn code(text: &str) -> String {
    format!(
        "import {{ text }} from './lib/text.ts'; export default {{ fetch: () => new Response(text + '{text}') }};"
    )
}

const LIB: &str = "export const text: string = 'v';";

fn config() -> String {
    format!(
        "{PLAIN}deployments: true\naudit: {{folder: ./audit}}\ninstances: {{site: {{code: ./site/main.ts, urls: [\"/*\"]}}}}\n"
    )
}

fn files() -> [(&'static str, &'static str); 1] {
    [(
        "site/main.ts",
        "export default { fetch: () => new Response('file') };",
    )]
}

/// A folder with the code of a version.
fn version_folder(server: &Server, text: &str) {
    let main = code(text);
    let path = |file: &str| format!("{text}/{file}");
    let (entry, lib) = (path("main.ts"), path("lib/text.ts"));
    write(
        server.folder.path(),
        &[
            (&entry, &main),
            (&lib, LIB),
            (&path(".git/HEAD"), "x"),
            (&path("node_modules/a.js"), "x"),
        ],
    );
}

fn command(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let output = stockade()
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, error) = (text(output.stdout), text(output.stderr));
    (
        output.status.success(),
        format!("{out}{error}").trim().to_owned(),
    )
}

fn done(server: &Server, arguments: &[&str]) -> String {
    let (success, text) = command(server.folder.path(), arguments);
    assert!(success, "{arguments:?}: {text}\n{}", server.log_text());
    text
}

async fn call(server: &Server, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let client = AdminClient::at_socket(&server.path("stockade.sock"));
    match client.json::<Value>(method, path, body.as_ref()).await {
        Ok(value) => (200, value),
        Err(AskError::Refused { status, detail }) => (status.as_u16(), json!(detail)),
        Err(error) => panic!("{path}: {error}"),
    }
}

async fn text(server: &Server) -> String {
    send(server.address(), get("any.example", "/")).await.text()
}

#[test]
fn version_is_deployed_survives_a_restart_and_is_rolled_back_in_under_a_second() {
    let mut server = Server::start(&config(), &files());
    version_folder(&server, "1");
    version_folder(&server, "2");
    run(async {
        assert_eq!(text(&server).await, "file");
        let deployed = done(&server, &["deploy", "1", "--message", "first"]);
        assert!(
            deployed.starts_with("site: ") && deployed.ends_with(" 100 %"),
            "{deployed}"
        );
        assert_eq!(text(&server).await, "v1");
        done(&server, &["deploy", "2"]);
        assert_eq!(text(&server).await, "v2");
        let versions = done(&server, &["versions"]);
        let lines: Vec<&str> = versions.lines().collect();
        assert_eq!(lines.len(), 4, "{versions}");
        let file = server.path("site/main.ts");
        assert!(lines[1].starts_with("site      file"), "{versions}");
        assert!(
            lines[1].contains(" 0 % ") && lines[1].ends_with(file.to_str().unwrap()),
            "{versions}"
        );
        assert!(versions.contains("first"), "{versions}");

        // Code with an error, or that does not start, changes nothing.
        write(
            server.folder.path(),
            &[("3/main.ts", "import './none.ts'; syntax error")],
        );
        assert!(!command(server.folder.path(), &["deploy", "3"]).0);
        write(
            server.folder.path(),
            &[("3/main.ts", "throw new Error('no');")],
        );
        assert!(!command(server.folder.path(), &["deploy", "3"]).0);
        assert_eq!(text(&server).await, "v2");

        // Back, as an operator waits for it.
        let began = Instant::now();
        let (status, back) = call(
            &server,
            Method::POST,
            "/v1/instances/site/rollback",
            Some(json!({})),
        )
        .await;
        let took = began.elapsed();
        assert_eq!((status, &back["number"]), (200, &json!(3)));
        assert_eq!(text(&server).await, "v1");
        println!("a rollback took {took:?}");
        let done_back = done(&server, &["rollback", "file"]);
        assert_eq!(done_back, "site: file 100 %");
        assert_eq!(text(&server).await, "file");
        done(&server, &["rollback"]);
        assert_eq!(text(&server).await, "v1");
        let (_, log) = call(&server, Method::GET, "/v1/audit?event=deployed", None).await;
        assert_eq!(log["lines"].as_array().unwrap().len(), 5, "{log}");
    });
    // A restart, and a reload, run what was deployed.
    server = server.again();
    run(async {
        assert_eq!(text(&server).await, "v1");
        done(&server, &["reload"]);
        assert_eq!(text(&server).await, "v1");
    });
}

#[test]
fn requests_are_split_and_clients_stay_with_their_version() {
    let server = Server::start(&config(), &files());
    version_folder(&server, "1");
    run(async {
        let split = done(
            &server,
            &["deploy", "1", "--percent", "25", "--sticky", "cookie"],
        );
        assert!(
            split.starts_with("site: file 75 %, ") && split.ends_with(" 25 %"),
            "{split}"
        );
        let (mut count, mut cookie) = (0, String::new());
        for _ in 0..100 {
            let answer = send(server.address(), get("any.example", "/")).await;
            let set = answer.header("set-cookie").to_owned();
            assert!(set.starts_with("stockade-version="), "{set}");
            if answer.text() == "v1" {
                count += 1;
                cookie = set.split(';').next().unwrap().to_owned();
            }
        }
        assert_eq!(count, 25);
        for _ in 0..20 {
            let mut request = get("any.example", "/");
            request
                .headers_mut()
                .insert("cookie", cookie.parse().unwrap());
            let answer = send(server.address(), request).await;
            assert_eq!(
                (answer.text().as_str(), answer.header("set-cookie")),
                ("v1", "")
            );
        }
        // The rest for the others, and all for one.
        let (_, now) = call(&server, Method::GET, "/v1/instances/site/deployment", None).await;
        let path = "/v1/instances/site/deployment";
        let all = json!({ "traffic": [{ "version": "file", "percent": 100 }], "replaces": now["number"] });
        assert_eq!(
            call(&server, Method::PUT, path, Some(all.clone())).await.0,
            200
        );
        assert_eq!(call(&server, Method::PUT, path, Some(all)).await.0, 412);
        assert_eq!(text(&server).await, "file");
    });
}

#[test]
fn version_without_requests_answers_at_its_preview_host() {
    let config = config().replace(
        "deployments: true",
        "deployments: {preview_domain: preview.localhost}",
    );
    let server = Server::start(&config, &files());
    version_folder(&server, "1");
    run(async {
        let uploaded = done(&server, &["deploy", "1", "--percent", "0", "--json"]);
        let uploaded: Value = serde_json::from_str(&uploaded).unwrap();
        let version = uploaded["version"].as_str().unwrap();
        let of = async |host: &str| send(server.address(), get(host, "/")).await;
        let host = format!("{version}.site.preview.localhost");
        assert_eq!(of(&host).await.text(), "v1");
        assert_eq!(text(&server).await, "file");
        for host in [
            "0000000000000000.site.preview.localhost",
            "file.site.preview.localhost",
            "x.y.site.preview.localhost",
        ] {
            assert_eq!(of(host).await.status, 404, "{host}");
        }
        // Operators see it next to the versions that get requests, and reach its mirror.
        let (site, mirrors) = shown(&server).await;
        assert_eq!(site["previews"].as_array().unwrap().len(), 1, "{site}");
        let preview = &site["previews"][0];
        assert_eq!(
            (&preview["version"], &preview["host"], &preview["requests"]),
            (&json!(version), &json!(host), &json!(1))
        );
        assert_eq!((&site["mirrors_wanted"], mirrors.len()), (&json!(1), 2));
        let of_preview = |mirror: &&Value| mirror["preview"] == true;
        let mut mirror = site["mirrors"].as_array().unwrap().iter();
        let mirror = mirror.find(of_preview).unwrap();
        assert_eq!(mirror["version"], version);
        let status = done(&server, &["status"]);
        let line = format!("site: preview {version} at {host} (1 requests, 0 errors)");
        assert!(
            status.contains(&line) && status.contains(" 1/1 "),
            "{status}"
        );
        let number = mirror["mirror"].as_u64().unwrap();
        let path = format!("/v1/instances/site/mirrors/{number}/kill");
        assert_eq!(call(&server, Method::POST, &path, None).await.0, 200);
        assert_eq!(of(&host).await.text(), "v1");
        // Once it gets requests, it is the same code that runs.
        done(&server, &["deploy", "1"]);
        assert_eq!(
            (of(&host).await.text(), text(&server).await),
            ("v1".to_owned(), "v1".to_owned())
        );
    });
}

#[test]
fn versions_name_the_code_of_each_instance_without_deployments_too() {
    let config = format!(
        "{PLAIN}instances:\n  a: {{code: ./site/main.ts, urls: [\"/a/*\"]}}\n  b: {{code: ./site/main.ts, urls: [\"/b/*\"]}}\n  \
         files: {{assets: ./site, urls: [\"/*\"]}}\n"
    );
    let server = Server::start(&config, &files());
    let all: Value = serde_json::from_str(&done(&server, &["versions", "--json"])).unwrap();
    let code = server.path("site/main.ts");
    let of = |name: &str| json!({ "instance": name, "file": { "code": code, "percent": 100 }, "versions": [] });
    assert_eq!(all, json!({ "instances": [of("a"), of("b")] }));
    let one = done(&server, &["versions", "--instance", "b"]);
    assert_eq!(one.lines().count(), 2, "{one}");
    let (success, why) = command(server.folder.path(), &["versions", "--instance", "files"]);
    assert!(!success && why.contains("has no code"), "{why}");
}

#[test]
fn bundles_that_lead_elsewhere_are_refused() {
    let server = Server::start(&config(), &files());
    let path = "/v1/instances/site/versions";
    run(async {
        let upload = async |files: Value| {
            call(&server, Method::POST, path, Some(json!({ "files": files }))).await
        };
        let ok =
            upload(json!({ "index.ts": "export default { fetch: () => new Response('json') };" }))
                .await;
        assert_eq!(ok.0, 200, "{ok:?}");
        for files in [
            json!({ "../index.ts": "" }),
            json!({ "/etc/cron.d/x": "" }),
            json!({ "index.ts": "import '../../../../etc/passwd';" }),
            json!({ "index.ts": "export default {", }),
            json!({ "a\\..\\b.ts": "" }),
            json!({}),
        ] {
            let (status, why) = upload(files.clone()).await;
            assert_eq!(status, 422, "{files}: {why}");
        }
        let other = call(
            &server,
            Method::POST,
            "/v1/instances/none/versions",
            Some(json!({ "files": {} })),
        )
        .await;
        assert_eq!(other.0, 404);
        for version in ["../../..", "0000000000000000", "FILE"] {
            let traffic = json!({ "traffic": [{ "version": version, "percent": 100 }] });
            let (status, _) = call(
                &server,
                Method::PUT,
                "/v1/instances/site/deployment",
                Some(traffic),
            )
            .await;
            assert!((400..500).contains(&status), "{version}: {status}");
        }
        assert_eq!(text(&server).await, "file");
        // A link in the folder is not followed.
        std::os::unix::fs::symlink("/etc/passwd", server.path("site/secret.ts")).unwrap();
        assert!(!command(server.folder.path(), &["deploy", "site"]).0);
        let names: Vec<_> = std::fs::read_dir(server.path("deployments/site/versions"))
            .unwrap()
            .collect();
        assert_eq!(names.len(), 1);
    });
}

#[test]
fn server_killed_while_it_deploys_runs_the_old_or_the_new() {
    let mut server = Server::start(&config(), &files());
    version_folder(&server, "1");
    version_folder(&server, "2");
    done(&server, &["deploy", "1"]);
    let mut before = "v1".to_owned();
    for round in 0..kills(12) {
        let next = if before == "v1" { "2" } else { "1" };
        let mut deploying = stockade();
        deploying
            .args(["deploy", next])
            .current_dir(server.folder.path());
        let deploying = deploying
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let mut deploying = deploying.spawn().unwrap();
        // Each round another instant.
        std::thread::sleep(Duration::from_millis(round as u64 * 23 % 300));
        server = server.again();
        let _ = deploying.wait();
        let now = run(text(&server));
        assert!(
            now == before || now == format!("v{next}"),
            "{before}, then {now}"
        );
        before = now;
    }
}

/// The versions of the site that get requests, and its mirrors: number, version and state of each.
async fn shown(server: &Server) -> (Value, Vec<(u64, String, String)>) {
    let (_, site) = call(server, Method::GET, "/v1/instances/site", None).await;
    let mirrors = site["mirrors"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mirrors = mirrors.map(|mirror| {
        let number = mirror["mirror"].as_u64().unwrap();
        (number, text(&mirror["version"]), text(&mirror["state"]))
    });
    let mut mirrors: Vec<_> = mirrors.collect();
    mirrors.sort();
    (site, mirrors)
}

#[test]
fn each_version_with_a_share_is_seen_and_reached() {
    let server = Server::start(&config(), &files());
    version_folder(&server, "1");
    run(async {
        let split = done(&server, &["deploy", "1", "--percent", "25", "--json"]);
        let split: Value = serde_json::from_str(&split).unwrap();
        let version = split["traffic"][1]["version"].as_str().unwrap().to_owned();
        for _ in 0..40 {
            text(&server).await;
        }
        let (site, mirrors) = shown(&server).await;
        let of = |at: usize, key: &str| site["versions"][at][key].clone();
        assert_eq!(
            (of(0, "version"), of(0, "percent")),
            (json!("file"), json!(75))
        );
        assert_eq!(
            (of(1, "version"), of(1, "percent")),
            (json!(version), json!(25))
        );
        assert_eq!(
            (of(0, "requests"), of(1, "requests")),
            (json!(30), json!(10))
        );
        assert_eq!(
            (&site["mirrors_wanted"], &site["ready"]),
            (&json!(2), &json!(true))
        );
        // No two mirrors have the same number, so a number is enough to reach one.
        let [(first, ..), (other, name, state)] = mirrors.as_slice() else {
            panic!("{mirrors:?}");
        };
        assert!(
            *first < *other && *name == version && state == "ready",
            "{mirrors:?}"
        );
        let metrics = server.status("/metrics").await.text();
        let series = format!(
            "stockade_version_requests_total{{instance=\"site\",version=\"{version}\"}} 10"
        );
        assert!(metrics.contains(&series), "{metrics}");
        let status = done(&server, &["status"]);
        let line = format!(
            "site: file 75 % (30 requests, 0 errors), {version} 25 % (10 requests, 0 errors)"
        );
        assert!(status.contains(&line), "{status}");

        let number = other.to_string();
        let statistics = done(
            &server,
            &[
                "profile",
                "site",
                "--mirror",
                &number,
                "--kind",
                "heap-statistics",
            ],
        );
        assert!(statistics.contains("usedHeap"), "{statistics}");
        let path = format!("/v1/instances/site/mirrors?version={version}");
        assert_eq!(
            call(&server, Method::POST, &path, None).await,
            (200, json!({ "mirrors_wanted": 2 }))
        );
        let none = "/v1/instances/site/mirrors?version=0000000000000000";
        assert_eq!(call(&server, Method::POST, none, None).await.0, 404);
        let path = format!("/v1/instances/site/mirrors/{other}/kill");
        assert_eq!(call(&server, Method::POST, &path, None).await.0, 200);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (_, mirrors) = shown(&server).await;
            let ready = mirrors.iter().filter(|(number, name, state)| {
                number > other && *name == version && state == "ready"
            });
            if ready.count() == 2 {
                break;
            }
            assert!(Instant::now() < deadline, "{mirrors:?}");
            tokio::task::yield_now().await;
        }
        assert_eq!(call(&server, Method::POST, &path, None).await.0, 404);
    });
}

#[test]
fn version_carries_its_assets_and_rolls_both_back() {
    let config = config().replace("main.ts, ", "main.ts, assets: ./public, ");
    let [code] = files();
    let mut server = Server::start(&config, &[code, ("public/a.txt", "file")]);
    version_folder(&server, "1");
    version_folder(&server, "2");
    let assets = [
        ("1/public/a.txt", "one"),
        ("1/public/.well-known/b.txt", "known"),
    ];
    write(server.folder.path(), &assets);
    let both = async |server: &Server| {
        let asset = server.get("any.example", "/a.txt").await.text();
        (asset, text(server).await)
    };
    let pair = |asset: &str, code: &str| (asset.to_owned(), code.to_owned());
    run(async {
        assert_eq!(both(&server).await, pair("file", "file"));
        done(&server, &["deploy", "1"]);
        assert_eq!(both(&server).await, pair("one", "v1"));
        let known = server.get("any.example", "/.well-known/b.txt").await;
        assert_eq!(known.text(), "known");
        // A version without assets goes with those of the configuration.
        done(&server, &["deploy", "2"]);
        assert_eq!(both(&server).await, pair("file", "v2"));
        done(&server, &["rollback"]);
        assert_eq!(both(&server).await, pair("one", "v1"));
    });
    server = server.again();
    run(async {
        assert_eq!(both(&server).await, pair("one", "v1"));
    });
    // Each kind of archive of the folder is the same version.
    let folder = server.folder.path();
    let make = "import shutil; [shutil.make_archive('bundle', kind, '1') for kind in ('tar', 'gztar', 'zip')]";
    let python = std::process::Command::new("python3")
        .args(["-c", make])
        .current_dir(folder)
        .status();
    assert!(python.unwrap().success());
    // Git's and npm's folders are left out of an uploaded folder, but not of an archive.
    let names = ["bundle.tar", "bundle.tar.gz", "bundle.zip"];
    let mut versions = std::collections::BTreeSet::new();
    for name in names {
        let uploaded = done(&server, &["deploy", name, "--percent", "0", "--json"]);
        let uploaded: Value = serde_json::from_str(&uploaded).unwrap();
        versions.insert(uploaded["version"].as_str().unwrap().to_owned());
        assert_eq!(uploaded["files"], 6, "{uploaded}");
    }
    assert_eq!(versions.len(), 1, "{versions:?}");
    std::fs::write(server.path("broken.zip"), "no archive").unwrap();
    let (success, why) = command(server.folder.path(), &["deploy", "broken.zip"]);
    assert!(!success && why.contains("archive cannot be read"), "{why}");
}

#[test]
fn share_that_cannot_be_served_is_not_ready() {
    let mut server = Server::start(&config(), &files());
    version_folder(&server, "1");
    run(async {
        assert_eq!(server.status("/readyz").await.status, 200);
    });
    let split = done(&server, &["deploy", "1", "--percent", "25", "--json"]);
    let split: Value = serde_json::from_str(&split).unwrap();
    let version = split["traffic"][1]["version"].as_str().unwrap();
    run(async {
        assert_eq!(server.status("/readyz").await.status, 200);
    });
    // A disk that has lost what it held: the version does not start again.
    let lib = server.path(&format!(
        "deployments/site/versions/{version}/files/lib/text.ts"
    ));
    std::fs::write(&lib, "export const text = 'v'; throw new Error('lost');").unwrap();
    server = server.again();
    run(async {
        let ready = server.status("/readyz").await;
        let why = format!("site: no mirror of version {version} is ready\n");
        assert_eq!((ready.status, ready.text()), (503, why));
        let (site, _) = shown(&server).await;
        assert_eq!(site["ready"], false);
        assert_eq!(site["versions"][0]["ready"], true);
        let error = site["versions"][1]["start_error"].as_str().unwrap();
        assert!(error.contains("lost"), "{error}");
        let (_, status) = call(&server, Method::GET, "/v1/status", None).await;
        assert_eq!(status["instances"]["ready"], 0);
        let (ready, text) = command(server.folder.path(), &["status"]);
        assert!(
            !ready && text.contains("(0 requests, 0 errors, not ready)"),
            "{text}"
        );
        assert!(!command(server.folder.path(), &["status", "--json"]).0);
    });
}
