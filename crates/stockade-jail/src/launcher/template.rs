//! Templates: processes that have everything ready which a worker needs, and are cloned into workers.
//!
//! Starting the engine takes a worker most of its time. A template does it once, before any guest's byte has
//! been seen, and each worker is then a copy of it. A template is this program started again, so that no two of them
//! have the same addresses. The template of a [`Role::Helper`] is another program, built with this crate. [`Templates`] is the launcher's side, [`Clones`] the template's own.
//!
//! Invariants:
//! 1. A template sees no guest's data: it receives descriptions of workers and descriptors to hand on, reads
//!    none of them, and never runs the worker's own part.
//! 2. A clone is a child of the launcher, which reaps it as it does every other worker.
//! 3. Without a template, or with one that fails, workers are made as if there were no templates; except those that
//!    name a template of their own, which are refused then.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair, sockopt};
use rustix::process::{
    DumpableBehavior, Signal, pidfd_send_signal, set_dumpable_behavior,
    set_parent_process_death_signal,
};
use serde::{Deserialize, Serialize};

use super::message;
use crate::child::{self, Start};
use crate::descriptors::Handed;
use crate::seccomp::{Filters, filters};
use crate::sys::clone::{Child, clone_process, clone_sibling};
use crate::worker::Inside;
use crate::{JailError, JailSpec, Role, Wx, namespaces, sys};

/// Prepares what workers of this description need, and then calls [`Clones::serve`]. Returns only if that
/// cannot be done.
pub type Template = fn(&JailSpec, Clones) -> JailError;

/// The name that a template is started by, and room for what workers show in its place.
pub(super) const NAME: &str = concat!(
    "stockade-template",
    "                                                               "
);

/// Templates of all workers at the same time: each holds an engine, some 10 MB.
const MOST_TEMPLATES: usize = 4;

/// Templates with a name of their own at the same time.
const MOST_OWN: usize = 32;

/// How long a template may take until it can be cloned. The launcher may do nothing else meanwhile, and is expected to
/// reap workers within 10 s.
const START_TIME: Duration = Duration::from_secs(4);

/// How long an attempt to clone a worker from its own template may have taken to be made a second time.
pub(super) const QUICK: Duration = Duration::from_millis(500);

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
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kind {
    wx: Wx,
    memory: Option<u64>,
    own: Option<String>,
    /// Whether `own` is the path of a program.
    is_helper: bool,
}

impl Kind {
    /// `None` for workers that have no template: several isolates have a heap each, and tests of the layers are
    /// no isolates.
    fn of(spec: &JailSpec) -> Option<Self> {
        let is_helper = spec.role == Role::Helper;
        let is_isolate = spec.role == Role::Isolates && spec.isolates <= 1;
        (is_helper || is_isolate).then(|| Self {
            wx: spec.wx,
            memory: spec.memory,
            own: spec.template.clone(),
            is_helper,
        })
    }

    /// The program that the template is.
    fn program(&self) -> &str {
        match &self.own {
            Some(path) if self.is_helper => path,
            _ => "/proc/self/exe",
        }
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
                self.end_if_used_up(index);
                Some(child)
            }
            Err(_) => {
                self.failures += 1;
                self.end(index);
                None
            }
        }
    }

    /// Makes a worker from the template that only workers of its name are made from; starts it if need be, and waits
    /// for it meanwhile.
    ///
    /// # Errors
    ///
    /// There is none and none can be started, or it cannot be cloned.
    pub(super) fn clone_from_own(
        &mut self,
        start: &Start<'_>,
        namespaces: u64,
    ) -> Result<Child, JailError> {
        let refused = |what: String| {
            JailError::new(
                "template",
                format!("a worker cannot be cloned from a template of its own: {what}"),
                "a process that is this program or a helper started again, and clone3",
                match start.spec.role {
                    Role::Helper => {
                        "install the helper that belongs to this version of Stockade; free memory, raise the limits of \
                         processes and open files (ulimit -u, ulimit -n)"
                    }
                    _ => {
                        "free memory, raise the limits of processes and open files (ulimit -u, ulimit -n), or leave the \
                         option `template` out"
                    }
                },
            )
        };
        let kind = Kind::of(start.spec).filter(|kind| kind.is_helper || self.template.is_some());
        let Some(kind) = kind else {
            return Err(refused("such workers have no templates".to_owned()));
        };
        let launcher = start.handed.launcher;
        let known = self.running.iter().position(|one| one.kind == kind);
        let index = match known {
            Some(index) => index,
            None => {
                self.make_room(true, Duration::ZERO);
                let running = Running::start(start.spec, kind, launcher);
                self.running
                    .push(running.map_err(|error| refused(error.to_string()))?);
                self.running.len() - 1
            }
        };
        let cloned = match self.running.get_mut(index) {
            Some(running) => running
                .wait_until_ready()
                .and_then(|()| running.clone_worker(start, namespaces)),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        match cloned {
            Ok(child) => {
                self.end_if_used_up(index);
                Ok(child)
            }
            Err(error) => {
                self.end(index);
                Err(refused(error.to_string()))
            }
        }
    }

    fn end_if_used_up(&mut self, index: usize) {
        if (self.running.get(index)).is_some_and(|running| running.clones >= MOST_CLONES) {
            self.end(index);
        }
    }

    /// Ends the template that was not used for longest, if there are as many as may be and it was not used for this
    /// time. Whether there is room.
    fn make_room(&mut self, own: bool, unused: Duration) -> bool {
        let most = if own { MOST_OWN } else { MOST_TEMPLATES };
        let of_them =
            || (self.running.iter().enumerate()).filter(|(_, one)| one.kind.own.is_some() == own);
        if of_them().count() < most {
            return true;
        }
        let oldest = of_them().min_by_key(|(_, one)| one.used);
        match oldest.filter(|(_, one)| one.used.elapsed() >= unused) {
            Some((oldest, _)) => {
                self.end(oldest);
                true
            }
            None => false,
        }
    }

    /// Starts a template for workers like this one, if it is the second of its kind: a program that needs one
    /// worker only is not to pay for a template.
    pub(super) fn prepare(&mut self, spec: &JailSpec, launcher: &OwnedFd) {
        // Those with a name are made from theirs alone, which is there by now.
        let kind = Kind::of(spec).filter(|kind| kind.own.is_none());
        let (Some(_), Some(kind)) = (self.template, kind) else {
            return;
        };
        if self.failures >= MOST_FAILURES || self.running.iter().any(|one| one.kind == kind) {
            return;
        }
        let Some(seen) = self.seen.iter().position(|one| *one == kind) else {
            if self.seen.len() == MOST_KINDS {
                self.seen.remove(0);
            }
            return self.seen.push(kind);
        };
        // Workers of ever new kinds must not take the templates of others.
        if !self.make_room(false, UNUSED) {
            return;
        }
        // Where none can be started, workers are made without; the next one of this kind tries again.
        if let Ok(running) = Running::start(spec, kind, launcher) {
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
            let mut ended = self.running.swap_remove(index);
            if !ended.is_ready() {
                self.failures += 1;
            }
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
    fn start(spec: &JailSpec, kind: Kind, launcher: &OwnedFd) -> io::Result<Self> {
        let (control, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let process = clone_process(0, || start_again(kind.program(), theirs.as_fd(), launcher))?;
        let running = Self {
            kind,
            process,
            control,
            ready: false,
            clones: 0,
            used: Instant::now(),
        };
        // It is read once the program runs again.
        match message::send(&running.control, spec, &[]) {
            Ok(()) => Ok(running),
            Err(error) => {
                running.process.kill();
                Err(error)
            }
        }
    }

    /// Whether it has said that it can be cloned.
    fn is_ready(&mut self) -> bool {
        if !self.ready {
            let report = message::receive::<Report>(&self.control);
            self.ready = matches!(report, Ok(Some((Report::Ready, _))));
        }
        self.ready
    }

    /// Waits until it can be cloned.
    fn wait_until_ready(&mut self) -> io::Result<()> {
        let until = Instant::now() + START_TIME;
        while !self.is_ready() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !is_readable(&self.control, left)? {
                return Err(io::Error::other("it is not ready in time"));
            }
            // Either that it is ready, or that it has ended.
            if !self.is_ready() {
                return Err(io::Error::other("it has ended"));
            }
        }
        Ok(())
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
        is_readable(&self.control, CLONE_TIME)?;
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

/// Whether the other end of a socket says something, or closes it, within this time.
fn is_readable(socket: &OwnedFd, within: Duration) -> io::Result<bool> {
    let mut waited = [PollFd::new(socket, PollFlags::IN)];
    let wait = Timespec {
        tv_sec: within.as_secs().cast_signed(),
        tv_nsec: within.subsec_nanos().into(),
    };
    let count = rustix::io::retry_on_intr(|| poll(&mut waited, Some(&wait)))?;
    Ok(count > 0)
}

/// Starts a program as a template, in a fresh clone of the launcher: with addresses of its own.
fn start_again(program: &str, control: BorrowedFd<'_>, launcher: &OwnedFd) -> Infallible {
    if arrange(control, launcher).is_ok() {
        // Returns only if it fails; nobody needs to know why.
        let _ = std::process::Command::new(program)
            .arg0(NAME)
            .env_clear()
            .exec();
    }
    sys::process::exit_now(crate::worker::EXIT_FAILED)
}

/// Leaves nothing open but what a template needs: the launcher's own descriptors are not for its clones, and its
/// socket must close when it ends.
fn arrange(control: BorrowedFd<'_>, launcher: &OwnedFd) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
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
    sys::descriptor::close_from(LAUNCHER + 1)
}

/// Is a template to its end, if this process was started as one. Otherwise somebody has just chosen a strange name, and
/// it returns at once.
#[expect(unreachable_code, reason = "a template goes on elsewhere to its end")]
pub(super) fn run_if_template(template: Option<Template>) {
    let is_ours = sys::descriptor::borrow(CONTROL).is_some_and(|control| {
        matches!(sockopt::socket_type(control), Ok(SocketType::SEQPACKET))
            && matches!(sockopt::socket_domain(control), Ok(AddressFamily::UNIX))
    });
    let Some(template) = template.filter(|_| is_ours) else {
        return;
    };
    let Ok((spec, clones)) = Clones::new() else {
        sys::process::exit_now(crate::worker::EXIT_FAILED)
    };
    child::run_on_new_thread(move || {
        // There is nobody to report to: workers are made without a template where there is none.
        drop(template(&spec, clones));
    });
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
    /// Takes what [`arrange`] has left open, and waits for the description of the workers.
    fn new() -> io::Result<(JailSpec, Self)> {
        rustix::thread::set_name(c"stockade-templ")?;
        sys::title::find();
        sys::title::show(NAME.trim_end());
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        // The runtime of the language has set handlers, which would take signals of a clone.
        sys::process::default_signals();
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let (control, launcher) = (
            sys::descriptor::take(CONTROL),
            sys::descriptor::take(LAUNCHER),
        );
        for kept in [&control, &launcher] {
            rustix::io::fcntl_setfd(kept, rustix::io::FdFlags::CLOEXEC)?;
        }
        // Ended by the kernel with the launcher, unless that had ended before.
        pidfd_send_signal(&launcher, Signal::CONT)?;
        is_readable(&control, START_TIME)?;
        let Some((spec, _)) = message::receive::<JailSpec>(&control)? else {
            return Err(io::Error::other("the launcher has ended"));
        };
        let filters = filters(spec.wx, false).map_err(|error| io::Error::other(error.what))?;
        Ok((
            spec,
            Self {
                control,
                launcher,
                filters,
            },
        ))
    }

    /// Makes workers as the launcher orders. In each of them `run` is called, with all layers but the last,
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
