//! Certificates of listeners: loaded once, kept over reloads where nothing about them changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use stockade_config as config;
use stockade_config::{ClientAuth, ClientAuthMode, Config, ExpiredCrl, Tls, TlsVersion};
use stockade_http::{HostPattern, Scheme};
use stockade_tls as tls;
use stockade_tls::{
    Acme, AcmeError, ClientRule, PolicyId, TlsError, TlsEvent, TlsObserver, TlsStore, WatchOptions,
    Watching,
};

use crate::metrics::{Count, Reading};

/// Counts what happens to certificates. Lines of the log are the gateway's own.
#[derive(Default)]
pub(crate) struct TlsFigures {
    reloads: Count,
    reload_failures: Count,
    expired: Count,
}

impl TlsObserver for TlsFigures {
    fn event(&self, event: &TlsEvent) {
        match event {
            TlsEvent::Loaded(_) => self.reloads.add(1),
            TlsEvent::ReloadFailed(_) => self.reload_failures.add(1),
            TlsEvent::Expired { .. } => self.expired.add(1),
            _ => {}
        }
    }
}

/// What the options of a store were made of.
#[derive(Clone, PartialEq)]
struct Key {
    tls: Arc<Tls>,
    http2: bool,
    handshakes: usize,
    hosts: Vec<(String, ClientAuth)>,
}

struct Kept {
    key: Key,
    store: Arc<TlsStore>,
    _watching: Watching,
}

/// The stores of all listeners that speak TLS.
#[derive(Clone, Default)]
pub(crate) struct TlsStores {
    kept: Vec<Arc<Kept>>,
    acme: Vec<(config::Acme, Arc<Acme>)>,
    figures: Arc<TlsFigures>,
}

/// Why certificates cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// Files.
    #[error("{0}")]
    Files(TlsError),
    /// The authority, or where its certificates are kept.
    #[error(transparent)]
    Acme(#[from] AcmeError),
    /// Rules that the gateway could not tell apart.
    #[error(
        "listeners differ in the subjects or names that their client_auth allows\n  fix: give subjects and san to instances"
    )]
    Rules,
    /// Loading broke off.
    #[error("loading certificates broke off")]
    BrokeOff,
}

/// Whom the routes of a site let in, beyond what the handshake checked.
pub(crate) fn rule(config: &Config, site: &config::Instance) -> ClientRule {
    let listeners = config.listeners.iter();
    let mut of_listeners = listeners.filter_map(|listener| listener.tls.as_ref());
    let (auth, required) = match &site.client_auth {
        Some(auth) => (Some(auth), auth.mode == ClientAuthMode::Required),
        None => {
            let restricted = |tls: &&Arc<Tls>| restricts(&tls.client_auth);
            (
                of_listeners.find(restricted).map(|tls| &tls.client_auth),
                false,
            )
        }
    };
    let Some(auth) = auth else {
        return ClientRule::default();
    };
    let kinds = ["DNS", "IP", "URI", "email"];
    ClientRule {
        required,
        policy: site
            .client_auth
            .as_ref()
            .filter(|auth| auth.mode != ClientAuthMode::None)
            .map(|auth| PolicyId::of(&client_auth(auth))),
        subjects: auth.subjects.clone(),
        names: auth
            .san
            .iter()
            .flat_map(|name| kinds.map(|kind| format!("{kind}:{name}")))
            .collect(),
        fingerprints: Vec::new(),
    }
}

fn restricts(auth: &ClientAuth) -> bool {
    !auth.subjects.is_empty() || !auth.san.is_empty()
}

/// Hosts whose clients must show something else than the listener asks for.
fn hosts(config: &Config) -> Vec<(String, ClientAuth)> {
    let mut hosts = Vec::new();
    for site in config.instances.values() {
        let Some(auth) = &site.client_auth else {
            continue;
        };
        for url in &site.urls {
            if url.scheme == Some(Scheme::Http) {
                continue;
            }
            let host = match &url.host {
                // The whole listener: the route asks, not the handshake.
                HostPattern::Any => continue,
                host => host.to_string(),
            };
            if !hosts.iter().any(|(known, _)| *known == host) {
                hosts.push((host, auth.clone()));
            }
        }
    }
    hosts
}

fn client_auth(auth: &ClientAuth) -> tls::ClientAuth {
    tls::ClientAuth {
        mode: match auth.mode {
            ClientAuthMode::None => tls::ClientAuthMode::None,
            ClientAuthMode::Optional => tls::ClientAuthMode::Optional,
            ClientAuthMode::Required => tls::ClientAuthMode::Required,
        },
        ca: auth.ca.clone(),
        crl: auth.crl.clone(),
        revocation: tls::Revocation {
            allow_expired: auth.expired_crl == ExpiredCrl::Accept,
            ..tls::Revocation::default()
        },
    }
}

fn acme_options(acme: &config::Acme) -> tls::AcmeOptions {
    tls::AcmeOptions {
        directory: acme.directory.clone(),
        contact: acme.contact.clone(),
        // The configuration has no ACME without that.
        terms_agreed: true,
        certificates: acme.domains.iter().map(|name| vec![name.clone()]).collect(),
        challenge: match acme.challenge {
            config::AcmeChallenge::Http01 => tls::AcmeChallenge::Http01,
            config::AcmeChallenge::TlsAlpn01 => tls::AcmeChallenge::TlsAlpn01,
        },
        cache: acme.cache.clone(),
        server_ca: acme.ca.clone(),
        ..tls::AcmeOptions::default()
    }
}

fn options(key: &Key) -> tls::TlsOptions {
    let tls = &key.tls;
    let certificates = tls.certificates.iter();
    let hosts = key.hosts.iter();
    tls::TlsOptions {
        certificates: certificates
            .map(|files| tls::CertificateFiles {
                cert: files.cert.clone(),
                key: files.key.clone(),
                ocsp: files.ocsp.clone(),
            })
            .collect(),
        min_version: match tls.min_version {
            TlsVersion::V1_2 => tls::TlsVersion::V12,
            TlsVersion::V1_3 => tls::TlsVersion::V13,
        },
        strict_sni: tls.strict_sni,
        client_auth: client_auth(&tls.client_auth),
        hosts: hosts
            .map(|(host, auth)| tls::HostClientAuth {
                host: host.clone(),
                client_auth: client_auth(auth),
            })
            .collect(),
        http2: key.http2,
        waiting_handshakes: key.handshakes,
        ..tls::TlsOptions::default()
    }
}

/// What the store of each listener is made of, in their order; `None` where one is plain.
fn keys(config: &Config) -> Vec<Option<Key>> {
    let hosts = hosts(config);
    let listeners = config.listeners.iter();
    let key = |listener: &config::Listener| {
        let tls = listener.tls.as_ref()?;
        Some(Key {
            tls: Arc::clone(tls),
            http2: listener.http2,
            handshakes: config.limits.handshakes,
            hosts: hosts.clone(),
        })
    };
    listeners.map(key).collect()
}

/// Keeps what a check warns of.
#[derive(Default)]
struct Remarks(Mutex<Vec<String>>);

impl TlsObserver for Remarks {
    fn event(&self, event: &TlsEvent) {
        let remark = match event {
            TlsEvent::Warning(what) => what.clone(),
            TlsEvent::Expiring {
                what, file, left, ..
            } => {
                let file = file
                    .as_ref()
                    .map_or_else(String::new, |file| format!("{}: ", file.display()));
                let days = left.as_secs() / (24 * 60 * 60);
                format!("{file}{what} ends in {days} days\n  fix: renew it")
            }
            _ => return,
        };
        let mut remarks = self.0.lock();
        if !remarks.contains(&remark) {
            remarks.push(remark);
        }
    }
}

/// Reads all files of TLS as at a start, and takes none into use; what no client could be served with now is
/// wrong too, such as a certificate that has expired. No authority is asked for anything. Gives what to
/// warn of where all files are good.
///
/// # Errors
/// Everything that is wrong, of all listeners.
pub(crate) async fn check(config: &Config) -> Result<Vec<String>, Vec<CertificatesError>> {
    let mut wrong = Vec::new();
    wrong.extend(refuse_rules(config).err());
    let remarks = Arc::<Remarks>::default();
    let mut seen: Vec<Key> = Vec::new();
    for key in keys(config).into_iter().flatten() {
        if key.tls.certificates.is_empty() || seen.contains(&key) {
            continue;
        }
        let options = tls::TlsOptions {
            on_expired: tls::OnExpired::Fail,
            ..options(&key)
        };
        let observer = Arc::clone(&remarks);
        let loading = tokio::task::spawn_blocking(move || TlsStore::load(options, None, observer));
        match loading.await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => wrong.push(CertificatesError::Files(error)),
            Err(_) => wrong.push(CertificatesError::BrokeOff),
        }
        seen.push(key);
    }
    if wrong.is_empty() {
        Ok(std::mem::take(&mut *remarks.0.lock()))
    } else {
        Err(wrong)
    }
}

/// The options that all listeners come to, as text.
#[cfg(test)]
pub(crate) fn planned(config: &Config) -> String {
    let keys = keys(config);
    let planned = keys.iter().map(|key| {
        let acme = key.as_ref().and_then(|key| key.tls.acme.as_ref());
        let options = key.as_ref().map(options);
        format!("{options:?} {:?}", acme.map(acme_options))
    });
    planned.collect()
}

impl TlsStores {
    /// The stores of this configuration: those there are where nothing changed, with their files read
    /// again, and new ones. In the order of the listeners; `None` where one is plain.
    ///
    /// # Errors
    /// Everything that is wrong with the first listener that cannot be had.
    pub(crate) async fn load(
        &self,
        config: &Config,
    ) -> Result<(Self, Vec<Option<Arc<TlsStore>>>), CertificatesError> {
        refuse_rules(config)?;
        let mut next = Self {
            kept: Vec::new(),
            acme: Vec::new(),
            figures: Arc::clone(&self.figures),
        };
        let mut stores = Vec::new();
        for key in keys(config) {
            let Some(key) = key else {
                stores.push(None);
                continue;
            };
            let tls = Arc::clone(&key.tls);
            let shared = next
                .kept
                .iter()
                .chain(&self.kept)
                .find(|kept| kept.key == key);
            let kept = match shared.map(Arc::clone) {
                Some(kept) => kept,
                None => {
                    let acme = tls.acme.as_ref();
                    let acme = acme.map(|acme| self.acme(&mut next, acme)).transpose()?;
                    let (options, figures) = (options(&key), Arc::clone(&self.figures));
                    let loading =
                        tokio::task::spawn_blocking(move || TlsStore::load(options, acme, figures));
                    let loaded = loading.await.map_err(|_| CertificatesError::BrokeOff)?;
                    let store = Arc::new(loaded.map_err(CertificatesError::Files)?);
                    // Dates are looked at whether or not files are watched.
                    let watching = store.watch(WatchOptions {
                        files: config.watch,
                        ..WatchOptions::default()
                    });
                    Arc::new(Kept {
                        key,
                        store,
                        _watching: watching,
                    })
                }
            };
            if let Some(acme) = &tls.acme {
                // Kept stores show the same one.
                self.acme(&mut next, acme)?;
            }
            stores.push(Some(Arc::clone(&kept.store)));
            if !next.kept.iter().any(|other| Arc::ptr_eq(other, &kept)) {
                next.kept.push(kept);
            }
        }
        Ok((next, stores))
    }

    /// The certificates of an authority: those there are, where nothing about it changed.
    fn acme(&self, next: &mut Self, acme: &config::Acme) -> Result<Arc<Acme>, AcmeError> {
        let known = next.acme.iter().chain(&self.acme);
        if let Some((_, known)) = known.clone().find(|(options, _)| options == acme) {
            let known = Arc::clone(known);
            if !next.acme.iter().any(|(options, _)| options == acme) {
                next.acme.push((acme.clone(), Arc::clone(&known)));
            }
            return Ok(known);
        }
        let observer: Arc<dyn TlsObserver> = self.figures.clone();
        let started = Acme::start(acme_options(acme), observer)?;
        next.acme.push((acme.clone(), Arc::clone(&started)));
        Ok(started)
    }

    /// Has authorities that are not in `next` asked no more, whoever still holds their certificates.
    pub(crate) fn retire(&self, next: &Self) {
        for (_, old) in &self.acme {
            if !next.acme.iter().any(|(_, acme)| Arc::ptr_eq(acme, old)) {
                old.retire();
            }
        }
    }

    /// What answers the challenges of authorities over plain HTTP.
    pub(crate) fn over_http(&self) -> Option<Arc<Acme>> {
        let mut over_http = self
            .acme
            .iter()
            .filter(|(options, _)| options.challenge == config::AcmeChallenge::Http01);
        over_http.next().map(|(_, acme)| Arc::clone(acme))
    }

    /// Reads all files again. What cannot be used is not, and is told in the log.
    ///
    /// # Errors
    /// What is wrong, of all stores.
    pub(crate) async fn reload(&self) -> Result<(), String> {
        let stores: Vec<_> = self
            .kept
            .iter()
            .map(|kept| Arc::clone(&kept.store))
            .collect();
        let reading = tokio::task::spawn_blocking(move || {
            let problems = stores.iter().filter_map(|store| store.reload().err());
            problems.map(|error| error.to_string()).collect::<Vec<_>>()
        });
        match reading.await {
            Ok(problems) if problems.is_empty() => Ok(()),
            Ok(problems) => Err(problems.join("\n")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Figures of certificates: labels are the paths of the configuration.
    pub(crate) fn readings(&self) -> Vec<Reading> {
        let mut ends: HashMap<String, f64> = HashMap::new();
        for facts in self.kept.iter().flat_map(|kept| kept.store.certificates()) {
            let file = facts.file.as_ref();
            let file = file.map_or_else(|| "acme".to_owned(), |file| file.display().to_string());
            let end = seconds(facts.not_after);
            let known = ends.entry(file).or_insert(end);
            *known = known.min(end);
        }
        let one = |name, help, count: &Count| Reading {
            name,
            help,
            counter: true,
            values: vec![(Vec::new(), count.value() as f64)],
        };
        vec![
            Reading {
                name: "stockade_tls_certificate_not_after_seconds",
                help: "When a certificate ends, since 1970",
                counter: false,
                values: ends
                    .into_iter()
                    .map(|(file, end)| (vec![("file", file)], end))
                    .collect(),
            },
            one(
                "stockade_tls_certificates_loaded",
                "Certificates taken into use",
                &self.figures.reloads,
            ),
            one(
                "stockade_tls_reload_failures",
                "Times changed TLS files could not be used",
                &self.figures.reload_failures,
            ),
            one(
                "stockade_tls_expired",
                "Certificates, authorities and revocation lists that ended in use",
                &self.figures.expired,
            ),
        ]
    }
}

/// Listeners must not differ in what routes cannot tell apart.
fn refuse_rules(config: &Config) -> Result<(), CertificatesError> {
    let listeners = config.listeners.iter();
    let mut rules = listeners
        .filter_map(|listener| listener.tls.as_ref())
        .map(|tls| (&tls.client_auth.subjects, &tls.client_auth.san));
    let first = rules.next();
    if rules.any(|rule| Some(rule) != first)
        && config
            .instances
            .values()
            .any(|site| site.client_auth.is_none())
    {
        return Err(CertificatesError::Rules);
    }
    Ok(())
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs_f64()
}
