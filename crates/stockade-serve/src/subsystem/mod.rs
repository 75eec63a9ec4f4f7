//! Parts of the server that follow the configuration.
//!
//! Invariants:
//! 1. A reload takes effect as a whole or not at all. First every subsystem prepares what the new configuration
//!    asks of it: everything that can fail, and nothing that a request could notice. Then every subsystem commits,
//!    without waiting in between, and the new [`Running`] takes the old one's place.
//! 2. What is only prepared is undone by dropping it.

mod admin_listener;
mod auditing;
mod certificates;
mod counting;
mod gateway;
mod keys;
mod logging;
mod metrics_listener;
mod sites;
mod state;
mod token_keys;
mod tracing;
mod usage;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt, ready};
use stockade_config::Config;
use stockade_transpile::ModuleFiles;

pub(crate) use admin_listener::AdminListener;
pub(crate) use auditing::Auditing;
pub(crate) use certificates::Certificates;
pub(crate) use counting::Counting;
pub(crate) use gateway::Listeners;
pub(crate) use keys::KeysSubsystem;
pub(crate) use logging::{Logging, log_policy};
pub(crate) use metrics_listener::MetricsListener;
pub(crate) use sites::{Drains, Sites};
pub(crate) use state::{OpenStore, StateSubsystem};
pub(crate) use token_keys::TokenKeys;
pub(crate) use tracing::TracingSubsystem;
pub(crate) use usage::UsageSubsystem;

use crate::deployments::{Sticky, VersionRef};
use crate::error::ServeError;
use crate::running::{Running, Snapshot};

/// A reload that is being prepared.
pub(crate) struct Reload {
    /// What runs; none at the server's start.
    pub(crate) old: Option<Arc<Running>>,
    /// The code of all sites that have some, read together with the configuration.
    pub(crate) code: BTreeMap<String, SiteCode>,
    /// What will run. Its configuration is complete; each subsystem fills in its own part, and those that come
    /// later in the list may use it.
    pub(crate) next: Running,
}

/// The code of a site.
pub(crate) enum SiteCode {
    /// What runs goes on: neither its code nor its configuration has changed.
    AsItRuns,
    /// Versions that were read, the one with the largest share first.
    Read {
        shares: Vec<CodeShare>,
        sticky: Sticky,
    },
}

/// A version of a site's code.
pub(crate) struct CodeShare {
    pub(crate) version: VersionRef,
    /// The share of the requests.
    pub(crate) percent: u8,
    pub(crate) files: ModuleFiles,
    /// Where its assets are, if it has its own.
    pub(crate) assets: Option<PathBuf>,
}

/// A change from one snapshot to the next.
pub(crate) struct Change {
    pub(crate) old: Option<Arc<Running>>,
    pub(crate) next: Arc<Running>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let none = BTreeMap::new();
        let old = self.old.as_ref().map_or(&none, |old| &old.traffic);
        let (mut added, mut changed, mut unchanged) = (Vec::new(), Vec::new(), 0);
        for (name, traffic) in &self.next.traffic {
            match old.get(name) {
                None => added.push(name.as_str()),
                Some(before) if before.is(traffic) => unchanged += 1,
                Some(_) => changed.push(name.as_str()),
            }
        }
        let removed = old
            .keys()
            .filter(|name| !self.next.traffic.contains_key(*name));
        let removed: Vec<_> = removed.map(String::as_str).collect();
        for (word, names) in [("added", added), ("changed", changed), ("removed", removed)] {
            if !names.is_empty() {
                write!(f, "{word}: {}; ", names.join(", "))?;
            }
        }
        write!(f, "unchanged: {unchanged}")
    }
}

/// A subsystem that is getting ready.
pub(crate) type Preparing<'s, 'r> = BoxFuture<'r, Result<Box<dyn Prepared + 's>, ServeError>>;

/// A part of the server that follows the configuration.
pub(crate) trait Subsystem: Send {
    /// Does everything that can fail: reads, checks, opens, starts.
    fn prepare<'s: 'r, 'r>(&'s mut self, reload: &'r mut Reload) -> Preparing<'s, 'r>;
}

/// What a subsystem has ready. Dropping it before it is committed undoes it.
pub(crate) trait Prepared: Send {
    /// Puts it into use.
    fn commit(&mut self, change: &Change);

    /// Lets go of what only the old configuration used, after all subsystems have committed.
    fn release<'a>(&'a mut self, _change: &'a Change) -> BoxFuture<'a, ()> {
        ready(()).boxed()
    }
}

/// The state of a subsystem whose part of [`Running`] is all there is to it.
struct InSnapshot;

impl Prepared for InSnapshot {
    fn commit(&mut self, _: &Change) {}
}

/// Takes a configuration into use. Where this fails nothing has changed.
///
/// # Errors
/// Why the first subsystem that could not prepare could not.
pub(crate) async fn apply(
    subsystems: &mut [Box<dyn Subsystem>],
    running: &Snapshot,
    config: Arc<Config>,
    code: BTreeMap<String, SiteCode>,
) -> Result<Change, ServeError> {
    let mut reload = Reload {
        old: running.load_full(),
        code,
        next: Running::new(config),
    };
    let mut prepared = Vec::with_capacity(subsystems.len());
    for subsystem in subsystems {
        prepared.push(subsystem.prepare(&mut reload).await?);
    }
    // Nothing fails and nothing waits from here on, until the new snapshot is in its place.
    let change = Change {
        old: reload.old,
        next: Arc::new(reload.next),
    };
    for subsystem in &mut prepared {
        subsystem.commit(&change);
    }
    running.store(Some(Arc::clone(&change.next)));
    for mut subsystem in prepared {
        subsystem.release(&change).await;
    }
    Ok(change)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use parking_lot::Mutex;

    use super::*;

    type Steps = Arc<Mutex<Vec<String>>>;

    /// Records what is done with it.
    struct Recorder {
        name: &'static str,
        fails: bool,
        steps: Steps,
    }

    struct PreparedRecorder<'a> {
        recorder: &'a Recorder,
        committed: bool,
    }

    impl Recorder {
        fn record(&self, step: &str) {
            self.steps.lock().push(format!("{step} {}", self.name));
        }
    }

    impl Subsystem for Recorder {
        fn prepare<'s: 'r, 'r>(&'s mut self, _: &'r mut Reload) -> Preparing<'s, 'r> {
            async move {
                self.record("prepare");
                if self.fails {
                    return Err(ServeError::Fixed("this"));
                }
                Ok(Box::new(PreparedRecorder {
                    recorder: self,
                    committed: false,
                }) as Box<dyn Prepared>)
            }
            .boxed()
        }
    }

    impl Prepared for PreparedRecorder<'_> {
        fn commit(&mut self, _: &Change) {
            self.committed = true;
            self.recorder.record("commit");
        }

        fn release<'a>(&'a mut self, _: &'a Change) -> BoxFuture<'a, ()> {
            self.recorder.record("release");
            ready(()).boxed()
        }
    }

    impl Drop for PreparedRecorder<'_> {
        fn drop(&mut self) {
            if !self.committed {
                self.recorder.record("undo");
            }
        }
    }

    /// What is done with subsystems of which some fail, and whether the new configuration is in use.
    async fn steps(fails: &[(&'static str, bool)]) -> (String, bool) {
        let steps = Steps::default();
        let subsystems = fails.iter().map(|&(name, fails)| {
            Box::new(Recorder {
                name,
                fails,
                steps: Arc::clone(&steps),
            }) as Box<dyn Subsystem>
        });
        let mut subsystems: Vec<_> = subsystems.collect();
        let text = "version: \"1.0\"\ninstances: {a: {code: a.ts}}\n";
        let loaded = Config::parse(text, "stockade.yaml", Path::new("/srv")).unwrap();
        let running = Snapshot::default();
        let config = Arc::new(loaded.config);
        let applied = apply(&mut subsystems, &running, config, BTreeMap::new()).await;
        assert_eq!(applied.is_ok(), running.load().is_some());
        let steps = steps.lock().join(", ");
        (steps, applied.is_ok())
    }

    #[tokio::test]
    async fn apply_commits_when_all_are_prepared() {
        let (steps, applied) = steps(&[("a", false), ("b", false)]).await;
        assert!(applied);
        let expected = "prepare a, prepare b, commit a, commit b, release a, release b";
        assert_eq!(steps, expected);
    }

    #[tokio::test]
    async fn apply_undoes_what_is_prepared_when_one_fails() {
        let (steps, applied) = steps(&[("a", false), ("b", true), ("c", false)]).await;
        assert!(!applied);
        assert_eq!(steps, "prepare a, prepare b, undo a");
    }
}
