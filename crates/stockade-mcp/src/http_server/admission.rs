//! Who may send requests over HTTP, and as whom: everyone, the holders of tokens, or those of API keys.
//!
//! Invariants:
//! 1. A request is let in before its body is read, and its credential goes no further.
//! 2. What the holder of an API key has ends as soon as the key does.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use parking_lot::Mutex;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use stockade_callers::{Authority, Caller, KeyRules, Noted};
use stockade_http::{Body, Problem, bearer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::bounds::HTTP_REQUESTS_OF_TENANT;
use crate::server::Tenant;

/// Whom the server lets in.
#[derive(Debug, Default)]
pub enum Clients {
    /// Everyone who reaches it.
    #[default]
    All,
    /// Those with one of these tokens.
    Tokens(Vec<Token>),
    /// Those with an API key.
    Keys(KeyRules),
}

/// A token as its hash, so that a comparison says nothing about it by its time.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    /// Makes the hash of a token.
    pub fn new(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// A refusal. Its body is complete.
pub(super) type Refused = Box<Response<Body>>;

/// Lets requests in.
pub(super) struct Admission {
    who: Who,
    tenants: Arc<Mutex<HashMap<Arc<str>, Weak<Tenant>>>>,
    /// Called with each tenant whose API key has ended.
    ended: Arc<dyn Fn(Arc<Tenant>) + Send + Sync>,
}

enum Who {
    All,
    Tokens(Vec<Token>),
    Keys(Arc<Authority>),
}

/// A request that was let in.
pub(super) struct Admitted {
    pub(super) tenant: Arc<Tenant>,
    pub(super) caller: Option<Caller>,
    pub(super) permit: OwnedSemaphorePermit,
}

/// The part of a message that says what it calls.
#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    params: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    name: Option<String>,
}

impl Admission {
    pub(super) fn new(
        clients: Clients,
        ended: impl Fn(Arc<Tenant>) + Send + Sync + 'static,
    ) -> Self {
        Self {
            who: match clients {
                Clients::All => Who::All,
                Clients::Tokens(tokens) => Who::Tokens(tokens),
                Clients::Keys(rules) => Who::Keys(Arc::new(Authority::new(rules, "mcp", None))),
            },
            tenants: Arc::default(),
            ended: Arc::new(ended),
        }
    }

    /// Lets a request in by its head.
    pub(super) fn admit(&self, headers: &HeaderMap, address: IpAddr) -> Result<Admitted, Refused> {
        let (name, caller): (Arc<str>, _) = match &self.who {
            Who::All => ("all".into(), None),
            Who::Tokens(tokens) => {
                let at = position(tokens, headers).ok_or_else(|| challenge(headers))?;
                (format!("token {at}").into(), None)
            }
            Who::Keys(authority) => {
                let caller = authority.authenticate(headers, address)?;
                (caller.id().to_string().into(), Some(caller))
            }
        };
        let tenant = self.tenant(name, caller.clone());
        let permit = Arc::clone(&tenant.requests).try_acquire_owned();
        let permit = permit.map_err(|_| {
            let detail = format!(
                "{HTTP_REQUESTS_OF_TENANT} requests of this API key or token are open, which is the limit."
            );
            refusal(headers, StatusCode::TOO_MANY_REQUESTS, detail)
        })?;
        Ok(Admitted {
            tenant,
            caller,
            permit,
        })
    }

    /// The tenant of this name, which is made if there is none.
    fn tenant(&self, name: Arc<str>, key: Option<Caller>) -> Arc<Tenant> {
        let mut tenants = self.tenants.lock();
        if let Some(tenant) = tenants.get(&name).and_then(Weak::upgrade)
            && !tenant.ended.is_cancelled()
        {
            tenant.came_with(key);
            return tenant;
        }
        // There are as many entries as tenants that live, and some that have gone since this was last done.
        if tenants.len() == tenants.capacity() {
            tenants.retain(|_, tenant| tenant.strong_count() > 0);
        }
        let has_key = key.is_some();
        let requests = match &self.who {
            Who::All => Semaphore::MAX_PERMITS,
            _ => HTTP_REQUESTS_OF_TENANT,
        };
        let tenant = Tenant::new(Arc::clone(&name), requests, key);
        tenants.insert(name, Arc::downgrade(&tenant));
        drop(tenants);
        if has_key {
            let (gone, ended) = (tenant.gone.clone(), Arc::clone(&self.ended));
            let ends = key_ends(Arc::downgrade(&tenant));
            tokio::spawn(async move {
                if let Some(Some(tenant)) = gone.run_until_cancelled(ends).await {
                    ended(tenant);
                }
            });
        }
        tenant
    }

    /// Whether a message may be passed on, and what its response has besides the answer. A call of a tool is counted.
    pub(super) fn admit_message(
        &self,
        caller: Option<&Caller>,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Noted, Refused> {
        let Some(caller) = caller else {
            return Ok(Noted::default());
        };
        // What this does not read is not passed on: rmcp could read a call in it. A member that is there twice is an error.
        let Ok(message) = serde_json::from_slice::<Envelope>(body) else {
            let detail = "The body is not one message of JSON-RPC 2.0.";
            return Err(refusal(headers, StatusCode::BAD_REQUEST, detail.to_owned()));
        };
        if message.method.as_deref() != Some("tools/call") {
            return Ok(Noted::default());
        }
        let tool = message.params.and_then(|params| params.name);
        let admitted = caller.admit(tool.as_deref().unwrap_or_default());
        admitted.map_err(|(denial, noted)| {
            let status = noted.status.unwrap_or(StatusCode::FORBIDDEN);
            let mut response = refusal(headers, status, denial.message());
            noted.apply(&mut *response);
            response
        })
    }
}

/// Whether a message opens a connection of MCP. One that this does not read may do so.
pub(super) fn opens_connection(body: &[u8]) -> bool {
    match serde_json::from_slice::<Envelope>(body) {
        Ok(message) => message.method.as_deref() == Some("initialize"),
        Err(_) => true,
    }
}

/// Waits until no text of a tenant's API key is valid any more, and gives the tenant.
async fn key_ends(of: Weak<Tenant>) -> Option<Arc<Tenant>> {
    loop {
        let key = of.upgrade()?.key.lock().clone()?;
        key.until_invalid().await;
        let tenant = of.upgrade()?;
        // A client that sends the key's new text goes on.
        let goes_on = tenant.key.lock().as_ref().is_some_and(Caller::is_valid);
        if !goes_on {
            return Some(tenant);
        }
    }
}

/// Which of the tokens a request has.
fn position(tokens: &[Token], headers: &HeaderMap) -> Option<usize> {
    let text = bearer(headers).ok().flatten()?;
    let token = Token::new(std::str::from_utf8(text).ok()?);
    tokens.iter().position(|known| *known == token)
}

fn challenge(headers: &HeaderMap) -> Refused {
    let detail = "A token is needed: `authorization: Bearer TOKEN`.";
    let mut response = refusal(headers, StatusCode::UNAUTHORIZED, detail.to_owned());
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// A complete response to a request that is refused.
pub(super) fn refusal(headers: &HeaderMap, status: StatusCode, detail: String) -> Refused {
    let id = uuid::Uuid::new_v4().to_string();
    Box::new(Problem::new(status, detail).render(headers, &id))
}
