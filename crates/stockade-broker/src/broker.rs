//! What all instances have in common: the resolver's source, trusted roots, the audit, and what was
//! spent.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::RootCertStore;
use stockade_http::Host;
use stockade_wireguard::{Resolve, TunnelConfig, TunnelLimits};

use crate::audit::{Audit, LogAudit};
use crate::budget::{Quota, Spent};
use crate::connect::{self, BrokerError};
use crate::egress::{Egress, Parts};
use crate::files::{FileError, Folder, FolderOptions, Ledgers, Watcher};
use crate::network::Network;
use crate::policy::EgressPolicy;
use crate::resolve::{Resolver, ResolverSource};
use crate::secrets::{self, Secret, Secrets, SecretsError};
use crate::sockets::{SocketParts, SocketPolicy, Sockets};
use crate::via::{Tunnels, Via};

/// How a broker is set up.
#[derive(Clone)]
pub struct BrokerOptions {
    /// Where names are looked up.
    pub resolver: ResolverSource,
    /// Files of PEM certificates that are trusted besides Mozilla's roots.
    pub extra_roots: Vec<PathBuf>,
    /// Observes refusals and use.
    pub audit: Arc<dyn Audit>,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            resolver: ResolverSource::default(),
            extra_roots: Vec::new(),
            audit: Arc::new(LogAudit::default()),
        }
    }
}

/// Acts for all instances. Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    shared: Arc<BrokerState>,
    roots: Arc<RootCertStore>,
}

struct BrokerState {
    options: BrokerOptions,
    ledgers: Ledgers,
    watcher: Arc<Watcher>,
    /// What was spent, by instance: a reload must not renew a budget.
    spent: Mutex<HashMap<Arc<str>, Arc<Mutex<Spent>>>>,
    /// What instances have spent on connections.
    spent_on_sockets: Mutex<HashMap<Arc<str>, Arc<Mutex<Spent>>>>,
    tunnels: Tunnels,
    /// Placeholders by instance and secret: a reload must not change what running guests hold.
    placeholders: Mutex<HashMap<(Arc<str>, String), String>>,
}

impl Broker {
    /// Sets up a broker.
    ///
    /// # Errors
    /// A file of trusted certificates cannot be used.
    pub fn new(options: BrokerOptions) -> Result<Self, BrokerError> {
        let roots = Arc::new(connect::roots(&options.extra_roots)?);
        let shared = BrokerState {
            options,
            ledgers: Ledgers::default(),
            watcher: Arc::default(),
            spent: Mutex::default(),
            spent_on_sockets: Mutex::default(),
            tunnels: Tunnels::default(),
            placeholders: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            roots,
        })
    }

    /// This broker for instances that trust further certificates besides, read from these files
    /// now. Placeholders, budgets and folders' storage are shared with this one.
    ///
    /// # Errors
    /// A file of trusted certificates cannot be used.
    pub fn trusting(&self, extra_roots: &[PathBuf]) -> Result<Self, BrokerError> {
        if extra_roots.is_empty() {
            return Ok(self.clone());
        }
        let all: Vec<_> = self
            .shared
            .options
            .extra_roots
            .iter()
            .chain(extra_roots)
            .cloned()
            .collect();
        let roots = Arc::new(connect::roots(&all)?);
        Ok(Self {
            shared: self.shared.clone(),
            roots,
        })
    }

    /// Checks the secrets of an instance. A secret keeps its placeholder while this broker lives.
    ///
    /// # Errors
    /// A secret is empty, bound to no host, or unfit for a header.
    pub fn secrets(&self, instance: &str, secrets: Vec<Secret>) -> Result<Secrets, SecretsError> {
        let instance: Arc<str> = instance.into();
        let mut placeholders = self.shared.placeholders.lock();
        Secrets::new(secrets, |name| {
            let key = (instance.clone(), name.to_owned());
            if let Some(placeholder) = placeholders.get(&key) {
                return Ok(placeholder.clone());
            }
            let placeholder = secrets::placeholder()?;
            placeholders.insert(key, placeholder.clone());
            Ok(placeholder)
        })
    }

    /// One instance's way out. Created again when its policy or secrets change; what it has spent of its
    /// budget stays spent. Costs next to nothing until it is used.
    ///
    /// # Errors
    /// A file of certificates that a rule names cannot be used.
    pub fn egress(
        &self,
        instance: &str,
        policy: EgressPolicy,
        secrets: Secrets,
    ) -> Result<Arc<Egress>, BrokerError> {
        let instance: Arc<str> = instance.into();
        let spent = self
            .shared
            .spent
            .lock()
            .entry(instance.clone())
            .or_default()
            .clone();
        let parts = Parts {
            instance,
            quota: Quota::new(
                spent,
                policy.limits.budget,
                policy.limits.requests_per_second,
                policy.limits.bytes_per_second,
            ),
            policy,
            secrets,
            audit: self.shared.options.audit.clone(),
            roots: Arc::clone(&self.roots),
            resolver: Resolver::new(self.shared.options.resolver.clone()),
        };
        Ok(Arc::new(Egress::new(parts)?))
    }

    /// One instance's connections. Made when its policy changes; what it has spent of its budget stays spent. Files of
    /// certificates are read now.
    ///
    /// # Errors
    /// A file of trusted certificates, or of a client certificate, cannot be used.
    pub fn sockets(
        &self,
        instance: &str,
        policy: SocketPolicy,
    ) -> Result<Arc<Sockets>, BrokerError> {
        let instance: Arc<str> = instance.into();
        let spent = self
            .shared
            .spent_on_sockets
            .lock()
            .entry(instance.clone())
            .or_default()
            .clone();
        let parts = SocketParts {
            instance,
            audit: self.shared.options.audit.clone(),
            quota: Quota::new(
                spent,
                policy.limits.budget,
                policy.limits.attempts_per_second,
                policy.limits.bytes_per_second,
            ),
            resolver: Resolver::new(self.shared.options.resolver.clone()),
        };
        Ok(Arc::new(Sockets::new(policy, parts)?))
    }

    /// A WireGuard tunnel of an instance, under the name that rules call it. There is one for each name and
    /// configuration: it lives as long as anybody has it. The names of its peers are looked up outside it.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn tunnel(
        &self,
        instance: &str,
        name: &str,
        config: TunnelConfig,
        limits: TunnelLimits,
    ) -> io::Result<Arc<Via>> {
        let resolver = Arc::new(Resolver::new(self.shared.options.resolver.clone()));
        let resolve: Resolve = Arc::new(move |name| {
            let resolver = Arc::clone(&resolver);
            Box::pin(async move {
                let host = Host::parse(&name).ok()?;
                let found = resolver.addresses(&host).await;
                found.ok().and_then(|found| found.first().copied())
            })
        });
        let made = (config, limits);
        self.shared.tunnels.open(instance, name, made, resolve)
    }

    /// The network for one grant, with a cache of names of its own.
    #[must_use]
    pub fn network(&self) -> Network {
        let source = self.shared.options.resolver.clone();
        Network::new(source, Arc::clone(&self.roots))
    }

    /// Grants an instance a folder. Counts what is in it: blocks the thread meanwhile.
    ///
    /// # Errors
    /// The folder cannot be opened or counted.
    pub fn folder(&self, instance: &str, options: FolderOptions) -> Result<Arc<Folder>, FileError> {
        Folder::open(
            instance.into(),
            options,
            self.shared.options.audit.clone(),
            &self.shared.ledgers,
            Arc::clone(&self.shared.watcher),
        )
    }

    /// Forgets what it kept for an instance that is gone: placeholders and what was spent.
    pub fn forget(&self, instance: &str) {
        self.shared.spent.lock().remove(instance);
        self.shared.spent_on_sockets.lock().remove(instance);
        self.shared
            .placeholders
            .lock()
            .retain(|(owner, _), _| &**owner != instance);
    }
}
