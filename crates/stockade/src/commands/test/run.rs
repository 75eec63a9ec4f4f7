//! Runs test files, one after the other.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use stockade::rpc::{ExportError, call_export, plain_json};
use stockade::{ConsoleMode, Grants, Payload, Sandbox};
use stockade_project::{TestModules, test_modules};
use stockade_watch::FileWatch;

use super::super::failure::Failure;
use super::super::guest::{GuestArgs, Refusal, interrupted};
use super::super::output::Output;
use super::super::printer::Held;
use super::super::session::{Bounds, Session};
use super::report::{Outcome, Reporter, TestError};
use super::site::TestSite;

/// CPU time of one test, unless the command line says otherwise: more than of other commands, for what a test imports
/// is loaded in it.
const CPU_MS: f64 = 10_000.0;

/// Tests of one file, as the library counts them.
const MAX_TESTS: usize = 10_000;

/// What a test file has that asks the site.
const ASKS_SITE: [&str; 2] = ["site.fetch", "site.url"];

/// The variable with the site's address.
const SITE_VARIABLE: &str = "STOCKADE_TEST_SITE";

/// How long files must stay as they are before tests run again, and how often they are checked.
const SETTLE: Duration = Duration::from_millis(100);
const POLL: Duration = Duration::from_secs(2);

/// Runs tests.
pub(super) struct Runner<'a> {
    pub(super) guest: &'a GuestArgs,
    pub(super) filter: Option<&'a str>,
    pub(super) timeout: Duration,
    pub(super) root: PathBuf,
    pub(super) has_site: bool,
    pub(super) watched: Watched,
}

/// Files of the last run.
#[derive(Default)]
pub(super) struct Watched(BTreeSet<PathBuf>);

/// A test, as the library lists it.
#[derive(Deserialize)]
struct Listed {
    name: String,
    mode: Mode,
    timeout: Option<f64>,
}

#[derive(Deserialize, PartialEq, Eq, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Run,
    Skip,
    Todo,
}

/// What the library reports of a test.
#[derive(Deserialize)]
struct Ran {
    ms: f64,
    error: Option<TestError>,
}

impl Runner<'_> {
    /// Runs all files. Gives an exit code where the user ended it.
    pub(super) async fn run(
        &mut self,
        files: &[PathBuf],
        reporter: &mut Reporter,
    ) -> Result<Option<i32>, Refusal> {
        self.watched.0 = files.iter().cloned().collect();
        let mut bounds = Bounds::start(Duration::ZERO, Arc::new(Held::default()))?;
        let mut site = None;
        for file in files {
            let name = file.strip_prefix(&self.root).unwrap_or(file);
            let name = name.display().to_string();
            reporter.begin(&name);
            let (root, path) = (self.root.clone(), file.clone());
            let reading = tokio::task::spawn_blocking(move || test_modules(&root, &path));
            let read = reading.await.unwrap_or_else(|error| Err(error.to_string()));
            let modules = match read {
                Ok(modules) => modules,
                Err(why) => {
                    reporter.file_failed(&why);
                    continue;
                }
            };
            self.watched.0.extend(modules.sources.iter().cloned());
            if site.is_none() && self.asks_site(&modules) {
                let (root, level) = (self.root.clone(), self.guest.isolation.name());
                let is_shown = self.guest.verbose;
                let starting =
                    tokio::task::spawn_blocking(move || TestSite::start(&root, level, is_shown));
                match starting
                    .await
                    .unwrap_or_else(|error| Err(error.to_string()))
                {
                    Ok(started) => site = Some(started),
                    Err(why) => {
                        reporter.file_failed(&why);
                        continue;
                    }
                }
            }
            let ran = self
                .file(&name, modules, site.as_ref(), &mut bounds, reporter)
                .await;
            match ran {
                Ok(()) => {}
                Err(failure) if failure.reason == "interrupted" => return Ok(Some(failure.code)),
                Err(failure) => reporter.file_failed(&failure.message),
            }
        }
        Ok(None)
    }

    /// Whether a file may ask the site of the project.
    fn asks_site(&self, modules: &TestModules) -> bool {
        let own = modules.files.modules.iter();
        let mut own = own.filter(|(name, _)| !stockade_project::is_of_test_library(name));
        let asks = |text: &str| ASKS_SITE.iter().any(|word| text.contains(word));
        self.has_site && own.any(|(_, text)| asks(text))
    }

    /// Runs one file in an isolate of its own.
    async fn file(
        &self,
        name: &str,
        modules: TestModules,
        site: Option<&TestSite>,
        bounds: &mut Bounds,
        reporter: &mut Reporter,
    ) -> Result<(), Failure> {
        let mut guests = self
            .guest
            .sandbox_with(|| Ok(modules.files), &[], ConsoleMode::Whole)?;
        let defaults = &mut guests.sandbox.defaults;
        // In stacks and in the console it is called by its own name.
        defaults.name =
            Some(name.to_owned()).filter(|name| name.len() <= stockade_limits::MAX_NAME_LEN);
        if !self.guest.has_cpu_limit() {
            let limits = json!({ "cpuLimitMs": CPU_MS });
            if let Value::Object(limits) = limits {
                let with_limit = defaults.clone().with_json(&limits);
                *defaults = with_limit.map_err(|error| {
                    Failure::new("not_started", error.to_string(), super::super::exit::FAILED)
                })?;
            }
        }
        let mut grants = guests.grants;
        if let Some(site) = site {
            defaults
                .env
                .insert(SITE_VARIABLE.to_owned(), Value::from(site.url.as_str()));
            let (_, hosts) = self.guest.granted()?;
            let mut hosts = hosts.to_vec();
            hosts.push(site.host());
            let allowed = grants.allow_fetch(&hosts);
            grants = allowed.map_err(|error| {
                Failure::new("not_started", error.to_string(), super::super::exit::FAILED)
            })?;
        }
        let sandbox = Sandbox::new(guests.sandbox);
        let output = Output::Named(name.to_owned());
        let start = start(&sandbox, &grants, output);
        let mut session = bounds.keep(start).await?;
        let done = bounds.keep(self.tests(&mut session, reporter)).await;
        let (done, _) = session.end(bounds, done).await;
        done
    }

    /// Runs the tests of a file that is loaded.
    async fn tests(&self, session: &mut Session, reporter: &mut Reporter) -> Result<(), Failure> {
        session.ready().await?;
        let listed: Vec<Listed> = ask(session, "list", json!([])).await?;
        let listed = listed.into_iter().take(MAX_TESTS).enumerate();
        let wanted = |(_, test): &(usize, Listed)| {
            self.filter.is_none_or(|filter| test.name.contains(filter))
        };
        let (wanted, others): (Vec<_>, Vec<_>) = { listed }.partition(wanted);
        reporter.filtered(others.len());
        let run: Vec<usize> = (wanted.iter())
            .filter(|(_, test)| test.mode == Mode::Run)
            .map(|(index, _)| *index)
            .collect();
        let _: Value = ask(session, "select", json!([run])).await?;
        for (index, test) in wanted {
            match test.mode {
                Mode::Skip => reporter.test(&test.name, Outcome::Skipped, Duration::ZERO),
                Mode::Todo => reporter.test(&test.name, Outcome::Todo, Duration::ZERO),
                Mode::Run => {
                    let began = Instant::now();
                    let default = self.timeout.as_secs_f64() * 1e3;
                    let timeout = test.timeout.unwrap_or(default);
                    match ask::<Ran>(session, "run", json!([index, timeout])).await {
                        Ok(Ran { ms, error }) => {
                            let took = Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default();
                            let outcome = error.map_or(Outcome::Passed, |error| {
                                Outcome::Failed(Box::new(error.with_source(&self.root)))
                            });
                            reporter.test(&test.name, outcome, took);
                        }
                        // The isolate has ended, and no other test of the file can run.
                        Err(failure) if failure.reason != "interrupted" => {
                            let error = TestError::of_end(&failure.message);
                            let outcome = Outcome::Failed(Box::new(error));
                            reporter.test(&test.name, outcome, began.elapsed());
                            return match session.state().1 {
                                Some(_) => {
                                    let why = "the isolate ended, so the other tests of the file did not run";
                                    Err(Failure::new("ended", why.to_owned(), failure.code))
                                }
                                None => continue,
                            };
                        }
                        Err(failure) => return Err(failure),
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits until a file of the last run changes. Gives an exit code where the user ended it.
    pub(super) async fn changed(&self) -> Result<Option<i32>, Refusal> {
        super::super::output::say("waiting for a change");
        let mut watch = FileWatch::new(POLL, SETTLE);
        watch.set(self.watched.0.iter().cloned().collect()).await;
        let known = watch.states().await;
        let asked = interrupted().map_err(|error| {
            let message = format!("cannot listen to signals: {error}");
            Refusal(message, super::super::exit::FAILED)
        })?;
        tokio::select! {
            code = asked => Ok(Some(code)),
            _ = watch.changed(|| Some(known.clone())) => Ok(None),
        }
    }
}

/// An isolate with the sandbox's defaults.
async fn start(sandbox: &Sandbox, grants: &Grants, output: Output) -> Result<Session, Failure> {
    Session::start(sandbox, grants, output, "stockade test", false).await
}

/// Calls a function of the library.
async fn ask<T: for<'de> Deserialize<'de>>(
    session: &mut Session,
    function: &str,
    arguments: Value,
) -> Result<T, Failure> {
    let handle = session.handle();
    let called = call_export(&handle, function, Payload::from_json(arguments.to_string()));
    let failed = super::super::exit::FAILED;
    let value = match session.reply(called).await? {
        Ok(value) => value,
        Err(ExportError::NoExport) => {
            let message = format!("the test library has no function '{function}'");
            return Err(Failure::new("no_export", message, failed));
        }
        Err(ExportError::Call(error)) => return Err(session.no_reply(&error)),
    };
    let json = plain_json(value).unwrap_or_default();
    serde_json::from_str(&json).map_err(|_| {
        let message =
            format!("the test library gave something else than expected for '{function}'");
        Failure::new("not_json", message, failed)
    })
}
