//! What a capability is made of.

use std::path::PathBuf;
use std::sync::Arc;

use stockade_broker::{Broker, BrokerError, Network, Ways};
use stockade_capability::HandleCount;
use stockade_config::Diagnostics;

/// What one grant has of its host.
#[derive(Clone)]
pub struct Ground {
    /// The instance, or the isolate, that is granted it.
    pub instance: Arc<str>,
    /// Its name in `env`.
    pub binding: Arc<str>,
    /// Opens folders, and decides about addresses that a guest chooses.
    pub broker: Broker,
    /// Connections to servers that the grant names.
    pub network: Network,
    /// The tunnels of the instance.
    pub ways: Ways,
    /// Counts what its guests have open; a [`HandleTable`](stockade_capability::HandleTable) takes it.
    pub handles: HandleCount,
    /// A folder of the grant's own for what must outlive the process. A kind that needs it creates it. `None` where
    /// the host has no place for it.
    pub data: Option<PathBuf>,
}

impl From<Diagnostics> for GrantError {
    /// Each place in a line of its own, with what is allowed there.
    fn from(wrong: Diagnostics) -> Self {
        let lines = wrong.list.iter().map(|one| {
            let allowed = one.allowed.as_ref();
            let allowed = allowed.map_or_else(String::new, |text| format!("; allowed: {text}"));
            format!("{}: {}{allowed}", one.path, one.what)
        });
        Self::Invalid(lines.collect::<Vec<_>>().join("\n"))
    }
}

/// Why a grant cannot be opened. For the operator.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// Certificates.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// What the grant says cannot be used.
    #[error("{0}")]
    Invalid(String),
}
