//! Certificates by ACME (RFC 8555), off unless an operator asks for it.
//!
//! 1. The private keys and the account's key never leave this machine; their folder is the owner's only.
//! 2. A challenge is answered only while an order of ours is open for that name.
//! 3. A renewal that fails leaves the old certificate in use, until it ends.

mod cache;
mod challenge;
mod client;
mod options;
mod order;
mod renewal;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::{ArcSwap, Guard};
use http::Uri;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use tokio::task::JoinHandle;

pub(crate) use challenge::ALPN;
pub use options::{AcmeChallenge, AcmeOptions, ExternalAccount};

use super::event::{TlsEvent, TlsObserver, emit};
use super::index::Index;
use super::names::pattern_form;
use super::problem::TlsProblem;
use cache::Cache;
use challenge::Challenges;
pub(crate) use client::DirectClient;
use order::OrderClient;
use renewal::Kept;

/// Most names of a certificate, as public authorities have it.
const NAMES: usize = 100;

/// Keeps certificates of an ACME server, renewed in time. Several [`TlsStore`](super::TlsStore)s may
/// show them.
#[derive(Debug)]
pub struct Acme {
    index: ArcSwap<Index>,
    challenges: Arc<Challenges>,
    challenge_config: Arc<ServerConfig>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Acme {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().take() {
            task.abort();
        }
    }
}

/// Why ACME cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcmeError {
    /// Without agreement there is no account.
    #[error(
        "acme: the server's terms of service are not agreed to\n  fix: read them (the directory names \
         them under meta.termsOfService), then say so"
    )]
    TermsNotAgreed,
    /// The directory cannot be asked.
    #[error("acme: {0:?} is not the URL of a directory\n  fix: give one that begins with https://")]
    Directory(String),
    /// A name that no certificate can be asked for.
    #[error(
        "acme: {0:?} is not a host name that a certificate can be asked for\n  fix: name hosts without \
         wildcards and ports; wildcards need a challenge over DNS, which is not supported"
    )]
    Name(String),
    /// Too few or too many names for one certificate.
    #[error("acme: a certificate has 1 to {NAMES} names, not {0}")]
    Names(usize),
    /// The cache cannot be used.
    #[error("acme: the cache {} cannot be used: {source}\n  fix: name a folder that this user may write to", .folder.display())]
    Cache {
        /// Its folder.
        folder: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The authorities for the server itself cannot be used.
    #[error("acme: {0}")]
    ServerCa(#[source] TlsProblem),
    /// TLS cannot be set up.
    #[error("acme: {0}")]
    Tls(#[source] rustls::Error),
}

impl Acme {
    /// Takes what the cache holds, and gets and renews the rest in the background until the last
    /// reference is dropped. Needs a Tokio runtime.
    ///
    /// # Errors
    /// [`AcmeError`]. That the server gives no certificate is an event, not an error.
    pub fn start(
        options: AcmeOptions,
        observer: Arc<dyn TlsObserver>,
    ) -> Result<Arc<Self>, AcmeError> {
        let certificates = check(&options)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let challenges = Arc::new(Challenges::default());
        let cache = Cache::open(&options.cache, &options.directory).map_err(|source| {
            let folder = options.cache.clone();
            AcmeError::Cache { folder, source }
        })?;
        let client = DirectClient::new(options.server_ca.as_deref(), &provider)
            .map_err(AcmeError::ServerCa)?;
        let config = challenge::config(&challenges, &provider).map_err(AcmeError::Tls)?;
        let order_client = OrderClient {
            options,
            cache,
            client,
            challenges: challenges.clone(),
            provider,
        };
        let now = SystemTime::now();
        let all: Vec<_> = certificates
            .into_iter()
            .map(|names| Kept::from_cache(&order_client, names, now))
            .collect();
        for leaf in all.iter().filter_map(|kept| kept.leaf.as_ref()) {
            emit(&*observer, TlsEvent::Loaded(leaf.facts.clone()));
        }
        let acme = Arc::new(Self {
            index: ArcSwap::from_pointee(renewal::index(&all)),
            challenges,
            challenge_config: Arc::new(config),
            task: Mutex::new(None),
        });
        let task = tokio::spawn(renewal::keep(
            Arc::downgrade(&acme),
            order_client,
            all,
            observer,
        ));
        *acme.task.lock() = Some(task);
        Ok(acme)
    }

    /// The body of the answer to `GET /.well-known/acme-challenge/TOKEN` at `host`, while such a
    /// challenge is open. It is to be asked over plain HTTP, before routes.
    #[must_use]
    pub fn http_answer(&self, host: &str, token: &str) -> Option<String> {
        self.challenges.http(host, token)
    }

    /// Orders nothing any more; what there is stays in use. For one that another takes the place of,
    /// while connections of before live on.
    pub fn retire(&self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }

    pub(crate) fn index(&self) -> Guard<Arc<Index>> {
        self.index.load()
    }

    pub(crate) fn challenge_config(&self) -> Arc<ServerConfig> {
        self.challenge_config.clone()
    }
}

/// Checks what can be checked without the server; gives the names in their one form.
fn check(options: &AcmeOptions) -> Result<Vec<Vec<String>>, AcmeError> {
    let uri: Option<Uri> = options.directory.parse().ok();
    if !uri.is_some_and(|uri| uri.scheme_str() == Some("https") && uri.host().is_some()) {
        return Err(AcmeError::Directory(options.directory.clone()));
    }
    if !options.terms_agreed {
        return Err(AcmeError::TermsNotAgreed);
    }
    let mut certificates = Vec::new();
    for names in &options.certificates {
        if names.is_empty() || names.len() > NAMES {
            return Err(AcmeError::Names(names.len()));
        }
        let checked = names.iter().map(|name| {
            let is_address = name.parse::<std::net::Ipv4Addr>().is_ok();
            let form = pattern_form(name).filter(|form| !form.starts_with("*.") && !is_address);
            form.ok_or_else(|| AcmeError::Name(name.clone()))
        });
        certificates.push(checked.collect::<Result<_, _>>()?);
    }
    Ok(certificates)
}
