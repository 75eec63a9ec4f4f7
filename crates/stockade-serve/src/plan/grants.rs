//! From what the configuration grants one site to the options of each grant.

use std::collections::BTreeMap;

use stockade_broker::{FolderOptions, Mode, Secret, SecretValue};
use stockade_config::{FileGrant, FileMode, Instance, StateBinding};
use stockade_state::Limits as StateLimits;

use crate::error::SiteError;

/// A site's secrets: those that its guests may read, and those that only the broker fills in.
pub(crate) fn secrets(config: &Instance) -> Result<(BTreeMap<&str, &str>, Vec<Secret>), SiteError> {
    let mut plain = BTreeMap::new();
    let mut kept = Vec::new();
    for (key, secret) in &config.secrets {
        let value = secret
            .value
            .as_ref()
            .ok_or_else(|| SiteError::SecretMissing(key.clone()))?
            .reveal();
        match &secret.hosts {
            None => {
                plain.insert(key.as_str(), value);
            }
            Some(hosts) => kept.push(Secret {
                name: key.clone(),
                value: SecretValue::new(value),
                hosts: hosts.clone(),
                over_plain_text: secret.over_plain_http,
                in_urls: secret.in_urls,
            }),
        }
    }
    Ok((plain, kept))
}

/// The limits of a site's keyspace.
pub(crate) fn state(state: &StateBinding) -> StateLimits {
    let defaults = StateLimits::default();
    let most = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    StateLimits {
        storage_bytes: state.storage,
        value_bytes: most(state.max_value),
        commit_bytes: defaults
            .commit_bytes
            .max(most(state.max_value.saturating_mul(2))),
        writes_per_second: state.write_rate,
        ..defaults
    }
}

/// A granted folder.
pub(crate) fn folder(grant: &FileGrant) -> FolderOptions {
    let mode = match grant.mode {
        FileMode::Read => Mode::Read,
        FileMode::Write => Mode::Write,
    };
    FolderOptions {
        storage_limit: Some(grant.storage),
        max_file_bytes: grant.max_file,
        ..FolderOptions::new(&grant.binding, grant.path.clone(), mode)
    }
}
