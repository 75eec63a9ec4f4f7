//! What a file becomes: defaults, layers, units.

use std::time::Duration;

use serde_json::json;
use stockade_config::{ClientAuthMode, FileMode, ProxyProtocol, Scaling, SecretSource};
use stockade_http::{EncodedSlashes, HostPattern};
use stockade_limits::{Isolation, Wx};

use crate::{good, web, with_web};

#[test]
fn instance_defaults_deny_and_bound() {
    let web = web("");
    assert_eq!(web.isolation, Isolation::Container);
    assert_eq!(web.wx, Wx::Jit);
    assert!(web.data_guard.rules.is_empty() && web.data_guard.allow_private.is_empty());
    assert!(web.state.is_none() && web.files.is_empty() && web.secrets.is_empty());
    assert_eq!(web.limits.memory, 128 << 20);
    assert_eq!(web.limits.cpu, Duration::from_millis(500));
    assert_eq!(web.limits.wall, Duration::from_secs(5));
    assert_eq!(web.scaling, Scaling::Fixed(1));
    assert_eq!(web.encoded_slashes, EncodedSlashes::Reject);
    let config = good(&with_web("")).config;
    assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:8080");
    assert!(config.metrics.is_none());
    assert_eq!(config.state.to_str(), Some("/srv/state.db"));
}

#[test]
fn instance_takes_each_key_from_the_nearest_layer() {
    let text = r#"
version: "1.0"
security: {data_guard: {outbound_whitelist: [a.example], rate: 5}, isolation: process}
scaling: {mirrors: 2, autoscale: {max_instances: 9}}
defaults:
  limits: {memory: 64mb, cpu: 1s}
  env: {A: 1, B: 2}
instances:
  one: {code: a.ts, limits: {memory: 32mb}, env: {B: 3}, data_guard: {rate: 7}}
  two: {code: a.ts, mirrors: 5, isolation: container, data_guard: {outbound_whitelist: []}}
"#;
    let config = good(text).config;
    let (one, two) = (&config.instances["one"], &config.instances["two"]);
    assert_eq!(one.limits.memory, 32 << 20);
    assert_eq!(one.limits.cpu, Duration::from_secs(1));
    assert_eq!(one.limits.wall, Duration::from_secs(10));
    assert_eq!(
        (one.env["A"].clone(), one.env["B"].clone()),
        (json!(1), json!(3))
    );
    assert_eq!(one.data_guard.rate, Some(7));
    assert_eq!(one.data_guard.rules.len(), 1);
    assert_eq!(
        (one.isolation, two.isolation),
        (Isolation::Process, Isolation::Container)
    );
    let Scaling::Auto(auto) = &one.scaling else {
        panic!()
    };
    assert_eq!((auto.min, auto.initial, auto.max), (1, 2, 9));
    // Its own number of mirrors stands against a wider autoscale.
    assert_eq!(two.scaling, Scaling::Fixed(5));
    assert!(two.data_guard.rules.is_empty());
    assert_eq!(two.data_guard.rate, Some(5));
}

#[test]
fn client_auth_of_the_nearest_layer_holds_as_a_whole() {
    let text = r#"
version: "1.0"
tls: {cert_path: a.crt, key_path: a.key}
defaults: {client_auth: {mode: required, ca: all.crt, subjects: ["CN=a"]}}
instances:
  one: {code: a.ts, urls: ["https://one.example"]}
  two: {code: a.ts, urls: ["https://two.example"], client_auth: {mode: optional, ca: two.crt}}
  three: {code: a.ts, urls: ["https://three.example"], client_auth: none}
"#;
    let config = good(text).config;
    let of = |name: &str| config.instances[name].client_auth.clone().unwrap();
    assert_eq!(of("one").mode, ClientAuthMode::Required);
    assert_eq!(of("one").ca, [std::path::PathBuf::from("/srv/all.crt")]);
    assert_eq!(of("one").subjects, ["CN=a"]);
    assert_eq!(of("two").mode, ClientAuthMode::Optional);
    assert_eq!(of("two").ca, [std::path::PathBuf::from("/srv/two.crt")]);
    assert!(of("two").subjects.is_empty());
    assert_eq!(of("three").mode, ClientAuthMode::None);
}

#[test]
fn auth_asks_for_a_key_in_the_header_unless_it_names_another_place() {
    let text = r#"
version: "1.0"
defaults: {auth: true}
instances:
  one: {code: a.ts}
  two: {code: a.ts, auth: {api_key: {query: key, scopes: [orders], paths: {"/a/*": [a]}}, open: [/health]}}
  three: {code: a.ts, auth: false}
"#;
    let config = good(text).config;
    let of = |name: &str| config.instances[name].auth.clone();
    let one = of("one").unwrap().api_key.unwrap();
    assert_eq!(one.header.unwrap(), "authorization");
    assert_eq!((one.query, one.cookie, one.scopes), (None, None, vec![]));
    let two = of("two").unwrap();
    let key = two.api_key.unwrap();
    assert_eq!((key.header, key.query.as_deref()), (None, Some("key")));
    assert_eq!(key.scopes, ["orders"]);
    assert_eq!(key.paths.len(), 1);
    assert_eq!(two.open.len(), 1);
    assert_eq!(of("three"), None);
    assert_eq!(config.api_keys.path, std::path::Path::new("/srv/keys.db"));
    for wrong in [
        "{api_key: {scopes: []}}",
        "{api_key: {scopes: [READ]}}",
        "{api_key: {methods: {get: [read]}}}",
        "{api_key: {methods: {GET: []}}}",
        "{api_key: {paths: {reports: [read]}}}",
        "{api_key: {header: host}}",
        "{api_key: {header: x-forwarded-for}}",
        "{open: [health]}",
        "{jwt: {}}",
        "{jwt: true}",
        "{jwt: {jwks: a.json}}",
        "{jwt: {jwks: a.json, algorithms: []}}",
        "{jwt: {algorithms: [RS256]}}",
        "{jwt: {jwks: a.json, jwks_url: \"https://a.example/k\", algorithms: [RS256]}}",
        "{jwt: {jwks: a.json, jwks_refresh: 5m, algorithms: [RS256]}}",
        "{jwt: {jwks_url: \"http://a.example/k\", algorithms: [RS256]}}",
        "{jwt: {jwks_url: \"https://u:p@a.example/k\", algorithms: [RS256]}}",
        "{jwt: {jwks_url: \"https:///k\", algorithms: [RS256]}}",
        "{jwt: {jwks_url: \"https://a.example/k\", jwks_refresh: 5s, algorithms: [RS256]}}",
        "{jwt: {jwks: a.json, algorithms: [none]}}",
        "{jwt: {jwks: a.json, algorithms: [HS256]}}",
        "{jwt: {jwks: a.json, algorithms: [RS256], audience: []}}",
        "{api_key: false}",
        "{api_key: false, client_certificate: false}",
    ] {
        let text = format!("version: \"1.0\"\ninstances: {{a: {{code: a.ts, auth: {wrong}}}}}\n");
        let read = stockade_config::Config::parse(&text, "a.yaml", std::path::Path::new("/srv"));
        assert!(read.is_err(), "{wrong}");
    }
}

#[test]
fn none_undoes_a_wider_limit() {
    let text = r#"
version: "1.0"
defaults: {limits: {io_ops: 5}, data_guard: {bandwidth: 1mb}}
instances: {web: {code: a.ts, limits: {io_ops: none}, data_guard: {bandwidth: none}}}
"#;
    let config = good(text).config;
    assert_eq!(config.instances["web"].limits.io_ops, None);
    assert_eq!(config.instances["web"].data_guard.bandwidth, None);
}

#[test]
fn env_values_keep_their_types() {
    let env = web(
        "env:\n  TEXT: hello\n  NUMBER: 10\n  FLOAT: 1.50\n  FLAG: true\n  QUOTED: \"10\"\n  \
         NOTHING: null\n  LIST: [1, a, {b: c}]\n  VERSION: 1.2.3\n  PHONE: 0123\n  WORD: yes",
    )
    .env;
    assert_eq!(
        serde_json::to_value(env).unwrap(),
        json!({
            "TEXT": "hello", "NUMBER": 10, "FLOAT": 1.5, "FLAG": true, "QUOTED": "10",
            "NOTHING": null, "LIST": [1, "a", {"b": "c"}], "VERSION": "1.2.3", "PHONE": "0123",
            "WORD": "yes",
        })
    );
}

#[test]
fn grants_are_read_in_short_and_in_full() {
    let web = web(
        "assets: ./public\nstate: true\nbindings: {self: web, full: {instance: web}}\n\
         files:\n  - path: data\n  - {path: /tmp/out, binding: OUT, mode: write, storage: 1gb}\n\
         secrets:\n  A: {file: key.txt}\n  B: {variable: B_KEY, hosts: [\"*.example.com\"]}\n\
         data_guard: {outbound_whitelist: [\"*.example.com\"]}\ncrons: [\"*/5 * * * *\"]",
    );
    assert_eq!(web.assets.unwrap().folder.to_str(), Some("/srv/public"));
    assert_eq!(web.state.as_ref().unwrap().binding, "STATE");
    assert_eq!(web.state.unwrap().storage, 100 << 20);
    assert_eq!(web.bindings["self"], web.bindings["full"]);
    assert_eq!(
        (web.files[0].mode, web.files[1].mode),
        (FileMode::Read, FileMode::Write)
    );
    assert_eq!(web.files[0].path.to_str(), Some("/srv/data"));
    assert_eq!(web.files[1].storage, 1 << 30);
    assert_eq!(
        web.secrets["A"].source,
        SecretSource::File("/srv/key.txt".into())
    );
    assert_eq!(web.secrets["A"].hosts, None);
    let hosts = web.secrets["B"].hosts.as_ref().unwrap();
    assert_eq!(hosts[0], HostPattern::Below("example.com".to_owned()));
    assert_eq!(&*web.crons[0].text, "*/5 * * * *");
}

#[test]
fn autoscale_threshold_is_of_the_share_a_mirror_may_use() {
    let web = web("limits: {cpu_limit: 0.5, concurrency: 10}\nautoscale: {cpu_threshold: 80}");
    let Scaling::Auto(auto) = web.scaling else {
        panic!()
    };
    assert_eq!(auto.cpu_percent, 40.0);
    assert_eq!(auto.requests_per_mirror, 5.0);
    assert_eq!((auto.min, auto.max, auto.initial), (1, 4, 1));
}

#[test]
fn listeners_share_tls_or_have_their_own() {
    let text = r#"
version: "1.0"
tls:
  certificates: [{cert: a.crt, key: a.key}, {cert: b.crt, key: b.key, ocsp: b.ocsp}]
  min_version: 1.3
  client_auth: {mode: optional, ca: [ca.crt], crl: [ca.crl], subjects: ["CN=a"]}
trusted_proxies: [10.0.0.0/8, "::1"]
listeners:
  - {address: "127.0.0.1:1"}
  - {address: "127.0.0.1:2", tls: false, proxy_protocol: required, http2: false}
  - {address: "[::1]:3", tls: {certificates: [{cert: c.crt, key: c.key}]}}
instances: {web: {code: a.ts, urls: [a.example]}}
"#;
    let config = good(text).config;
    let tls = |n: usize| config.listeners[n].tls.as_ref();
    assert_eq!(tls(0).unwrap().certificates.len(), 2);
    assert_eq!(tls(0).unwrap().client_auth.mode, ClientAuthMode::Optional);
    assert_eq!(
        tls(0).unwrap().client_auth.ca[0].to_str(),
        Some("/srv/ca.crt")
    );
    assert!(tls(1).is_none());
    assert_eq!(config.listeners[1].proxy_protocol, ProxyProtocol::Required);
    assert_eq!(tls(2).unwrap().client_auth.mode, ClientAuthMode::None);
    assert_eq!(config.trusted_proxies.len(), 2);
    assert_eq!(config.https_redirect, Some(1));
    let with = |value: &str| {
        good(&format!("{text}https_redirect: {value}\n"))
            .config
            .https_redirect
    };
    assert_eq!(
        (with("false"), with("true"), with("443")),
        (None, Some(1), Some(443))
    );
}

#[test]
fn anchors_and_merges_hold_what_is_shared() {
    let text = r#"
version: "1.0"
x-small: &small {limits: {memory: 16mb}, code: a.ts}
instances:
  one: {<<: *small}
  two: {<<: *small, code: b.ts}
"#;
    let config = good(text).config;
    assert_eq!(config.instances["two"].limits.memory, 16 << 20);
    assert_eq!(
        config.instances["two"].code.as_ref().unwrap().to_str(),
        Some("/srv/b.ts")
    );
}

#[test]
fn a_thousand_sites_are_read_quickly() {
    let mut text = "version: \"1.0\"\ninstances:\n".to_owned();
    for n in 0..1000 {
        text += &format!("  site-{n}:\n    code: ./{n}.ts\n    urls: [s{n}.example.com]\n");
    }
    let begun = std::time::Instant::now();
    assert_eq!(good(&text).config.instances.len(), 1000);
    // A debug build takes a tenth of it.
    assert!(
        begun.elapsed() < Duration::from_secs(60),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn acme_has_the_names_of_all_urls_over_tls() {
    let text = "version: \"1.0\"\ntls: {acme: {enabled: true, accept_terms: true, contact: [a@b.c]}}\n\
        instances:\n  a: {code: a.ts, urls: [https://b.example, a.example/x, \"*.c.example\", \"127.0.0.1\"]}\n";
    let config = good(text).config;
    let acme = config.listeners[0]
        .tls
        .as_ref()
        .unwrap()
        .acme
        .clone()
        .unwrap();
    assert_eq!(acme.domains, ["a.example", "b.example"]);
    assert_eq!(acme.contact, ["mailto:a@b.c"]);
    let none = text.replace("https://b.example, a.example/x, ", "");
    assert!(crate::refused(&none).contains("ACME has no name"));
    let http = text.replace("accept_terms", "challenge: http-01, accept_terms");
    assert!(crate::refused(&http).contains("needs a listener without TLS"));
}

#[test]
fn tokens_and_certificates_are_alternatives_to_keys() {
    let text = r#"
version: "1.0"
instances:
  token: {code: a.ts, auth: {jwt: {jwks: a.json, algorithms: [RS256], audience: web, claims: {role: [a, b]}}}}
  both: {code: a.ts, auth: {api_key: true, jwt: {jwks: a.json, algorithms: [ES256], issuer: [x, y]}}}
  certificate: {code: a.ts, auth: {client_certificate: {subjects: ["CN=a"]}}}
  any: {code: a.ts, auth: {client_certificate: true, api_key: {header: x-api-key}}}
"#;
    let loaded = good(text);
    let of = |name: &str| loaded.config.instances[name].auth.clone().unwrap();
    let token = of("token");
    assert!(token.api_key.is_none() && token.client_certificate.is_none());
    let jwt = token.jwt.unwrap();
    assert_eq!((jwt.issuer, jwt.audience), (vec![], vec!["web".to_owned()]));
    assert_eq!(
        jwt.claims,
        [("role".to_owned(), vec!["a".to_owned(), "b".to_owned()])]
    );
    assert_eq!(jwt.leeway, std::time::Duration::from_secs(60));
    assert!(of("both").api_key.is_some());
    assert_eq!(of("both").jwt.unwrap().issuer, ["x", "y"]);
    let certificate = of("certificate");
    assert!(certificate.api_key.is_none());
    assert_eq!(certificate.client_certificate.unwrap().subjects, ["CN=a"]);
    assert!(of("any").api_key.is_some() && of("any").client_certificate.unwrap().san.is_empty());
    // A token that was made for another service.
    let warned: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].contains("instances.both.auth.jwt"), "{warned:?}");
}

#[test]
fn rate_limits_are_read_by_their_units() {
    use stockade_config::LimitBy;
    use stockade_limits::ShownLimits;
    let text = r#"
version: "1.0"
rate_limits: [{requests: 5/m}]
defaults: {rate_limits: [{by: instance, bytes_out: 1.5kb/s}], rate_limit_headers: all}
instances:
  one: {code: a.ts}
  two: {code: a.ts, rate_limit_headers: none, rate_limits: [{by: [key, "header:X-Tenant", "claim:sub"], requests: 7 / day}, {cpu: 30s/m}]}
"#;
    let config = good(text).config;
    let all = &config.rate_limits[0];
    assert_eq!(all.by, [LimitBy::Address]);
    assert_eq!(all.requests.unwrap().to_string(), "5/m");
    let shown = ["one", "two"].map(|name| config.instances[name].rate_limit_headers);
    assert_eq!(shown, [ShownLimits::All, ShownLimits::None]);
    let one = &config.instances["one"].rate_limits;
    assert_eq!(one[0].bytes_out.unwrap().to_string(), "1536/s");
    let two = &config.instances["two"].rate_limits;
    let by = [
        LimitBy::Key,
        LimitBy::Header("x-tenant".parse().unwrap()),
        LimitBy::Claim("sub".to_owned()),
    ];
    assert_eq!((two.len(), &two[0].by[..]), (2, &by[..]));
    // Microseconds.
    assert_eq!(two[1].cpu.unwrap().to_string(), "30000000/m");
    for wrong in [
        "{}",
        "{by: key}",
        "{by: [], requests: 1/s}",
        "{by: cookie, requests: 1/s}",
        "{by: \"header:\", requests: 1/s}",
        "{requests: 0/s}",
        "{requests: 1.5/s}",
        "{requests: 10}",
        "{requests: 10/week}",
        "{requests: 10/day, burst: 5}",
        "{bytes_in: 10mb/s, burst: 5}",
        "{bytes_in: 10/s}",
        "{cpu: 30/m}",
        "{cpu: 0s/m}",
        "{cpu: 10us/s}",
        "{cpu: 100h/year}",
        "{cpu: 1s/m, burst: 5}",
        "{requests: 1/s, methods: [get]}",
        "{requests: 1/s, paths: []}",
    ] {
        let text = with_web(&format!("rate_limits: [{wrong}]"));
        assert!(crate::parse(&text).is_err(), "{wrong}");
    }
}
