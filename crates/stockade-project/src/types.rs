//! Type declarations: those of guests, hosts and sites, which are part of the program, and of a site's `env`.

use std::fmt::Write as _;

use serde_json::Value;
use stockade_config::{Config, Grant, Instance};

/// The declarations by the names of their files, as in the folder `types` of the source tree.
pub const DECLARATIONS: [(&str, &str); 6] = [
    ("web.d.ts", include_str!("../../../types/web.d.ts")),
    ("worker.d.ts", include_str!("../../../types/worker.d.ts")),
    ("host.d.ts", include_str!("../../../types/host.d.ts")),
    (
        "stockade-serve.d.ts",
        include_str!("../../../types/stockade-serve.d.ts"),
    ),
    (
        "stockade-test.d.ts",
        include_str!("../../../types/stockade-test.d.ts"),
    ),
    ("run.d.ts", include_str!("../../../types/run.d.ts")),
];

/// The file in which the types of `env` are unless another one is named.
pub const ENV_FILE: &str = "stockade-env.d.ts";

/// Levels of objects in a variable whose types are written; what lies deeper is `any`.
const MAX_OBJECT_DEPTH: usize = 8;

/// The interface `Env` of a configuration's only site. Where there are several, each has one of its own, whose name
/// begins with the site's.
#[must_use]
pub fn env_types(config: &Config) -> String {
    let mut out = String::from(
        "// What `env` holds, as the configuration says. `stockade types` writes this file.\n",
    );
    let alone = config.instances.len() == 1;
    for (name, site) in &config.instances {
        let interface = if alone {
            "Env".to_owned()
        } else {
            format!("{}Env", pascal(name))
        };
        let _ = write!(
            out,
            "\n/** The `env` of {name}. */\ninterface {interface} {{\n"
        );
        for (name, kind) in bindings(site) {
            // Names of variables are identifiers.
            let _ = writeln!(out, "  readonly {name}: {kind};");
        }
        out.push_str("}\n");
    }
    out
}

fn pascal(name: &str) -> String {
    let words = name.split('-').filter(|word| !word.is_empty());
    let capital = |word: &str| {
        let mut chars = word.chars();
        let first = chars.next().map(|char| char.to_ascii_uppercase());
        first.into_iter().chain(chars).collect::<String>()
    };
    let text: String = words.map(capital).collect();
    if text.starts_with(|char: char| char.is_ascii_digit()) {
        format!("Site{text}")
    } else {
        text
    }
}

/// The names of a site's `env` with their types, in order.
fn bindings(site: &Instance) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (name, value) in &site.env {
        all.push((name.clone(), of_value(value, 0)));
    }
    for name in site.secrets.keys() {
        all.push((name.clone(), "string".to_owned()));
    }
    for name in site.bindings.keys() {
        all.push((name.clone(), "Service".to_owned()));
    }
    if let Some(state) = &site.state {
        all.push((state.binding.clone(), "StateNamespace".to_owned()));
    }
    for files in &site.files {
        all.push((files.binding.clone(), "Files".to_owned()));
    }
    let assets = site.assets.as_ref();
    if let Some(binding) = assets.and_then(|assets| assets.binding.as_ref()) {
        all.push((binding.clone(), "Fetcher".to_owned()));
    }
    for (name, grant) in &site.grants {
        all.push((name.clone(), of_grant(grant).to_owned()));
    }
    all.sort();
    all
}

fn of_grant(grant: &Grant) -> &'static str {
    match grant {
        Grant::Dns(_) => "DnsResolver",
        Grant::Files(_) => "Files",
        Grant::Sqlite(_) => "SqlDatabase",
        Grant::Key(_) => "CryptoKey",
        Grant::Pgp(_) => "Pgp",
        Grant::Nostr(_) => "NostrSigner",
        Grant::Electrum(_) => "Electrum",
        Grant::Lightning(_) => "LightningWallet",
        Grant::Postgres(_) | Grant::Mysql(_) => "SqlServer",
        Grant::Redis(_) => "Hyperdrive",
        Grant::Mongo(_) => "Mongo",
        Grant::Wireguard(_) => "WireguardPeers",
        Grant::WireguardTunnel(_) => "WireguardTunnel",
    }
}

fn of_value(value: &Value, depth: usize) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "boolean".to_owned(),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) | Value::Object(_) if depth >= MAX_OBJECT_DEPTH => "any".to_owned(),
        Value::Array(items) => {
            let mut kinds: Vec<String> =
                items.iter().map(|item| of_value(item, depth + 1)).collect();
            kinds.sort();
            kinds.dedup();
            match &*kinds {
                [] => "readonly unknown[]".to_owned(),
                kinds => format!("readonly ({})[]", kinds.join(" | ")),
            }
        }
        Value::Object(keys) => {
            let keys = keys.iter().map(|(name, value)| {
                // A JSON string is a string of TypeScript.
                format!(
                    "readonly {}: {}",
                    Value::from(name.as_str()),
                    of_value(value, depth + 1)
                )
            });
            format!("{{ {} }}", keys.collect::<Vec<_>>().join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn declarations_are_all_of_the_folder() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../types");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".d.ts"))
            .collect();
        let mut named: Vec<&str> = DECLARATIONS.iter().map(|(name, _)| *name).collect();
        files.sort();
        named.sort_unstable();
        assert_eq!(named, files);
    }

    #[test]
    fn env_has_the_type_of_each_binding() {
        let text = r#"{"version": "1.0", "instances": {
            "shop-2": {"code": "./a.ts", "urls": ["localhost"], "state": true, "bindings": {"API": "api"},
              "env": {"A": "x", "B": [1, "y", 2], "C": {"d e": true, "f": null}, "E": []},
              "secrets": {"TOKEN": {"variable": "TOKEN"}}, "files": [{"path": "./data"}],
              "assets": {"folder": "./public", "binding": "ASSETS"},
              "grants": {"NAMES": {"dns": {"names": ["example.com"]}}, "DB": {"sqlite": {"file": "./x.db"}}}},
            "api": {"code": "./b.ts"}}}"#;
        let loaded = Config::parse(text, "stockade.yaml", Path::new("/srv")).unwrap();
        let types = env_types(&loaded.config);
        let expected = "
/** The `env` of api. */
interface ApiEnv {
}

/** The `env` of shop-2. */
interface Shop2Env {
  readonly A: string;
  readonly API: Service;
  readonly ASSETS: Fetcher;
  readonly B: readonly (number | string)[];
  readonly C: { readonly \"d e\": boolean; readonly \"f\": null };
  readonly DB: SqlDatabase;
  readonly E: readonly unknown[];
  readonly FILES: Files;
  readonly NAMES: DnsResolver;
  readonly STATE: StateNamespace;
  readonly TOKEN: string;
}
";
        assert!(types.ends_with(expected), "{types}");
        // Each of the types is declared.
        let (_, declared) = DECLARATIONS[3];
        for kind in [
            "Service",
            "Fetcher",
            "SqlDatabase",
            "Files",
            "DnsResolver",
            "StateNamespace",
            "Pgp",
            "NostrSigner",
            "Electrum",
            "LightningWallet",
            "SqlServer",
            "Hyperdrive",
            "Mongo",
            "WireguardPeers",
            "WireguardTunnel",
        ] {
            let interface = format!("interface {kind} ");
            let alias = format!("type {kind}<");
            assert!(
                declared.contains(&interface) || declared.contains(&alias),
                "{kind}"
            );
        }
    }
}
