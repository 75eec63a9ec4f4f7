//! Templates: processes that have everything ready which a worker needs, and are cloned into workers.
//!
//! Starting the engine takes a worker most of its time. A template does it once, before any guest's byte has
//! been seen, and each worker is then a copy of it. [`Templates`] is the launcher's side, [`Clones`] the
//! template's own.
//!
//! Invariants:
//! 1. A template sees no guest's data: it receives descriptions of workers and descriptors to hand on, reads
//!    none of them, and never runs the worker's own part.
//! 2. A clone is a child of the launcher, which reaps it as it does every other worker.
//! 3. Without a template, or with one that fails, workers are made as if there were no templates.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Signal, pidfd_send_signal, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use super::message;
use crate::child::{self, Start};
use crate::descriptors::Handed;
use crate::seccomp::Filters;
use crate::sys::clone::{Child, clone_process, clone_sibling};
use crate::worker::Inside;
use crate::{JailError, JailSpec, Role, Wx, namespaces, sys};

/// Prepares what workers of this description need, and then calls [`Clones::serve`]. Returns only if that
/// cannot be done.
pub type Template = fn(&JailSpec, Clones) -> JailError;

/// Templates at the same time: each holds an engine, some 10 MB.
const MOST: usize = 4;

/// Kinds of workers that are remembered.
const MOST_KINDS: usize = 64;

/// Workers that one template is cloned into before a new one takes its place, so that what copies share (the
/// addresses of their memory, the seeds of hash tables) does not stay the same for good.
const MOST_CLONES: u32 = 10_000;

/// How long a template lives that nobody wants a clone of.
const IDLE: Duration = Duration::from_secs(300);

/// How long a template must not have been used to make room for one of another kind.
const UNUSED: Duration = Duration::from_secs(10);

/// Templates in a row that could not be cloned, from which on no more are made: this machine refuses it.
const MOST_FAILURES: u32 = 3;

/// How long cloning may take. A template does nothing else.
const CLONE_TIME: Duration = Duration::from_secs(2);

/// What workers that are clones of the same template have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    wx: Wx,
    memory: Option<u64>,
}

impl Kind {
    /// `None` for workers that have no template: several isolates have a heap each, and tests of the walls are
    /// no isolates.
    fn of(spec: &JailSpec) -> Option<Self> {
        (spec.role == Role::Isolates && spec.isolates <= 1).then_some(Self {
            wx: spec.wx,
            memory: spec.memory,
        })
    }
}

/// From the launcher to a template. With it come the worker's message socket, its setup socket, the pipe that
/// it waits at, and the files by which it moves into its cgroups.
#[derive(Serialize, Deserialize)]
struct Order {
    spec: JailSpec,
    own: Option<u32>,
    namespaces: u64,
}

/// From a template to the launcher.
#[derive(Serialize, Deserialize)]
enum Report {
    /// It can be cloned.
    Ready,
    /// A clone exists. With it comes its pidfd.
    Cloned { pid: i32 },
    /// It cannot be cloned.
    Failed(JailError),
}

/// The launcher's templates.
pub(super) struct Templates {
    template: Option<Template>,
    running: Vec<Running>,
    /// Kinds of workers that were started without a template, the latest last.
    seen: Vec<Kind>,
    /// Templates in a row that could not be cloned.
    failures: u32,
}

struct Running {
    kind: Kind,
    process: Child,
    control: OwnedFd,
    ready: bool,
    clones: u32,
    used: Instant,
}

impl Templates {
    pub(super) fn new(template: Option<Template>) -> Self {
        Self {
            template,
            running: Vec::new(),
            seen: Vec::new(),
            failures: 0,
        }
    }

    /// Makes a worker from a template. `None` if there is none that is ready; the caller then makes the worker
    /// itself.
    pub(super) fn clone_worker(&mut self, start: &Start<'_>, namespaces: u64) -> Option<Child> {
        let kind = Kind::of(start.spec)?;
        let index = self.running.iter().position(|one| one.kind == kind)?;
        let running = self.running.get_mut(index)?;
        if !running.is_ready() {
            return None;
        }
        match running.clone_worker(start, namespaces) {
            Ok(child) => {
                self.failures = 0;
                if running.clones >= MOST_CLONES {
                    self.end(index);
                }
                Some(child)
            }
            Err(_) => {
                self.failures += 1;
                self.end(index);
                None
            }
        }
    }

    /// Starts a template for workers like this one, if it is the second of its kind: a program that needs one
    /// worker only is not to pay for a template.
    pub(super) fn prepare(
        &mut self,
        spec: &JailSpec,
        filters: &'static Filters,
        launcher: &OwnedFd,
    ) {
        let (Some(template), Some(kind)) = (self.template, Kind::of(spec)) else {
            return;
        };
        if self.failures >= MOST_FAILURES || self.running.iter().any(|one| one.kind == kind) {
            return;
        }
        let Some(seen) = self.seen.iter().position(|&one| one == kind) else {
            if self.seen.len() == MOST_KINDS {
                self.seen.remove(0);
            }
            return self.seen.push(kind);
        };
        if self.running.len() == MOST {
            let oldest = (self.running.iter().enumerate()).min_by_key(|(_, one)| one.used);
            match oldest.filter(|(_, one)| one.used.elapsed() >= UNUSED) {
                Some((oldest, _)) => self.end(oldest),
                // Workers of ever new kinds must not take the templates of others.
                None => return,
            }
        }
        // Where none can be started, workers are made without; the next one of this kind tries again.
        if let Ok(running) = Running::start(template, spec, kind, filters, launcher) {
            self.running.push(running);
            self.seen.remove(seen);
        }
    }

    /// How long until [`Templates::expire`] has something to do.
    pub(super) fn next_expiry(&self) -> Option<Duration> {
        let last = self.running.iter().map(|one| one.used).min()?;
        Some(IDLE.saturating_sub(last.elapsed()))
    }

    /// Ends templates that have been idle for long.
    pub(super) fn expire(&mut self) {
        while let Some(index) = (self.running.iter()).position(|one| one.used.elapsed() >= IDLE) {
            self.end(index);
        }
    }

    /// Whether the process that was reaped is a template.
    pub(super) fn reaped(&mut self, pid: i32) -> bool {
        let index = self.running.iter().position(|one| one.process.pid == pid);
        index.is_some_and(|index| {
            self.running.swap_remove(index);
            true
        })
    }

    /// Ends all of them.
    pub(super) fn end_all(&mut self) {
        while !self.running.is_empty() {
            self.end(0);
        }
    }

    fn end(&mut self, index: usize) {
        self.running.swap_remove(index).process.kill();
    }
}

impl Running {
    fn start(
        template: Template,
        spec: &JailSpec,
        kind: Kind,
        filters: &'static Filters,
        launcher: &OwnedFd,
    ) -> io::Result<Self> {
        let (control, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let process = clone_process(0, || {
            main(template, spec, theirs.as_fd(), launcher, filters)
        })?;
        Ok(Self {
            kind,
            process,
            control,
            ready: false,
            clones: 0,
            used: Instant::now(),
        })
    }

    /// Whether it has said that it can be cloned.
    fn is_ready(&mut self) -> bool {
        if !self.ready {
            let report = message::receive::<Report>(&self.control);
            self.ready = matches!(report, Ok(Some((Report::Ready, _))));
        }
        self.ready
    }

    fn clone_worker(&mut self, start: &Start<'_>, namespaces: u64) -> io::Result<Child> {
        let order = Order {
            spec: start.spec.clone(),
            own: start.own,
            namespaces,
        };
        let handed = &start.handed;
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![
            handed.message.as_fd(),
            handed.setup.as_fd(),
            handed.go.as_fd(),
        ];
        descriptors.extend(start.doors.iter().map(|door| door.as_fd()));
        message::send(&self.control, &order, &descriptors)?;
        let mut answered = [PollFd::new(&self.control, PollFlags::IN)];
        let wait = Timespec {
            tv_sec: CLONE_TIME.as_secs().cast_signed(),
            tv_nsec: CLONE_TIME.subsec_nanos().into(),
        };
        rustix::io::retry_on_intr(|| poll(&mut answered, Some(&wait)))?;
        match message::receive::<Report>(&self.control)? {
            Some((Report::Cloned { pid }, mut descriptors)) => {
                self.clones += 1;
                self.used = Instant::now();
                let pidfd = descriptors.pop();
                let pidfd = pidfd.ok_or_else(|| io::Error::other("a clone without its pidfd"))?;
                Ok(Child { pid, pidfd })
            }
            Some((Report::Failed(error), _)) => Err(io::Error::other(error.what)),
            _ => Err(io::Error::other("a template that does not answer")),
        }
    }
}

/// The life of a template, in a fresh clone of the launcher.
fn main(
    template: Template,
    spec: &JailSpec,
    control: BorrowedFd<'_>,
    launcher: &OwnedFd,
    filters: &'static Filters,
) -> Infallible {
    let clones = match Clones::new(control, launcher, filters) {
        Ok(clones) => clones,
        Err(_) => sys::process::exit_now(crate::worker::EXIT_FAILED),
    };
    let spec = spec.clone();
    // The thread that was cloned has an outdated idea of its own id in the C library; a new one has not.
    child::run_on_new_thread(move || {
        // There is nobody to report to: workers are made without a template where there is none.
        drop(template(&spec, clones));
    })
}

/// The template's control socket.
const CONTROL: i32 = 3;
/// The launcher's pidfd.
const LAUNCHER: i32 = 4;

/// The way to a template's clones.
#[derive(Debug)]
pub struct Clones {
    control: OwnedFd,
    launcher: OwnedFd,
    filters: &'static Filters,
}

impl Clones {
    /// Leaves nothing open but what a template needs: the launcher's own descriptors are not for its clones,
    /// and its socket must close when it ends.
    fn new(
        control: BorrowedFd<'_>,
        launcher: &OwnedFd,
        filters: &'static Filters,
    ) -> io::Result<Self> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        rustix::thread::set_name(c"stockade-templ")?;
        sys::title::show("stockade-template");
        let inert = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let high = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, CONTROL + 8);
        let (control, launcher) = (high(control)?, high(launcher.as_fd())?);
        for number in 0..CONTROL {
            sys::descriptor::place(&inert, number)?;
        }
        std::mem::forget(inert);
        sys::descriptor::place(&control, CONTROL)?;
        sys::descriptor::place(&launcher, LAUNCHER)?;
        std::mem::forget((control, launcher));
        sys::descriptor::close_from(LAUNCHER + 1)?;
        let launcher = sys::descriptor::take(LAUNCHER);
        // Ended by the kernel with the launcher, unless that had ended before.
        pidfd_send_signal(&launcher, Signal::CONT)?;
        Ok(Self {
            control: sys::descriptor::take(CONTROL),
            launcher,
            filters,
        })
    }

    /// Makes workers as the launcher orders. In each of them `run` is called, behind all walls but the last,
    /// with what this process had in memory; it does not return before the worker's end. It is never called
    /// in this process.
    ///
    /// The calling thread is the one that goes on in the clones. No other thread of this process may hold a
    /// lock.
    pub fn serve(self, mut run: impl FnMut(Inside)) -> JailError {
        match self.clone_all(&mut run) {
            Ok(never) => match never {},
            Err(error) => JailError::new(
                "template",
                format!("the process that workers are cloned from ends: {error}"),
                "its socket to the launcher",
                "none is needed: workers are made without it",
            ),
        }
    }

    fn clone_all(self, run: &mut impl FnMut(Inside)) -> io::Result<Infallible> {
        message::send(&self.control, &Report::Ready, &[])?;
        loop {
            let mut asked = [PollFd::new(&self.control, PollFlags::IN)];
            rustix::io::retry_on_intr(|| poll(&mut asked, None))?;
            let Some((order, descriptors)) = message::receive::<Order>(&self.control)? else {
                return Err(io::Error::other("the launcher has ended"));
            };
            let (report, pidfd) = match self.clone_one(&order, descriptors, run) {
                Ok(child) => (Report::Cloned { pid: child.pid }, Some(child.pidfd)),
                Err(error) => (Report::Failed(error), None),
            };
            let pidfd = pidfd.as_ref().map(|pidfd| pidfd.as_fd());
            message::send(&self.control, &report, &Vec::from_iter(pidfd))?;
        }
    }

    fn clone_one(
        &self,
        order: &Order,
        descriptors: Vec<OwnedFd>,
        run: &mut impl FnMut(Inside),
    ) -> Result<Child, JailError> {
        let mut descriptors = descriptors.into_iter();
        let (Some(message), Some(setup), Some(go)) =
            (descriptors.next(), descriptors.next(), descriptors.next())
        else {
            return Err(JailError::new(
                "template",
                "the descriptors of a worker are missing",
                "an order of the launcher",
                "report this as a defect",
            ));
        };
        let doors: Vec<File> = descriptors.map(File::from).collect();
        let start = Start {
            spec: &order.spec,
            filters: self.filters,
            own: order.own,
            doors: &doors,
            handed: Handed {
                message: &message,
                setup: &setup,
                launcher: &self.launcher,
                go: &go,
                files: &[],
            },
        };
        namespaces::clone_by(order.namespaces, || {
            clone_sibling(order.namespaces, || {
                child::main(&start, |inside| child::run_to_end(|| run(inside)))
            })
        })
    }
}
