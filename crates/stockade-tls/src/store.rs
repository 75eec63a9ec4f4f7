//! All of TLS for one listener or several that are alike: loaded, replaced while running, queried.
//!
//! 1. What handshakes use is always valid as a whole: it is read and checked while the old one is in use, and
//!    then replaces it at once.
//! 2. A bad file keeps what it would have replaced; the other files of the same change are used.
//! 3. Connections and session tickets outlive a new certificate of the server. A change of authorities
//!    or revocation lists ends the tickets of its policy, and running connections are checked against it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::crypto::CryptoProvider;
use stockade_watch::{FileState, file_states};

use super::acme::Acme;
use super::connection::{ConnectionTls, Misdirected};
use super::event::{CertificateFacts, TlsEvent, TlsObserver, emit};
use super::expiry::{End, Notified};
use super::index::Index;
use super::options::TlsOptions;
use super::policy::{Policies, provider};
use super::problem::{TlsError, TlsProblem, Wrong};
use super::reading::{certificates, files, policies};
use super::resolver::Resolver;
use super::turns::Turns;

/// Certificates, keys and policies of clients, in use and reloadable.
pub struct TlsStore {
    pub(crate) options: TlsOptions,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) policies: ArcSwap<Policies>,
    pub(crate) turns: Turns,
    provider: Arc<CryptoProvider>,
    observer: Arc<dyn TlsObserver>,
    notified: Mutex<Notified>,
    /// Held while files are read, so that two changes do not overtake each other.
    last_read: Mutex<LastRead>,
}

/// The last reading of all files.
struct LastRead {
    at: SystemTime,
    /// The states of the files before it, so that the next check sees a change during it.
    states: Vec<FileState>,
}

impl std::fmt::Debug for TlsStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsStore")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl TlsStore {
    /// Reads and checks all files, and blocks the thread meanwhile. `acme` has the certificates for names that no
    /// file covers.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(
        options: TlsOptions,
        acme: Option<Arc<Acme>>,
        observer: Arc<dyn TlsObserver>,
    ) -> Result<Self, TlsError> {
        let now = SystemTime::now();
        let states = file_states(&files(&options));
        let provider = Arc::new(provider());
        let resolver = Arc::new(Resolver {
            files: ArcSwap::from_pointee(Index::new(Vec::new())),
            acme,
            strict: options.strict_sni,
        });
        let certificates = certificates(&options, None, &provider, now);
        let policies = policies(&options, None, &resolver, &provider, now);
        let mut problems = certificates.problems;
        problems.extend(policies.problems);
        if certificates.value.is_empty() && resolver.acme.is_none() && problems.is_empty() {
            problems.push(TlsProblem {
                file: None,
                line: None,
                what: Wrong::Unusable(
                    "no certificate is named\n  fix: name one, or switch ACME on".to_owned(),
                ),
            });
        }
        let (Some(policies_in_use), true) = (policies.value, problems.is_empty()) else {
            return Err(TlsError { problems });
        };
        resolver
            .files
            .store(Arc::new(Index::new(certificates.value)));
        let store = Self {
            turns: Turns::new(options.computing_handshakes, options.waiting_handshakes),
            options,
            resolver,
            policies: ArcSwap::from_pointee(policies_in_use),
            provider,
            observer,
            notified: Mutex::default(),
            last_read: Mutex::new(LastRead { at: now, states }),
        };
        for event in certificates.events.into_iter().chain(policies.events) {
            emit(&*store.observer, event);
        }
        store.check_dates(now);
        Ok(store)
    }

    /// Reads all files again and uses what is good and new. Blocks while it does.
    ///
    /// # Errors
    /// Everything that is wrong. What those files would have replaced stays in use.
    pub fn reload(&self) -> Result<(), Arc<TlsError>> {
        let mut last_read = self.last_read.lock();
        let now = SystemTime::now();
        let states = file_states(&self.files());
        let in_use = self.resolver.files.load_full();
        let certificates = certificates(&self.options, Some(&in_use), &self.provider, now);
        let before = self.policies.load_full();
        let policies = policies(
            &self.options,
            Some((&before, last_read.at)),
            &self.resolver,
            &self.provider,
            now,
        );
        self.resolver
            .files
            .store(Arc::new(Index::new(certificates.value)));
        if let Some(policies) = policies.value {
            self.policies.store(Arc::new(policies));
        }
        *last_read = LastRead { at: now, states };
        drop(last_read);
        for event in certificates.events.into_iter().chain(policies.events) {
            emit(&*self.observer, event);
        }
        let mut problems = certificates.problems;
        problems.extend(policies.problems);
        let result = if problems.is_empty() {
            Ok(())
        } else {
            let error = Arc::new(TlsError { problems });
            emit(&*self.observer, TlsEvent::ReloadFailed(error.clone()));
            Err(error)
        };
        self.check_dates(now);
        result
    }

    /// The policy that clients of a host are under. `host` is as in a request, a port is ignored.
    #[cfg(test)]
    pub(crate) fn policy_of(&self, host: &str) -> super::policy::PolicyId {
        self.policies.load().of(Some(host)).id
    }

    /// Checks that a request for `host` may be answered on a connection, which may have been made
    /// before a reload or by another store. Cheap where nothing changed.
    ///
    /// # Errors
    /// [`Misdirected`]: answer 421.
    pub fn check(&self, host: &str, connection: &ConnectionTls) -> Result<(), Misdirected> {
        let policies = self.policies.load();
        connection.check(policies.of(Some(host)), SystemTime::now())
    }

    /// All certificates in use, those by ACME included.
    #[must_use]
    pub fn certificates(&self) -> Vec<Arc<CertificateFacts>> {
        let files = self.resolver.files.load();
        let mut facts: Vec<_> = files
            .leaves()
            .iter()
            .map(|leaf| leaf.facts.clone())
            .collect();
        if let Some(acme) = &self.resolver.acme {
            facts.extend(acme.index().leaves().iter().map(|leaf| leaf.facts.clone()));
        }
        facts
    }

    /// All files that are read, for a watcher.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        files(&self.options)
    }

    /// Reports what ends soon or has ended. Authorities that have ended since the files were read are
    /// taken out of use.
    pub(crate) fn check_dates(&self, now: SystemTime) {
        let policies = self.policies.load();
        let mut ends: Vec<End> = Vec::new();
        for policy in policies.distinct() {
            ends.extend(policy.trust.iter().flat_map(|trust| trust.ends.clone()));
        }
        ends.sort_by(|a, b| a.key.cmp(&b.key));
        ends.dedup_by(|a, b| a.key == b.key);
        ends.extend(
            self.resolver
                .files
                .load()
                .leaves()
                .iter()
                .map(|leaf| End::of(leaf)),
        );
        let events = self.notified.lock().events(&ends, now);
        for event in events {
            emit(&*self.observer, event);
        }
    }

    /// Says whether an authority ended between the last reading and `now`; not while files are being read.
    pub(crate) fn must_reload(&self, now: SystemTime) -> bool {
        let Some(read_at) = self.last_read.try_lock().map(|read| read.at) else {
            return false;
        };
        self.policies.load().distinct().iter().any(|policy| {
            let mut ends = policy.trust.iter().flat_map(|trust| &trust.ends);
            ends.any(|end| end.passed(read_at, now))
        })
    }

    /// The states of the files before they were read; `None` while they are being read.
    pub(crate) fn file_states(&self) -> Option<Vec<FileState>> {
        Some(self.last_read.try_lock()?.states.clone())
    }

    pub(crate) fn challenge_answered(&self, domain: String) {
        emit(&*self.observer, TlsEvent::AcmeChallenge { domain });
    }
}
