//! What handlers have, and who calls them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use stockade_auth::KeyId;
use stockade_gateway::Gateway;
use stockade_instance::Instance;
use stockade_supervisor::IsolateHandle;
use tokio::sync::{mpsc, oneshot};

use super::command::Command;
use super::problem::ApiError;
use crate::deployments::OpenDeployments;
use crate::keys::OpenKeys;
use crate::metrics::{History, Metrics};
use crate::observe::Logs;
use crate::previews::Previews;
use crate::running::{SiteTraffic, Snapshot};
use crate::site::Site;

/// What handlers have of the server. Handlers get it as `State<Arc<Admin>>`.
pub(crate) struct Admin {
    /// The configuration file.
    pub(crate) config_path: PathBuf,
    pub(crate) started: SystemTime,
    pub(crate) running: Snapshot,
    pub(crate) gateway: Gateway,
    pub(crate) logs: Arc<Logs>,
    pub(crate) metrics: Metrics,
    pub(crate) history: History,
    pub(crate) keys: OpenKeys,
    pub(crate) deployments: OpenDeployments,
    pub(crate) previews: Arc<Previews>,
    /// What changes the server is done by its own loop, one after the other.
    pub(crate) commands: mpsc::Sender<Command>,
}

/// Who calls. An extension of every request, except for those of `document::OPEN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A process of this machine, by the control socket.
    Local {
        /// Its user id.
        user: u32,
    },
    /// A client with an API key.
    Key {
        /// The key.
        id: KeyId,
        /// Its name.
        name: String,
        /// The client's address.
        address: String,
    },
    /// A client with a certificate.
    Certificate {
        /// The certificate's subject (RFC 4514).
        subject: String,
        /// The client's address.
        address: String,
    },
}

impl Caller {
    /// For the audit log: what kind of caller it is, its name, and its address.
    pub(crate) fn facts(&self) -> (&'static str, String, &str) {
        match self {
            Self::Local { user } => ("local_user", format!("user {user}"), "control socket"),
            Self::Key { id, name, address } => ("api_key", format!("{id} ({name})"), address),
            Self::Certificate { subject, address } => ("certificate", subject.clone(), address),
        }
    }
}

impl Admin {
    /// An instance that runs: the version of its code that gets most requests.
    ///
    /// # Errors
    /// When there is none of this name.
    pub(crate) fn site(&self, name: &str) -> Result<Arc<Site>, ApiError> {
        let running = self.running.load();
        let site = running.as_ref().and_then(|running| running.sites.get(name));
        site.map(Arc::clone)
            .ok_or_else(|| ApiError::not_found(format!("there is no instance {name:?}")))
    }

    /// The versions of an instance that get requests.
    ///
    /// # Errors
    /// When there is no instance of this name.
    pub(crate) fn traffic(&self, name: &str) -> Result<SiteTraffic, ApiError> {
        let running = self.running.load();
        let traffic = running
            .as_ref()
            .and_then(|running| running.traffic.get(name));
        traffic
            .cloned()
            .ok_or_else(|| ApiError::not_found(format!("there is no instance {name:?}")))
    }

    /// The version of an instance that has a mirror with this number: one that gets requests, or a preview. All versions of
    /// an instance number their mirrors together.
    ///
    /// # Errors
    /// When there is no such instance or no such mirror.
    pub(crate) fn mirror(
        &self,
        name: &str,
        mirror: u32,
    ) -> Result<(Instance, IsolateHandle), ApiError> {
        let traffic = self.traffic(name)?;
        let previews = self.previews.of(name);
        let previews = previews.iter().map(|preview| &preview.site);
        let found = traffic.sites().chain(previews).find_map(|site| {
            let instance = site.answering.instance.as_ref()?;
            Some((instance.clone(), instance.isolate(mirror)?))
        });
        found.ok_or_else(|| {
            ApiError::not_found(format!("instance {name:?} has no mirror {mirror} now"))
        })
    }

    /// Gives a command to the server's loop and waits for its outcome.
    ///
    /// # Errors
    /// When the server is stopping.
    pub(crate) async fn asked<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, ApiError> {
        let (sender, outcome) = oneshot::channel();
        let stopping = || ApiError::unavailable("the server is stopping");
        let sent = self.commands.send(command(sender)).await;
        sent.map_err(|_| stopping())?;
        outcome.await.map_err(|_| stopping())
    }
}
