//! The keys of the configuration, each with another value than the one that it has.

use serde_json::{Value, json};

/// Several sites, with something of everything.
pub(super) fn many() -> Value {
    json!({
        "version": "1.0",
        "listeners": [
            {"address": "127.0.0.1:8080", "tls": false},
            {"address": "127.0.0.1:8443"},
            {"address": "127.0.0.1:2525", "tls": false, "connect": "web"},
            {"address": "127.0.0.1:5300", "connect": "web", "protocol": "udp"},
        ],
        "tls": {
            "certificates": [{"cert": "a.pem", "key": "a.key"}],
            "client_auth": {"mode": "optional", "ca": "a.pem"},
        },
        "trusted_proxies": ["10.0.0.0/8"],
        "metrics": {"listen": "127.0.0.1:9900"},
        "instances": {
            "web": {
                "code": "./code",
                "urls": ["https://a.example", "http://b.example"],
                "secrets": {
                    "PLAIN": {"file": "a.txt"},
                    "KEPT": {"file": "a.txt", "hosts": ["api.example.com"]},
                    "FROM": {"variable": "PATH"},
                },
                "bindings": {"api": {"instance": "api"}},
                "state": {"binding": "STATE"},
                "files": [{"path": "./folder", "mode": "write"}],
                "grants": {
                    "NAMES": {"dns": {"names": ["d.example"]}, "approve": {"instance": "api"}},
                    "DOCS": {"files": {"path": "./folder"}},
                    "KEY": {"key": {
                        "secret": {"file": "67dea2ed018072d675f5415ecfaed7d2597555e202d85b3d65ea4e58d2d92ffa"},
                        "algorithm": "HS256", "usages": ["sign"], "encoding": "text",
                    }},
                    "ME": {"nostr": {"key": {"file": "67dea2ed018072d675f5415ecfaed7d2597555e202d85b3d65ea4e58d2d92ffa"}, "permissions": ["sign_event:1"]}},
                    "MAIL": {"pgp": {
                        "secret": {"file": "a.txt"}, "passphrase": {"file": "a.txt"}, "usages": ["sign"],
                    }},
                    "CHAIN": {"electrum": {"servers": ["ssl://e.example:50002"]}},
                    "VPN": {"wireguard": {"interface": "wg0", "allowed_ips": ["10.8.0.0/24"]}},
                    "OFFICE": {"wireguard_tunnel": {"config": {"file": "wg.conf"}}},
                    "BOOK": {"sqlite": {"file": "book.db"}},
                    "PG": {"postgres": {"url": {"file": "postgres://u@127.0.0.1/d"}}},
                    "SQL": {"mysql": {"url": {"file": "mysql://u@127.0.0.1/d"}}},
                    "CACHE": {"redis": {"url": {"file": "redis://127.0.0.1/1"}}},
                    "MONGO": {"mongo": {"url": {"file": "mongodb://u@127.0.0.1/d"}}},
                    "NWC": {"lightning": {
                        "nwc": {"file": "67dea2ed018072d675f5415ecfaed7d2597555e202d85b3d65ea4e58d2d92ffa"}, "spend": {"payment": "5sat", "day": "50sat"},
                    }},
                    "LNBITS": {"lightning": {
                        "lnbits": {"url": "https://l.example", "key": {"file": "67dea2ed018072d675f5415ecfaed7d2597555e202d85b3d65ea4e58d2d92ffa"}},
                    }},
                },
                "assets": {"folder": "./folder", "binding": "ASSETS"},
                "data_guard": {"rules": [{"hosts": ["c.example"], "addresses": ["192.0.2.0/24"]}, {
                    "hosts": ["p.example"], "proxy": "http://127.0.0.1:3128",
                    "client_certificate": "a.pem", "client_key": "a.key",
                }]},
                "sockets": {"connect": [{
                    "hosts": ["d.example"], "addresses": ["192.0.2.0/24"], "ports": [5432],
                    "client_certificate": "a.pem", "client_key": "a.key",
                }, {"hosts": ["d.example"], "ports": [53]}, {
                    "hosts": ["d.example"], "ports": [70], "proxy": "socks5://127.0.0.1:1080",
                }]},
                "autoscale": {"min_instances": 1},
            },
            "api": {"code": "./code"},
            "page": {
                "assets": {"folder": "./folder", "fallback": "index.html"},
                "urls": ["http://page.example"],
            },
        },
    })
}

/// The short form with one site.
pub(super) fn single() -> Value {
    json!({
        "version": "1.0",
        "network": {
            "urls": ["a.example"],
            "tls": {"cert_path": "a.pem", "key_path": "a.key"},
        },
        "instance": {"code": "./code"},
    })
}

/// Files that the configurations name.
pub(super) const FILES: [&str; 23] = [
    // What is in a file is its name: these two are keys, and the next eight are servers.
    "67dea2ed018072d675f5415ecfaed7d2597555e202d85b3d65ea4e58d2d92ffa",
    "4b22aa260e4acb7021e32f38a6cdf4b673c6a277755bfce287e370c924dc936d",
    "postgres://u@127.0.0.1/d",
    "postgres://u@127.0.0.1/e",
    "mysql://u@127.0.0.1/d",
    "mysql://u@127.0.0.1/e",
    "redis://127.0.0.1/1",
    "redis://127.0.0.1/2",
    "mongodb://u@127.0.0.1/d",
    "mongodb://u@127.0.0.1/e",
    "a.pem",
    "wg.conf",
    "other.conf",
    "a.key",
    "a.txt",
    "b.pem",
    "b.key",
    "b.txt",
    "code/index.js",
    "other/index.js",
    "folder/index.html",
    "folder/404.html",
    "elsewhere/index.html",
];

/// One key, changed.
pub(super) struct Case {
    pub(super) base: fn() -> Value,
    /// The keys that lead to it; numbers are places in lists.
    pub(super) path: String,
    pub(super) value: Value,
    /// What is there before and after, for the key to have a meaning.
    pub(super) with: Vec<(&'static str, Value)>,
    /// What comes with the change, for the key to be allowed.
    pub(super) also: Vec<(&'static str, Value)>,
}

impl Case {
    fn with(mut self, path: &'static str, value: Value) -> Self {
        self.with.push((path, value));
        self
    }

    fn also(mut self, path: &'static str, value: Value) -> Self {
        self.also.push((path, value));
        self
    }
}

fn change(path: impl Into<String>, value: Value) -> Case {
    Case {
        base: many,
        path: path.into(),
        value,
        with: Vec::new(),
        also: Vec::new(),
    }
}

fn change_single(path: &'static str, value: Value) -> Case {
    Case {
        base: single,
        ..change(path, value)
    }
}

/// Keys that cannot be changed alone, and why.
pub(super) const EXEMPT: [(&str, &str, &str); 3] = [
    ("config", "version", "there is one version"),
    ("data_guard", "enabled", "`false` is refused"),
    (
        "acme",
        "accept_terms",
        "`false` is refused where it matters",
    ),
];

/// A grant of each kind, and whether its limits have `handles`.
const GRANTS: [(&str, bool); 14] = [
    ("instances.web.grants.NAMES.dns", false),
    ("instances.web.grants.DOCS.files", true),
    ("instances.web.grants.KEY.key", false),
    ("instances.web.grants.ME.nostr", false),
    ("instances.web.grants.CHAIN.electrum", true),
    ("instances.web.grants.NWC.lightning", false),
    ("instances.web.grants.PG.postgres", true),
    ("instances.web.grants.SQL.mysql", true),
    ("instances.web.grants.CACHE.redis", true),
    ("instances.web.grants.BOOK.sqlite", true),
    ("instances.web.grants.MAIL.pgp", false),
    ("instances.web.grants.MONGO.mongo", true),
    ("instances.web.grants.OFFICE.wireguard_tunnel", false),
    ("instances.web.grants.VPN.wireguard", false),
];

/// Each limit of the calls of a grant.
fn call_limits((grant, handles): (&str, bool)) -> impl Iterator<Item = Case> {
    [
        ("rate", json!(5)),
        ("concurrent", json!(5)),
        ("queue", json!(5)),
        ("timeout", json!("7s")),
        ("total_requests", json!(5)),
        ("total_bytes", json!("5kb")),
        ("total_period", json!("1day")),
        ("max_request", json!("5kb")),
        ("max_result", json!("5kb")),
        ("handles", json!(7)),
    ]
    .into_iter()
    .filter(move |(key, _)| handles || *key != "handles")
    .map(move |(key, value)| change(format!("{grant}.limits.{key}"), value))
}

pub(super) fn cases() -> Vec<Case> {
    let acme = || {
        json!({
            "enabled": true, "accept_terms": true, "domains": ["a.example"],
            "directory": "https://acme.example/", "cache": "./acme",
        })
    };
    let of_acme = |path, value| change(path, value).with("tls.acme", acme());
    let mtls = || json!({"enable_mtls": true, "client_ca_path": "a.pem", "cert_path": "a.pem", "key_path": "a.key"});
    let of_mtls = |path, value| change_single(path, value).with("network.tls", mtls());
    let client = || json!({"mode": "required", "ca": "a.pem"});
    let of_deployments = |path, value| change(path, value).with("deployments", json!({}));
    let of_admin = |path, value| change(path, value).with("admin", json!({}));
    let of_audit = |path, value| change(path, value).with("audit.folder", json!("./audit"));
    let of_usage = |path, value| change(path, value).with("usage.path", json!("./usage.db"));
    let of_auth = |path, value| change(path, value).with("instances.web.auth", json!({}));
    let jwt = || json!({"jwks": "jwks.json", "algorithms": ["EdDSA"]});
    let of_jwt = |key: &str, value| {
        let path = format!("instances.web.auth.jwt.{key}");
        change(path, value).with("instances.web.auth", json!({"jwt": jwt()}))
    };
    let url = "https://a.example/jwks.json";
    let of_url = |key: &str, value| {
        let path = format!("instances.web.auth.jwt.{key}");
        let jwt = json!({"jwks_url": url, "algorithms": ["EdDSA"]});
        change(path, value).with("instances.web.auth", json!({"jwt": jwt}))
    };
    let limit = || json!({"requests": "5/m"});
    let of_limit = |key: &str, value| {
        let path = format!("instances.web.rate_limits.0.{key}");
        change(path, value).with("instances.web.rate_limits", json!([limit()]))
    };
    let mut cases =
        vec![
        // The outermost keys.
        change("instances.more", json!({"code": "./code"})),
        change_single("instance.env.A", json!(1)),
        change_single("network.urls", json!(["b.example"])),
        change("https_redirect", json!(444)),
        change("trusted_proxies", json!(["10.0.0.0/9"])),
        change("deployments", json!(true)),
        of_deployments("deployments.folder", json!("./other")),
        of_deployments("deployments.keep", json!(3)),
        of_deployments("deployments.preview_domain", json!("preview.example.com")),
        of_deployments("deployments.max_bundle", json!("1mb")),
        change("admin", json!(true)),
        of_admin("admin.listen", json!("127.0.0.1:9902")),
        of_admin("admin.tls", json!({"cert_path": "a.pem", "key_path": "a.key"})),
        of_admin("admin.hosts", json!(["admin.example"])),
        change("metrics", json!(false)),
        change("metrics.listen", json!("127.0.0.1:9901")),
        change("metrics.path", json!("/numbers")),
        change("state.path", json!("./other.db")),
        change("audit", json!({"folder": "./audit"})),
        of_audit("audit.folder", json!("./other")),
        of_audit("audit.key", json!("./other.key")),
        of_audit("audit.uses", json!(true)),
        of_audit("audit.checkpoint", json!("7s")),
        of_audit("audit.file_size", json!("5mb")),
        of_audit("audit.files", json!(7)),
        of_audit("audit.keep", json!("7days")),
        change("usage", json!({"path": "./usage.db"})),
        of_usage("usage.path", json!("./other.db")),
        of_usage("usage.interval", json!("7s")),
        of_usage("usage.keep", json!("7days")),
        of_usage("usage.keys", json!(7)),
        of_usage("usage.key_metrics", json!(true)),
        change("api_keys.path", json!("./other.db")),
        change("api_keys.pepper", json!("./other.pepper")),
        change("api_keys.pepper_variable", json!("PATH")),
        // Clients with API keys.
        change("instances.web.auth", json!(true)),
        change("defaults.auth", json!(true)),
        of_auth("instances.web.auth.open", json!(["/health"])),
        of_auth("instances.web.auth.api_key.header", json!("x-api-key")),
        of_auth("instances.web.auth.api_key.query", json!("api_key")),
        of_auth("instances.web.auth.api_key.cookie", json!("api_key")),
        of_auth("instances.web.auth.api_key.scopes", json!(["orders"])),
        of_auth("instances.web.auth.api_key.methods", json!({"DELETE": ["admin"]})),
        of_auth("instances.web.auth.api_key.paths", json!({"/reports/*": ["reports"]})),
        of_auth("instances.web.auth.api_key", json!(true))
            .with("instances.web.auth", json!({"client_certificate": true})),
        of_auth("instances.web.auth.jwt", jwt()),
        of_auth("instances.web.auth.client_certificate", json!(true)),
        of_auth("instances.web.auth.client_certificate.subjects", json!(["CN=a"])),
        of_auth("instances.web.auth.client_certificate.san", json!(["DNS:a.example"])),
        of_jwt("jwks", json!("other.json")),
        of_url("jwks_url", json!("https://a.example/other.json")),
        of_url("jwks_refresh", json!("5m")),
        of_url("jwks_allow_private", json!(["127.0.0.1"])),
        of_url("jwks_ca", json!(["a.pem"])),
        of_jwt("algorithms", json!(["EdDSA", "ES256"])),
        of_jwt("issuer", json!("https://i.example")),
        of_jwt("audience", json!(["web"])),
        of_jwt("leeway", json!("5s")),
        of_jwt("claims", json!({"role": "admin"})),
        // What clients may use over time.
        change("rate_limits", json!([limit()])),
        change("defaults.rate_limits", json!([limit()])),
        change("instances.web.rate_limits", json!([limit()])),
        change("defaults.rate_limit_headers", json!("none")).with("rate_limits", json!([limit()])),
        change("instances.web.rate_limit_headers", json!("all"))
            .with("instances.web.rate_limits", json!([limit()])),
        of_limit("by", json!("key")),
        of_limit("requests", json!("5/h")),
        of_limit("burst", json!(7)),
        of_limit("bytes_in", json!("5kb/s")),
        of_limit("bytes_out", json!("5kb/month")),
        of_limit("cpu", json!("5ms/s")),
        of_limit("methods", json!(["POST"])),
        of_limit("paths", json!(["/api/*"])),
        change("control", json!("./other.sock")),
        change("drain_timeout", json!("5s")),
        change("watch", json!(false)),
        // Listeners and TLS.
        change("listeners.0.address", json!("127.0.0.1:8081")),
        change("listeners.1.tls.min_version", json!("1.3")).with(
            "listeners.1.tls",
            json!({"certificates": [{"cert": "a.pem", "key": "a.key"}], "client_auth": client()}),
        ),
        change("listeners.0.proxy_protocol", json!("optional")),
        change("listeners.1.http2", json!(false)),
        change("listeners.2.connect", json!("api")),
        change("listeners.2.connections", json!(5)),
        change("listeners.2.idle_timeout", json!("5s")),
        change("listeners.2.lifetime", json!("5s")),
        change("listeners.2.protocol", json!("udp")),
        change("listeners.3.datagrams", json!(5)),
        change("listeners.3.amplification", json!(5)),
        change_single("network.tls.enabled", json!(false)),
        change("tls.certificates.0.cert", json!("b.pem")),
        change("tls.certificates.0.key", json!("b.key")),
        change("tls.certificates.0.ocsp", json!("b.txt")),
        change_single("network.tls.cert_path", json!("b.pem")),
        change_single("network.tls.key_path", json!("b.key")),
        change("tls.min_version", json!("1.3")),
        change("tls.strict_sni", json!(true)),
        change("tls.client_auth.mode", json!("required")),
        change("tls.client_auth.ca", json!("b.pem")),
        change("tls.client_auth.crl", json!(["b.txt"])),
        change("tls.client_auth.expired_crl", json!("accept")),
        change("tls.client_auth.subjects", json!(["CN=a"])),
        change("tls.client_auth.san", json!(["a.example"])),
        change_single("network.tls.enable_mtls", json!(true))
            .also("network.tls.client_ca_path", json!("a.pem")),
        of_mtls("network.tls.client_ca_path", json!("b.pem")),
        of_mtls("network.tls.require_client_cert", json!(false)),
        of_acme("tls.acme.enabled", json!(false)),
        of_acme("tls.acme.directory", json!("https://other.example/")),
        of_acme("tls.acme.contact", json!(["admin@example.com"])),
        of_acme("tls.acme.domains", json!(["b.example"])),
        of_acme("tls.acme.challenge", json!("http-01")),
        of_acme("tls.acme.cache", json!("./other-acme")),
        of_acme("tls.acme.ca", json!("a.pem")),
        // The limits of every client.
        change("limits.connections", json!(5)),
        change("limits.connections_per_address", json!(5)),
        change("limits.requests_per_connection", json!(5)),
        change("limits.handshakes", json!(5)),
        change("limits.handshake_timeout", json!("5s")),
        change("limits.header_timeout", json!("5s")),
        change("limits.body_timeout", json!("5s")),
        change("limits.body_rate", json!("5b")),
        change("limits.write_timeout", json!("5s")),
        change("limits.idle_timeout", json!("5s")),
        change("limits.header_bytes", json!("16kb")),
        change("limits.headers", json!(50)),
        change("limits.uri_bytes", json!("1kb")),
        change("limits.max_body", json!("1mb")),
        change("limits.http2_streams", json!(5)),
        change("limits.http2_resets", json!(5)),
        change("limits.http2_control_frames", json!(50)),
        change("limits.rate_counters", json!(5000)),
        change("limits.ipv6_prefix", json!(56)).with("rate_limits", json!([limit()])),
        change("limits.quotas", json!("./other.db")),
        change("limits.websockets", json!(5)),
        change("limits.websocket_message", json!("1kb")),
        change("limits.websocket_rate", json!(5)),
        change("limits.websocket_ping", json!("5s")),
        change("limits.websocket_pong", json!("5s")),
        // Traces.
        change("tracing", json!(true)),
        change("tracing.endpoint", json!("http://127.0.0.1:9/")),
        change("tracing.protocol", json!("grpc")),
        change("tracing.headers", json!({"x-token": "1"})),
        change("tracing.ca", json!("./a.pem")),
        change("tracing.timeout", json!("1s")),
        change("tracing.sampling", json!(0.5)),
        change("tracing.parents", json!("nobody")),
        change("tracing.service_name", json!("own")),
        change("tracing.attributes", json!({"a": "b"})),
        change("tracing.queue", json!(64)),
        // Logs.
        change("logging.level", json!("warn")),
        change("logging.format", json!("text")),
        change("logging.file", json!("./log")),
        change("logging.access", json!(false)),
        change("logging.access.file", json!("./access")),
        change("logging.access.query", json!("full")),
        change("logging.access.client_address", json!("none")),
        change("logging.access.headers", json!(["referer"])),
        change("logging.console.level", json!("off")),
        change("logging.console.lines_per_second", json!(5)),
        change("logging.console.line_bytes", json!("1kb")),
        change("logging.redact.headers", json!(["x-own"])),
        change("logging.redact.query", json!(["own"])),
        // One site.
        change("instances.web.code", json!("./other")),
        change("instances.web.urls", json!(["https://a.example"])),
        change("instances.web.isolation", json!("process")),
        change("instances.web.wx", json!("strict")),
        change("instances.web.template", json!("own")),
        change("instances.web.wx_audit", json!(true)),
        change("instances.web.inspect", json!(true)),
        change("instances.web.receipts", json!("./other.key")),
        change("instances.web.cgroup", json!("require")),
        change("instances.web.memory_limit", json!("64mb")),
        change("instances.web.cpu_limit", json!(0.5)),
        change("instances.web.timeout_seconds", json!(5)),
        change("instances.web.env.A", json!(1)),
        change("instances.web.crons", json!(["* * * * *"])),
        change("instances.api.mirrors", json!(3)),
        change("instances.web.encoded_slashes", json!("keep")),
        change("instances.web.client_auth", client())
            .with("instances.web.urls", json!(["https://a.example"])),
        // Its limits.
        change("instances.web.limits.memory", json!("64mb")),
        change("instances.web.limits.cpu", json!("50ms")),
        change("instances.web.limits.cores", json!(0.5)),
        change("instances.web.limits.cpu_limit", json!(0.5)),
        change("instances.web.limits.wall", json!("20s")),
        change("instances.web.limits.timeout", json!("5s")),
        change("instances.web.limits.concurrency", json!(5)),
        change("instances.web.limits.queue", json!(5)),
        change("instances.web.limits.queue_timeout", json!("5s")),
        change("instances.web.limits.start_timeout", json!("5s")),
        change("instances.web.limits.wait_until", json!("5s")),
        change("instances.web.limits.io_ops", json!(5)),
        change("instances.web.limits.bandwidth", json!("5kb")),
        change("instances.web.limits.subrequests", json!(5)),
        change("instances.web.limits.storage", json!("5kb")),
        change("instances.web.limits.max_body", json!("5kb")),
        change("instances.web.limits.max_response", json!("5kb")),
        change("instances.web.limits.websockets", json!(5)),
        change("instances.web.limits.kill_grace", json!("50ms")),
        // Its mirrors.
        change("instances.web.autoscale.min_instances", json!(0)),
        change("instances.web.autoscale.max_instances", json!(9)),
        change("instances.web.autoscale.cpu_threshold", json!(50)),
        change("instances.web.autoscale.queue_length", json!(5)),
        change("instances.web.autoscale.stable_window", json!("30s")),
        change("instances.web.autoscale.panic_window", json!("5s")),
        change("instances.web.autoscale.scale_to_zero_after", json!("5s")),
        change("instances.web.recycle.requests", json!(5)),
        change("instances.web.recycle.memory", json!("5mb")),
        change("instances.web.recycle.age", json!("5s")),
        change("instances.api.fresh", json!("request")),
        // What it is granted.
        change("instances.web.secrets.PLAIN.file", json!("b.txt")),
        change("instances.web.secrets.FROM.variable", json!("HOME")),
        change("instances.web.secrets.KEPT.hosts", json!(["b.example.com"])),
        change("instances.web.secrets.KEPT.over_plain_http", json!(true)),
        change("instances.web.secrets.KEPT.in_urls", json!(true)),
        change("instances.web.bindings.page", json!("page")),
        change("instances.web.bindings.api.instance", json!("page")),
        change("instances.web.state.binding", json!("KEPT_STATE")),
        change("instances.web.state.storage", json!("5kb")),
        change("instances.web.state.max_value", json!("5kb")),
        change("instances.web.state.write_rate", json!(5)),
        change("instances.web.files.0.path", json!("./elsewhere")),
        change("instances.web.files.0.binding", json!("FOLDER")),
        change("instances.web.files.0.mode", json!("read")),
        change("instances.web.files.0.storage", json!("5kb")),
        change("instances.web.files.0.max_file", json!("5kb")),
        change("instances.page.assets.folder", json!("./elsewhere")),
        change("instances.web.assets.binding", json!("PUBLIC")),
        change("instances.page.assets.index", json!("404.html")),
        change("instances.page.assets.fallback", json!("404.html")),
        change("instances.page.assets.fallback_status", json!(404)),
        change("instances.web.assets.order", json!("code_first")),
        change("instances.page.assets.compress", json!(false)),
        change("instances.page.assets.cache_control", json!("no-store")),
        change("instances.page.assets.headers", json!({"x-own": "1"})),
        // What it may reach.
        change(
            "instances.web.data_guard.outbound_whitelist",
            json!(["d.example"]),
        ),
        change("instances.web.data_guard.rules.0.name", json!("own")),
        change(
            "instances.web.data_guard.rules.0.hosts",
            json!(["d.example"]),
        ),
        change(
            "instances.web.data_guard.rules.0.addresses",
            json!(["198.51.100.0/24"]),
        ),
        change("instances.web.data_guard.rules.0.ports", json!([8000])),
        change("instances.web.data_guard.rules.0.methods", json!(["GET"])),
        change("instances.web.data_guard.rules.0.schemes", json!(["https"])),
        change("instances.web.data_guard.rules.1.ca", json!(["a.pem"])),
        change(
            "instances.web.data_guard.rules.1.client_certificate",
            json!("b.pem"),
        ),
        change("instances.web.data_guard.rules.1.client_key", json!("b.key")),
        change("instances.web.data_guard.rules.1.proxy", json!("https://p.example:443")),
        change(
            "instances.web.data_guard.rules.1.proxy_credentials",
            json!({"variable": "PATH"}),
        ),
        change("instances.web.data_guard.rules.1.proxy_resolves", json!(true)),
        change(
            "instances.web.data_guard.allow_private",
            json!(["127.0.0.1"]),
        ),
        change("instances.web.data_guard.refuse", json!(["203.0.113.0/24"])),
        change("instances.web.data_guard.ca", json!(["a.pem"])),
        change("instances.web.data_guard.connect_timeout", json!("5s")),
        change("instances.web.data_guard.response_timeout", json!("5s")),
        change("instances.web.data_guard.idle_timeout", json!("5s")),
        change("instances.web.data_guard.timeout", json!("5s")),
        change(
            "instances.web.grants.MORE",
            json!({"dns": {"names": ["e.example"]}}),
        ),
        change("instances.web.grants.NAMES.dns.names", json!(["e.example"])),
        change("instances.web.grants.NAMES.dns.records", json!(["MX"])),
        change(
            "instances.web.grants.NAMES.dns.servers",
            json!(["192.0.2.53:53"]),
        ),
        change(
            "instances.web.grants.NAMES.dns.allow_private",
            json!(["10.0.0.0/8"]),
        ),
        change(
            "instances.web.grants.OFFICE.wireguard_tunnel.config",
            json!({"file": "other.conf"}),
        ),
        change(
            "instances.web.grants.OFFICE.wireguard_tunnel.connections",
            json!(6),
        ),
        change(
            "instances.web.grants.OFFICE.wireguard_tunnel.buffer",
            json!("6kb"),
        ),
        change(
            "instances.web.grants.OFFICE.wireguard_tunnel.handshakes",
            json!(6),
        ),
        change("instances.web.data_guard.rules.0.via", json!("OFFICE")),
        change("instances.web.grants.VPN.wireguard.interface", json!("wg1")),
        change("instances.web.grants.VPN.wireguard.peers", json!(6)),
        change(
            "instances.web.grants.VPN.wireguard.allowed_ips",
            json!(["10.9.0.0/24"]),
        ),
        change(
            "instances.web.grants.VPN.wireguard.reserved",
            json!(["10.8.0.9"]),
        ),
        change("instances.web.grants.VPN.wireguard.keys", json!("host")),
        change(
            "instances.web.grants.VPN.wireguard.endpoint",
            json!("vpn.example:51820"),
        ),
        change(
            "instances.web.grants.VPN.wireguard.routes",
            json!(["0.0.0.0/0"]),
        ),
        change(
            "instances.web.grants.VPN.wireguard.dns",
            json!(["10.8.0.1"]),
        ),
        change("instances.web.sockets.connect.0.via", json!("OFFICE")),
        change("instances.web.grants.NAMES.approve.instance", json!("page")),
        change("instances.web.grants.NAMES.approve.method", json!("ask")),
        change("instances.web.grants.NAMES.approve.timeout", json!("5s")),
        change("instances.web.grants.DOCS.files.path", json!("./elsewhere")),
        change("instances.web.grants.DOCS.files.mode", json!("write")),
        change("instances.web.grants.DOCS.files.storage", json!("5kb")),
        change("instances.web.grants.DOCS.files.max_file", json!("5kb")),
        change(
            "instances.web.grants.PG.postgres.url",
            json!({"file": "postgres://u@127.0.0.1/e"}),
        ),
        change("instances.web.grants.PG.postgres.tls", json!("required")),
        change("instances.web.grants.PG.postgres.pool", json!(6)),
        change("instances.web.grants.PG.postgres.via", json!("OFFICE")),
        change("instances.web.grants.PG.postgres.statement", json!("6s")),
        change("instances.web.grants.PG.postgres.idle", json!("6s")),
        change(
            "instances.web.grants.PG.postgres.allow_superuser",
            json!(true),
        ),
        change("instances.web.grants.PG.postgres.transaction", json!("6s")),
        change(
            "instances.web.grants.PG.postgres.idle_in_transaction",
            json!("6s"),
        ),
        change("instances.web.grants.PG.postgres.rows", json!(6)),
        change("instances.web.grants.PG.postgres.ca", json!(["a.pem"]))
            .with("instances.web.grants.PG.postgres.tls", json!("required")),
        change(
            "instances.web.grants.SQL.mysql.url",
            json!({"file": "mysql://u@127.0.0.1/e"}),
        ),
        change("instances.web.grants.SQL.mysql.tls", json!("required")),
        change("instances.web.grants.SQL.mysql.pool", json!(6)),
        change("instances.web.grants.SQL.mysql.via", json!("OFFICE")),
        change("instances.web.grants.SQL.mysql.statement", json!("6s")),
        change("instances.web.grants.SQL.mysql.idle", json!("6s")),
        change(
            "instances.web.grants.SQL.mysql.allow_superuser",
            json!(true),
        ),
        change("instances.web.grants.SQL.mysql.transaction", json!("6s")),
        change(
            "instances.web.grants.SQL.mysql.idle_in_transaction",
            json!("6s"),
        ),
        change("instances.web.grants.SQL.mysql.rows", json!(6)),
        change("instances.web.grants.SQL.mysql.ca", json!(["a.pem"]))
            .with("instances.web.grants.SQL.mysql.tls", json!("required")),
        change(
            "instances.web.grants.CACHE.redis.url",
            json!({"file": "redis://127.0.0.1/2"}),
        ),
        change("instances.web.grants.CACHE.redis.tls", json!("required")),
        change("instances.web.grants.CACHE.redis.pool", json!(6)),
        change("instances.web.grants.CACHE.redis.via", json!("OFFICE")),
        change("instances.web.grants.CACHE.redis.statement", json!("6s")),
        change("instances.web.grants.CACHE.redis.idle", json!("6s")),
        change(
            "instances.web.grants.CACHE.redis.allow_superuser",
            json!(true),
        ),
        change(
            "instances.web.grants.CACHE.redis.refuse",
            json!(["FLUSHDB"]),
        ),
        change("instances.web.grants.CACHE.redis.allow", json!(["EVAL"])),
        change("instances.web.grants.CACHE.redis.ca", json!(["a.pem"]))
            .with("instances.web.grants.CACHE.redis.tls", json!("required")),
        change(
            "instances.web.grants.MONGO.mongo.url",
            json!({"file": "mongodb://u@127.0.0.1/e"}),
        ),
        change("instances.web.grants.MONGO.mongo.tls", json!("required")),
        change("instances.web.grants.MONGO.mongo.ca", json!(["a.pem"]))
            .with("instances.web.grants.MONGO.mongo.tls", json!("required")),
        change("instances.web.grants.MONGO.mongo.pool", json!(6)),
        change("instances.web.grants.MONGO.mongo.via", json!("OFFICE")),
        change("instances.web.grants.MONGO.mongo.statement", json!("6s")),
        change("instances.web.grants.MONGO.mongo.idle", json!("6s")),
        change("instances.web.grants.MONGO.mongo.batch", json!(6)),
        change("instances.web.grants.MONGO.mongo.cursors", json!(6)),
        change("instances.web.grants.MONGO.mongo.refuse", json!(["drop"])),
        change("instances.web.grants.MONGO.mongo.allow", json!(["collMod"])),
        change(
            "instances.web.grants.MONGO.mongo.allow_superuser",
            json!(true),
        ),
        change("instances.web.grants.BOOK.sqlite.file", json!("other.db")),
        change("instances.web.grants.BOOK.sqlite.mode", json!("read")),
        change("instances.web.grants.BOOK.sqlite.storage", json!("5mb")),
        change("instances.web.grants.BOOK.sqlite.memory", json!("64mb")),
        change("instances.web.grants.BOOK.sqlite.statement", json!("6s")),
        change("instances.web.grants.BOOK.sqlite.transaction", json!("6s")),
        change("instances.web.grants.BOOK.sqlite.idle", json!("6s")),
        change(
            "instances.web.grants.BOOK.sqlite.isolation",
            json!("process"),
        ),
        change(
            "instances.web.grants.MAIL.pgp.secret",
            json!({"file": "b.txt"}),
        ),
        change(
            "instances.web.grants.MAIL.pgp.secret.variable",
            json!("HOME"),
        )
        .with(
            "instances.web.grants.MAIL.pgp.secret",
            json!({"variable": "PATH"}),
        ),
        change("instances.web.grants.MAIL.pgp.secret.file", json!("b.txt")),
        change(
            "instances.web.grants.MAIL.pgp.passphrase",
            json!({"file": "b.txt"}),
        ),
        change(
            "instances.web.grants.MAIL.pgp.passphrase.variable",
            json!("HOME"),
        )
        .with(
            "instances.web.grants.MAIL.pgp.passphrase",
            json!({"variable": "PATH"}),
        ),
        change(
            "instances.web.grants.MAIL.pgp.passphrase.file",
            json!("b.txt"),
        ),
        change("instances.web.grants.MAIL.pgp.recipients", json!(["a.pem"])),
        change("instances.web.grants.MAIL.pgp.usages", json!(["verify"])),
        change("instances.web.grants.MAIL.pgp.guest_keys", json!(false)),
        change("instances.web.grants.MAIL.pgp.time", json!("6s")),
        change("instances.web.grants.MAIL.pgp.memory", json!("512mb")),
        change("instances.web.grants.MAIL.pgp.idle", json!("6s")),
        change("instances.web.grants.MAIL.pgp.isolation", json!("process")),
        change(
            "instances.web.grants.KEY.key.secret",
            json!({"file": "4b22aa260e4acb7021e32f38a6cdf4b673c6a277755bfce287e370c924dc936d"}),
        ),
        change(
            "instances.web.grants.KEY.key.secret.file",
            json!("4b22aa260e4acb7021e32f38a6cdf4b673c6a277755bfce287e370c924dc936d"),
        ),
        change(
            "instances.web.grants.KEY.key.secret.variable",
            json!("HOME"),
        )
        .with(
            "instances.web.grants.KEY.key.secret",
            json!({"variable": "PATH"}),
        ),
        change("instances.web.grants.KEY.key.algorithm", json!("HS384")),
        change(
            "instances.web.grants.KEY.key.usages",
            json!(["sign", "verify"]),
        ),
        change("instances.web.grants.KEY.key.encoding", json!("hex")),
        change("instances.web.grants.KEY.key.domain", json!("a:")),
        change(
            "instances.web.grants.ME.nostr.key",
            json!({"file": "4b22aa260e4acb7021e32f38a6cdf4b673c6a277755bfce287e370c924dc936d"}),
        ),
        change(
            "instances.web.grants.ME.nostr.permissions",
            json!(["sign_event:4"]),
        ),
        change(
            "instances.web.grants.ME.nostr.relays",
            json!(["wss://r.example"]),
        ),
        change("instances.web.grants.ME.nostr.window", json!("1m")),
        change("instances.web.grants.ME.nostr.max_content", json!("5kb")),
        change("instances.web.grants.ME.nostr.events_per_minute", json!(5)),
        change("instances.web.grants.ME.nostr.events_per_day", json!(5)),
        change(
            "instances.web.grants.CHAIN.electrum.servers",
            json!(["ssl://f.example:50002"]),
        ),
        change(
            "instances.web.grants.CHAIN.electrum.network",
            json!("regtest"),
        ),
        change("instances.web.grants.CHAIN.electrum.agree", json!(2)),
        change("instances.web.grants.CHAIN.electrum.broadcast", json!(true)),
        change("instances.web.grants.CHAIN.electrum.ca", json!(["a.pem"])),
        change(
            "instances.web.grants.NWC.lightning.nwc",
            json!({"file": "4b22aa260e4acb7021e32f38a6cdf4b673c6a277755bfce287e370c924dc936d"}),
        ),
        change(
            "instances.web.grants.NWC.lightning.network",
            json!("regtest"),
        ),
        change("instances.web.grants.NWC.lightning.receive", json!(false)),
        change(
            "instances.web.grants.NWC.lightning.spend.payment",
            json!("6sat"),
        ),
        change(
            "instances.web.grants.NWC.lightning.spend.day",
            json!("60sat"),
        ),
        change(
            "instances.web.grants.NWC.lightning.spend.fee",
            json!("1sat"),
        ),
        change(
            "instances.web.grants.NWC.lightning.ledger",
            json!("./payments"),
        ),
        change("instances.web.grants.NWC.lightning.ca", json!(["a.pem"])),
        change(
            "instances.web.grants.LNBITS.lightning.lnbits.url",
            json!("https://m.example"),
        ),
        change(
            "instances.web.grants.LNBITS.lightning.lnbits.key",
            json!({"file": "4b22aa260e4acb7021e32f38a6cdf4b673c6a277755bfce287e370c924dc936d"}),
        ),
        change("instances.web.data_guard.max_request", json!("5kb")),
        change("instances.web.data_guard.max_response", json!("5kb")),
        change("instances.web.data_guard.max_decompressed", json!("5kb")),
        change("instances.web.data_guard.concurrent", json!(5)),
        change("instances.web.data_guard.queue", json!(5)),
        change("instances.web.data_guard.websockets", json!(5)),
        change("instances.web.data_guard.rate", json!(5)),
        change("instances.web.data_guard.bandwidth", json!("5kb")),
        change("instances.web.data_guard.total_requests", json!(5)),
        change("instances.web.data_guard.total_bytes", json!("5kb")),
        change("instances.web.data_guard.total_period", json!("1day")),
        // What holds for all sites.
        change("defaults.isolation", json!("process")),
        change("defaults.wx", json!("strict")),
        change("defaults.template", json!("own")),
        change("defaults.wx_audit", json!(true)),
        change("defaults.receipts", json!("./other.key")),
        change("defaults.cgroup", json!("require")),
        change("defaults.limits.memory", json!("64mb")),
        change("defaults.env.A", json!(1)),
        change("defaults.state", json!(true)),
        change("defaults.mirrors", json!(3)),
        change("defaults.autoscale", json!(true)),
        change("defaults.recycle.requests", json!(5)),
        change("instances.web.sockets.connect.0.name", json!("own")),
        change(
            "instances.web.sockets.connect.0.hosts",
            json!(["e.example"]),
        ),
        change(
            "instances.web.sockets.connect.0.addresses",
            json!(["192.0.2.0/25"]),
        ),
        change("instances.web.sockets.connect.0.ports", json!([25])),
        change("instances.web.sockets.connect.0.tls", json!("allowed")),
        change("instances.web.sockets.connect.1.protocol", json!("udp")),
        change("instances.web.sockets.datagrams", json!(5)),
        change("instances.web.sockets.connect.0.ca", json!(["a.pem"])),
        change(
            "instances.web.sockets.connect.0.client_certificate",
            json!("b.pem"),
        ),
        change("instances.web.sockets.connect.0.client_key", json!("b.key")),
        change("instances.web.sockets.connect.2.proxy", json!("https://p.example:443")),
        change(
            "instances.web.sockets.connect.2.proxy_credentials",
            json!({"variable": "PATH"}),
        ),
        change("instances.web.sockets.connect.2.proxy_resolves", json!(true)),
        change("instances.web.sockets.allow_private", json!(["127.0.0.1"])),
        change("instances.web.sockets.refuse", json!(["203.0.113.0/24"])),
        change("instances.web.sockets.concurrent", json!(5)),
        change("instances.web.sockets.rate", json!(5)),
        change("instances.web.sockets.bandwidth", json!("5kb")),
        change("instances.web.sockets.connect_timeout", json!("5s")),
        change("instances.web.sockets.idle_timeout", json!("5s")),
        change("instances.web.sockets.lifetime", json!("5s")),
        change("instances.web.sockets.total_connections", json!(5)),
        change("instances.web.sockets.total_bytes", json!("5kb")),
        change("instances.web.sockets.total_period", json!("1day")),
        change("instances.web.limits.connections", json!(5)),
        change("defaults.fresh", json!("request")).with("instances.web.autoscale", json!(false)),
        change("defaults.data_guard.rate", json!(5)),
        change("defaults.encoded_slashes", json!("keep")),
        change("defaults.client_auth", client())
            .with("instances.web.urls", json!(["https://a.example"]))
            .with("instances.page.urls", json!(["https://page.example"])),
        change("security.data_guard.rate", json!(5)),
        change("security.wx_policy.strict", json!(true)),
        change("security.wx_policy.audit_logging", json!(true)),
        change("security.isolation", json!("process")),
        change("security.cgroup", json!("require")),
        change("scaling.mirrors", json!(3)),
        change("scaling.autoscale", json!(true)),
    ];
    cases.extend(GRANTS.into_iter().flat_map(call_limits));
    cases
}
