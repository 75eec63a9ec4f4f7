//! A wallet of an LNbits server, by its HTTP interface of versions 1.x.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use stockade_broker::{Network, TlsClient};
use stockade_config::Msat;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::wallet::{Found, Made, Paid, Wallet, WalletError, shown};

/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of one answer.
const MAX_ANSWER: usize = 256 << 10;

pub(super) struct Lnbits {
    network: Network,
    tls: Option<TlsClient>,
    host: String,
    port: u16,
    /// Host and port as they stand in the URL.
    authority: String,
    key: HeaderValue,
}

/// A payment as the server describes it.
#[derive(Deserialize)]
struct Payment {
    status: Option<String>,
    fee: Option<i64>,
    /// In msat; negative for what the wallet pays.
    #[serde(default)]
    amount: Option<i64>,
    preimage: Option<String>,
    bolt11: Option<String>,
    #[serde(default)]
    payment_request: Option<String>,
}

#[derive(Deserialize)]
struct Lookup {
    paid: Option<bool>,
    preimage: Option<String>,
    details: Option<Payment>,
}

impl Lnbits {
    /// Reads where the server is.
    ///
    /// # Errors
    /// What is wrong with the URL or the key, without a part of the key.
    pub(super) fn new(
        url: &str,
        key: &str,
        network: Network,
        tls: TlsClient,
    ) -> Result<Self, String> {
        let wrong = || "the URL of the LNbits server is not one".to_owned();
        let uri: http::Uri = url.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let is_tls = uri.scheme_str() == Some("https");
        let mut key = HeaderValue::from_str(key.trim())
            .map_err(|_| "the key of the wallet is no value of a header")?;
        key.set_sensitive(true);
        Ok(Self {
            network,
            tls: is_tls.then_some(tls),
            host: authority
                .host()
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            port: authority
                .port_u16()
                .unwrap_or(if is_tls { 443 } else { 80 }),
            authority: authority.as_str().to_owned(),
            key,
        })
    }

    /// One request. `Err` where it is unknown whether the server did anything, unless `sent` is false.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        sent: &mut bool,
    ) -> Result<(StatusCode, Value), String> {
        let deadline = Instant::now() + PATIENCE;
        let asking = async {
            let dialled = self
                .network
                .dial(&self.host, self.port, self.tls.as_ref(), deadline)
                .await;
            let stream = dialled.map_err(|error| error.to_string())?;
            let shaken = http1::handshake(TokioIo::new(stream)).await;
            let (mut sender, connection) =
                shaken.map_err(|_| "the server speaks no HTTP".to_owned())?;
            // It ends with this future.
            let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
            let body = body.map(|body| body.to_string()).unwrap_or_default();
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header("host", &self.authority)
                .header("content-type", "application/json")
                .header("x-api-key", &self.key)
                .body(Full::new(Bytes::from(body)))
                .map_err(|_| "the request could not be made".to_owned())?;
            *sent = true;
            let answer = sender.send_request(request).await;
            let answer =
                answer.map_err(|_| "the server broke off before it answered".to_owned())?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            let body = body
                .map_err(|_| "the server broke off its answer".to_owned())?
                .to_bytes();
            // An error of a proxy's is a page.
            Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
        };
        let asked = tokio::time::timeout_at(deadline, asking).await;
        asked.unwrap_or_else(|_| Err("the server did not answer in time".to_owned()))
    }

    /// What the server says of a payment that it did not say was made. `answered`: it answered the wish to pay, so
    /// that a payment which it does not know of will not be made any more.
    async fn outcome(&self, hash: &str, why: String, answered: bool) -> Paid {
        match self.find(hash).await {
            Ok(Found {
                settled: true,
                incoming: false,
                preimage: Some(preimage),
                fee,
                ..
            }) => Paid::Yes {
                fee: fee.unwrap_or_default(),
                preimage,
            },
            Ok(Found {
                failed: true,
                incoming: false,
                ..
            }) => Paid::No(why),
            Err(WalletError::NotFound) if answered => Paid::No(why),
            _ => Paid::Unknown(why),
        }
    }
}

/// Whether LNbits wrote this error, and not a proxy before it.
fn is_own(body: &Value) -> bool {
    body.get("detail").is_some_and(Value::is_string)
}

/// Whether LNbits says that it ended its attempt to pay. It does that with a status of its own, and with the same one where
/// the payment is on its way.
fn is_failure(status: StatusCode, body: &Value) -> bool {
    status.as_u16() == 520 && body.get("status").and_then(Value::as_str) == Some("failed")
}

/// What an error of the server's says.
fn detail(status: StatusCode, body: &Value) -> String {
    let detail = body
        .get("detail")
        .and_then(Value::as_str)
        .unwrap_or_default();
    format!("the wallet refuses: {} {}", status.as_u16(), shown(detail))
}

impl Wallet for Lnbits {
    fn pay<'a>(
        &'a self,
        invoice: &'a str,
        hash: &'a str,
        amount: Option<Msat>,
    ) -> BoxFuture<'a, Paid> {
        Box::pin(async move {
            if amount.is_some() {
                return Paid::No("LNbits pays no invoice without an amount".to_owned());
            }
            let mut sent = false;
            let body = json!({ "out": true, "bolt11": invoice });
            let asked = self
                .ask(Method::POST, "/api/v1/payments", Some(body), &mut sent)
                .await;
            let (status, body) = match asked {
                Ok(answer) => answer,
                Err(why) if !sent => return Paid::No(why),
                Err(why) => return self.outcome(hash, why, false).await,
            };
            if !status.is_success() {
                // A proxy, or a server in trouble, does not know what becomes of the payment.
                let answered =
                    is_own(&body) && (status.is_client_error() || is_failure(status, &body));
                return self.outcome(hash, detail(status, &body), answered).await;
            }
            match serde_json::from_value::<Payment>(body) {
                Ok(Payment {
                    status: Some(status),
                    fee,
                    preimage: Some(preimage),
                    ..
                }) if status == "success" => Paid::Yes {
                    fee: fee_of(fee).unwrap_or_default(),
                    preimage,
                },
                _ => {
                    self.outcome(hash, "the payment is on its way".to_owned(), false)
                        .await
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
            if !amount.0.is_multiple_of(1000) {
                return Err(WalletError::Refused(
                    "LNbits makes invoices of whole satoshis".to_owned(),
                ));
            }
            let mut body = json!({ "out": false, "amount": amount.0 / 1000, "memo": description });
            if let Some(expiry) = expiry {
                body["expiry"] = json!(expiry);
            }
            let asked = self
                .ask(Method::POST, "/api/v1/payments", Some(body), &mut false)
                .await;
            let (status, body) = asked.map_err(WalletError::Unreachable)?;
            if !status.is_success() {
                return Err(WalletError::Refused(detail(status, &body)));
            }
            let made: Option<Payment> = serde_json::from_value(body).ok();
            let invoice = made.and_then(|made| made.bolt11.or(made.payment_request));
            let invoice = invoice.ok_or_else(|| {
                WalletError::Unreachable("the wallet's answer has no invoice".to_owned())
            })?;
            Ok(Made { invoice })
        })
    }

    fn find<'a>(&'a self, hash: &'a str) -> BoxFuture<'a, Result<Found, WalletError>> {
        Box::pin(async move {
            let path = format!("/api/v1/payments/{hash}");
            let asked = self.ask(Method::GET, &path, None, &mut false).await;
            let (status, body) = asked.map_err(WalletError::Unreachable)?;
            if status == StatusCode::NOT_FOUND && is_own(&body) {
                return Err(WalletError::NotFound);
            }
            if !status.is_success() {
                return Err(WalletError::Refused(detail(status, &body)));
            }
            let found: Lookup = serde_json::from_value(body).map_err(|_| {
                WalletError::Unreachable("the wallet's answer is no payment".to_owned())
            })?;
            let details = found.details;
            let status = details.as_ref().and_then(|details| details.status.clone());
            let preimage = found
                .preimage
                .or_else(|| details.as_ref()?.preimage.clone());
            let amount = details.as_ref().and_then(|details| details.amount);
            Ok(Found {
                incoming: amount.is_some_and(|amount| amount > 0),
                settled: found.paid == Some(true),
                failed: status.as_deref() == Some("failed"),
                preimage: preimage.filter(|preimage| !preimage.is_empty()),
                fee: fee_of(details.and_then(|details| details.fee)),
            })
        })
    }

    /// The server records a payment before it makes it.
    fn knows_all(&self) -> bool {
        true
    }
}

/// A fee, which the server gives as a negative number of msat.
fn fee_of(fee: Option<i64>) -> Option<Msat> {
    fee.map(|fee| Msat(fee.unsigned_abs()))
}
