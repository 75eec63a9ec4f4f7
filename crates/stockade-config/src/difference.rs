//! What a new configuration changes.

use std::net::SocketAddr;

use crate::config::Config;
use crate::instance::Instance;

/// One thing that changes, or does not, from one configuration to the next.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// An instance that was not there.
    InstanceAdded(String),
    /// An instance that is there no more.
    InstanceRemoved(String),
    /// An instance whose mirrors must be replaced.
    InstanceChanged(String),
    /// An instance whose mirrors can stay: only its URLs, assets, numbers of mirrors, or who may reach
    /// it changed.
    InstanceAdjusted(String),
    /// An instance that stays as it is.
    InstanceUnchanged(String),
    /// A listener that was not there.
    ListenerAdded(SocketAddr),
    /// A listener that is there no more.
    ListenerRemoved(SocketAddr),
    /// A listener with other TLS, HTTP or PROXY options, or other certificates.
    ListenerChanged(SocketAddr),
    /// What every client is held to, or whom to trust.
    Limits,
    /// What is logged, and how.
    Logging,
    /// Where metrics and health are asked for.
    Metrics,
    /// The database of state: takes effect at the next start.
    State,
    /// The control socket: takes effect at the next start.
    Control,
    /// How long draining may take, or whether files are watched.
    Running,
}

impl Config {
    /// What changes from `old` to `new`: every instance of both once, then the rest.
    ///
    /// Code, assets and certificates are compared by their paths, secrets by their values.
    #[must_use]
    pub fn differences(old: &Self, new: &Self) -> Vec<Change> {
        let mut out = Vec::new();
        for (name, was) in &old.instances {
            out.push(match new.instances.get(name) {
                None => Change::InstanceRemoved(name.clone()),
                Some(is) if is == was => Change::InstanceUnchanged(name.clone()),
                Some(is) if same_mirrors(was, is) => Change::InstanceAdjusted(name.clone()),
                Some(_) => Change::InstanceChanged(name.clone()),
            });
        }
        let added = new
            .instances
            .keys()
            .filter(|name| !old.instances.contains_key(*name));
        out.extend(added.cloned().map(Change::InstanceAdded));
        for was in &old.listeners {
            match new.listeners.iter().find(|is| is.address == was.address) {
                None => out.push(Change::ListenerRemoved(was.address)),
                Some(is) if is != was => out.push(Change::ListenerChanged(was.address)),
                Some(_) => {}
            }
        }
        for is in &new.listeners {
            if !old.listeners.iter().any(|was| is.address == was.address) {
                out.push(Change::ListenerAdded(is.address));
            }
        }
        let gateway = old.limits != new.limits
            || old.trusted_proxies != new.trusted_proxies
            || old.https_redirect != new.https_redirect;
        let running = old.drain_timeout != new.drain_timeout || old.watch != new.watch;
        let rest = [
            (gateway, Change::Limits),
            (old.logging != new.logging, Change::Logging),
            (old.metrics != new.metrics, Change::Metrics),
            (old.state != new.state, Change::State),
            (old.control != new.control, Change::Control),
            (running, Change::Running),
        ];
        out.extend(
            rest.into_iter()
                .filter(|(there, _)| *there)
                .map(|(_, change)| change),
        );
        out
    }
}

/// Whether an instance's running mirrors are what the new one would start.
fn same_mirrors(was: &Instance, is: &Instance) -> bool {
    let mut was = was.clone();
    was.urls.clone_from(&is.urls);
    was.scaling = is.scaling.clone();
    was.encoded_slashes = is.encoded_slashes;
    was.client_auth.clone_from(&is.client_auth);
    // The binding of assets is part of `env`; the rest is the gateway's.
    if was.assets.as_ref().map(|assets| &assets.binding)
        == is.assets.as_ref().map(|assets| &assets.binding)
    {
        was.assets.clone_from(&is.assets);
    }
    was == *is
}
