//! What a configuration names of the things that a server keeps.

use std::path::{Path, PathBuf};

use stockade_config::Config;

/// How a store is copied, and put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Database,
    File,
    Folder,
}

/// One store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Store {
    /// Its name in the archive; of a folder, that of the folder.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Where the server has it.
    pub(super) path: PathBuf,
}

/// All stores, whether or not they exist yet, in the order in which they are copied.
pub(super) fn stores(config: &Config) -> Vec<Store> {
    let mut all = Vec::new();
    let mut add = |name, kind, path: &Path| {
        all.push(Store {
            name,
            kind,
            path: path.to_owned(),
        });
    };
    add("state.db", Kind::Database, &config.state);
    // Before the keys that are hashed with it.
    if config.api_keys.pepper_variable.is_none() {
        add("keys.pepper", Kind::File, &config.api_keys.pepper);
    }
    add("keys.db", Kind::Database, &config.api_keys.path);
    add("quotas.db", Kind::Database, &config.limits.quotas);
    if let Some(usage) = &config.usage {
        add("usage.db", Kind::Database, &usage.path);
    }
    if let Some(deployments) = &config.deployments {
        add("deployments", Kind::Folder, &deployments.folder);
    }
    if let Some(audit) = &config.audit {
        if let Some(key) = &audit.key
            && !key.starts_with(&audit.folder)
        {
            add("audit.key", Kind::File, key);
        }
        add("audit", Kind::Folder, &audit.folder);
    }
    all
}

/// Whether a file of a folder is not part of the store: who has it open, and what is being written.
pub(super) fn is_passing(relative: &Path) -> bool {
    let mut names = relative.components().map(|part| part.as_os_str());
    let first = names.next();
    first.is_some_and(|name| name == "lock") || names.next().is_some_and(|name| name == "incoming")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_store_of_a_configuration_is_named() {
        let text = "version: \"1.0\"\ninstances: {a: {code: a.ts}}\nstate: {path: /v/state.db}\nusage: {path: /v/usage.db}\n\
                    deployments: {folder: /v/versions}\naudit: {folder: /v/audit, key: /v/key}\n";
        let config = Config::parse(text, "stockade.yaml", Path::new("/srv")).unwrap();
        let names: Vec<_> = stores(&config.config)
            .into_iter()
            .map(|store| store.name)
            .collect();
        assert_eq!(
            names,
            [
                "state.db",
                "keys.pepper",
                "keys.db",
                "quotas.db",
                "usage.db",
                "deployments",
                "audit.key",
                "audit"
            ]
        );
    }

    #[test]
    fn locks_and_what_is_being_written_are_left_out() {
        assert!(is_passing(Path::new("lock")));
        assert!(is_passing(Path::new("shop/incoming/3/files/a.ts")));
        assert!(!is_passing(Path::new("shop/versions/1/files/lock")));
        assert!(!is_passing(Path::new("audit-000000000001.jsonl")));
    }
}
