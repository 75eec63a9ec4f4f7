//! What hostile code would aim at.

use serde::{Deserialize, Serialize};

/// What lies around the worker. Hostile code is assumed to know all of it but the secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// Process of the supervisor.
    pub supervisor: i32,
    /// Process of the launcher.
    pub launcher: i32,
    /// Process of another worker.
    pub sibling: i32,
    /// Address of writable memory in the supervisor.
    pub canary: u64,
    /// TCP port on which the supervisor listens at 127.0.0.1.
    pub port: u16,
    /// Abstract name of a Unix socket on which the supervisor listens.
    pub socket: String,
    /// World-readable file with a secret.
    pub file: String,
    /// Number of a descriptor with a secret that the supervisor left inheritable.
    pub descriptor: i32,
    /// Secrets of the supervisor, each byte changed by [`MASK`] so that a search of the worker's
    /// memory does not find this list.
    pub masked: Vec<(String, Vec<u8>)>,
    /// Bytes that the worker may use.
    pub memory: u64,
}

/// What secrets are masked with.
pub(crate) const MASK: u8 = 0xa5;

/// Masks, or unmasks, a secret.
pub(crate) fn masked(secret: &[u8]) -> Vec<u8> {
    secret.iter().map(|byte| byte ^ MASK).collect()
}
