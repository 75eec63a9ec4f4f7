//! A wallet by Nostr Wallet Connect (NIP-47).
//!
//! Each request has a connection of its own to the relay: the wallet's answers are events that no relay keeps, so it
//! subscribes to the answer before it asks. An answer counts when the wallet signed it for this very request.

use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{SinkExt, StreamExt};
use nostr::nips::nip44::Version;
use nostr::nips::nip47::NostrWalletConnectURI;
use nostr::nips::{nip04, nip44};
use nostr::{Event, JsonUtil, Keys, Kind, PublicKey, Tag, Timestamp, UnsignedEvent};
use serde::Deserialize;
use serde_json::{Value, json};
use stockade_broker::{Network, Stream, TlsClient};
use stockade_config::Msat;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::wallet::{Found, Made, Paid, Wallet, WalletError, shown};

/// How long a wallet may take, the relay included.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a relay may take for each step before the wallet is asked.
const STEP: Duration = Duration::from_secs(10);
/// Bytes of one message of a relay.
const MAX_MESSAGE: usize = 256 << 10;
/// Messages of a relay that may come before the answer.
const MOST_MESSAGES: usize = 200;

const INFO: u16 = 13_194;
const REQUEST: u16 = 23_194;
const ANSWER: u16 = 23_195;

/// A connection as its URL describes it.
pub(super) struct Nwc {
    network: Network,
    tls: Option<TlsClient>,
    relay: Relay,
    wallet: PublicKey,
    keys: Keys,
}

/// Where a relay is.
struct Relay {
    url: String,
    tls: bool,
    host: String,
    port: u16,
}

/// How a request is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encryption {
    Nip04,
    Nip44,
}

/// An answer, decrypted.
#[derive(Deserialize)]
struct Answer {
    result: Option<Value>,
    error: Option<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct PaidResult {
    preimage: String,
    fees_paid: Option<u64>,
}

#[derive(Deserialize)]
struct MadeResult {
    invoice: String,
}

#[derive(Deserialize)]
struct FoundResult {
    #[serde(rename = "type")]
    direction: Option<String>,
    state: Option<String>,
    preimage: Option<String>,
    fees_paid: Option<u64>,
    settled_at: Option<u64>,
}

/// Why there is no answer.
enum NoAnswer {
    /// The wallet cannot have read the request.
    NotSent(String),
    /// It may have.
    Lost(String),
}

impl Nwc {
    /// Reads the URL of a connection.
    ///
    /// # Errors
    /// What is wrong with it, without a part of it.
    pub(super) fn new(url: &str, network: Network, tls: TlsClient) -> Result<Self, String> {
        let wrong = || {
            "the connection is none of nostr+walletconnect://… with relay and secret (NIP-47)"
                .to_owned()
        };
        let uri = NostrWalletConnectURI::parse(url.trim()).map_err(|_| wrong())?;
        let relay = Relay::of(uri.relays.first().ok_or_else(wrong)?.as_str()).ok_or_else(wrong)?;
        Ok(Self {
            network,
            tls: relay.tls.then_some(tls),
            relay,
            wallet: uri.public_key,
            keys: Keys::new(uri.secret),
        })
    }

    async fn ask(&self, method: &str, params: Value) -> Result<Value, WalletOutcome> {
        let deadline = Instant::now() + PATIENCE;
        let mut sent = false;
        let asking = self.request_once(method, &params, deadline, &mut sent);
        let answer = match tokio::time::timeout_at(deadline, asking).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(NoAnswer::NotSent(why))) => return Err(WalletOutcome::NotSent(why)),
            Ok(Err(NoAnswer::Lost(why))) => return Err(WalletOutcome::Lost(why)),
            Err(_) => {
                let why = "the wallet did not answer in time".to_owned();
                return Err(if sent {
                    WalletOutcome::Lost(why)
                } else {
                    WalletOutcome::NotSent(why)
                });
            }
        };
        match (answer.result, answer.error) {
            (Some(result), None) => Ok(result),
            (_, Some(fault)) => Err(WalletOutcome::Refused {
                code: shown(&fault.code),
                message: shown(&fault.message),
            }),
            (None, None) => Err(WalletOutcome::Lost(
                "the wallet's answer has neither result nor error".to_owned(),
            )),
        }
    }

    /// One request and its answer. `sent` is set before the request leaves.
    async fn request_once(
        &self,
        method: &str,
        params: &Value,
        deadline: Instant,
        sent: &mut bool,
    ) -> Result<Answer, NoAnswer> {
        let not_sent = |why: &str| NoAnswer::NotSent(why.to_owned());
        let mut socket = tokio::time::timeout(STEP, self.connect(deadline))
            .await
            .map_err(|_| not_sent("the relay did not answer in time"))?
            .map_err(NoAnswer::NotSent)?;

        // How the wallet wants to be spoken to, and what it answers.
        let encryption = tokio::time::timeout(STEP, self.encryption(&mut socket))
            .await
            .map_err(|_| not_sent("the relay did not answer in time"))?
            .map_err(NoAnswer::NotSent)?;
        let content = self
            .seal(
                encryption,
                &json!({ "method": method, "params": params }).to_string(),
            )
            .ok_or_else(|| not_sent("the request could not be encrypted"))?;
        let request = self
            .event(encryption, content)
            .ok_or_else(|| not_sent("the request could not be signed"))?;
        let id = request.id.to_hex();
        let filter = json!({ "kinds": [ANSWER], "authors": [self.wallet.to_hex()], "#e": [id] });
        let subscribe = json!(["REQ", "answer", filter]).to_string();
        socket
            .send(Message::text(subscribe))
            .await
            .map_err(|_| not_sent("the relay broke off"))?;

        *sent = true;
        let publish =
            json!(["EVENT", serde_json::to_value(&request).unwrap_or_default()]).to_string();
        let lost = || NoAnswer::Lost("the relay broke off before the wallet answered".to_owned());
        socket
            .send(Message::text(publish))
            .await
            .map_err(|_| lost())?;
        for _ in 0..MOST_MESSAGES {
            let message = next(&mut socket).await.ok_or_else(lost)?;
            match message.first().and_then(Value::as_str) {
                // The relay says that it refuses the request, which has left: the wallet may have it.
                Some("OK")
                    if message.get(1) == Some(&json!(id))
                        && message.get(2) == Some(&json!(false)) =>
                {
                    return Err(NoAnswer::Lost("the relay refused the request".to_owned()));
                }
                Some("EVENT") => {
                    if let Some(answer) = message
                        .get(2)
                        .and_then(|event| self.read(encryption, &id, event))
                    {
                        return Ok(answer);
                    }
                }
                _ => {}
            }
        }
        Err(lost())
    }

    async fn connect(&self, deadline: Instant) -> Result<WebSocketStream<Stream>, String> {
        let relay = &self.relay;
        let dialled = self
            .network
            .dial(&relay.host, relay.port, self.tls.as_ref(), deadline)
            .await;
        let stream = dialled.map_err(|error| error.to_string())?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE))
            .max_frame_size(Some(MAX_MESSAGE));
        let shaken =
            tokio_tungstenite::client_async_with_config(relay.url.as_str(), stream, Some(config))
                .await;
        let (socket, _) = shaken.map_err(|_| "the relay speaks no WebSocket".to_owned())?;
        Ok(socket)
    }

    /// What the wallet's own event says that it reads; the old way where there is none.
    async fn encryption(&self, socket: &mut WebSocketStream<Stream>) -> Result<Encryption, String> {
        let broke = || "the relay broke off".to_owned();
        let filter = json!({ "kinds": [INFO], "authors": [self.wallet.to_hex()], "limit": 1 });
        let subscribe = json!(["REQ", "info", filter]).to_string();
        socket
            .send(Message::text(subscribe))
            .await
            .map_err(|_| broke())?;
        let mut found = Encryption::Nip04;
        for _ in 0..MOST_MESSAGES {
            let message = next(socket).await.ok_or_else(broke)?;
            match message.first().and_then(Value::as_str) {
                Some("EVENT") => {
                    let event = message.get(2).and_then(|event| self.checked(event));
                    let tag = event.as_ref().and_then(|event| {
                        event.tags.iter().find(|tag| {
                            tag.as_slice()
                                .first()
                                .is_some_and(|name| name == "encryption")
                        })
                    });
                    let ways = tag
                        .and_then(|tag| tag.as_slice().get(1).cloned())
                        .unwrap_or_default();
                    if ways.split_whitespace().any(|way| way == "nip44_v2") {
                        found = Encryption::Nip44;
                    }
                }
                Some("EOSE" | "CLOSED") => return Ok(found),
                _ => {}
            }
        }
        Err(broke())
    }

    /// An event that the wallet signed.
    fn checked(&self, event: &Value) -> Option<Event> {
        let event = Event::from_json(event.to_string()).ok()?;
        (event.pubkey == self.wallet && event.verify().is_ok()).then_some(event)
    }

    /// The answer to this request; `None` for anything else.
    fn read(&self, encryption: Encryption, id: &str, event: &Value) -> Option<Answer> {
        let event = self.checked(event)?;
        let answers = event.tags.iter().any(|tag| {
            tag.as_slice().first().is_some_and(|name| name == "e") && tag.content() == Some(id)
        });
        if event.kind != Kind::from_u16(ANSWER) || !answers {
            return None;
        }
        let own = self.keys.secret_key();
        let text = match encryption {
            Encryption::Nip04 => nip04::decrypt(own, &self.wallet, event.content).ok()?,
            Encryption::Nip44 => nip44::decrypt(own, &self.wallet, event.content).ok()?,
        };
        serde_json::from_str(&text).ok()
    }

    fn seal(&self, encryption: Encryption, text: &str) -> Option<String> {
        let own = self.keys.secret_key();
        match encryption {
            Encryption::Nip04 => nip04::encrypt(own, &self.wallet, text).ok(),
            Encryption::Nip44 => nip44::encrypt(own, &self.wallet, text, Version::V2).ok(),
        }
    }

    fn event(&self, encryption: Encryption, content: String) -> Option<Event> {
        let now = Timestamp::now();
        // A wallet that reads it later must not pay any more.
        let expires = now.as_secs() + PATIENCE.as_secs();
        let mut tags = vec![
            Tag::parse(["p", &self.wallet.to_hex()]).ok()?,
            Tag::parse(["expiration", &expires.to_string()]).ok()?,
        ];
        if encryption == Encryption::Nip44 {
            tags.push(Tag::parse(["encryption", "nip44_v2"]).ok()?);
        }
        let kind = Kind::from_u16(REQUEST);
        UnsignedEvent::new(self.keys.public_key(), now, kind, tags, content)
            .sign_with_keys(&self.keys)
            .ok()
    }
}

/// The next message that is an array of JSON; `None` at the end.
async fn next(socket: &mut WebSocketStream<Stream>) -> Option<Vec<Value>> {
    loop {
        match socket.next().await?.ok()? {
            Message::Text(text) => return serde_json::from_str(&text).ok(),
            Message::Close(_) => return None,
            _ => {}
        }
    }
}

impl Relay {
    fn of(url: &str) -> Option<Self> {
        let uri: http::Uri = url.parse().ok()?;
        let tls = match uri.scheme_str()? {
            "wss" => true,
            "ws" => false,
            _ => return None,
        };
        let host = uri
            .host()?
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Some(Self {
            url: url.to_owned(),
            tls,
            host,
            port,
        })
    }
}

/// Why a request has no result.
enum WalletOutcome {
    NotSent(String),
    Lost(String),
    Refused { code: String, message: String },
}

impl From<WalletOutcome> for WalletError {
    fn from(outcome: WalletOutcome) -> Self {
        match outcome {
            WalletOutcome::NotSent(why) | WalletOutcome::Lost(why) => Self::Unreachable(why),
            WalletOutcome::Refused { code, .. } if code == "NOT_FOUND" => Self::NotFound,
            WalletOutcome::Refused { code, message } => {
                Self::Refused(format!("the wallet refuses: {code}: {message}"))
            }
        }
    }
}

impl Wallet for Nwc {
    fn pay<'a>(
        &'a self,
        invoice: &'a str,
        hash: &'a str,
        amount: Option<Msat>,
    ) -> BoxFuture<'a, Paid> {
        Box::pin(async move {
            let mut params = json!({ "invoice": invoice });
            if let Some(amount) = amount {
                params["amount"] = json!(amount.0);
            }
            match self.ask("pay_invoice", params).await {
                Ok(result) => match serde_json::from_value::<PaidResult>(result) {
                    Ok(paid) => Paid::Yes {
                        fee: Msat(paid.fees_paid.unwrap_or_default()),
                        preimage: paid.preimage,
                    },
                    Err(_) => Paid::Unknown("the wallet's answer has no preimage".to_owned()),
                },
                Err(WalletOutcome::NotSent(why)) => Paid::No(why),
                Err(WalletOutcome::Lost(why)) => Paid::Unknown(why),
                // Of the codes of NIP-47, these say that nothing is on its way. INTERNAL and OTHER say nothing.
                Err(WalletOutcome::Refused { code, message }) => {
                    let why = format!("the wallet refuses: {code}: {message}");
                    // Another try of the wallet's may still be on its way.
                    if code == "PAYMENT_FAILED" {
                        return match self.find(hash).await {
                            Ok(found) if found.failed && !found.incoming => Paid::No(why),
                            _ => Paid::Unknown(why),
                        };
                    }
                    let certain = [
                        "INSUFFICIENT_BALANCE",
                        "QUOTA_EXCEEDED",
                        "RATE_LIMITED",
                        "RESTRICTED",
                        "UNAUTHORIZED",
                        "NOT_IMPLEMENTED",
                        "UNSUPPORTED_ENCRYPTION",
                    ];
                    if certain.contains(&code.as_str()) {
                        Paid::No(why)
                    } else {
                        Paid::Unknown(why)
                    }
                }
            }
        })
    }

    fn make<'a>(
        &'a self,
        amount: Msat,
        description: &'a str,
        expiry: Option<u64>,
    ) -> BoxFuture<'a, Result<Made, WalletError>> {
        Box::pin(async move {
            let mut params = json!({ "amount": amount.0, "description": description });
            if let Some(expiry) = expiry {
                params["expiry"] = json!(expiry);
            }
            let result = self.ask("make_invoice", params).await?;
            let made: MadeResult = serde_json::from_value(result).map_err(|_| {
                WalletError::Unreachable("the wallet's answer has no invoice".to_owned())
            })?;
            Ok(Made {
                invoice: made.invoice,
            })
        })
    }

    fn find<'a>(&'a self, hash: &'a str) -> BoxFuture<'a, Result<Found, WalletError>> {
        Box::pin(async move {
            let result = self
                .ask("lookup_invoice", json!({ "payment_hash": hash }))
                .await?;
            let found: FoundResult = serde_json::from_value(result).map_err(|_| {
                WalletError::Unreachable("the wallet's answer is no invoice".to_owned())
            })?;
            let state = found.state.as_deref();
            let incoming = found.direction.as_deref() == Some("incoming");
            Ok(Found {
                incoming,
                settled: state == Some("settled")
                    || (state.is_none() && found.settled_at.is_some()),
                // An invoice expires; a payment that is on its way does not.
                failed: state == Some("failed") || (incoming && state == Some("expired")),
                preimage: found.preimage.filter(|preimage| !preimage.is_empty()),
                fee: found.fees_paid.map(Msat),
            })
        })
    }

    /// A service between may have lost its record.
    fn knows_all(&self) -> bool {
        false
    }
}
