//! `env.NAME` of kind `electrum`: Electrum servers, by the protocol of versions 1.4 to 1.6.
//!
//! | method | takes | gives |
//! |---|---|---|
//! | `request` | `{method, params}` | the result of the server |
//! | `subscribe` | `{method, params}` | a stream of lines of JSON: the state now, and each later one |
//! | `balance`, `history`, `unspent` | `{address}` | the result of the server |
//! | `broadcast` | `{params}`, the transaction in hexadecimal digits | its id |
//!
//! A subscription is a stream, and ends when its reader cancels it, its owner ends, or the grant does.
//!
//! Invariants:
//! 1. A method that is not in [`wire::METHODS`] reaches no server, and `broadcast` none without its permission.
//! 2. All owners share one connection. Numbers of requests are the host's own, so an answer reaches who asked.
//! 3. What a server says is hostile: a line has a bound, its JSON is checked and not interpreted, and a server that
//!    breaks the protocol is left.
//!
//! Deliberately absent: proof. A guest believes what the servers say that agree.

mod choose;
mod link;
mod subscriptions;
mod wire;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bitcoin::hashes::{Hash, sha256};
use bitcoin::{Address, Network as Chain};
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, StreamBody};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use stockade_capability::{
    CallContext, CallNotes, CallPayload, Capability, ErrorName, Owner, Reply,
};
use stockade_config::{BitcoinNetwork, CallLimits, ElectrumGrant};
use stockade_protocol::{GuestError, Payload};

use link::Link;
use subscriptions::Subscription;

use crate::{Finding, GrantError, GrantKind, Ground};

pub(crate) const METHODS: &[&str] = &[
    "request",
    "subscribe",
    "balance",
    "history",
    "unspent",
    "broadcast",
];
pub(crate) const EVERY_CALL: bool = false;

/// Bytes of JSON that are read for one call: a transaction has at most 4 MB of digits.
const MAX_ARGUMENTS: usize = 4 << 20;

/// How long a check waits for the servers.
const CHECK: Duration = Duration::from_secs(10);

impl GrantKind for ElectrumGrant {
    fn limits(&self) -> &CallLimits {
        &self.limits
    }

    fn open(&self, ground: &Ground) -> Result<Arc<dyn Capability>, GrantError> {
        Ok(Arc::new(Electrum {
            link: Arc::new(Link::new(self, ground)?),
            network: chain(self.network),
            broadcast: self.broadcast,
        }))
    }

    fn check<'a>(&'a self, ground: &'a Ground) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(async move {
            let link = match Link::new(self, ground) {
                Ok(link) => link,
                Err(error) => {
                    return vec![Finding {
                        is_error: true,
                        what: error.to_string(),
                    }];
                }
            };
            let asking = link.request("blockchain.headers.subscribe", Value::Array(Vec::new()));
            match tokio::time::timeout(CHECK, asking).await {
                Ok(Ok(_)) => Vec::new(),
                Ok(Err(error)) => vec![Finding {
                    is_error: true,
                    what: error.message,
                }],
                Err(_) => vec![Finding {
                    is_error: true,
                    what: format!("no server answered within {CHECK:?}"),
                }],
            }
        })
    }
}

fn chain(network: BitcoinNetwork) -> Chain {
    match network {
        BitcoinNetwork::Mainnet => Chain::Bitcoin,
        BitcoinNetwork::Testnet => Chain::Testnet,
        BitcoinNetwork::Testnet4 => Chain::Testnet4,
        BitcoinNetwork::Signet => Chain::Signet,
        BitcoinNetwork::Regtest => Chain::Regtest,
    }
}

struct Electrum {
    link: Arc<Link>,
    network: Chain,
    broadcast: bool,
}

impl Capability for Electrum {
    fn call(
        &self,
        context: CallContext,
        method: &str,
        arguments: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>> {
        let (link, method) = (Arc::clone(&self.link), method.to_owned());
        let (network, broadcast) = (self.network, self.broadcast);
        Box::pin(async move {
            let (request, _) = arguments.read::<Request>(MAX_ARGUMENTS)?;
            let (asked, params) = asked(&method, request, network)?;
            context.notes.add("asked", asked.as_str());
            permitted(&asked, broadcast, &context.notes)?;
            if method == "subscribe" {
                let subscription = link.subscribe(&context.owner, asked, params).await?;
                return stream(subscription);
            }
            if wire::is_subscription(&asked) {
                return Err(ErrorName::Type
                    .error("subscribe(method, ...) subscribes, and request() does not"));
            }
            raw(link.request(&asked, params).await?)
        })
    }

    fn ended(&self, owner: &Owner) {
        self.link.ended(owner);
    }
}

/// The argument of any method.
#[derive(Deserialize)]
struct Request {
    method: Option<String>,
    #[serde(default)]
    params: Vec<Value>,
    address: Option<String>,
}

/// What the server is asked: the method of the protocol, and its parameters.
fn asked(method: &str, request: Request, network: Chain) -> Result<(String, Value), GuestError> {
    let of_address = match method {
        "balance" => "blockchain.scripthash.get_balance",
        "history" => "blockchain.scripthash.get_history",
        "unspent" => "blockchain.scripthash.listunspent",
        "broadcast" => {
            return Ok((
                "blockchain.transaction.broadcast".to_owned(),
                Value::Array(request.params),
            ));
        }
        _ => {
            return Ok((
                request.method.unwrap_or_default(),
                Value::Array(request.params),
            ));
        }
    };
    let hash = script_hash(&request.address.unwrap_or_default(), network)?;
    Ok((of_address.to_owned(), json!([hash])))
}

/// What the protocol calls a script hash: the digest of an address's script, its bytes in reverse.
fn script_hash(address: &str, network: Chain) -> Result<String, GuestError> {
    let address: Address<_> = address
        .parse()
        .map_err(|_| ErrorName::Type.error("the text is not a Bitcoin address"))?;
    let address = address
        .require_network(network)
        .map_err(|_| ErrorName::Type.error("the address is of another network than the grant"))?;
    let digest = sha256::Hash::hash(address.script_pubkey().as_bytes());
    Ok(digest
        .to_byte_array()
        .iter()
        .rev()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn permitted(asked: &str, broadcast: bool, notes: &CallNotes) -> Result<(), GuestError> {
    if wire::is_broadcast(asked) && !broadcast {
        notes.refused("broadcast");
        return Err(
            ErrorName::Type.error("the grant does not allow broadcasts (`broadcast: true`)")
        );
    }
    if !wire::is_known(asked) {
        notes.refused("method");
        return Err(ErrorName::Type.error("the method is not one of those that the grant allows"));
    }
    Ok(())
}

/// JSON of the server's, as it is: without marks in it, no text of it is taken for one.
fn raw(json: Box<RawValue>) -> Result<CallPayload, GuestError> {
    Ok(Payload::from_json(String::from(Box::<str>::from(json))).into())
}

fn stream(subscription: Subscription) -> Result<CallPayload, GuestError> {
    let mut reply = Reply::default();
    let body = StreamBody::new(subscription).boxed_unsync();
    let stream = reply.stream(body);
    reply.finish(&stream)
}
