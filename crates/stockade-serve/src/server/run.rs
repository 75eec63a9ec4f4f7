//! The life of a server: from its start to its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use stockade_gateway::Gateway;
use stockade_instance::MirrorState;
use stockade_policy::{IsolateOptions, Isolation, SandboxOptions};
use stockade_supervisor::Supervisor;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::apply::log_policy;
use super::watch::Watch;
use super::{Now, ServeError, ServeOptions, Server, announce};
use crate::brokers::Brokers;
use crate::control::{Answer, Asked, Control};
use crate::directory::Directory;
use crate::log::{Destination, Log};
use crate::metrics::{Metrics, Source};
use crate::observe::{AuditFigures, GatewayFigures, Logs};
use crate::plan;
use crate::readings;
use crate::site::Shared;
use crate::status::Status;

/// Workers that are kept started, so that a mirror starts quickly.
const WARM: usize = 1;

/// How long the state may take to end when stopping.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Everything that ran came to its end.
    Drained,
    /// The deadline, or a second signal, cut something short.
    Cut,
}

/// Serves until it is asked to stop by SIGTERM or SIGINT. SIGHUP reloads the configuration.
///
/// Must be called within a tokio runtime of several threads.
///
/// # Errors
/// Why it could not start. Once it runs, mistakes are told and survived.
pub async fn serve(options: ServeOptions) -> Result<Stopped, ServeError> {
    let began = Instant::now();
    let mut signals = Signals::new()?;
    let path = options.config.clone();
    let reading = tokio::task::spawn_blocking(move || stockade_config::Config::load(&path));
    let loaded = reading
        .await
        .map_err(|error| ServeError::System {
            what: "reading the configuration",
            source: std::io::Error::other(error),
        })?
        .map_err(ServeError::Config)?;
    let mut server = Server::new(options, &loaded.config)?;
    let (control, mut asked) = Control::listen(&loaded.config.control).await?;
    if let Err(error) = server.apply(&loaded).await {
        server.shared.supervisor.shutdown();
        return Err(error);
    }
    server.announce(began);
    let mut watch = Watch::new();
    server.rewatch(&mut watch, &loaded.sources);
    loop {
        let wanted = tokio::select! {
            () = stop(&mut signals.terminate, &mut signals.interrupt) => break,
            wanted = server.wanted(&mut signals.hangup, &mut asked, &mut watch) => wanted,
        };
        // A reload may wait for a mirror; stopping does not wait for that.
        tokio::select! {
            () = stop(&mut signals.terminate, &mut signals.interrupt) => break,
            () = server.fulfil(wanted, &mut watch) => {}
        }
    }
    drop(watch);
    let stopped = tokio::select! {
        stopped = server.stop() => stopped,
        () = stop(&mut signals.terminate, &mut signals.interrupt) => {
            tracing::warn!("a second signal: stopping at once");
            Stopped::Cut
        }
        () = refuse_reloads(&mut asked) => Stopped::Cut,
    };
    drop(control);
    server.shared.supervisor.shutdown();
    server.close_state().await;
    tracing::info!(?stopped, "stopped");
    server.now.logs.log.sink.flush();
    Ok(stopped)
}

/// Reloads have no sense any more; never ends.
async fn refuse_reloads(asked: &mut mpsc::Receiver<Asked>) {
    while let Some(answer) = asked.recv().await {
        let _ = answer.send(Answer {
            done: false,
            message: "the server is stopping".to_owned(),
        });
    }
    std::future::pending().await
}

/// Who wants a reload.
enum Wanted {
    Signal,
    File,
    Command(Asked),
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, ServeError> {
        let listen = |kind| {
            signal(kind).map_err(|source| ServeError::System {
                what: "listening to signals",
                source,
            })
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }
}

/// Until somebody asks for the end.
async fn stop(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

impl Server {
    fn new(options: ServeOptions, config: &stockade_config::Config) -> Result<Self, ServeError> {
        let log_options = plan::logging::options(config);
        let log = Log::start(&log_options).map_err(|source| ServeError::Log {
            path: match log_options.destination {
                Destination::File(path) => path,
                Destination::StandardError => "standard error".into(),
            },
            source,
        })?;
        let logs = Arc::new(Logs {
            log,
            policy: arc_swap::ArcSwap::from_pointee(log_policy(config)?),
        });
        let sandbox = SandboxOptions {
            threads: options.threads,
            warm: WARM,
            defaults: IsolateOptions {
                isolation: Isolation::Container,
                ..IsolateOptions::default()
            },
        };
        let supervisor = Supervisor::new(sandbox, options.walls.iter().cloned());
        let gateway_figures = Arc::new(GatewayFigures::new());
        let audit = Arc::new(AuditFigures::new());
        let (now, metrics) = now(&logs, &gateway_figures, &audit);
        let shared = Arc::new(Shared {
            supervisor,
            brokers: Brokers::new(audit.clone()),
            directory: Arc::new(Directory::default()),
            metrics,
            logs,
        });
        Ok(Self {
            options,
            shared,
            gateway_figures,
            audit,
            store: None,
            now,
            status: None,
            next: 0,
            drains: tokio::task::JoinSet::new(),
        })
    }

    fn announce(&self, began: Instant) {
        let now = Arc::clone(&self.now);
        let say = self.options.say;
        let metrics = self.status.as_ref().map(|(metrics, listener)| {
            let address = announce::reachable(listener.address);
            format!("http://{address}{}", metrics.path)
        });
        announce::start(&now, &self.options.config, metrics.as_deref(), say);
        let sites = now.sites.load_full();
        tokio::spawn(async move { announce::ready(&sites, began, say).await });
    }

    fn rewatch(&self, watch: &mut Watch, sources: &[std::path::PathBuf]) {
        let sites = self.now.sites.load();
        let code = sites.values().flat_map(|site| site.sources());
        watch.set(sources.iter().cloned().chain(code));
    }

    /// Reads the configuration again and takes it into use, or says why not.
    async fn reload(&mut self, cause: &str, watch: &mut Watch) -> Result<String, String> {
        let began = Instant::now();
        let outcome = match self.load().await {
            Ok(loaded) => match self.apply(&loaded).await {
                Ok(applied) => {
                    self.rewatch(watch, &loaded.sources);
                    Ok(applied.to_string())
                }
                Err(error) => Err(error.to_string()),
            },
            Err(error) => Err(error.to_string()),
        };
        // Certificates whose paths stay may have other contents.
        let outcome = match (outcome, self.now.tls.load_full().reload().await) {
            (Ok(message), Ok(())) => Ok(message),
            (Ok(message), Err(tls)) => Err(format!(
                "{message}; but some TLS files cannot be used, the old ones stay in use:\n{tls}"
            )),
            (Err(message), _) => Err(message),
        };
        self.now.metrics.process.reloaded(outcome.is_ok());
        let took_ms = began.elapsed().as_millis() as u64;
        match &outcome {
            Ok(message) => tracing::info!(cause, took_ms, "configuration reloaded: {message}"),
            Err(message) => tracing::error!(
                cause,
                took_ms,
                "the configuration was not reloaded, the old one stays in use: {message}"
            ),
        }
        outcome
    }

    /// Waits until somebody wants a reload.
    async fn wanted(
        &self,
        hangup: &mut Signal,
        asked: &mut mpsc::Receiver<Asked>,
        watch: &mut Watch,
    ) -> Wanted {
        let watches = self
            .now
            .config
            .load()
            .as_ref()
            .is_some_and(|config| config.watch);
        tokio::select! {
            _ = hangup.recv() => Wanted::Signal,
            Some(answer) = asked.recv() => Wanted::Command(answer),
            () = watch.changed(), if watches => Wanted::File,
        }
    }

    async fn fulfil(&mut self, wanted: Wanted, watch: &mut Watch) {
        match wanted {
            Wanted::Signal => {
                self.now.logs.reopen();
                let _ = self.reload("signal", watch).await;
            }
            Wanted::File => {
                let _ = self.reload("file", watch).await;
            }
            Wanted::Command(asked) => {
                let outcome = self.reload("command", watch).await;
                let done = outcome.is_ok();
                let (Ok(message) | Err(message)) = outcome;
                // Whoever asked may have gone.
                let _ = asked.send(Answer { done, message });
            }
        }
    }

    /// Takes no more requests and lets what runs come to its end, until the deadline.
    async fn stop(&mut self) -> Stopped {
        self.now
            .metrics
            .process
            .draining
            .store(true, Ordering::Relaxed);
        let config = self.now.config.load_full();
        let timeout = config.map_or(Duration::ZERO, |config| config.drain_timeout);
        let deadline = Instant::now() + timeout;
        tracing::info!(timeout_ms = timeout.as_millis() as u64, "draining");
        let gateway: Option<Gateway> = self.now.gateway.lock().clone();
        let cut = match gateway {
            Some(gateway) => gateway.drain(timeout).await.cut,
            None => 0,
        };
        // What clients no longer wait for, `waitUntil` and scheduled runs, goes on until the deadline.
        let left = deadline.saturating_duration_since(Instant::now());
        let sites = self.now.sites.load_full();
        for site in sites.values() {
            self.retire(Arc::clone(site), left, false);
        }
        while self.drains.join_next().await.is_some() {}
        if cut == 0 {
            Stopped::Drained
        } else {
            Stopped::Cut
        }
    }

    async fn close_state(&self) {
        if let Some((.., store)) = &self.store
            && tokio::time::timeout(CLOSE_TIMEOUT, store.close())
                .await
                .is_err()
        {
            tracing::warn!(
                "the shared state took too long to close; what was acknowledged is safe"
            );
        }
    }
}

/// What figures and health read, and the figures themselves.
fn now(
    logs: &Arc<Logs>,
    gateway: &Arc<GatewayFigures>,
    audit: &Arc<AuditFigures>,
) -> (Arc<Now>, Metrics) {
    let figures = Arc::new(std::sync::OnceLock::<std::sync::Weak<Now>>::new());
    let of_now = Arc::clone(&figures);
    let (gateway, audit) = (Arc::clone(gateway), Arc::clone(audit));
    let sink = logs.log.sink.clone();
    let sources: Vec<Source> = vec![
        Box::new(move || audit.readings()),
        Box::new(move || vec![readings::dropped_lines(sink.dropped_in_all())]),
        Box::new(move || {
            let Some(now) = of_now.get().and_then(std::sync::Weak::upgrade) else {
                return Vec::new();
            };
            let stats = now.gateway.lock().as_ref().map(Gateway::stats);
            let mut readings = gateway.readings(stats.unwrap_or_default());
            readings.extend(now.tls.load().readings());
            let store = now.store.load_full();
            readings.extend(store.iter().flat_map(|store| readings::store(store)));
            readings
        }),
    ];
    let metrics = Metrics::new(sources);
    let now = Arc::new(Now {
        gateway: parking_lot::Mutex::new(None),
        config: arc_swap::ArcSwapOption::empty(),
        sites: arc_swap::ArcSwap::default(),
        tls: arc_swap::ArcSwap::default(),
        store: arc_swap::ArcSwapOption::empty(),
        metrics: metrics.clone(),
        logs: Arc::clone(logs),
    });
    let _ = figures.set(Arc::downgrade(&now));
    (now, metrics)
}

impl Status for Now {
    fn metrics(&self) -> String {
        self.metrics.text()
    }

    fn ready(&self) -> Result<(), String> {
        if self.metrics.process.draining.load(Ordering::Relaxed) {
            return Err("draining\n".to_owned());
        }
        if self.gateway.lock().is_none() {
            return Err("starting\n".to_owned());
        }
        let mut missing = String::new();
        for (name, site) in self.sites.load().iter() {
            let Some(instance) = &site.answering.instance else {
                continue;
            };
            let stats = instance.stats();
            let ready = stats
                .mirrors
                .iter()
                .any(|mirror| mirror.state == MirrorState::Ready);
            if stats.wanted > 0 && !ready {
                // Why is in the log: it may hold what the guest said.
                missing.push_str(&format!("{name}: no mirror is ready\n"));
            }
        }
        if missing.is_empty() {
            Ok(())
        } else {
            Err(missing)
        }
    }
}
