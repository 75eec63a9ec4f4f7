//! Which of several servers is asked.
//!
//! Each server says how high its chain is. Those whose heights are within [`LAG`] of each other, and which have the
//! same block a little below, agree. The largest such group is used, where it is more than half of those that answered
//! and has the number that the grant demands; in it, the server that stands first in the configuration.

use std::time::Duration;

use bitcoin::Network as Chain;
use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use stockade_broker::{Network, Stream, TlsClient};
use stockade_config::ElectrumServer;
use tokio::time::Instant;
use tokio_util::codec::{Framed, LinesCodec};

use super::wire::{Line, MAX_LINE};

/// How long a server may take to be connected and to say where it stands.
const PATIENCE: Duration = Duration::from_secs(10);

/// Blocks that one server may be behind another.
const LAG: u64 = 2;

/// Lines that may come before the answer to a question of the host's own.
const MOST_BEFORE: usize = 100;

/// The versions of the protocol, the oldest and the newest.
const VERSIONS: [&str; 2] = ["1.4", "1.6"];

/// What is needed to make a connection.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) network: Network,
    pub(super) tls: Option<TlsClient>,
    pub(super) servers: Vec<ElectrumServer>,
    pub(super) chain: Chain,
    pub(super) agree: usize,
}

/// A connection to a server that is on the right chain.
pub(super) struct Connection {
    pub(super) lines: Framed<Stream, LinesCodec>,
    /// Its place in the configuration.
    pub(super) server: usize,
    height: u64,
    next: u64,
}

#[derive(Deserialize)]
struct Features {
    genesis_hash: String,
}

#[derive(Deserialize)]
struct Tip {
    height: u64,
}

impl Plan {
    /// Connects to the server that is to be asked.
    ///
    /// # Errors
    /// Why there is none, without a server's name in it.
    pub(super) async fn connect(&self) -> Result<Connection, String> {
        let opening = (0..self.servers.len()).map(|server| self.open(server));
        let (mut open, mut why) = (Vec::new(), None);
        for opened in join_all(opening).await {
            match opened {
                Ok(connection) => open.push(connection),
                Err(error) => why = why.or(Some(error)),
            }
        }
        if open.is_empty() {
            return Err(why.unwrap_or_else(|| "the grant has no server".to_owned()));
        }
        let answered = open.len();
        let group = largest(&mut open).await;
        if group.len() * 2 <= answered || group.len() < self.agree {
            return Err(format!(
                "of {answered} servers that answered, {} agree on the chain, and {} are needed",
                group.len(),
                self.agree.max(answered / 2 + 1)
            ));
        }
        let chosen = group.into_iter().min().unwrap_or_default();
        Ok(open.swap_remove(chosen))
    }

    async fn open(&self, server: usize) -> Result<Connection, String> {
        let deadline = Instant::now() + PATIENCE;
        let opening = async {
            let named = &self.servers[server];
            let tls = if named.tls { self.tls.as_ref() } else { None };
            let dialled = self
                .network
                .dial(&named.host, named.port, tls, deadline)
                .await;
            let stream = dialled.map_err(|error| error.to_string())?;
            let mut connection = Connection {
                lines: Framed::new(stream, LinesCodec::new_with_max_length(MAX_LINE)),
                server,
                height: 0,
                next: 0,
            };
            let _: Value = connection
                .ask("server.version", json!(["stockade", VERSIONS]))
                .await?;
            let features: Features = connection.ask("server.features", json!([])).await?;
            let genesis = bitcoin::constants::genesis_block(self.chain).block_hash();
            if !features
                .genesis_hash
                .eq_ignore_ascii_case(&genesis.to_string())
            {
                return Err("the server is on another chain than the grant".to_owned());
            }
            let tip: Tip = connection
                .ask("blockchain.headers.subscribe", json!([]))
                .await?;
            connection.height = tip.height;
            Ok(connection)
        };
        let opened = tokio::time::timeout_at(deadline, opening).await;
        opened.unwrap_or_else(|_| Err("the server took too long".to_owned()))
    }
}

impl Connection {
    /// The first number that was not used.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Asks a question of the host's own, before the connection is anybody's.
    async fn ask<T: DeserializeOwned>(&mut self, method: &str, params: Value) -> Result<T, String> {
        let broken = || "the server broke off the connection, or its protocol".to_owned();
        let id = self.next;
        self.next += 1;
        let question = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.lines
            .send(question.to_string())
            .await
            .map_err(|_| broken())?;
        for _ in 0..MOST_BEFORE {
            let line = self
                .lines
                .next()
                .await
                .and_then(Result::ok)
                .ok_or_else(broken)?;
            let line: Line = serde_json::from_str(&line).map_err(|_| broken())?;
            if line.id != Some(id) {
                continue;
            }
            let result = line
                .result
                .filter(|_| line.error.is_none())
                .ok_or_else(broken)?;
            return serde_json::from_str(result.get()).map_err(|_| broken());
        }
        Err(broken())
    }

    async fn header(&mut self, height: u64) -> Option<String> {
        let asking = self.ask::<Value>("blockchain.block.header", json!([height]));
        let header = tokio::time::timeout(PATIENCE, asking).await.ok()?.ok()?;
        // With a proof where a checkpoint is asked for, which it is not.
        header.as_str().map(str::to_owned)
    }
}

/// The places of the largest group that agrees.
async fn largest(open: &mut [Connection]) -> Vec<usize> {
    let mut best: Vec<usize> = Vec::new();
    for reference in 0..open.len() {
        let top = open[reference].height;
        let below = top.saturating_sub(LAG);
        let Some(header) = open[reference].header(below).await else {
            continue;
        };
        let mut group = vec![reference];
        for (other, connection) in open.iter_mut().enumerate() {
            if other != reference
                && connection.height.abs_diff(top) <= LAG
                && connection.header(below).await.as_ref() == Some(&header)
            {
                group.push(other);
            }
        }
        if group.len() > best.len() {
            best = group;
        }
    }
    best
}
