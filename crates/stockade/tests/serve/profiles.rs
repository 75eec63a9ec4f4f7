//! Profiles of mirrors, by `stockade profile` and by the admin API.

use std::path::Path;
use std::process::Output;

use http::Method;
use serde_json::Value;
use stockade_serve::{AdminClient, AskError};

use crate::client::{get, run, try_open};
use crate::server::{PLAIN, Server, stockade};

const CODE: &str = "\
interface Round { left: number }
function hot(round: Round): number {
  let sum = 0;
  while (round.left-- > 0) sum += Math.sqrt(round.left);
  return sum;
}
export default {
  fetch(request: Request): Response {
    if (request.url.endsWith('/busy')) for (;;) hot({ left: 1000 });
    return new Response('here');
  },
};
";

fn start() -> Server {
    let config = format!(
        "{PLAIN}instances: {{site: {{code: ./a.ts, urls: [\"/*\"], limits: {{cpu: 1h, timeout: 1h}}}}}}\n"
    );
    Server::start(&config, &[("a.ts", CODE)])
}

fn profile(server: &Server, args: &[&str]) -> Output {
    let mut command = stockade();
    command.args(["profile", "site"]).args(args);
    command.current_dir(server.folder.path()).output().unwrap()
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn busy_mirror_is_profiled_with_a_picture_and_its_heap_is_seen() {
    let server = start();
    let address = server.address();
    run(async {
        let client = AdminClient::at_socket(&server.path("stockade.sock"));
        let busy = tokio::spawn(try_open(address, get("localhost", "/busy")));
        loop {
            let site: Value = client
                .json(Method::GET, "/v1/instances/site", None)
                .await
                .unwrap();
            if site["in_flight"] == 1 {
                break;
            }
            tokio::task::yield_now().await;
        }
        let output = profile(
            &server,
            &["--seconds", "0.5", "-o", "a.cpuprofile", "--svg", "a.svg"],
        );
        assert!(output.status.success(), "{output:?}");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "a.cpuprofile\na.svg\n"
        );
        let cpu = read(&server.path("a.cpuprofile"));
        let nodes = cpu["nodes"].as_array().unwrap();
        let hot = nodes
            .iter()
            .find(|node| node["callFrame"]["functionName"] == "hot")
            .unwrap();
        assert_eq!(hot["callFrame"]["url"], "guest:///a.ts");
        let line = hot["callFrame"]["lineNumber"].as_u64().unwrap();
        assert!((1..=4).contains(&line), "{hot}");
        let picture = std::fs::read_to_string(server.path("a.svg")).unwrap();
        assert!(
            picture.contains("<title>site, mirror 0</title>"),
            "{picture}"
        );
        assert!(picture.contains("<title>hot\nguest:///a.ts:"), "{picture}");

        let output = profile(&server, &["--kind", "heap"]);
        assert!(output.status.success(), "{output:?}");
        let heap = read(&server.path("site-0.heapsnapshot"));
        assert!(heap["snapshot"]["node_count"].as_u64().unwrap() > 1000);
        let output = profile(&server, &["--kind", "heap-statistics", "--mirror", "0"]);
        assert!(output.status.success(), "{output:?}");
        let statistics: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(
            statistics["usedHeap"].as_u64().unwrap() > 100_000,
            "{statistics}"
        );
        busy.abort();
    });
}

#[test]
fn profile_that_cannot_be_made_is_refused() {
    let server = start();
    run(async {
        let client = AdminClient::at_socket(&server.path("stockade.sock"));
        for (path, status) in [
            ("site/mirrors/0/profile?kind=cpu&seconds=301", 400),
            ("site/mirrors/0/profile?kind=cpu&seconds=nan", 400),
            ("site/mirrors/0/profile?kind=everything", 400),
            ("site/mirrors/0/profile", 400),
            ("site/mirrors/77/profile?kind=cpu", 404),
            ("site/mirrors/-1/profile?kind=cpu", 400),
            ("none/mirrors/0/profile?kind=cpu", 404),
        ] {
            let path = format!("/v1/instances/{path}");
            let Err(AskError::Refused { status: given, .. }) =
                client.send(Method::POST, &path, None).await
            else {
                panic!("{path} was done");
            };
            assert_eq!(given.as_u16(), status, "{path}");
        }
        // One at a time of each mirror.
        let slow = async {
            loop {
                let path = "/v1/instances/site/mirrors/0/profile?kind=cpu&seconds=60";
                match client.send(Method::POST, path, None).await {
                    // A request below was there first.
                    Err(AskError::Refused { status, .. }) if status.as_u16() == 409 => {}
                    ended => return ended.map(drop),
                }
            }
        };
        let second = async {
            loop {
                let path = "/v1/instances/site/mirrors/0/profile?kind=heap-statistics";
                match client.send(Method::POST, path, None).await {
                    Err(AskError::Refused { status, .. }) => return status.as_u16(),
                    Err(error) => panic!("{error}"),
                    Ok(_) => tokio::task::yield_now().await,
                }
            }
        };
        tokio::select! {
            ended = slow => panic!("it ended early: {ended:?}"),
            status = second => assert_eq!(status, 409),
        }
    });
    let output = profile(&server, &["--kind", "heap", "--svg", "a.svg"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let output = profile(&server, &["--mirror", "9"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("instance \"site\" has no mirror 9 now"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(!server.path("site-9.cpuprofile").exists());
}
