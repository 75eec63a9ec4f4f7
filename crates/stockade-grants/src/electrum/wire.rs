//! Lines of JSON-RPC 2.0 between the host and an Electrum server, and the methods that guests may ask for.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Bytes of one line of a server. A longer one ends the connection.
pub(super) const MAX_LINE: usize = 8 << 20;

/// The methods that read the chain, of versions 1.4 to 1.6. What concerns the server itself, such as its peers, its
/// banner and its address for donations, is not in it.
pub(super) const METHODS: &[&str] = &[
    "blockchain.block.header",
    "blockchain.block.headers",
    "blockchain.estimatefee",
    "blockchain.headers.subscribe",
    "blockchain.relayfee",
    "blockchain.scripthash.get_balance",
    "blockchain.scripthash.get_history",
    "blockchain.scripthash.get_mempool",
    "blockchain.scripthash.listunspent",
    "blockchain.scripthash.subscribe",
    "blockchain.transaction.get",
    "blockchain.transaction.get_merkle",
    "blockchain.transaction.id_from_pos",
    "mempool.get_fee_histogram",
    "mempool.get_info",
];

/// The methods that send to the network.
const BROADCASTS: &[&str] = &[
    "blockchain.transaction.broadcast",
    "blockchain.transaction.broadcast_package",
];

pub(super) fn is_broadcast(method: &str) -> bool {
    BROADCASTS.contains(&method)
}

pub(super) fn is_known(method: &str) -> bool {
    is_broadcast(method) || METHODS.contains(&method)
}

pub(super) fn is_subscription(method: &str) -> bool {
    method.ends_with(".subscribe")
}

/// One line of a server: an answer, which has an `id`, or a notification, which has a `method`. What is in it stays
/// text.
#[derive(Deserialize)]
pub(super) struct Line {
    pub(super) id: Option<u64>,
    pub(super) method: Option<String>,
    pub(super) params: Option<Box<RawValue>>,
    pub(super) result: Option<Box<RawValue>>,
    pub(super) error: Option<Fault>,
}

/// Why a server did not do what it was asked.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Fault {
    Coded { code: i64, message: String },
    Text(String),
    Other(serde::de::IgnoredAny),
}

impl Fault {
    /// The error's code, and a message for the guest: a bounded piece of what the server says, without control characters.
    pub(super) fn shown(&self) -> (Option<i64>, String) {
        let (code, text) = match self {
            Self::Coded { code, message } => (Some(*code), message.as_str()),
            Self::Text(text) => (None, text.as_str()),
            Self::Other(_) => (None, ""),
        };
        let clean = |c: char| if c.is_control() { ' ' } else { c };
        (code, text.chars().take(300).map(clean).collect())
    }
}

/// What of a notification belongs to which subscription: the parameters of the subscription come first, and the new
/// state last.
pub(super) fn state_of(params: &RawValue) -> Option<(Vec<String>, Box<RawValue>)> {
    let mut all: Vec<Box<RawValue>> = serde_json::from_str(params.get()).ok()?;
    let state = all.pop()?;
    let key = all
        .iter()
        .map(|value| serde_json::from_str(value.get()).ok())
        .collect::<Option<_>>()?;
    Some((key, state))
}
