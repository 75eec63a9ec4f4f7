//! Every key of the configuration changes something: each is changed, and what is made of the file must
//! differ.

mod cases;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};
use stockade_auth::{Keys, Pepper};
use stockade_broker::Secrets;
use stockade_config::{Config, Listener};
use stockade_http::Body;
use stockade_transpile::ModuleFiles;

use super::{egress, gateway, grants, instance, logging, sockets, tracing};
use cases::{EXEMPT, FILES, cases};

/// Puts a value where the keys lead, and sections on the way where there are none.
fn put(root: &mut Value, path: &str, value: Value) {
    let mut node = root;
    for part in path.split('.') {
        if let Ok(place) = part.parse::<usize>() {
            node = &mut node[place];
            continue;
        }
        if !node.is_object() {
            *node = Value::Object(Map::new());
        }
        node = node
            .as_object_mut()
            .unwrap()
            .entry(part)
            .or_insert(Value::Null);
    }
    *node = value;
}

fn read(folder: &Path, text: &Value) -> Config {
    let path = folder.join("stockade.yaml");
    // JSON is YAML (YAML 1.2.2, section 1.3).
    std::fs::write(&path, text.to_string()).unwrap();
    let loaded = Config::load(&path).unwrap_or_else(|diagnostics| panic!("{text}\n{diagnostics}"));
    loaded.config
}

/// What is used where it stands in the configuration: in which file, by which words.
const USED: [(&str, &str); 28] = [
    (
        include_str!("../../server/run.rs"),
        "Control::listen(&loaded.config.control, admin::router(&server.admin))",
    ),
    (include_str!("../../server/run.rs"), "config.drain_timeout"),
    (include_str!("../../server/run.rs"), "config.watch"),
    (
        include_str!("../../subsystem/sites.rs"),
        "config.drain_timeout",
    ),
    (
        include_str!("../../subsystem/state.rs"),
        "SqliteOptions::new(config.state.clone())",
    ),
    (
        include_str!("../../subsystem/keys.rs"),
        "Pepper::load(&place.pepper, place.pepper_variable.as_deref())",
    ),
    (
        include_str!("../../subsystem/keys.rs"),
        "Keys::open_reporting(&place.path, pepper, report)",
    ),
    (
        include_str!("../../subsystem/counting.rs"),
        "Quotas::open(file, capacity)",
    ),
    (
        include_str!("../../subsystem/metrics_listener.rs"),
        "StatusListener::start(metrics.listen, metrics.path.clone()",
    ),
    (
        include_str!("../../subsystem/admin_listener.rs"),
        "address: Address::Tcp(settings.listen)",
    ),
    (
        include_str!("../../server/run.rs"),
        "let folder = settings.folder.clone();",
    ),
    (
        include_str!("../../subsystem/gateway.rs"),
        "settings.preview_domain.as_deref()",
    ),
    (
        include_str!("../../server/deploy.rs"),
        "(settings.keep, Arc::clone(store))",
    ),
    (
        include_str!("../../admin/routes/versions.rs"),
        "(settings.max_bundle, settings.keep)",
    ),
    (
        include_str!("../../admin/entrance.rs"),
        "check_host(request.uri(), &settings.hosts)",
    ),
    (
        include_str!("../../subsystem/logging.rs"),
        "query: access.query",
    ),
    (
        include_str!("../../subsystem/logging.rs"),
        "client_address: access.client_address",
    ),
    (
        include_str!("../../subsystem/logging.rs"),
        "console: logging.console.clone()",
    ),
    (
        include_str!("../../subsystem/auditing.rs"),
        "uses: config.uses",
    ),
    (include_str!("../../site.rs"), "config.wx_audit"),
    (
        include_str!("../../subsystem/gateway.rs"),
        "config.connect.as_ref()",
    ),
    (
        include_str!("../../streams.rs"),
        "Semaphore::new(listener.connections)",
    ),
    (
        include_str!("../../streams.rs"),
        "idle: listener.idle_timeout",
    ),
    (include_str!("../../streams.rs"), "life: listener.lifetime"),
    (
        include_str!("../../site.rs"),
        "with_roots(&config.data_guard.ca)",
    ),
    (include_str!("../../site.rs"), "assets.order"),
    (
        include_str!("../../capabilities/mod.rs"),
        "for (name, grant) in &ground.site.grants",
    ),
    (
        include_str!("../../capabilities/service.rs"),
        "site: binding.instance.clone()",
    ),
];

async fn nobody(_: http::Request<Body>) -> http::Response<Body> {
    http::Response::new(stockade_http::empty_body())
}

/// A store without a key.
fn no_keys() -> Keys {
    static KEYS: LazyLock<Keys> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        let pepper = Pepper::new(&[7; 32]).unwrap();
        Keys::open(&folder.path().join("keys.db"), pepper).unwrap()
    });
    KEYS.clone()
}

/// Everything that is made of a configuration, as text.
fn made(config: &Config) -> String {
    let mut out = String::new();
    let mut add = |made: &dyn std::fmt::Debug| writeln!(out, "{made:?}").unwrap();
    if let Some(config) = &config.tracing {
        add(&tracing::options(config, |_| None));
        add(&tracing::parents(config));
    }
    add(&gateway::limits(&config.limits));
    add(&gateway::listeners(config));
    let taken = |one: &Listener| {
        (
            one.connect.clone(),
            one.connections,
            one.idle_timeout,
            one.lifetime,
        )
    };
    add(&config.listeners.iter().map(taken).collect::<Vec<_>>());
    add(&gateway::table_options(config));
    add(&super::tls::planned(config));
    add(&logging::options(config));
    add(&logging::redaction(config));
    let audit = config.audit.as_ref();
    add(&audit.map(|audit| (logging::audit(audit), audit.uses)));
    add(&config.usage.as_ref().map(logging::usage));
    let logs = &config.logging;
    add(&logs
        .access
        .as_ref()
        .map(|access| (&access.file, access.query, access.client_address)));
    add(&logs.console);
    add(&(
        &config.control,
        config.drain_timeout,
        config.watch,
        &config.state,
        &config.api_keys,
        (&config.limits.quotas, config.limits.rate_counters),
        &config.metrics,
    ));
    add(&config.deployments);
    let admin = config.admin.as_ref();
    add(&admin.map(|admin| (admin.listen, &admin.hosts)));
    add(&admin.and_then(|admin| Some(super::tls::admin_rule(admin.tls.as_ref()?))));
    for site in config.instances.values() {
        let mut route = stockade_gateway::Route::new(
            &site.name,
            site.urls.iter().map(gateway::pattern).collect(),
            std::sync::Arc::new(nobody),
        );
        gateway::route(site, &mut route);
        add(&(
            &route,
            route.encoded_slashes,
            route.timeout,
            route.max_body,
            route.websocket,
        ));
        add(&super::tls::rule(config, site));
        let counters = std::sync::Arc::new(stockade_limits::Counters::new(16, [7; 16]));
        add(&gateway::rate_limits(config, site, &counters));
        let rule = site.auth.as_ref();
        add(&rule.map(|auth| {
            let keys = auth.api_key.as_ref().map(|_| no_keys());
            gateway::key_rule(&site.name, auth, keys, None).unwrap()
        }));
        let jwt = rule.and_then(|auth| auth.jwt.as_ref());
        let fetched = jwt.and_then(|jwt| {
            let url = jwt.jwks_url.as_ref()?;
            let policy = crate::token_keys::policy(jwt, url)?;
            Some((url, policy, jwt.jwks_refresh))
        });
        add(&fetched);
        let (plain, kept) = grants::secrets(site).unwrap();
        add(&kept);
        let env = instance::environment(
            site,
            plain.into_iter().chain(Secrets::default().environment()),
        )
        .unwrap();
        let message = config.limits.websocket_message;
        let files = site.code.as_ref().map(|code| {
            let entry = code.display().to_string();
            ModuleFiles {
                modules: [(entry.clone(), String::new())].into(),
                entry,
                folder: code.clone(),
            }
        });
        add(&instance::options(site, env, files, message));
        add(&egress::policy(&site.data_guard, message));
        add(&sockets::policy(&site.sockets));
        add(&site.state.as_ref().map(grants::state));
        add(&site.files.iter().map(grants::folder).collect::<Vec<_>>());
        // The sections of grants are what their kinds take; the tests of `stockade-grants` show what each key does.
        add(&(&site.grants, &site.approvals));
        let assets = site.assets.as_ref();
        add(&assets.map(|assets| gateway::assets_options(assets, site.code.is_some())));
        add(&assets.map(|assets| assets.order));
        add(&(
            &site.bindings,
            site.wx_audit,
            &site.data_guard.ca,
            &site.receipts,
        ));
    }
    out
}

/// The alternatives of a schema's node, references followed.
fn alternatives<'a>(root: &'a Value, node: &'a Value, out: &mut Vec<(&'a str, &'a Value)>) {
    if let Some(name) = node["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        out.push((name, &root["$defs"][name]));
    } else if let Some(all) = node["anyOf"].as_array() {
        all.iter().for_each(|one| alternatives(root, one, out));
    } else {
        out.push(("config", node));
    }
}

/// The sections and keys on the way to a value.
fn keys_of(root: &Value, path: &str) -> Vec<(String, String)> {
    let mut node = root;
    let mut keys = Vec::new();
    for part in path.split('.') {
        let mut all = Vec::new();
        alternatives(root, node, &mut all);
        let step = all.iter().find_map(|(section, one)| {
            if let Some(next) = one["properties"].get(part) {
                keys.push(((*section).to_owned(), part.to_owned()));
                Some(next)
            } else if part.parse::<usize>().is_ok() {
                one.get("items")
            } else {
                one.get("additionalProperties")
                    .filter(|next| next.is_object())
            }
        });
        node = step.unwrap_or_else(|| panic!("{path}: the schema has no {part}"));
    }
    keys
}

#[test]
fn every_key_changes_what_is_made_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    for file in FILES {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, file).unwrap();
    }
    // Public keys of two issuers.
    for (file, letter) in [("jwks.json", "A"), ("other.json", "I")] {
        let key = json!({"kty": "OKP", "crv": "Ed25519", "x": letter.repeat(43)});
        let point = json!({"kty": "EC", "crv": "P-256", "x": "A".repeat(43), "y": "A".repeat(43)});
        let set = json!({"keys": [key, point]}).to_string();
        std::fs::write(folder.path().join(file), set).unwrap();
    }
    let schema = stockade_config::schema();
    let mut changed = BTreeSet::new();
    let mut idle = Vec::new();
    for case in cases() {
        let mut text = (case.base)();
        for (path, value) in case.with {
            put(&mut text, path, value);
        }
        let before = made(&read(folder.path(), &text));
        put(&mut text, &case.path, case.value);
        for (path, value) in case.also {
            put(&mut text, path, value);
        }
        if made(&read(folder.path(), &text)) == before {
            idle.push(case.path.clone());
        }
        changed.extend(keys_of(&schema, &case.path));
    }
    assert!(idle.is_empty(), "these keys change nothing: {idle:#?}");
    let mut forgotten = Vec::new();
    let sections = schema["$defs"].as_object().unwrap().iter();
    for (section, node) in sections
        .map(|(name, node)| (name.as_str(), node))
        .chain([("config", &schema)])
    {
        for key in node["properties"].as_object().unwrap().keys() {
            let exempt = EXEMPT
                .iter()
                .any(|(of, name, _)| *of == section && name == key);
            if !exempt && !changed.contains(&(section.to_owned(), key.clone())) {
                forgotten.push(format!("{section}.{key}"));
            }
        }
    }
    assert!(
        forgotten.is_empty(),
        "these keys are changed by no case: {forgotten:#?}"
    );
}

#[test]
fn what_is_used_as_configured_is_used() {
    for (file, words) in USED {
        assert!(file.contains(words), "nothing says {words:?} any more");
    }
    let guest = include_str!("../../observe/guest.rs");
    for key in ["level", "lines_per_second", "line_bytes"] {
        assert!(guest.contains(&format!("console.{key}")), "{key}");
    }
}
