//! The life of a server: from its start to its end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use stockade_audit::Record;
use stockade_config::{Config, Loaded};
use stockade_state::Store;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::code;
use super::watch::Watch;
use super::{ServeOptions, Server, announce, service_manager};
use crate::admin::{self, Command, Commands, Configure, ConfigureError, Configured};
use crate::config_file::{ConfigFile, version_of};
use crate::control::Control;
use crate::deployments::DeploymentStore;
use crate::development::Made;
use crate::error::ServeError;
use crate::plan;
use crate::running::Running;
use crate::site::Site;
use crate::subsystem::{self, Change};

/// How long the state may take to end when stopping.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a configuration is made in a row, while files change.
const MOST_MADE_AGAIN: u32 = 3;

/// How much the times of files may be behind the clock.
const CLOCK_OF_FILES: Duration = Duration::from_millis(20);

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
/// Why it could not start. Once it runs, errors are reported and the server goes on.
pub async fn serve(options: ServeOptions) -> Result<Stopped, ServeError> {
    let began = Instant::now();
    let mut signals = Signals::new()?;
    let started = SystemTime::now();
    let (loaded, made_of) = first_configuration(&options).await?;
    // One waits while one is done.
    let (commands, mut asked) = mpsc::channel(1);
    let mut server = Server::new(options, &loaded.config, commands)?;
    let control = Control::listen(&loaded.config.control, admin::router(&server.admin)).await?;
    let mut sources = loaded.sources.clone();
    sources.extend(made_of);
    if let Err(error) = server.apply(loaded).await {
        server.supervisor.shutdown();
        return Err(error);
    }
    server.sources.clone_from(&sources);
    server.announce(began);
    service_manager::ready("serving");
    let life = tokio::spawn(service_manager::report_life());
    let mut watch = Watch::new();
    server.rewatch(&mut watch, sources.clone()).await;
    // What changed before it was watched.
    if server.options.development.is_some() && changed_since(sources, started).await {
        let _ = server.reload("file", &mut watch).await;
    }
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
    service_manager::stopping();
    let stopped = tokio::select! {
        stopped = server.stop() => stopped,
        () = stop(&mut signals.terminate, &mut signals.interrupt) => {
            tracing::warn!("a second signal: stopping at once");
            Stopped::Cut
        }
        () = refuse_commands(&mut asked) => Stopped::Cut,
    };
    life.abort();
    drop(control);
    server.supervisor.shutdown();
    server.close_state().await;
    tracing::info!(?stopped, "stopped");
    server.close_usage().await;
    server.close_audit().await;
    server.logs.log.flush();
    Ok(stopped)
}

/// Nothing is changed any more; never ends. Who asks learns it from the answer that never comes.
async fn refuse_commands(asked: &mut Commands) {
    while let Some(command) = asked.recv().await {
        drop(command);
    }
    std::future::pending().await
}

/// Who wants something.
enum Wanted {
    Signal,
    File,
    Command(Command),
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
    /// Takes a configuration into use. Where this fails nothing has changed.
    async fn apply(&mut self, loaded: Loaded) -> Result<Change, ServeError> {
        let config = Arc::new(loaded.config);
        let old = self.running.load_full();
        if old.is_some_and(|old| old.config.control != config.control) {
            return Err(ServeError::Fixed("control"));
        }
        // Refused before anything is prepared for it.
        if (self.store.get()).is_some_and(|(path, _)| *path != config.state) {
            return Err(ServeError::Fixed("state"));
        }
        if (self.keys.get()).is_some_and(|(place, _)| *place != config.api_keys) {
            return Err(ServeError::Fixed("api_keys"));
        }
        let store = self.deployment_store(&config).await?;
        let code = code::read_all(&config, store).await?;
        let change = subsystem::apply(&mut self.subsystems, &self.running, config, code).await?;
        for warning in loaded.warnings {
            tracing::warn!("{warning}");
        }
        Ok(change)
    }

    /// The folder of uploaded code, if the configuration has one.
    async fn deployment_store(
        &self,
        config: &Config,
    ) -> Result<Option<Arc<DeploymentStore>>, ServeError> {
        let Some(settings) = &config.deployments else {
            return Ok(None);
        };
        if let Some(open) = self.deployments.get() {
            if open.folder() != settings.folder {
                return Err(ServeError::Fixed("deployments.folder"));
            }
            return Ok(Some(Arc::clone(open)));
        }
        let folder = settings.folder.clone();
        let opening = tokio::task::spawn_blocking(move || DeploymentStore::open(&folder));
        let opened = opening.await.map_err(|error| ServeError::System {
            what: "opening the folder of deployments",
            source: std::io::Error::other(error),
        })??;
        // One configuration after the other is applied: nobody else has set it meanwhile.
        Ok(Some(Arc::clone(
            self.deployments.get_or_init(|| Arc::new(opened)),
        )))
    }

    /// Reports to the user what runs, now and when all sites are ready.
    fn announce(&self, began: Instant) {
        let Some(running) = self.running.load_full() else {
            return;
        };
        let say = self.options.say;
        match self.options.development {
            Some(_) => announce::development(&running, &self.gateway, &self.options.config, say),
            None => announce::start(&running, &self.gateway, &self.options.config, say),
        }
        tokio::spawn(async move { announce::ready(&running.traffic, began, say).await });
    }

    /// Watches the files of the configuration, `sources`, and those of the sites that run.
    pub(super) async fn rewatch(&self, watch: &mut Watch, sources: Vec<PathBuf>) {
        let running = self.running.load_full();
        let traffic = running.iter().flat_map(|running| running.traffic.values());
        let sites = traffic.flat_map(|traffic| traffic.sites());
        let code = sites.flat_map(|site| site.sources());
        watch.set(sources.into_iter().chain(code)).await;
    }

    /// Reads the configuration again and takes it into use, or says why not.
    async fn reload(&mut self, cause: &str, watch: &mut Watch) -> Result<String, String> {
        let began = Instant::now();
        if self.options.development.is_some() {
            return self.make_again(cause, began, watch).await;
        }
        let loaded = load(&self.options.config).await;
        self.take(cause, began, loaded, watch).await
    }

    /// Makes the configuration again and takes it into use, or says why not. Again where a file has changed since, for
    /// one that is watched only from now on is not noticed otherwise.
    async fn make_again(
        &mut self,
        cause: &str,
        began: Instant,
        watch: &mut Watch,
    ) -> Result<String, String> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let started = SystemTime::now();
            let (outcome, sources) = self.make_once(cause, began, watch).await?;
            if attempts == MOST_MADE_AGAIN || !changed_since(sources, started).await {
                return outcome;
            }
        }
    }

    /// Gives the outcome, and the files that the configuration was made of.
    async fn make_once(
        &mut self,
        cause: &str,
        began: Instant,
        watch: &mut Watch,
    ) -> Result<(Result<String, String>, Vec<PathBuf>), String> {
        let Some(made) = make(&self.options).await else {
            return Err("the configuration cannot be made".to_owned());
        };
        let before = self.running.load_full();
        let sources = made.sources.clone();
        let outcome = match made.loaded {
            Some(mut loaded) => {
                loaded.sources.extend(made.sources);
                self.take(cause, began, Ok(loaded), watch).await
            }
            // What is in use goes on, and more files may mend it.
            None => {
                self.rewatch(watch, made.sources).await;
                Ok("the code has errors, what was in use before goes on".to_owned())
            }
        };
        let now = self.running.load_full();
        if let Some(development) = &self.options.development {
            let same = match (&before, &now) {
                (Some(before), Some(now)) => same_sites(before, now),
                _ => false,
            };
            match &outcome {
                Err(why) => development.status.failed(why, true),
                Ok(_) if !same => development.status.reloaded(),
                Ok(_) => {}
            }
        }
        Ok((outcome, sources))
    }

    /// Takes a configuration that was read into use, or says why not.
    async fn take(
        &mut self,
        cause: &str,
        began: Instant,
        loaded: Result<Loaded, ServeError>,
        watch: &mut Watch,
    ) -> Result<String, String> {
        service_manager::reloading();
        let outcome = match loaded {
            Ok(loaded) => {
                let sources = loaded.sources.clone();
                let applied = self.apply(loaded).await;
                if applied.is_ok() {
                    self.sources.clone_from(&sources);
                    self.rewatch(watch, sources).await;
                }
                applied.map(|change| change.to_string())
            }
            Err(error) => Err(error),
        };
        // Certificates whose paths stay may have other contents.
        let running = self.running.load_full();
        let certificates = match &running {
            Some(running) => running.tls.reload().await,
            None => Ok(()),
        };
        let outcome = match (outcome, certificates) {
            (Ok(message), Ok(())) => Ok(message),
            (Ok(message), Err(tls)) => Err(format!(
                "{message}; but some TLS files cannot be used, the old ones stay in use:\n{tls}"
            )),
            (Err(error), _) => Err(error.to_string()),
        };
        let refused = outcome.as_ref().map(|_| ()).map_err(String::as_str);
        self.metrics.process.reloaded(refused);
        let took_ms = began.elapsed().as_millis() as u64;
        if let Err(message) = &outcome {
            self.logs.audit.record(|| {
                Record::new("configuration_refused")
                    .text("cause", cause)
                    .text("message", message)
            });
        }
        match &outcome {
            Ok(message) => {
                service_manager::ready("serving");
                tracing::info!(cause, took_ms, "configuration reloaded: {message}");
            }
            Err(message) => {
                service_manager::ready(
                    "serving by the configuration before the one that was refused",
                );
                tracing::error!(
                    cause,
                    took_ms,
                    "the configuration was not reloaded, the old one stays in use: {message}"
                );
            }
        }
        outcome
    }

    /// Puts a text into the configuration's place and takes it into use. Where that fails, both stay as they were.
    async fn configure(
        &mut self,
        request: Configure,
        watch: &mut Watch,
    ) -> Result<Configured, ConfigureError> {
        let began = Instant::now();
        if self.options.development.is_some() {
            let why = "`stockade dev` makes its configuration: change the file instead";
            return Err(ConfigureError::Refused(why.to_owned()));
        }
        let file = ConfigFile::new(&self.options.config);
        // Everything of the disk that can fail, before anything changes.
        let (staged, old) = blocking({
            let (file, text) = (file.clone(), request.text.clone());
            move || {
                let old = file.read()?;
                file.keep(&old)?;
                Ok((file.stage(&text)?, old))
            }
        })
        .await
        .map_err(ConfigureError::File)?;
        let version = version_of(&old);
        if request.expected.is_some_and(|expected| expected != version) {
            return Err(ConfigureError::OtherVersion(version));
        }

        // The text is in use before it is the file: after a crash in between, the file is what was in use before.
        let before = self.running.load_full();
        let loaded = load_text(&self.options.config, request.text.clone()).await;
        let outcome = self.take("admin API", began, loaded, watch).await;
        let now = self.running.load_full();
        let is_same = match (&before, &now) {
            (Some(before), Some(now)) => Arc::ptr_eq(before, now),
            _ => false,
        };
        if is_same {
            let (Ok(why) | Err(why)) = outcome;
            return Err(ConfigureError::Refused(why));
        }
        let committing = blocking({
            let text = request.text.clone();
            move || {
                staged.commit()?;
                file.keep(&text)
            }
        });
        if let Err(error) = committing.await {
            let loaded = load(&self.options.config).await;
            let _ = self.take("admin API", Instant::now(), loaded, watch).await;
            return Err(ConfigureError::File(error));
        }
        let (Ok(message) | Err(message)) = outcome;
        Ok(Configured {
            version: version_of(&request.text),
            message,
        })
    }

    /// Waits until somebody wants something.
    async fn wanted(&self, hangup: &mut Signal, asked: &mut Commands, watch: &mut Watch) -> Wanted {
        let running = self.running.load_full();
        let watches = running.is_some_and(|running| running.config.watch);
        tokio::select! {
            _ = hangup.recv() => Wanted::Signal,
            Some(command) = asked.recv() => Wanted::Command(command),
            () = watch.changed(), if watches => Wanted::File,
        }
    }

    async fn fulfil(&mut self, wanted: Wanted, watch: &mut Watch) {
        match wanted {
            Wanted::Signal => {
                self.logs.log.reopen();
                let _ = self.reload("signal", watch).await;
            }
            Wanted::File => {
                let _ = self.reload("file", watch).await;
            }
            // The client that asked may have gone.
            Wanted::Command(Command::Reload(answer)) => {
                let _ = answer.send(self.reload("command", watch).await);
            }
            Wanted::Command(Command::Deploy(request, answer)) => {
                let _ = answer.send(self.deploy(request, watch).await);
            }
            Wanted::Command(Command::Configure(request, answer)) => {
                let _ = answer.send(self.configure(request, watch).await);
            }
        }
    }

    /// Takes no more requests and lets what runs come to its end, until the deadline.
    async fn stop(&mut self) -> Stopped {
        self.metrics.process.drains();
        let running = self.running.load_full();
        let timeout = running
            .as_ref()
            .map_or(Duration::ZERO, |running| running.config.drain_timeout);
        let deadline = Instant::now() + timeout;
        tracing::info!(timeout_ms = timeout.as_millis() as u64, "draining");
        let cut = self.gateway.drain(timeout).await.cut;
        // What clients no longer wait for, `waitUntil` and scheduled runs, goes on until the deadline.
        let left = deadline.saturating_duration_since(Instant::now());
        let traffic = running.iter().flat_map(|running| running.traffic.values());
        for site in traffic.flat_map(|traffic| traffic.sites()) {
            self.drains.retire(Arc::clone(site), left, false);
        }
        self.previews.end_all(left).await;
        self.drains.wait().await;
        if let Some(traced) = running.as_ref().and_then(|running| running.traced.as_ref()) {
            traced.tracing.flush(plan::tracing::FLUSH_TIMEOUT).await;
        }
        if cut == 0 {
            Stopped::Drained
        } else {
            Stopped::Cut
        }
    }

    /// Records the end, and waits until it is on the disk.
    async fn close_audit(&self) {
        let audit = &self.logs.audit;
        audit.record(|| Record::new("server_stopped"));
        let last = audit.close();
        let closing = tokio::task::spawn_blocking(move || drop(last));
        if tokio::time::timeout(CLOSE_TIMEOUT, closing).await.is_err() {
            tracing::warn!("the audit log took too long to close; what was confirmed is safe");
        }
    }

    /// Writes what is counted and not written.
    async fn close_usage(&self) {
        let last = self.logs.usage.replace(None);
        let closing = tokio::task::spawn_blocking(move || drop(last));
        if tokio::time::timeout(CLOSE_TIMEOUT, closing).await.is_err() {
            tracing::error!("usage took too long to write; what was counted last is lost");
        }
    }

    async fn close_state(&self) {
        if let Some((_, store)) = self.store.get()
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

/// The configuration to start with, and files whose changes change it besides those that it was read from.
async fn first_configuration(options: &ServeOptions) -> Result<(Loaded, Vec<PathBuf>), ServeError> {
    match make(options).await {
        Some(Made {
            loaded: Some(loaded),
            sources,
        }) => Ok((loaded, sources)),
        Some(Made { loaded: None, .. }) => Err(ServeError::System {
            what: "making the configuration",
            source: std::io::Error::other("there is none to start with"),
        }),
        None => Ok((load(&options.config).await?, Vec::new())),
    }
}

/// Makes the configuration, where it is made.
async fn make(options: &ServeOptions) -> Option<Made> {
    let development = options.development.as_ref()?;
    let make = Arc::clone(&development.make);
    // It fails only where the runtime ends, or where making it panics.
    tokio::task::spawn_blocking(move || make()).await.ok()
}

/// Whether one of these files was changed after this time.
async fn changed_since(files: Vec<PathBuf>, time: SystemTime) -> bool {
    // The kernel's clock of files is some milliseconds late.
    let time = time.checked_sub(CLOCK_OF_FILES).unwrap_or(time);
    let is_newer = move |file: &PathBuf| {
        let modified = file.metadata().and_then(|data| data.modified());
        modified.is_ok_and(|modified| modified > time)
    };
    let checking = tokio::task::spawn_blocking(move || files.iter().any(is_newer));
    checking.await.unwrap_or(false)
}

/// Whether two configurations that ran have the same sites.
fn same_sites(before: &Running, now: &Running) -> bool {
    let same = |(name, site): (&String, &Arc<Site>)| {
        (before.sites.get(name)).is_some_and(|old| Arc::ptr_eq(old, site))
    };
    before.sites.len() == now.sites.len() && now.sites.iter().all(same)
}

/// Reads and checks the configuration. Rejects one with errors, and names all of them.
async fn load(path: &Path) -> Result<Loaded, ServeError> {
    let path = path.to_owned();
    let loading = tokio::task::spawn_blocking(move || Config::load(&path));
    let loaded = loading.await.map_err(|error| ServeError::System {
        what: "reading the configuration",
        source: std::io::Error::other(error),
    })?;
    loaded.map_err(ServeError::Config)
}

/// Checks a text that is to become the configuration.
async fn load_text(path: &Path, text: String) -> Result<Loaded, ServeError> {
    let path = path.to_owned();
    let loading = tokio::task::spawn_blocking(move || Config::load_text(&path, &text));
    let loaded = loading.await.map_err(|error| ServeError::System {
        what: "checking the configuration",
        source: std::io::Error::other(error),
    })?;
    loaded.map_err(ServeError::Config)
}

/// Does what may wait for the disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    let working = tokio::task::spawn_blocking(work);
    working
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
