//! Certificates of listeners: loaded once, kept over reloads where nothing about them changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use stockade_config as config;
use stockade_config::Config;
use stockade_tls as tls;
use stockade_tls::{
    Acme, AcmeError, TlsError, TlsEvent, TlsObserver, TlsStore, WatchOptions, Watching,
};

use crate::metrics::counter;
use crate::plan::tls::{StoreKey, acme_options, keys, options, rules_differ};

/// Counts what happens to certificates. Lines of the log are the gateway's own.
pub(crate) struct TlsMetrics {
    loaded: Counter,
    reload_failures: Counter,
    expired: Counter,
}

impl TlsMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        Self {
            loaded: counter(
                registry,
                "stockade_tls_certificates_loaded",
                "Certificates taken into use",
            ),
            reload_failures: counter(
                registry,
                "stockade_tls_reload_failures",
                "Times changed TLS files could not be used",
            ),
            expired: counter(
                registry,
                "stockade_tls_expired",
                "Certificates, authorities and revocation lists that ended in use",
            ),
        }
    }
}

impl TlsObserver for TlsMetrics {
    fn event(&self, event: &TlsEvent) {
        let counter = match event {
            TlsEvent::Loaded(_) => &self.loaded,
            TlsEvent::ReloadFailed(_) => &self.reload_failures,
            TlsEvent::Expired { .. } => &self.expired,
            _ => return,
        };
        counter.inc();
    }
}

struct Kept {
    key: StoreKey,
    store: Arc<TlsStore>,
    _watching: Watching,
}

/// The stores of all listeners that speak TLS.
#[derive(Clone, Default)]
pub(crate) struct TlsStores {
    kept: Vec<Arc<Kept>>,
    acme: Vec<(config::Acme, Arc<Acme>)>,
}

/// Why certificates are not available.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// Files.
    #[error("{0}")]
    Files(TlsError),
    /// The authority, or where its certificates are kept.
    #[error(transparent)]
    Acme(#[from] AcmeError),
    /// Rules that the gateway could not distinguish.
    #[error(
        "listeners differ in the subjects or names that their client_auth allows\n  fix: give subjects and san to instances"
    )]
    Rules,
    /// Loading broke off.
    #[error("loading certificates broke off")]
    BrokeOff,
}

/// Keeps what a check warns of.
#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl TlsObserver for Warnings {
    fn event(&self, event: &TlsEvent) {
        let warning = match event {
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
        let mut warnings = self.0.lock();
        if !warnings.contains(&warning) {
            warnings.push(warning);
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
    if rules_differ(config) {
        wrong.push(CertificatesError::Rules);
    }
    let warnings = Arc::<Warnings>::default();
    let mut seen: Vec<StoreKey> = Vec::new();
    for key in keys(config).into_iter().flatten() {
        if key.tls.certificates.is_empty() || seen.contains(&key) {
            continue;
        }
        let options = tls::TlsOptions {
            on_expired: tls::OnExpired::Fail,
            ..options(&key)
        };
        let observer = Arc::clone(&warnings);
        let loading = tokio::task::spawn_blocking(move || TlsStore::load(options, None, observer));
        match loading.await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => wrong.push(CertificatesError::Files(error)),
            Err(_) => wrong.push(CertificatesError::BrokeOff),
        }
        seen.push(key);
    }
    if wrong.is_empty() {
        Ok(std::mem::take(&mut *warnings.0.lock()))
    } else {
        Err(wrong)
    }
}

impl TlsStores {
    /// The stores of this configuration: those there are where nothing changed, with their files read
    /// again, and new ones. In the order of [`keys`]; `None` where one is plain.
    ///
    /// # Errors
    /// Everything that is wrong with the first listener that cannot be opened.
    pub(crate) async fn load(
        &self,
        config: &Config,
        metrics: &Arc<TlsMetrics>,
    ) -> Result<(Self, Vec<Option<Arc<TlsStore>>>), CertificatesError> {
        if rules_differ(config) {
            return Err(CertificatesError::Rules);
        }
        let mut next = Self::default();
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
                    let acme = acme
                        .map(|acme| self.acme(&mut next, acme, metrics))
                        .transpose()?;
                    let (options, observer) = (options(&key), Arc::clone(metrics));
                    let loading = tokio::task::spawn_blocking(move || {
                        TlsStore::load(options, acme, observer)
                    });
                    let loaded = loading.await.map_err(|_| CertificatesError::BrokeOff)?;
                    let store = Arc::new(loaded.map_err(CertificatesError::Files)?);
                    // Dates are checked whether or not files are watched.
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
                self.acme(&mut next, acme, metrics)?;
            }
            stores.push(Some(Arc::clone(&kept.store)));
            if !next.kept.iter().any(|other| Arc::ptr_eq(other, &kept)) {
                next.kept.push(kept);
            }
        }
        Ok((next, stores))
    }

    /// The certificates of an authority: those there are, where nothing about it changed.
    fn acme(
        &self,
        next: &mut Self,
        acme: &config::Acme,
        metrics: &Arc<TlsMetrics>,
    ) -> Result<Arc<Acme>, AcmeError> {
        let known = next.acme.iter().chain(&self.acme);
        if let Some((_, known)) = known.clone().find(|(options, _)| options == acme) {
            let known = Arc::clone(known);
            if !next.acme.iter().any(|(options, _)| options == acme) {
                next.acme.push((acme.clone(), Arc::clone(&known)));
            }
            return Ok(known);
        }
        let observer: Arc<dyn TlsObserver> = metrics.clone();
        let started = Acme::start(acme_options(acme), observer)?;
        next.acme.push((acme.clone(), Arc::clone(&started)));
        Ok(started)
    }

    /// Stops requests to authorities that are not in `next`, even if their certificates are still in use.
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

    /// Reads all files again. What cannot be used is reported in the log and not used.
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

    /// When certificates end, by their files: the first end where a file holds several.
    pub(crate) fn ends(&self) -> BTreeMap<String, SystemTime> {
        let mut ends = BTreeMap::new();
        for facts in self.kept.iter().flat_map(|kept| kept.store.certificates()) {
            let file = facts.file.as_ref();
            let file = file.map_or_else(|| "acme".to_owned(), |file| file.display().to_string());
            let end = ends.entry(file).or_insert(facts.not_after);
            *end = facts.not_after.min(*end);
        }
        ends
    }
}
