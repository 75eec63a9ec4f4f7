//! The one thread of the supervisor that starts workers and receives their reports.
//!
//! Invariants:
//! 1. Each worker whose launch was answered gets [`JailEvent::Exited`] once, and nothing after it.
//! 2. A worker that was refused a system call, or that is not sealed in time, is killed at once.
//! 3. Nothing that a worker or the launcher does makes it wait: requests in flight are few and small, so
//!    that sending one never fills the socket.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::process::{Signal, pidfd_send_signal};

use super::message::{self, LauncherReply, Report, Request};
use super::process::{Running, start_failed, start_launcher};
use crate::seccomp::Listener;
use crate::{Exit, ExitStatus, JailError, JailEvent, JailSpec, Layer};

/// Called with the events of one worker.
pub(super) type EventHandler = Arc<dyn Fn(JailEvent) + Send + Sync>;

/// Where an answer goes.
pub(super) type Answer<T> = mpsc::SyncSender<Result<T, JailError>>;

/// From other threads.
pub(super) enum Command {
    /// See that there is a launcher.
    Ready {
        answer: Answer<()>,
    },
    Launch(Launch),
    SetMemory {
        id: u64,
        memory: Option<u64>,
        answer: Answer<()>,
    },
    Layers {
        answer: Answer<Vec<Layer>>,
    },
}

/// A worker to start.
pub(super) struct Launch {
    pub(super) spec: JailSpec,
    pub(super) message_inside: OwnedFd,
    pub(super) setup_inside: OwnedFd,
    pub(super) files: Vec<OwnedFd>,
    pub(super) setup: OwnedFd,
    pub(super) on_event: EventHandler,
    pub(super) answer: Answer<Started>,
}

/// A worker that was started.
pub(super) struct Started {
    pub(super) id: u64,
    pub(super) pid: i32,
    pub(super) pidfd: Arc<OwnedFd>,
}

/// Requests that the launcher has not answered, at most.
const MOST_IN_FLIGHT: usize = 8;

/// How long the launcher may take for an answer. After that it is killed: it does nothing that takes long.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// How long a worker may take to be sealed.
const SEAL_TIME: Duration = Duration::from_secs(10);

/// How long the launcher may take to reap a worker that has ended. It may wait for a template meanwhile.
const REAP_TIME: Duration = Duration::from_secs(10);

/// Starts the thread, which lasts as long as the process.
pub(super) fn start(commands: mpsc::Receiver<Command>, wake: Arc<OwnedFd>) -> io::Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    watch(&epoll, &wake, Source::Wake)?;
    let mut jail = Jail {
        epoll,
        commands,
        wake,
        launcher: None,
        next: 1,
        workers: HashMap::new(),
        asked: VecDeque::new(),
        waiting: VecDeque::new(),
    };
    std::thread::Builder::new()
        .name("jail".to_owned())
        .spawn(move || {
            if let Err(error) = jail.run() {
                tracing::error!("watching workers failed, all end: {error}");
            }
        })?;
    Ok(())
}

/// What became ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Wake,
    Control,
    Setup(u64),
    Denials(u64),
    Ended(u64),
}

impl Source {
    fn token(self) -> u64 {
        match self {
            Self::Wake => 0,
            Self::Control => 1,
            Self::Setup(id) => id << 2,
            Self::Denials(id) => id << 2 | 1,
            Self::Ended(id) => id << 2 | 2,
        }
    }

    fn of(token: u64) -> Self {
        match (token, token & 3) {
            (0, _) => Self::Wake,
            (1, _) => Self::Control,
            (_, 0) => Self::Setup(token >> 2),
            (_, 1) => Self::Denials(token >> 2),
            _ => Self::Ended(token >> 2),
        }
    }
}

fn watch(epoll: &OwnedFd, fd: impl AsFd, source: Source) -> rustix::io::Result<()> {
    epoll::add(
        epoll,
        fd,
        epoll::EventData::new_u64(source.token()),
        epoll::EventFlags::IN,
    )
}

/// A request that the launcher has not answered yet.
struct Asked {
    since: Instant,
    what: Question,
}

enum Question {
    Launch {
        id: u64,
        setup: OwnedFd,
        on_event: EventHandler,
        answer: Answer<Started>,
    },
    SetMemory {
        answer: Answer<()>,
    },
    Layers {
        answer: Answer<Vec<Layer>>,
    },
}

/// A worker that has not been reported as ended.
struct Alive {
    pidfd: Arc<OwnedFd>,
    on_event: EventHandler,
    /// Until it is sealed or has reported why not.
    setup: Option<OwnedFd>,
    listener: Option<Listener>,
    /// When it is killed unless it is sealed.
    deadline: Option<Instant>,
    /// Since when the kernel says that it has ended.
    ended: Option<Instant>,
    /// The launcher that made it is gone.
    orphan: bool,
}

struct Jail {
    epoll: OwnedFd,
    commands: mpsc::Receiver<Command>,
    wake: Arc<OwnedFd>,
    launcher: Option<Running>,
    /// The id of the next worker. Never given twice.
    next: u64,
    workers: HashMap<u64, Alive>,
    /// The launcher answers in the order it is asked.
    asked: VecDeque<Asked>,
    waiting: VecDeque<Command>,
}

impl Jail {
    fn run(&mut self) -> io::Result<()> {
        let mut ready = [const { MaybeUninit::<epoll::Event>::uninit() }; 64];
        loop {
            let wait = self.time_to_next_deadline().map(|wait| Timespec {
                tv_sec: wait.as_secs().cast_signed(),
                tv_nsec: wait.subsec_nanos().into(),
            });
            let events = rustix::io::retry_on_intr(|| {
                epoll::wait(&self.epoll, &mut ready[..], wait.as_ref()).map(|(events, _)| {
                    events
                        .iter()
                        .map(|event| event.data.u64())
                        .collect::<Vec<_>>()
                })
            })?;
            for token in events {
                match Source::of(token) {
                    Source::Wake => self.take_commands(),
                    Source::Control => self.read_launcher(),
                    Source::Setup(id) => self.read_worker(id),
                    Source::Denials(id) => self.read_denials(id),
                    Source::Ended(id) => self.see_end(id),
                }
            }
            self.keep_deadlines();
            self.ask_waiting();
        }
    }

    fn take_commands(&mut self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut count);
        while let Ok(command) = self.commands.try_recv() {
            self.waiting.push_back(command);
        }
    }

    /// Passes on what waits, as far as the launcher is not busy.
    fn ask_waiting(&mut self) {
        while self.asked.len() < MOST_IN_FLIGHT {
            let Some(command) = self.waiting.pop_front() else {
                return;
            };
            let ready = self.ready();
            match command {
                Command::Ready { answer } => {
                    let _ = answer.send(ready);
                }
                Command::Launch(launch) => match ready {
                    Ok(()) => self.ask_launch(launch),
                    Err(error) => {
                        let _ = launch.answer.send(Err(error));
                    }
                },
                Command::SetMemory { id, memory, answer } => {
                    // Without its launcher a worker is about to end, and needs no limit.
                    if self.workers.get(&id).is_none_or(|worker| worker.orphan) {
                        let _ = answer.send(Ok(()));
                        continue;
                    }
                    self.ask(
                        &Request::SetMemory { id, memory },
                        &[],
                        Question::SetMemory { answer },
                    );
                }
                Command::Layers { answer } => match ready {
                    Ok(()) => self.ask(&Request::Layers, &[], Question::Layers { answer }),
                    Err(error) => {
                        let _ = answer.send(Err(error));
                    }
                },
            }
        }
    }

    fn ask_launch(&mut self, launch: Launch) {
        let id = self.next;
        self.next += 1;
        let request = Request::Launch {
            id,
            spec: launch.spec,
        };
        let question = Question::Launch {
            id,
            setup: launch.setup,
            on_event: launch.on_event,
            answer: launch.answer,
        };
        let descriptors: Vec<_> = [&launch.message_inside, &launch.setup_inside]
            .into_iter()
            .chain(&launch.files)
            .collect();
        self.ask(&request, &descriptors, question);
    }

    fn ask(&mut self, request: &Request, descriptors: &[&OwnedFd], what: Question) {
        self.asked.push_back(Asked {
            since: Instant::now(),
            what,
        });
        let Some(launcher) = &self.launcher else {
            return self.bury_launcher("it is not running");
        };
        let descriptors: Vec<_> = descriptors.iter().map(|fd| fd.as_fd()).collect();
        if let Err(error) = message::send(&launcher.control, request, &descriptors) {
            self.bury_launcher(&error.to_string());
        }
    }

    /// Starts the launcher's process if there is none.
    fn ready(&mut self) -> Result<(), JailError> {
        if self.launcher.is_some() {
            return Ok(());
        }
        let launcher = start_launcher()?;
        watch(&self.epoll, &launcher.control, Source::Control)
            .map_err(|error| start_failed(&error.into()))?;
        self.launcher = Some(launcher);
        Ok(())
    }

    fn read_launcher(&mut self) {
        loop {
            let Some(launcher) = &self.launcher else {
                return;
            };
            match message::receive::<LauncherReply>(&launcher.control) {
                Ok(Some((reply, descriptors))) => self.take_reply(reply, descriptors),
                Ok(None) => return self.bury_launcher("it has ended"),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return self.bury_launcher(&error.to_string()),
            }
        }
    }

    fn take_reply(&mut self, reply: LauncherReply, mut descriptors: Vec<OwnedFd>) {
        if let LauncherReply::Exited {
            id,
            status,
            max_rss,
            cpu,
            oom_killed,
        } = reply
        {
            return self.exited(
                id,
                Exit {
                    status,
                    max_rss,
                    cpu,
                    oom_killed,
                },
            );
        }
        if let LauncherReply::Unable(error) = reply {
            return self.bury_with(&error);
        }
        let Some(asked) = self.asked.pop_front() else {
            return self.bury_launcher("it sent an unexpected reply");
        };
        match (asked.what, reply) {
            (
                Question::Launch {
                    id,
                    setup,
                    on_event,
                    answer,
                },
                LauncherReply::Started { id: started, pid },
            ) if id == started => match descriptors.pop() {
                Some(pidfd) => self.started(
                    Started {
                        id,
                        pid,
                        pidfd: Arc::new(pidfd),
                    },
                    setup,
                    on_event,
                    &answer,
                ),
                None => {
                    let _ = answer.send(Err(launcher_died("a worker came without its pidfd")));
                    self.bury_launcher("a worker came without its pidfd");
                }
            },
            (
                Question::Launch { id, answer, .. },
                LauncherReply::Refused { id: refused, error },
            ) if id == refused => {
                let _ = answer.send(Err(error));
            }
            (Question::SetMemory { answer }, LauncherReply::MemorySet { error, .. }) => {
                let _ = answer.send(error.map_or(Ok(()), Err));
            }
            (Question::Layers { answer }, LauncherReply::Layers(layers)) => {
                let _ = answer.send(Ok(layers));
            }
            _ => self.bury_launcher("it answered something else"),
        }
    }

    fn started(
        &mut self,
        started: Started,
        setup: OwnedFd,
        on_event: EventHandler,
        answer: &Answer<Started>,
    ) {
        let id = started.id;
        let pidfd = started.pidfd.clone();
        let watched = watch(&self.epoll, &setup, Source::Setup(id))
            .and_then(|()| watch(&self.epoll, &pidfd, Source::Ended(id)));
        self.workers.insert(
            id,
            Alive {
                pidfd,
                on_event,
                setup: Some(setup),
                listener: None,
                deadline: Some(Instant::now() + SEAL_TIME),
                ended: None,
                orphan: false,
            },
        );
        if answer.send(Ok(started)).is_err() {
            self.kill(id);
        }
        if let Err(error) = watched {
            self.give_up(
                id,
                JailError::new(
                    "launcher",
                    format!("watching a worker failed: {error}"),
                    "epoll_ctl",
                    "raise fs.epoll.max_user_watches",
                ),
            );
        }
    }

    /// Reads whether a worker could be sealed.
    fn read_worker(&mut self, id: u64) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let Some(setup) = &worker.setup else {
            return;
        };
        let report = match message::receive::<Report>(setup) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            other => other,
        };
        // It has said all it may, and closing the socket ends watching it.
        worker.setup = None;
        match report {
            Ok(Some((Report::Closed, mut descriptors))) => {
                let listener = descriptors.pop().map(Listener::new);
                match listener {
                    Some(Ok(listener))
                        if watch(&self.epoll, listener.fd(), Source::Denials(id)).is_ok() =>
                    {
                        worker.listener = Some(listener);
                        worker.deadline = None;
                        self.notify(id, JailEvent::Closed);
                    }
                    _ => self.give_up(id, no_listener()),
                }
            }
            // It ends by itself; the deadline stays in case it does not.
            Ok(Some((Report::Failed(error), _))) => self.notify(id, JailEvent::Failed(error)),
            // It has ended, or the deadline will end it.
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => self.give_up(id, no_report(&error.to_string())),
        }
    }

    fn read_denials(&mut self, id: u64) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let Some(listener) = &worker.listener else {
            return;
        };
        let Some(denial) = listener.receive() else {
            // The caller is gone. When all are, the listener would be ready for good.
            if has_hung_up(listener.fd()) {
                worker.listener = None;
            }
            return;
        };
        self.kill(id);
        self.notify(id, JailEvent::Denied(denial));
    }

    /// The kernel says that a worker has ended. The launcher reaps it and says how.
    fn see_end(&mut self, id: u64) {
        let Some(worker) = self.workers.get_mut(&id) else {
            return;
        };
        let _ = epoll::delete(&self.epoll, &*worker.pidfd);
        worker.ended = Some(Instant::now());
        if worker.orphan {
            self.exited(id, killed());
        }
    }

    fn exited(&mut self, id: u64, exit: Exit) {
        // What it said before it ended comes first.
        self.read_worker(id);
        // Its descriptors are closed when its end is reported.
        if let Some(on_event) = self.workers.remove(&id).map(|worker| worker.on_event) {
            call(&on_event, JailEvent::Exited(exit));
        }
    }

    /// The launcher is gone or not to be relied on: its workers die with it.
    fn bury_launcher(&mut self, why: &str) {
        let last_words = self.launcher.as_ref().and_then(|launcher| {
            // It may have said why before it ended.
            match message::receive::<LauncherReply>(&launcher.control) {
                Ok(Some((LauncherReply::Unable(error), _))) => Some(error),
                _ => None,
            }
        });
        if last_words.is_none() && self.launcher.is_some() {
            tracing::error!("the launcher of workers is gone: {why}");
        }
        self.bury_with(&last_words.unwrap_or_else(|| launcher_died(why)));
    }

    fn bury_with(&mut self, error: &JailError) {
        if let Some(mut launcher) = self.launcher.take() {
            tracing::debug!("{}", error.what);
            let _ = launcher.process.kill();
            let _ = launcher.process.wait();
        }
        for asked in std::mem::take(&mut self.asked) {
            let error = error.clone();
            match asked.what {
                Question::Launch { answer, .. } => {
                    let _ = answer.send(Err(error));
                }
                Question::SetMemory { answer } => {
                    let _ = answer.send(Err(error));
                }
                Question::Layers { answer } => {
                    let _ = answer.send(Err(error));
                }
            }
        }
        let mut over = Vec::new();
        for (id, worker) in &mut self.workers {
            worker.orphan = true;
            let _ = pidfd_send_signal(&*worker.pidfd, Signal::KILL);
            if worker.ended.is_some() {
                over.push(*id);
            }
        }
        for id in over {
            self.exited(id, killed());
        }
    }

    fn kill(&self, id: u64) {
        if let Some(worker) = self.workers.get(&id) {
            let _ = pidfd_send_signal(&*worker.pidfd, Signal::KILL);
        }
    }

    /// Kills a worker that has not done what it should.
    fn give_up(&mut self, id: u64, error: JailError) {
        self.kill(id);
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.setup = None;
            worker.deadline = None;
        }
        self.notify(id, JailEvent::Failed(error));
    }

    fn notify(&self, id: u64, event: JailEvent) {
        if let Some(worker) = self.workers.get(&id) {
            call(&worker.on_event, event);
        }
    }

    fn time_to_next_deadline(&self) -> Option<Duration> {
        let asked = self.asked.front().map(|asked| asked.since + ANSWER_TIME);
        let workers = self.workers.values().filter_map(|worker| {
            let ended = worker.ended.map(|ended| ended + REAP_TIME);
            worker.deadline.into_iter().chain(ended).min()
        });
        let next = asked.into_iter().chain(workers).min()?;
        // A little late rather than a little early.
        Some(next.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    fn keep_deadlines(&mut self) {
        let now = Instant::now();
        let late: Vec<u64> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.deadline.is_some_and(|deadline| deadline < now))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            self.give_up(
                id,
                no_report(&format!("nothing came for {} s", SEAL_TIME.as_secs())),
            );
        }
        let unreaped = self
            .workers
            .values()
            .any(|worker| worker.ended.is_some_and(|ended| ended + REAP_TIME < now));
        let unanswered = self
            .asked
            .front()
            .is_some_and(|asked| asked.since + ANSWER_TIME < now);
        if unreaped || unanswered {
            self.bury_launcher("it does not answer");
        }
    }
}

impl Drop for Jail {
    /// Nobody watches the workers any more, so none may go on.
    fn drop(&mut self) {
        self.bury_launcher("the thread that watches workers has ended");
        for id in self.workers.keys().copied().collect::<Vec<_>>() {
            self.exited(id, killed());
        }
    }
}

/// Calls a handler; one that panics costs its own events, not those of others.
fn call(on_event: &EventHandler, event: JailEvent) {
    if catch_unwind(AssertUnwindSafe(|| on_event(event))).is_err() {
        tracing::error!("a handler of a worker's events panicked");
    }
}

fn has_hung_up(fd: BorrowedFd<'_>) -> bool {
    let mut state = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let polled = poll(&mut state, Some(&Timespec::default()));
    polled.is_err() || state[0].revents().contains(PollFlags::HUP)
}

/// The end of a worker whose launcher died first: PDEATHSIG, or our own signal.
fn killed() -> Exit {
    Exit {
        status: ExitStatus::Signaled(libc::SIGKILL),
        max_rss: 0,
        cpu: Duration::ZERO,
        oom_killed: false,
    }
}

fn launcher_died(why: &str) -> JailError {
    JailError::new(
        "launcher",
        format!("the process that starts workers is gone: {why}"),
        format!("its control socket; it runs as {}", super::server::NAME),
        "try again; if the program embeds Stockade, see that its main function calls run_if_launcher first",
    )
}

fn no_listener() -> JailError {
    JailError::new(
        "seccomp",
        "a worker was sealed without passing on the listener of its filter",
        "the message on its setup socket",
        "report this as a defect",
    )
}

fn no_report(what: &str) -> JailError {
    JailError::new(
        "launcher",
        format!("a worker could not be sealed: {what}"),
        "its setup socket",
        "the machine may be overloaded: try again; otherwise report this as a defect",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_survives_its_token() {
        for source in [
            Source::Wake,
            Source::Control,
            Source::Setup(1),
            Source::Denials(1),
            Source::Ended(1),
            Source::Setup(u64::MAX >> 3),
        ] {
            assert_eq!(Source::of(source.token()), source);
        }
    }
}
