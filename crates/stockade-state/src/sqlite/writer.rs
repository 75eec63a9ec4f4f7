//! The thread that writes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::clock::Clock;
use super::fault::{Health, state_error};
use super::group::{Done, Group};
use super::queue::FairQueue;
use super::shared::{Account, Accounts, Counters, OpenKeyspace};
use super::tidy::Tidy;
use crate::atomic::{Atomic, Outcome};
use crate::error::StateError;
use crate::key::KeyspaceName;
use crate::limits::Limits;

/// Most commits that share a transaction.
const GROUP_JOBS: usize = 512;

/// What these may cost, in bytes as the queue weighs them: bounds how long a commit waits for others.
const GROUP_COST: usize = 4 << 20;

type ReplySender<T> = oneshot::Sender<Result<T, StateError>>;

/// Something to be written.
pub(crate) enum Work {
    Open(OpenWork),
    Commit(CommitWork),
}

/// A keyspace to be opened.
pub(crate) struct OpenWork {
    pub(crate) name: KeyspaceName,
    pub(crate) limits: Limits,
    pub(crate) reply: ReplySender<Arc<OpenKeyspace>>,
}

/// A commit to be done.
pub(crate) struct CommitWork {
    pub(crate) keyspace: Arc<OpenKeyspace>,
    pub(crate) atomic: Atomic,
    pub(crate) reply: ReplySender<Outcome>,
}

/// What a piece of work came to, before its transaction is durable.
enum Answer {
    Open(i64, Account),
    Commit(Result<Outcome, StateError>),
}

/// The open keyspaces.
pub(crate) type Opened = Arc<Mutex<HashMap<i64, Arc<OpenKeyspace>>>>;

/// The writing thread.
pub(crate) struct Writer {
    pub(crate) connection: Connection,
    pub(crate) path: PathBuf,
    pub(crate) queue: Arc<FairQueue<Work>>,
    pub(crate) accounts: Accounts,
    pub(crate) opened: Opened,
    pub(crate) health: Arc<Health>,
    pub(crate) clock: Clock,
    pub(crate) counters: Arc<Counters>,
    pub(crate) tidy: Tidy,
}

impl Writer {
    /// Writes until the queue ends.
    pub(crate) fn run(mut self) {
        loop {
            let deadline = self.tidy.deadline(self.clock.now_ms());
            let taken = self.queue.take(GROUP_JOBS, GROUP_COST, deadline);
            let idle = taken.jobs.is_empty();
            if !idle {
                self.work(taken.jobs);
            }
            if self.health.fault().is_none() {
                self.tidy_up(idle);
            }
            if taken.ended {
                break;
            }
        }
        if self.health.fault().is_none() {
            self.tidy.close(&self.connection);
        }
        for keyspace in self.opened.lock().values() {
            keyspace.feed.close();
        }
    }

    fn work(&mut self, mut jobs: Vec<Work>) {
        // A caller that has gone away gets nothing done.
        jobs.retain(|job| !job.is_abandoned());
        if let Some(fault) = self.health.fault() {
            jobs.into_iter().for_each(|job| job.fail(&fault));
            return;
        }
        match self.attempt(&jobs) {
            Ok(answers) => self.reply(jobs, answers),
            Err(error) if jobs.len() <= 1 => {
                jobs.into_iter().for_each(|job| job.fail(&error));
            }
            // One that cannot be written, such as on a disk that is nearly full, fails alone.
            Err(_) => {
                for job in jobs {
                    match self
                        .health
                        .fault()
                        .map_or_else(|| self.attempt(std::slice::from_ref(&job)), Err)
                    {
                        Ok(answers) => self.reply(vec![job], answers),
                        Err(error) => job.fail(&error),
                    }
                }
            }
        }
    }

    /// Does work in one transaction. On an error nothing of it is done.
    fn attempt(&mut self, jobs: &[Work]) -> Result<Vec<Answer>, StateError> {
        let now = self.clock.now_ms();
        let attempted =
            Group::begin(&self.connection, &self.accounts, now).and_then(|mut group| {
                let mut answers = Vec::with_capacity(jobs.len());
                for job in jobs {
                    answers.push(match job {
                        Work::Open(open) => {
                            let (id, account) = group.keyspace(open.name.as_str())?;
                            Answer::Open(id, account)
                        }
                        Work::Commit(commit) => {
                            Answer::Commit(group.commit(&commit.keyspace, &commit.atomic)?)
                        }
                    });
                }
                Ok((group.finish()?, answers))
            });
        match attempted {
            Ok((done, answers)) => {
                self.counters.groups.fetch_add(1, Ordering::Relaxed);
                self.counters
                    .commits
                    .fetch_add(jobs.len() as u64, Ordering::Relaxed);
                self.publish(done);
                Ok(answers)
            }
            Err(error) => Err(self.failed(&error, "a transaction failed")),
        }
    }

    fn failed(&self, error: &rusqlite::Error, what: &str) -> StateError {
        let error = state_error(&self.path, error);
        self.health.notice(&error);
        self.counters.failures.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(%error, "state: {what}");
        error
    }

    /// Notifies everyone of what is durable now.
    fn publish(&mut self, done: Done) {
        self.health.wrote();
        self.counters
            .swept
            .fetch_add(done.swept as u64, Ordering::Relaxed);
        self.tidy.wrote(done.expires_ms);
        let opened = self.opened.lock();
        for (id, touched) in done.touched {
            self.accounts.insert(id, touched.account);
            if let Some(keyspace) = opened.get(&id) {
                keyspace.account(touched.account);
                keyspace
                    .feed
                    .publish(touched.changes, touched.account.version);
            }
        }
    }

    fn reply(&mut self, jobs: Vec<Work>, answers: Vec<Answer>) {
        for (job, answer) in jobs.into_iter().zip(answers) {
            match (job, answer) {
                (Work::Open(open), Answer::Open(id, account)) => {
                    let account = *self.accounts.entry(id).or_insert(account);
                    let shared = {
                        let mut opened = self.opened.lock();
                        let shared = opened.entry(id).or_insert_with(|| {
                            Arc::new(OpenKeyspace::new(id, open.name, open.limits, account))
                        });
                        shared.set_limits(open.limits);
                        Arc::clone(shared)
                    };
                    drop(open.reply.send(Ok(shared)));
                }
                (Work::Commit(commit), Answer::Commit(answer)) => {
                    drop(commit.reply.send(answer));
                }
                // Answers are made in the order of their work.
                (Work::Open(_), Answer::Commit(_)) | (Work::Commit(_), Answer::Open(..)) => {}
            }
        }
    }

    /// Removes what expired, and moves the log into the file when it is long or nothing else is to do.
    fn tidy_up(&mut self, idle: bool) {
        let now = self.clock.now_ms();
        if self.tidy.is_sweep_due(now) {
            let swept =
                Group::begin(&self.connection, &self.accounts, now).and_then(|mut group| {
                    let count = group.sweep()?;
                    Ok((count, group.finish()?))
                });
            match swept {
                Ok((count, done)) => {
                    self.publish(done);
                    self.tidy.swept(&self.connection, count);
                }
                Err(error) => {
                    self.failed(&error, "removing expired entries failed");
                    self.tidy.sweep_failed();
                }
            }
        }
        if let Err(error) = self.tidy.checkpoint(&self.connection, idle) {
            self.failed(&error, "moving the log into the file failed");
        }
    }
}

impl Work {
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Open(open) => open.reply.is_closed(),
            Self::Commit(commit) => commit.reply.is_closed(),
        }
    }

    fn fail(self, error: &StateError) {
        match self {
            Self::Open(open) => drop(open.reply.send(Err(error.clone()))),
            Self::Commit(commit) => drop(commit.reply.send(Err(error.clone()))),
        }
    }
}
