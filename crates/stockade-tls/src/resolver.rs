//! Answers rustls' question for a certificate: files first, then ACME, then the default.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::acme::Acme;
use super::index::{Index, NoLeaf, certified, choose};
use super::leaf::Leaf;
use super::names::lookup_form;

/// Shared by all policies of a store, so that a new certificate leaves their session tickets alone.
#[derive(Debug)]
pub(crate) struct Resolver {
    pub(crate) files: ArcSwap<Index>,
    pub(crate) acme: Option<Arc<Acme>>,
    pub(crate) strict: bool,
}

impl Resolver {
    /// The certificate for a client's first message.
    pub(crate) fn select(
        &self,
        hello: &ClientHello<'_>,
        now: SystemTime,
    ) -> Result<Arc<Leaf>, NoLeaf> {
        let files = self.files.load();
        let by_acme = self.acme.as_ref().map(|acme| acme.index());
        if let Some(name) = hello.server_name().map(lookup_form) {
            let named = files.named(&name);
            if !named.is_empty() {
                return choose(&named, hello, now).cloned();
            }
            if let Some(index) = &by_acme {
                let named = index.named(&name);
                if !named.is_empty() {
                    return choose(&named, hello, now).cloned();
                }
            }
        }
        if self.strict {
            return Err(NoLeaf::UnknownName);
        }
        match (files.default(), &by_acme) {
            (default, Some(index)) if default.is_empty() => {
                choose(&index.default(), hello, now).cloned()
            }
            (default, _) => choose(&default, hello, now).cloned(),
        }
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let now = SystemTime::now();
        let leaf = self.select(&hello, now).ok()?;
        Some(certified(&leaf, now))
    }
}
