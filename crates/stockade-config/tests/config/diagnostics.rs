//! What is said of files that are wrong.

use std::fs;
use std::path::Path;

use stockade_config::{Config, Diagnostics, Severity};

use crate::{parse, refused, web_refused, with_web};

/// Each `files/*.yaml` is rejected with the text of the `.txt` file next to it. `UPDATE=1` writes that text.
#[test]
fn errors_are_all_reported_with_place_and_fix() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/files");
    let mut cases = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        cases += 1;
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let diagnostics = match Config::parse(&text, name, Path::new("/srv")) {
            Ok(loaded) => panic!("{name} is taken: {:#?}", loaded.config),
            Err(diagnostics) => diagnostics,
        };
        let reported = format!("{diagnostics}\n");
        let expected = path.with_extension("txt");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&expected, &reported).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        assert!(
            reported == expected,
            "{name} now has these diagnostics:\n{reported}"
        );
    }
    assert!(cases >= 5, "{cases}");
}

#[test]
fn errors_as_json_have_the_same_fields() {
    let diagnostics = parse(&with_web("limits: {memry: 1}")).unwrap_err();
    let json = diagnostics.to_json();
    let one = &json["mistakes"][0];
    assert_eq!(one["severity"], "error");
    assert_eq!(
        (one["line"].as_u64(), one["column"].as_u64()),
        (Some(5), Some(14))
    );
    assert_eq!(
        (one["length"].as_u64(), &one["nearest"]),
        (Some(5), &"memory".into())
    );
    assert_eq!(one["path"], "instances.web.limits.memry");
    assert!(one["allowed"].as_str().unwrap().contains("memory"));
    assert_eq!(json["more"], 0);
}

#[test]
fn error_in_what_holds_for_all_is_reported_once() {
    let text = "version: \"1.0\"\ndefaults: {limits: {cpu: never}, wx: maybe}\n\
                instances: {a: {code: a.ts}, b: {code: b.ts}, c: {code: c.ts}}\n";
    let diagnostics = parse(text).unwrap_err();
    assert_eq!(diagnostics.list.len(), 2, "{diagnostics}");
}

#[test]
fn key_without_the_one_that_gives_it_a_meaning_is_named() {
    let with_tls = |keys: &str| {
        format!(
            "version: \"1.0\"\ntls: {{cert_path: a.crt, key_path: a.key{keys}}}\n\
             instances: {{web: {{code: a.ts, urls: [a.example]}}}}\n"
        )
    };
    for keys in [", client_ca_path: ca.crt", ", require_client_cert: true"] {
        let reported = refused(&with_tls(keys));
        assert!(reported.contains("enable_mtls: true"), "{reported}");
    }
    // Switched off explicitly.
    parse(&with_tls(", enable_mtls: false, client_ca_path: ca.crt")).unwrap();
    parse(&with_tls(", enable_mtls: true, client_ca_path: ca.crt")).unwrap();

    let warned = |lines: &str| {
        let loaded = parse(&with_web(lines)).unwrap();
        let warnings = loaded.warnings.iter().map(ToString::to_string);
        warnings.collect::<Vec<_>>().join("\n")
    };
    for key in ["over_plain_http", "in_urls"] {
        let reported = warned(&format!("secrets: {{K: {{variable: K, {key}: true}}}}"));
        assert!(
            reported.contains(key) && reported.contains("hosts"),
            "{reported}"
        );
        let reported = warned(&format!("secrets: {{K: {{variable: K, {key}: false}}}}"));
        assert!(!reported.contains(key), "{reported}");
        let reported = warned(&format!(
            "secrets: {{K: {{variable: K, hosts: [a.example], {key}: true}}}}"
        ));
        assert!(!reported.contains("has the secret itself"), "{reported}");
    }
    let reported = warned("assets: {folder: ./public, fallback_status: 404}");
    assert!(reported.contains("fallback_status"), "{reported}");
}

#[test]
fn text_of_an_error_cannot_move_the_cursor() {
    let text = web_refused("urls: [\"\\e[2J\\r\\n\u{202e}\"]");
    assert!(!text.contains(['\u{1b}', '\r', '\u{202e}']), "{text:?}");
}

#[test]
fn numbers_out_of_range_are_refused() {
    for (line, allowed) in [
        ("mirrors: 0", "from 1 to 1000"),
        ("mirrors: -1", "from 1 to 1000"),
        ("mirrors: 1.5", "from 1 to 1000"),
        ("mirrors: \"2\"", "from 1 to 1000"),
        ("mirrors: 99999999999999999999", "from 1 to 1000"),
        ("limits: {memory: 1mb}", "from 8mb to 1tb"),
        ("limits: {cpu: 0s}", "from 1ms to 1h"),
        ("limits: {cpu_limit: .inf}", "a number from 0.01"),
        ("limits: {cpu_limit: 0}", "a number from 0.01"),
        ("autoscale: {cpu_threshold: 101}", "a number from 1 to 100"),
        ("timeout_seconds: nan", "a number from 0.001"),
        ("recycle: {memory: 1gb}", "less than 128mb"),
    ] {
        let text = web_refused(line);
        assert!(text.contains(allowed), "{line}: {text}");
    }
}

#[test]
fn key_by_its_old_name_works_with_a_warning() {
    let loaded = parse(&with_web("limits: {cpu_limit: 0.5}")).unwrap();
    let cores = loaded.config.instances["web"].limits.cores;
    assert_eq!(cores.fraction(), 0.5);
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(
        warnings[0].contains("instances.web.limits.cpu_limit"),
        "{warnings:#?}"
    );
    assert!(warnings[0].ends_with("allowed: cores"), "{warnings:#?}");
    let text = web_refused("limits: {cpu_limit: 0.5, cores: 1}");
    assert!(text.contains("which is there too"), "{text}");
    // The specification's short form has that name.
    let loaded = parse(&with_web("cpu_limit: 0.5")).unwrap();
    assert!(loaded.warnings.is_empty(), "{:#?}", loaded.warnings);
    assert_eq!(loaded.config.instances["web"].limits.cores, cores);
}

#[test]
fn key_that_means_nothing_where_each_request_has_a_mirror_is_refused() {
    for (lines, what, allowed) in [
        (
            "isolation: thread",
            "share a worker",
            "`isolation: process`",
        ),
        (
            "autoscale: true",
            "`autoscale` would have no effect",
            "`autoscale: false`",
        ),
        (
            "recycle: {requests: 5}",
            "ends after its first request",
            "none",
        ),
        (
            "limits: {concurrency: 3}, mirrors: 4",
            "4 mirrors are to be kept ready, and `limits.concurrency` allows 3",
            "1 to 3",
        ),
    ] {
        let text = |fresh: &str| {
            format!(
                "version: \"1.0\"\ninstances: {{web: {{code: a.ts, urls: [a.example], fresh: {fresh}, {lines}}}}}\n"
            )
        };
        let reported = refused(&text("request"));
        assert!(
            reported.contains(what) && reported.contains(allowed),
            "{reported}"
        );
        parse(&text("mirror")).unwrap();
    }
    // What comes from `defaults` can be undone.
    let text = "version: \"1.0\"\ndefaults: {autoscale: true, recycle: {requests: 5}}\n\
                instances: {web: {code: a.ts, fresh: request, autoscale: false, recycle: {requests: none}}}\n";
    let loaded = parse(text).unwrap();
    assert_eq!(loaded.config.instances["web"].recycle.requests, None);
    let text =
        "version: \"1.0\"\ninstances: {web: {code: a.ts, template: own, isolation: thread}}\n";
    let reported = refused(text);
    assert!(reported.contains("has no template"), "{reported}");
}

/// Without the list everything is allowed; an empty one must not say the same.
#[test]
fn empty_list_that_would_allow_everything_is_refused() {
    let rule = |keys: &str| format!("data_guard: {{rules: [{{{keys}}}]}}");
    for line in [
        rule("hosts: [a.example], methods: []"),
        rule("hosts: [a.example], ports: []"),
        rule("hosts: [a.example], schemes: []"),
        rule("hosts: []"),
        rule("hosts: [a.example], addresses: []"),
        "client_auth: {ca: []}".to_owned(),
        "client_auth: {ca: a.pem, subjects: []}".to_owned(),
        "client_auth: {ca: a.pem, san: []}".to_owned(),
    ] {
        let reported = web_refused(&line);
        assert!(
            reported.contains("an empty list allows nothing"),
            "{reported}"
        );
        assert!(reported.contains("at least one entry, or no"), "{reported}");
    }
}

#[test]
fn entry_that_cannot_be_parsed_is_refused() {
    for (line, what) in [
        (
            "data_guard: {rules: [{hosts: [a.example], methods: [\"GE T\"]}]}",
            "a method",
        ),
        (
            "data_guard: {rules: [{hosts: [a.example], methods: [GET, \"\"]}]}",
            "a method",
        ),
        (
            "data_guard: {rules: [{hosts: [a.example], ports: [x]}]}",
            "a port",
        ),
        (
            "assets: {folder: a, headers: {x-a: \"\\u00e4\"}}",
            "printable ASCII",
        ),
        (
            "assets: {folder: a, headers: {\"a b\": c}}",
            "name of a header",
        ),
        (
            "assets: {folder: a, cache_control: \"\\u00e4\"}",
            "printable ASCII",
        ),
        ("crons: [\"61 * * * *\"]", "five fields"),
        ("urls: [a..b]", "host name"),
    ] {
        let reported = web_refused(line);
        assert!(reported.contains(what), "{line}: {reported}");
    }
    let text = "logging: {access: {headers: [\"a b\"]}, redact: {headers: [\"c d\"]}}\n";
    let reported = refused(&format!("{}{text}", with_web("")));
    assert_eq!(
        reported.matches("the name of a header").count(),
        2,
        "{reported}"
    );
}

#[test]
fn bad_text_is_refused_without_panic() {
    for text in [
        "",
        "\0",
        "---",
        "[]",
        "3",
        "version",
        "version: \"1.0\"",
        "{",
        "a: *b",
        "\u{feff}",
        "instances: {web: }",
        "version: \"1.0\"\ninstances: []",
        "version: \"1.0\"\ninstances: {a: 3}",
        "version: \"1.0\"\ninstance: {}\ninstances: {}",
        "? a\n",
        "%YAML 9.9\n---\na: 1\n",
        "version: \"1.0\"\ninstances: {web: {code: {a: b}, urls: {a: b}, env: [1], limits: 3}}",
        "version: \"1.0\"\ninstances: {web: {data_guard: [], assets: [], state: [], files: {}}}",
        "version: \"1.0\"\ntls: 3\nlisteners: 3\nmetrics: 3\nlogging: []\nstate: x\nnetwork: y",
    ] {
        assert!(refused(text).contains("stockade.yaml"), "{text:?}");
    }
}

#[test]
fn sections_of_the_wrong_kind_are_reported_once_each() {
    let text = "version: \"1.0\"\ntls: 3\nlogging: []\nlimits: x\ninstances: {web: {code: a.ts}}\n";
    let diagnostics = parse(text).unwrap_err();
    let lines: Vec<_> = diagnostics
        .list
        .iter()
        .map(|diagnostic| diagnostic.line)
        .collect();
    assert_eq!(lines, [2, 3, 4], "{diagnostics}");
}

#[test]
fn large_files_are_refused_within_bounds() {
    let begun = std::time::Instant::now();
    // Many instances with a large part that holds for all.
    let mut text = "version: \"1.0\"\ndefaults:\n  env:\n".to_owned();
    for n in 0..4900 {
        text += &format!("    V{n}: 1\n");
    }
    text += "instances:\n";
    for n in 0..5000 {
        text += &format!("  a{n}: {{code: a.ts}}\n");
    }
    assert!(refused(&text).contains("too large for 5000 instances"));
    let many: String = (0..10_001)
        .map(|n| format!("  a{n}: {{code: a}}\n"))
        .collect();
    let many = format!("version: \"1.0\"\ninstances:\n{many}");
    assert!(refused(&many).contains("the limit is 10000"));
    let long = format!("version: \"1.0\"\nx-a: {}\n", "b".repeat(9 << 20));
    assert!(refused(&long).contains("the limit is 8 MiB"));
    let long = with_web(&format!("env: {{A: {}}}", "b".repeat(400_000)));
    assert!(refused(&long).contains("longer than"));
    // Everything on one line, with many errors and many secrets in it.
    let secrets: String = (0..50_000).map(|n| format!("S{n}: hunter2, ")).collect();
    let wrong: String = (0..50_000).map(|n| format!("k{n}: 1, ")).collect();
    let line = format!(
        "{{version: \"1.0\", {wrong} instances: {{web: {{code: a.ts, secrets: {{{secrets}}}}}}}}}"
    );
    assert!(!refused(&line).contains("hunter2"));
    // One error on each of many lines: a hundred are reported, the rest are counted.
    let wrong: String = (0..20_000).map(|n| format!("k{n}: 1\n")).collect();
    assert!(refused(&wrong).contains("more that are not shown"));
    assert!(begun.elapsed().as_secs() < 180, "{:?}", begun.elapsed());
}

#[test]
fn load_reports_what_is_not_there_and_shows_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stockade.yaml");
    fs::write(folder.path().join("empty"), "").unwrap();
    fs::write(folder.path().join("binary"), b"sword\xff").unwrap();
    let text = "version: \"1.0\"\nstate: {path: nowhere/state.db}\n\
        tls: {certificates: [{cert: a.crt, key: .}]}\n\
        instances:\n  web:\n    code: .\n    assets: {folder: ., fallback: 404.html}\n    \
        files: [{path: none}]\n    secrets:\n      A: {file: gone}\n      B: {variable: STOCKADE_NOT_SET}\n      \
        C: {file: empty}\n      D: {file: binary}\n      E: {file: /dev/zero}\n  two: {code: stockade.yaml}\n";
    fs::write(&path, text).unwrap();
    assert!(Config::read(&path).is_ok());
    let diagnostics = Config::load(&path).unwrap_err().to_string();
    for part in [
        ":2:15: state.path:",
        ":3:29: tls.certificates[0].cert:",
        "is not a regular file",
        "has no module to begin with",
        "404.html is not there",
        "instances.web.files[0].path:",
        "gone: No such file",
        "the environment variable STOCKADE_NOT_SET",
        "the secret is empty",
        "is not UTF-8",
        "/dev/zero is not a regular file",
        "stockade.yaml is not a module",
    ] {
        assert!(
            diagnostics.contains(part),
            "{part:?} is missing in\n{diagnostics}"
        );
    }
    assert!(!diagnostics.contains("sword"), "{diagnostics}");
}

#[test]
fn load_reads_secrets_that_debug_does_not_show() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stockade.yaml");
    fs::write(folder.path().join("a.ts"), "").unwrap();
    fs::write(folder.path().join("key"), "swordfish\n").unwrap();
    fs::write(
        &path,
        with_web("secrets: {A: {file: key}, B: {variable: PATH}}"),
    )
    .unwrap();
    let old = Config::load(&path).unwrap();
    let secret = &old.config.instances["web"].secrets["A"];
    assert_eq!(secret.value.as_ref().unwrap().reveal(), "swordfish");
    assert!(!format!("{old:?}").contains("swordfish"));
    assert_eq!(old.sources.len(), 2, "{:?}", old.sources);
    // A secret that changes changes the instance.
    fs::write(folder.path().join("key"), "other").unwrap();
    let new = Config::load(&path).unwrap();
    assert_ne!(old.config.instances["web"], new.config.instances["web"]);
}

#[test]
fn load_of_what_is_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let reported = |path: &Path| {
        Config::load(path)
            .map(drop)
            .map_err(|m: Diagnostics| m.to_string())
    };
    assert!(
        reported(folder.path())
            .unwrap_err()
            .contains("is not a regular file")
    );
    let missing = reported(&folder.path().join("x")).unwrap_err();
    assert!(missing.contains("cannot read"), "{missing}");
    let name = folder.path().join("x").display().to_string();
    assert_eq!(missing.matches(&name).count(), 1, "{missing}");
    assert!(
        reported(Path::new("/dev/zero"))
            .unwrap_err()
            .contains("is not a regular file")
    );
    let latin = folder.path().join("latin.yaml");
    fs::write(&latin, b"version: \"1.0\"\n# \xe4\n").unwrap();
    assert!(reported(&latin).unwrap_err().contains("line 2"));
}

#[test]
fn warnings_come_with_a_good_file() {
    let loaded = crate::good(&with_web("env: {API_TOKEN: abc}"));
    assert_eq!(loaded.warnings.len(), 1);
    assert_eq!(loaded.warnings[0].severity, Severity::Warning);
    assert_eq!(loaded.warnings[0].line, 5);
}

#[test]
fn templates_of_their_own_are_bounded() {
    let config = |own: usize| {
        let mut text = "version: \"1.0\"\ninstances:\n".to_owned();
        for index in 0..own {
            text += &format!("  a{index}: {{code: ., urls: [a{index}.example], template: own}}\n");
        }
        text + "  b: {code: ., urls: [b.example]}\n"
    };
    parse(&config(32)).unwrap();
    let error = refused(&config(33));
    assert!(error.contains("instances.a32.template"), "{error}");
}
