//! The supervisor's handles: the launcher, and each worker.
//!
//! What needs the launcher goes through one thread (`jail_thread`); signals and clocks go to the kernel
//! directly, by pidfd.

use std::fmt;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair, sockopt};
use rustix::process::{Signal, pidfd_send_signal};

use super::jail_thread::{self, Command, EventHandler};
use crate::{JailError, JailEvent, JailSpec, Layer, sys};

/// Bytes that one end of a message socket may have sent and the other not read; the kernel counts its own overhead and
/// doubles the number (socket(7)). With the kernel's default, a stream of large chunks has both processes wait for each
/// other after every few of them.
const MESSAGE_BUFFER: usize = 512 << 10;

/// The way to the process that makes workers.
///
/// There is one in a process, started when first asked for. When its process dies, its workers die with
/// it, and the next launch starts another.
pub struct Launcher {
    mailbox: Mailbox,
}

/// The way to the jail thread.
#[derive(Debug, Clone)]
pub(super) struct Mailbox {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) wake: Arc<OwnedFd>,
}

impl Mailbox {
    /// Has the jail thread do something and waits for its answer.
    fn ask<T>(
        &self,
        command: impl FnOnce(mpsc::SyncSender<Result<T, JailError>>) -> Command,
    ) -> Result<T, JailError> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.commands
            .send(command(answer))
            .map_err(|_| thread_gone())?;
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
        answered.recv().map_err(|_| thread_gone())?
    }
}

impl Launcher {
    /// The launcher of this process, started when first asked for.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn get() -> Result<Arc<Self>, JailError> {
        static KEPT: Mutex<Option<Arc<Launcher>>> = Mutex::new(None);
        let mut kept = KEPT.lock();
        if let Some(launcher) = &*kept {
            return Ok(launcher.clone());
        }
        let launcher = Arc::new(Self::start_thread()?);
        launcher.mailbox.ask(|answer| Command::Ready { answer })?;
        *kept = Some(launcher.clone());
        Ok(launcher)
    }

    fn start_thread() -> Result<Self, JailError> {
        let failed = |what: String| {
            JailError::new(
                "launcher",
                format!("starting the thread that watches workers failed: {what}"),
                "a thread, an eventfd and an epoll instance",
                "raise the limits of threads and open files of this user (ulimit -u, ulimit -n)",
            )
        };
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| failed(error.to_string()))?;
        let wake = Arc::new(wake);
        let (commands, receiver) = mpsc::channel();
        jail_thread::start(receiver, wake.clone()).map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            mailbox: Mailbox { commands, wake },
        })
    }

    /// Starts a worker and gives our end of its message socket. Returns once the process exists; its layers
    /// are applied when [`JailEvent::Closed`] comes.
    ///
    /// `on_event` is called on the thread that watches all workers: it must neither block nor call this
    /// launcher. [`JailEvent::Exited`] comes last and exactly once, also for a worker that was killed by
    /// dropping its handle; events may come before this returns. After an error none comes.
    ///
    /// # Errors
    ///
    /// The worker cannot be started, with what was checked and what to do.
    pub fn launch(
        &self,
        spec: &JailSpec,
        on_event: Box<dyn Fn(JailEvent) + Send + Sync>,
    ) -> Result<(Worker, OwnedFd), JailError> {
        self.launch_with_files(spec, Vec::new(), on_event)
    }

    /// As [`Launcher::launch`], with the open files that a worker of the role
    /// [`Role::Database`](crate::Role::Database) has.
    ///
    /// # Errors
    ///
    /// The worker cannot be started, or there are not as many files as its role has.
    pub fn launch_with_files(
        &self,
        spec: &JailSpec,
        files: Vec<OwnedFd>,
        on_event: Box<dyn Fn(JailEvent) + Send + Sync>,
    ) -> Result<(Worker, OwnedFd), JailError> {
        let pair = |kind| {
            socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).map_err(|error| {
                JailError::new(
                    "launcher",
                    format!("making the sockets of a worker failed: {error}"),
                    "socketpair",
                    "raise the limit of open files (ulimit -n)",
                )
            })
        };
        let (message, message_inside) = pair(SocketType::STREAM)?;
        // A kernel that allows less takes what it allows.
        for end in [&message, &message_inside] {
            let _ = sockopt::set_socket_send_buffer_size(end, MESSAGE_BUFFER);
        }
        let (setup, setup_inside) = pair(SocketType::SEQPACKET)?;
        let on_event: EventHandler = Arc::from(on_event);
        let started = self.mailbox.ask(|answer| {
            Command::Launch(jail_thread::Launch {
                spec: spec.clone(),
                message_inside,
                setup_inside,
                files,
                setup,
                on_event,
                answer,
            })
        })?;
        let worker = Worker {
            id: started.id,
            pid: started.pid,
            pidfd: started.pidfd,
            mailbox: self.mailbox.clone(),
            memory: spec.memory,
            threads: spec.threads,
        };
        Ok((worker, message))
    }
}

impl fmt::Debug for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launcher").finish_non_exhaustive()
    }
}

/// A worker process. Dropping it kills the worker.
#[derive(Debug)]
pub struct Worker {
    id: u64,
    pid: i32,
    pidfd: Arc<OwnedFd>,
    mailbox: Mailbox,
    memory: Option<u64>,
    threads: u32,
}

impl Worker {
    /// The worker's process id. Another process may have it once the worker has ended.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Kills it with SIGKILL. Nothing happens when it has ended.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Stops all its threads until [`Worker::resume`].
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Has it go on after [`Worker::pause`].
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        match pidfd_send_signal(&*self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => {
                tracing::error!("signal {signal:?} to worker {} failed: {error}", self.pid)
            }
        }
    }

    /// CPU time of all its threads so far; `None` once it has ended.
    #[must_use]
    pub fn cpu(&self) -> Option<Duration> {
        let time = sys::process::cpu_time(self.pid)?;
        // Alive afterwards means that the clock was its own and not that of a later process with its id.
        let mut ended = [PollFd::from_borrowed_fd(self.pidfd.as_fd(), PollFlags::IN)];
        match poll(&mut ended, Some(&Timespec::default())) {
            Ok(0) => Some(time),
            _ => None,
        }
    }

    /// Sets what the kernel lets it use: this many bytes for its guests and what it needs besides.
    ///
    /// # Errors
    ///
    /// The kernel refuses: only root can raise a limit above what the worker was started with and can be lent.
    pub fn set_memory(&self, memory: Option<u64>) -> Result<(), JailError> {
        self.mailbox.ask(|answer| Command::SetMemory {
            id: self.id,
            memory,
            answer,
        })
    }
}

impl Worker {
    /// Lets it use more memory for now, and gives how many bytes more; 0 where it has no limit. Waits for the launcher.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn lend_memory(&self) -> Result<u64, JailError> {
        let Some(memory) = self.memory else {
            return Ok(0);
        };
        let more = crate::spec::lendable(memory);
        self.set_memory(Some(memory.saturating_add(more)))?;
        Ok(more)
    }

    /// Limits it to its memory again, without waiting. False if it still has more in use than it may: it is to be killed.
    #[must_use]
    pub fn return_memory(&self) -> bool {
        let Some(memory) = self.memory else {
            return true;
        };
        let (answer, _) = mpsc::sync_channel(1);
        let command = Command::SetMemory {
            id: self.id,
            memory: Some(memory),
            answer,
        };
        // Without the thread that watches workers they end.
        let _ = self.mailbox.commands.send(command);
        let _ = rustix::io::write(&self.mailbox.wake, &1_u64.to_ne_bytes());
        self.keeps_to_memory()
    }

    /// Whether it has no more memory in use than it may. What it mapped while it was lent more, it can use later, and the
    /// kernel checks its limit only when it maps.
    #[must_use]
    pub fn keeps_to_memory(&self) -> bool {
        let Some(memory) = self.memory else {
            return true;
        };
        let in_use = anonymous_memory(self.pid);
        in_use.is_none_or(|in_use| in_use <= crate::rlimits::data(memory, self.threads))
    }
}

/// Bytes of memory that belong to a process alone, also those in swap, as the kernel counts them; `None` once it has ended.
fn anonymous_memory(pid: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kilobytes = |name: &str| -> Option<u64> {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let swapped = kilobytes("VmSwap:").unwrap_or(0);
    Some((kilobytes("RssAnon:")? + swapped) << 10)
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Tries each layer on this machine, in processes created for that.
#[must_use]
pub fn layers() -> Vec<Layer> {
    let tried = Launcher::get()
        .and_then(|launcher| launcher.mailbox.ask(|answer| Command::Layers { answer }));
    match tried {
        Ok(mut tried) => {
            tried.insert(0, crate::layers::launcher(None));
            tried
        }
        Err(error) => vec![crate::layers::launcher(Some(&error))],
    }
}

fn thread_gone() -> JailError {
    JailError::new(
        "launcher",
        "the thread that watches workers has ended",
        "its channel",
        "report this as a defect, with what was logged before",
    )
}
