//! From options to what is in use: what is good and new is taken, what is bad leaves the old in place.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;

use super::event::TlsEvent;
use super::index::Index;
use super::leaf::{self, Leaf};
use super::names::{HostMap, Wildcard, pattern_form};
use super::options::{ClientAuth, ClientAuthMode, OnExpired, TlsOptions};
use super::policy::{Policies, Policy, PolicyId};
use super::problem::{TlsProblem, Wrong};
use super::resolver::Resolver;
use super::trust;

/// What a reading of the files found.
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) problems: Vec<TlsProblem>,
    pub(super) events: Vec<TlsEvent>,
}

/// All files that the options name, each once.
pub(super) fn files(options: &TlsOptions) -> Vec<PathBuf> {
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

/// Reads all certificates; keeps those of `in_use` whose files are bad now.
pub(super) fn certificates(
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
pub(super) fn policies(
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
            (None, _) => making.found.problems.push(TlsProblem {
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
    /// `None` for one that could not be made, so that its problems are reported once.
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
                        && !a.ends.iter().any(|end| end.passed(*read_at, self.now))
                }
                _ => false,
            };
            if same {
                return Some(old.clone());
            }
        }
        let trust = match trust {
            Some(checked) => {
                // What was good must not be replaced by what has ended; at the start it is only reported.
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
                self.found.problems.push(TlsProblem {
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
