//! `wireguard_tunnel`: a tunnel that rules lead through, and what its guest may know of it.
//!
//! | method | argument | answer |
//! |---|---|---|
//! | `status` | none | a list of `{publicKey, allowedIps, sinceHandshake, sent, received}`, one for each peer |
//!
//! `sinceHandshake` is in milliseconds, and `null` where there is no session. Endpoints are not in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use stockade_broker::{Broker, Via, Ways};
use stockade_capability::{CallContext, CallPayload, Capability, Reply};
use stockade_config::{CallLimits, Grant, SecretRef, WireguardTunnelGrant};
use stockade_protocol::GuestError;
use stockade_wireguard::{Parsed, TunnelLimits, parse};

use crate::{Finding, GrantError, GrantKind, Ground};

pub(crate) const METHODS: &[&str] = &["status"];
pub(crate) const EVERY_CALL: bool = false;

/// How long a check waits for a session.
const CHECK: Duration = Duration::from_secs(5);

impl GrantKind for WireguardTunnelGrant {
    fn limits(&self) -> &CallLimits {
        &self.limits
    }

    fn open(&self, ground: &Ground) -> Result<Arc<dyn Capability>, GrantError> {
        Ok(Arc::new(Tunnel {
            via: open(self, &ground.broker, &ground.instance, &ground.binding)?,
        }))
    }

    fn check<'a>(&'a self, ground: &'a Ground) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(async move {
            let warning = |what| Finding {
                is_error: false,
                what,
            };
            let error = |what| Finding {
                is_error: true,
                what,
            };
            let parsed = match read(self) {
                Ok(parsed) => parsed,
                Err(fault) => return vec![error(fault.to_string())],
            };
            let mut found: Vec<_> = parsed.warnings.into_iter().map(warning).collect();
            let via = open(self, &ground.broker, &ground.instance, &ground.binding);
            let answers = match via {
                Ok(via) => via.answers(CHECK).await.map_err(|kind| kind.to_string()),
                Err(fault) => Err(fault.to_string()),
            };
            if let Err(why) = answers {
                found.push(error(format!("no peer has completed a handshake: {why}")));
            }
            found
        })
    }
}

/// Reads the grant's file. No error repeats a key of it.
fn read(grant: &WireguardTunnelGrant) -> Result<Parsed, GrantError> {
    let text = grant.config.as_ref().map_or("", SecretRef::reveal);
    parse(text).map_err(|fault| GrantError::Invalid(format!("config: {fault}")))
}

fn open(
    grant: &WireguardTunnelGrant,
    broker: &Broker,
    instance: &str,
    name: &str,
) -> Result<Arc<Via>, GrantError> {
    let limits = TunnelLimits {
        connections: grant.connections,
        buffer: usize::try_from(grant.buffer).unwrap_or(usize::MAX),
        handshakes: grant.handshakes,
    };
    let via = broker.tunnel(instance, name, read(grant)?.config, limits);
    via.map_err(|fault| GrantError::Invalid(format!("a tunnel cannot be made: {fault}")))
}

/// The tunnels among the grants of an instance, for its rules. Each is the one that its grant is.
///
/// # Errors
/// The file of a tunnel cannot be used.
pub fn ways(
    broker: &Broker,
    instance: &str,
    grants: &BTreeMap<String, Grant>,
) -> Result<Ways, GrantError> {
    let mut ways = Ways::new();
    for (name, grant) in grants {
        if let Grant::WireguardTunnel(grant) = grant {
            ways.insert(name.clone(), open(grant, broker, instance, name)?);
        }
    }
    Ok(ways)
}

struct Tunnel {
    via: Arc<Via>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Peer<'a> {
    public_key: &'a str,
    allowed_ips: Vec<String>,
    since_handshake: Option<u64>,
    sent: u64,
    received: u64,
}

impl Capability for Tunnel {
    fn call(
        &self,
        _context: CallContext,
        _method: &str,
        _arguments: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>> {
        let via = Arc::clone(&self.via);
        Box::pin(async move {
            let known = via.peers();
            let peers = via.config().peers.iter();
            let keys: Vec<_> = peers.clone().map(|peer| peer.public_key.reveal()).collect();
            let list: Vec<_> = peers
                .zip(&keys)
                .map(|(peer, key)| {
                    let status = known.iter().find(|one| one.public_key == peer.public_key);
                    let age = status.and_then(|one| one.since_handshake);
                    Peer {
                        public_key: key,
                        allowed_ips: peer.allowed_ips.iter().map(ToString::to_string).collect(),
                        since_handshake: age
                            .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
                        sent: status.map_or(0, |one| one.sent),
                        received: status.map_or(0, |one| one.received),
                    }
                })
                .collect();
            Reply::default().finish(&list)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use stockade_broker::BrokerOptions;

    use super::*;

    const KEY: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";

    fn grants(rest: &str) -> BTreeMap<String, Grant> {
        let file = format!(
            "[Interface]\\nPrivateKey = {KEY}\\nAddress = 10.0.0.2\\n{rest}\\n[Peer]\\n\
             PublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\\nAllowedIPs = 10.0.0.0/24"
        );
        let json = format!(r#"{{"OFFICE": {{"wireguard_tunnel": {{"config": "{file}"}}}}}}"#);
        stockade_config::parse_grants(&json, Path::new("/")).unwrap()
    }

    #[tokio::test]
    async fn tunnel_of_a_grant_is_that_of_its_rules_and_of_no_other_instance() {
        let broker = Broker::new(BrokerOptions::default()).unwrap();
        let open = |instance: &str| {
            ways(&broker, instance, &grants(""))
                .unwrap()
                .remove("OFFICE")
        };
        let (one, two, other) = (open("a").unwrap(), open("a").unwrap(), open("b").unwrap());
        assert!(Arc::ptr_eq(&one, &two));
        assert!(!Arc::ptr_eq(&one, &other));
        let changed = ways(&broker, "a", &grants("MTU = 1300")).unwrap();
        assert!(!Arc::ptr_eq(&one, &changed["OFFICE"]));
    }

    #[tokio::test]
    async fn file_that_cannot_be_used_is_refused_without_its_key() {
        let broker = Broker::new(BrokerOptions::default()).unwrap();
        let error = ways(&broker, "a", &grants("PostUp = true")).err().unwrap();
        let text = error.to_string();
        assert!(text.contains("line 4: PostUp"), "{text}");
        assert!(!text.contains(KEY));
    }
}
