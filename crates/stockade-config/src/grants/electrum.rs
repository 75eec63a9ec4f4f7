//! `electrum`: a view of a Bitcoin chain through Electrum servers.

use std::path::PathBuf;

use super::GrantSection;
use super::limits::{self, CallLimits, call_limits};
use crate::diagnostic::shown;
use crate::keys::{FILE, Format, Key, Kind, boolean, integer, list};
use crate::section::{Words, section, words};
use crate::tree::Message;
use crate::value::from_text;

call_limits! {
    "electrum_limits",
    rate: "100",
    concurrent: "256",
    queue: "256",
    timeout: "30s",
    max_request: "2mb",
    max_result: "8mb",
    handles: Some("100"),
}

/// An Electrum server.
const SERVER: Format = Format {
    what: "an Electrum server with its port, as ssl://electrum.example:50002 or tcp://127.0.0.1:50001",
    pattern: Some(r"^(ssl|tcp)://[^/\s]+:[0-9]{1,5}$"),
    expect: None,
};

section! {
    /// A view of a Bitcoin chain through Electrum servers: `request`, `subscribe`, and what
    /// is asked most, such as the balance of an address. All mirrors share one connection.
    pub struct ElectrumGrant "electrum" {
        /// The servers, the preferred first. Of several, those are used that agree on the
        /// chain with more than half of those that answer.
        pub servers: Vec<ElectrumServer> = list(&Kind::Text(SERVER))
            .required()
            .nonempty()
            .like(&["[\"ssl://e1.example:50002\", \"ssl://e2.example:50002\"]"]),
        /// The chain. A server of another one is not used.
        pub network: BitcoinNetwork = Key::of(BitcoinNetwork::KIND).default("mainnet"),
        /// Servers that must agree on the chain. With 1, a single server is trusted
        /// where it is the only one that answers.
        pub agree: usize = integer(1, 16).default("1"),
        /// Allows transactions to be sent to the network.
        pub broadcast: bool = boolean().default("false"),
        /// Files with certificates of authorities. Where there are some, they alone are
        /// trusted for `ssl`.
        pub ca: Vec<PathBuf> = list(&Kind::Text(FILE)),
        /// Bounds of the calls. `handles` are the subscriptions of one mirror, and
        /// `max_result` is for all that one subscription receives, too.
        pub limits: CallLimits = LIMITS_KEY => limits::read,
    }
}

impl GrantSection for ElectrumGrant {}

words! {
    /// A Bitcoin chain.
    pub enum BitcoinNetwork {
        /// The main chain.
        Mainnet = "mainnet",
        /// The third test chain.
        Testnet = "testnet",
        /// The fourth test chain (BIP 94).
        Testnet4 = "testnet4",
        /// The signed test chain (BIP 325).
        Signet = "signet",
        /// A chain of one's own.
        Regtest = "regtest",
    }
}

/// An Electrum server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElectrumServer {
    /// Whether it is reached by TLS.
    pub tls: bool,
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

from_text! {
    ElectrumServer = server,
}

fn server(text: &str) -> Result<ElectrumServer, Message> {
    let wrong = || {
        let what = format!("{:?} is no Electrum server", shown(text));
        Message::allowed(what, SERVER.what)
    };
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
    let port = port
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(wrong)?;
    let tls = match scheme {
        "ssl" => true,
        "tcp" => false,
        _ => return Err(wrong()),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err(wrong());
    }
    Ok(ElectrumServer {
        tls,
        host: host.to_owned(),
        port,
    })
}
