//! All of TLS for one listener or several that are alike: loaded, exchanged while running, asked.
//!
//! 1. What handshakes use is always valid as a whole: it is read and checked beside what is in use, and
//!    then exchanged at once.
//! 2. A bad file keeps what it would have replaced; the other files of the same change are used.
//! 3. Connections and session tickets outlive a new certificate of the server. A change of authorities
//!    or revocation lists ends the tickets of its policy, and running connections are checked against it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

use super::accept::Turns;
use super::connection::{ConnectionTls, Misdirected};
use super::event::{CertificateFacts, TlsEvent, TlsObserver, emit};
use super::expiry::{End, Told};
use super::index::Index;
use super::leaf::{self, Leaf};
use super::names::{HostMap, Wildcard, pattern_form};
use super::options::{ClientAuth, ClientAuthMode, OnExpired, TlsOptions};
use super::policy::{Policies, Policy, PolicyId};
use super::problem::{Problem, TlsError, Wrong};
use super::resolver::Resolver;
use super::trust;
use super::watch::{Look, look};

/// Certificates, keys and policies of clients, in use and reloadable.
pub struct TlsStore {
    pub(crate) options: TlsOptions,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) policies: ArcSwap<Policies>,
    pub(crate) turns: Turns,
    provider: Arc<CryptoProvider>,
    observer: Arc<dyn TlsObserver>,
    told: Mutex<Told>,
    /// Held while files are read, so that two changes do not overtake each other.
    last_read: Mutex<LastRead>,
}

/// The last reading of all files.
struct LastRead {
    at: SystemTime,
    /// What they looked like before it, so that a change during it is seen by the next look.
    looks: Vec<Look>,
}

impl std::fmt::Debug for TlsStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsStore")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// What a reading of the files found.
struct Found<T> {
    value: T,
    problems: Vec<Problem>,
    events: Vec<TlsEvent>,
}

impl TlsStore {
    /// Reads and checks all files. Blocks while it does.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(options: TlsOptions, observer: Arc<dyn TlsObserver>) -> Result<Self, TlsError> {
        let now = SystemTime::now();
        let looks = look(&files(&options));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let resolver = Arc::new(Resolver {
            files: ArcSwap::from_pointee(Index::new(Vec::new())),
            acme: options.acme.clone(),
            strict: options.strict_sni,
        });
        let certificates = certificates(&options, None, &provider, now);
        let policies = policies(&options, None, &resolver, &provider, now);
        let mut problems = certificates.problems;
        problems.extend(policies.problems);
        if certificates.value.is_empty() && options.acme.is_none() && problems.is_empty() {
            problems.push(Problem {
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
            told: Mutex::default(),
            last_read: Mutex::new(LastRead { at: now, looks }),
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
        let looks = look(&self.files());
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
        *last_read = LastRead { at: now, looks };
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
    #[must_use]
    pub fn policy_of(&self, host: &str) -> PolicyId {
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

    /// All files that are read, for whoever watches them.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        files(&self.options)
    }

    /// Tells what ends soon or has ended. Authorities that have ended since the files were read are
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
                .map(|leaf| end_of(leaf)),
        );
        let events = self.told.lock().events(&ends, now);
        for event in events {
            emit(&*self.observer, event);
        }
    }

    /// Says whether an authority ended between the last reading and `now`.
    pub(crate) fn must_reload(&self, now: SystemTime) -> bool {
        let read_at = self.last_read.lock().at;
        self.policies.load().distinct().iter().any(|policy| {
            let mut ends = policy.trust.iter().flat_map(|trust| &trust.ends);
            ends.any(|end| passed(end, read_at, now))
        })
    }

    /// What the files looked like before they were read.
    pub(crate) fn looks(&self) -> Vec<Look> {
        self.last_read.lock().looks.clone()
    }

    pub(crate) fn challenge_answered(&self, domain: String) {
        emit(&*self.observer, TlsEvent::AcmeChallenge { domain });
    }
}

fn files(options: &TlsOptions) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for pair in &options.certificates {
        files.extend([pair.cert.clone(), pair.key.clone()]);
        files.extend(pair.ocsp.clone());
    }
    let hosts = options.hosts.iter().map(|host| &host.client_auth);
    for auth in std::iter::once(&options.client_auth).chain(hosts) {
        if auth.mode != ClientAuthMode::None {
            files.extend(auth.ca.iter().chain(&auth.crl).cloned());
        }
    }
    files.sort();
    files.dedup();
    files
}

/// Begins or ends between the two times.
fn passed(end: &End, from: SystemTime, to: SystemTime) -> bool {
    let within = |at: SystemTime| from <= at && at < to;
    within(end.not_after) || within(end.not_before)
}

pub(crate) fn end_of(leaf: &Leaf) -> End {
    End {
        key: leaf.facts.fingerprint_sha256.clone(),
        what: format!("the certificate of {}", leaf.facts.names.join(", ")),
        file: leaf.facts.file.clone(),
        not_before: leaf.facts.not_before,
        not_after: leaf.facts.not_after,
    }
}

/// Reads all certificates; keeps those of `in_use` whose files are bad now.
fn certificates(
    options: &TlsOptions,
    in_use: Option<&Index>,
    provider: &CryptoProvider,
    now: SystemTime,
) -> Found<Vec<Arc<Leaf>>> {
    let mut found = Found {
        value: Vec::new(),
        problems: Vec::new(),
        events: Vec::new(),
    };
    for files in &options.certificates {
        let old = in_use.and_then(|index| {
            let mut leaves = index.leaves().iter();
            leaves.find(|leaf| leaf.files.as_ref() == Some(files))
        });
        let checked = match leaf::load(files, provider, now) {
            Ok(checked) => checked,
            Err(problems) => {
                found.problems.extend(problems);
                found.value.extend(old.cloned());
                continue;
            }
        };
        let worse = match old {
            Some(old) => old.facts.is_valid_at(now),
            None => options.on_expired == OnExpired::Fail,
        };
        match checked.dates {
            Some(problem) if worse => {
                found.problems.push(problem);
                found.value.extend(old.cloned());
                continue;
            }
            Some(problem) if old.is_none() => {
                found.events.push(TlsEvent::Warning(problem.to_string()));
            }
            _ => {}
        }
        let same = old.filter(|old| {
            old.facts.fingerprint_sha256 == checked.leaf.facts.fingerprint_sha256
                && old.key.cert == checked.leaf.key.cert
                && old.staple.as_ref().map(|s| &s.der)
                    == checked.leaf.staple.as_ref().map(|s| &s.der)
        });
        if let Some(same) = same {
            found.value.push(same.clone());
            continue;
        }
        let warnings = checked.warnings.into_iter().map(TlsEvent::Warning);
        found.events.extend(warnings);
        found
            .events
            .push(TlsEvent::Loaded(checked.leaf.facts.clone()));
        found.value.push(Arc::new(checked.leaf));
    }
    found
}

/// Makes all policies; keeps those of `before` that did not change or whose files are bad now.
fn policies(
    options: &TlsOptions,
    before: Option<(&Policies, SystemTime)>,
    resolver: &Arc<Resolver>,
    provider: &Arc<CryptoProvider>,
    now: SystemTime,
) -> Found<Option<Policies>> {
    let mut making = Making {
        options,
        before,
        resolver,
        provider,
        now,
        made: Vec::new(),
        found: Found {
            value: None,
            problems: Vec::new(),
            events: Vec::new(),
        },
    };
    let default = making.policy(&options.client_auth);
    let mut hosts = HostMap::new(Wildcard::AnyDepth);
    for host in &options.hosts {
        let policy = making.policy(&host.client_auth);
        match (pattern_form(&host.host), policy) {
            (Some(pattern), Some(policy)) => {
                hosts.entry(&pattern).or_insert(policy);
            }
            (None, _) => making.found.problems.push(Problem {
                file: None,
                line: None,
                what: Wrong::HostPattern(host.host.clone()),
            }),
            (Some(_), None) => {}
        }
    }
    let mut found = making.found;
    found.value = default.map(|default| Policies { default, hosts });
    found
}

struct Making<'a> {
    options: &'a TlsOptions,
    before: Option<(&'a Policies, SystemTime)>,
    resolver: &'a Arc<Resolver>,
    provider: &'a Arc<CryptoProvider>,
    now: SystemTime,
    /// `None` for one that could not be made, so that its problems are told once.
    made: Vec<(PolicyId, Option<Arc<Policy>>)>,
    found: Found<Option<Policies>>,
}

impl Making<'_> {
    fn policy(&mut self, auth: &ClientAuth) -> Option<Arc<Policy>> {
        let id = PolicyId::of(auth);
        if let Some((_, policy)) = self.made.iter().find(|(made, _)| *made == id) {
            return policy.clone();
        }
        let old = self.before.and_then(|(policies, read_at)| {
            let distinct = policies.distinct();
            let found = distinct.into_iter().find(|policy| policy.id == id)?;
            Some((found.clone(), read_at))
        });
        let policy = self
            .make(auth, old.as_ref())
            .or(old.map(|(policy, _)| policy));
        self.made.push((id, policy.clone()));
        policy
    }

    /// A new policy, or the old one where nothing changed; `None` after a problem.
    fn make(
        &mut self,
        auth: &ClientAuth,
        old: Option<&(Arc<Policy>, SystemTime)>,
    ) -> Option<Arc<Policy>> {
        let trust = if auth.mode == ClientAuthMode::None {
            None
        } else {
            match trust::load(auth, self.provider, self.now) {
                Ok(checked) => Some(checked),
                Err(problems) => {
                    self.found.problems.extend(problems);
                    return None;
                }
            }
        };
        if let Some((old, read_at)) = old {
            let same = match (&old.trust, &trust) {
                (None, None) => true,
                (Some(a), Some(b)) => {
                    a.digest == b.trust.digest
                        && !a.ends.iter().any(|end| passed(end, *read_at, self.now))
                }
                _ => false,
            };
            if same {
                return Some(old.clone());
            }
        }
        let trust = match trust {
            Some(checked) => {
                // What was good must not be replaced by what has ended; at the start it is only told.
                let old_ends = old
                    .and_then(|(old, _)| old.trust.as_ref())
                    .map(|trust| &trust.ends);
                let was_good =
                    old_ends.is_some_and(|ends| ends.iter().all(|end| self.now <= end.not_after));
                if !checked.dates.is_empty() && (was_good || self.fails_at_start(old.is_none())) {
                    self.found.problems.extend(checked.dates);
                    return None;
                }
                let warnings = checked
                    .dates
                    .iter()
                    .map(|p| TlsEvent::Warning(p.to_string()));
                self.found.events.extend(warnings);
                self.found.events.push(TlsEvent::ClientAuthLoaded {
                    authorities: checked.trust.authorities,
                    lists: checked.trust.lists,
                });
                Some(checked.trust)
            }
            None => None,
        };
        match Policy::new(auth, trust, self.options, self.resolver, self.provider) {
            Ok(policy) => Some(Arc::new(policy)),
            Err(e) => {
                self.found.problems.push(Problem {
                    file: None,
                    line: None,
                    what: Wrong::Unusable(e.to_string()),
                });
                None
            }
        }
    }

    fn fails_at_start(&self, start: bool) -> bool {
        start && self.options.on_expired == OnExpired::Fail
    }
}
