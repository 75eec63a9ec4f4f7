//! Sessions: sandboxes whose globals live between runs, by client and name. They end when they are closed, when they
//! were not used for a while, and with the server.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{OnceCell, OwnedMutexGuard};

use super::tenant::Client;
use crate::bounds::SESSIONS_PER_CLIENT;
use crate::run::{Runner, Session, ToolName};

/// The sessions of all clients.
pub(super) struct Sessions {
    most: usize,
    /// Of one tenant.
    most_of_tenant: usize,
    idle: Duration,
    all: Mutex<HashMap<Key, Entry>>,
}

/// The client, as the server names it, and the name that the client gave.
type Key = (Arc<str>, String);

struct Entry {
    client: Client,
    /// Set when the sandbox is open.
    session: Arc<OnceCell<Arc<dyn Session>>>,
    /// Held by the run that is under way.
    alone: Arc<tokio::sync::Mutex<()>>,
    used: Instant,
    runs: u64,
    /// Runs that are under way or wait.
    busy: usize,
}

/// A session that a run uses. It does not expire meanwhile.
pub(super) struct Used<'a> {
    sessions: &'a Sessions,
    key: Key,
    cell: Arc<OnceCell<Arc<dyn Session>>>,
    alone: Arc<tokio::sync::Mutex<()>>,
}

impl Used<'_> {
    /// Waits for the runs of the session that came before.
    pub(super) async fn alone(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.alone).lock_owned().await
    }
}

impl Sessions {
    pub(super) fn new(most: usize, most_of_tenant: usize, idle: Duration) -> Self {
        Self {
            most,
            most_of_tenant,
            idle,
            all: Mutex::default(),
        }
    }

    /// The session of this name, which is made if there is none.
    fn enter(&self, client: &Client, name: &str) -> Result<Used<'_>, String> {
        let mut all = self.all.lock();
        let key = (Arc::clone(&client.name), name.to_owned());
        if !all.contains_key(&key) {
            let count = |is_one: &dyn Fn(&Client) -> bool| {
                all.values().filter(|entry| is_one(&entry.client)).count()
            };
            let of_client = count(&|of| of.name == client.name);
            let of_tenant = count(&|of| of.tenant.name == client.tenant.name);
            let full = [
                (of_client, SESSIONS_PER_CLIENT, "of this client"),
                (all.len(), self.most, "of all clients"),
                (of_tenant, self.most_of_tenant, "of this API key or token"),
            ];
            let full = full.iter().find(|(count, most, _)| count >= most);
            if let Some((count, _, whose)) = full {
                return Err(format!(
                    "no further session: there are {count} {whose}, which is the limit; close_session ends one, and \
                     sessions expire after {} s without a run",
                    self.idle.as_secs()
                ));
            }
        }
        let entry = all.entry(key.clone()).or_insert_with(|| Entry {
            client: client.clone(),
            session: Arc::default(),
            alone: Arc::default(),
            used: Instant::now(),
            runs: 0,
            busy: 0,
        });
        entry.busy += 1;
        entry.runs += 1;
        Ok(Used {
            sessions: self,
            key,
            cell: Arc::clone(&entry.session),
            alone: Arc::clone(&entry.alone),
        })
    }

    /// The sandbox of the session of this name, with these files if it is new.
    pub(super) async fn open(
        &self,
        client: &Client,
        name: &str,
        files: BTreeMap<String, String>,
        tools: Vec<ToolName>,
        runner: &dyn Runner,
    ) -> Result<(Used<'_>, Arc<dyn Session>), String> {
        let used = self.enter(client, name)?;
        if used.cell.initialized() && !files.is_empty() {
            return Err("files are given with the first run of a session".to_owned());
        }
        let opened = used
            .cell
            .get_or_try_init(|| runner.open(files, tools))
            .await;
        match opened {
            Ok(session) => {
                let session = Arc::clone(session);
                Ok((used, session))
            }
            Err(why) => {
                self.all.lock().remove(&used.key);
                Err(why)
            }
        }
    }

    /// A line for each session of a client.
    pub(super) fn list(&self, client: &Client) -> String {
        let all = self.all.lock();
        let mut lines: Vec<String> = all
            .iter()
            .filter(|((of, _), _)| *of == client.name)
            .map(|((_, name), entry)| {
                let state = match entry.busy {
                    0 => format!("idle for {} s", entry.used.elapsed().as_secs()),
                    _ => "running".to_owned(),
                };
                format!("{name}: {} runs, {state}", entry.runs)
            })
            .collect();
        lines.sort();
        if lines.is_empty() {
            lines.push("no sessions".to_owned());
        }
        lines.join("\n")
    }

    /// Ends a session. Its run ends too.
    pub(super) fn close(&self, client: &Client, name: &str) -> bool {
        let key = (Arc::clone(&client.name), name.to_owned());
        self.all.lock().remove(&key).is_some()
    }

    /// Ends all sessions of the clients that are named.
    pub(super) fn end(&self, is_one: impl Fn(&Client) -> bool) {
        self.all.lock().retain(|_, entry| !is_one(&entry.client));
    }

    /// Ends the sessions that were not used for a while.
    pub(super) fn expire(&self) {
        let idle = self.idle;
        self.all
            .lock()
            .retain(|_, entry| entry.busy > 0 || entry.used.elapsed() < idle);
    }
}

impl Drop for Used<'_> {
    fn drop(&mut self) {
        if let Some(entry) = self.sessions.all.lock().get_mut(&self.key) {
            entry.busy = entry.busy.saturating_sub(1);
            entry.used = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::run::{Job, RunOutcome};
    use crate::server::tenant::Tenant;

    fn client(name: &str) -> Client {
        let (tenant, _) = name.split_once('.').unwrap_or((name, ""));
        Client {
            tenant: Tenant::new(tenant, 1, None),
            name: name.into(),
        }
    }

    struct Nothing;
    impl Session for Nothing {
        fn run(&self, _job: Job) -> BoxFuture<'static, RunOutcome> {
            async { RunOutcome::default() }.boxed()
        }
    }
    impl Runner for Nothing {
        fn run(&self, _job: Job) -> BoxFuture<'static, RunOutcome> {
            async { RunOutcome::default() }.boxed()
        }
        fn open(
            &self,
            files: BTreeMap<String, String>,
            _tools: Vec<ToolName>,
        ) -> BoxFuture<'static, Result<Arc<dyn Session>, String>> {
            async move {
                if files.contains_key("bad") {
                    return Err("bad".to_owned());
                }
                Ok(Arc::new(Nothing) as Arc<dyn Session>)
            }
            .boxed()
        }
    }

    async fn open(sessions: &Sessions, of: &str, name: &str) -> Result<(), String> {
        sessions
            .open(&client(of), name, BTreeMap::new(), Vec::new(), &Nothing)
            .await
            .map(drop)
    }

    #[tokio::test]
    async fn sessions_are_bounded_for_each_client_and_in_all() {
        let sessions = Sessions::new(SESSIONS_PER_CLIENT + 2, 100, Duration::from_secs(60));
        for number in 0..SESSIONS_PER_CLIENT {
            open(&sessions, "a", &number.to_string()).await.unwrap();
        }
        assert!(
            open(&sessions, "a", "more")
                .await
                .unwrap_err()
                .contains("of this client")
        );
        open(&sessions, "a", "0").await.unwrap();
        open(&sessions, "b", "0").await.unwrap();
        open(&sessions, "b", "1").await.unwrap();
        assert!(
            open(&sessions, "b", "2")
                .await
                .unwrap_err()
                .contains("of all clients")
        );
        assert!(sessions.close(&client("a"), "0"));
        assert!(!sessions.close(&client("a"), "0"));
        open(&sessions, "b", "2").await.unwrap();
        assert_eq!(sessions.list(&client("c")), "no sessions");
        assert!(sessions.list(&client("b")).starts_with("0: 1 runs, idle"));
    }

    #[tokio::test]
    async fn sessions_of_a_tenant_are_bounded_and_end_together() {
        let sessions = Sessions::new(100, 3, Duration::from_secs(60));
        for of in ["a.1", "a.2", "a.3"] {
            open(&sessions, of, "x").await.unwrap();
        }
        let full = open(&sessions, "a.4", "x").await.unwrap_err();
        assert!(full.contains("3 of this API key"), "{full}");
        open(&sessions, "b.1", "x").await.unwrap();
        sessions.end(|of| &*of.tenant.name == "a");
        assert_eq!(sessions.list(&client("a.1")), "no sessions");
        assert!(sessions.list(&client("b.1")).starts_with("x: 1 runs"));
    }

    #[tokio::test]
    async fn idle_sessions_expire_and_used_ones_do_not() {
        let sessions = Sessions::new(8, 8, Duration::ZERO);
        open(&sessions, "a", "idle").await.unwrap();
        let (used, _) = sessions
            .open(&client("a"), "used", BTreeMap::new(), Vec::new(), &Nothing)
            .await
            .unwrap();
        sessions.expire();
        assert_eq!(sessions.list(&client("a")), "used: 1 runs, running");
        drop(used);
        sessions.expire();
        assert_eq!(sessions.list(&client("a")), "no sessions");
    }

    #[tokio::test]
    async fn runs_of_a_session_follow_each_other() {
        let sessions = Sessions::new(8, 8, Duration::from_secs(60));
        let a = client("a");
        let used = || sessions.open(&a, "x", BTreeMap::new(), Vec::new(), &Nothing);
        let (first, _) = used().await.unwrap();
        let (second, _) = used().await.unwrap();
        let alone = first.alone().await;
        assert!(second.alone().now_or_never().is_none());
        drop(alone);
        assert!(second.alone().now_or_never().is_some());
    }

    #[tokio::test]
    async fn session_that_cannot_be_opened_leaves_nothing() {
        let sessions = Sessions::new(8, 8, Duration::from_secs(60));
        let bad = BTreeMap::from([("bad".to_owned(), String::new())]);
        assert!(
            sessions
                .open(&client("a"), "x", bad.clone(), Vec::new(), &Nothing)
                .await
                .is_err()
        );
        assert_eq!(sessions.list(&client("a")), "no sessions");
        open(&sessions, "a", "x").await.unwrap();
        let error = sessions
            .open(&client("a"), "x", bad, Vec::new(), &Nothing)
            .await
            .map(drop)
            .unwrap_err();
        assert!(error.contains("first run"), "{error}");
    }
}
