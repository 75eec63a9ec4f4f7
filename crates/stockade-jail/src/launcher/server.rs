//! The launcher's loop: makes workers when asked, reaps those that end, and ends with its supervisor.
//!
//! Invariants:
//! 1. Every process that the launcher made is reaped by it, and its cgroup removed.
//! 2. When the control socket is closed, all workers are killed before the launcher ends.
//! 3. It keeps nothing of a worker but its ids: descriptors of sockets are closed once handed on.
//! 4. What a worker that has started or ended no longer needs is closed before that is reported.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Gid, Uid};
use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Resource, Rlimit, Signal, getrlimit, pidfd_open,
    pidfd_send_signal, prlimit, set_dumpable_behavior, setrlimit, setsid,
};
use rustix::thread::{set_thread_res_gid, set_thread_res_uid};

use super::message::{self, LauncherReply, Request};
use super::template::{self, Template, Templates};
use crate::cgroup::{Cgroups, WorkerCgroup};
use crate::child::{self, Start};
use crate::descriptors::Handed;
use crate::namespaces::{self, Ids};
use crate::seccomp::{self, Filters};
use crate::sys::process::{Reaped, child_signals, default_signals, exit_now, reap};
use crate::worker::WorkerMain;
use crate::{
    CgroupUse, ExitStatus, FILES, JailError, JailSpec, Level, Role, Wx, layers, rlimits, sys,
};

/// The name that the launcher is started by, in place of the program's: `stockade-launcher`, and room for
/// what workers show in its place.
pub(crate) const NAME: &str = concat!(
    "stockade-launcher",
    "                                                               "
);

/// Most threads of a worker.
const MOST_THREADS: u32 = 1024;

/// Least memory for a worker's guests, in bytes: less than this is an error.
const LEAST_MEMORY: u64 = 1 << 20;

/// How long the launcher waits at its end for workers that it has killed.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// How often removing cgroups is tried again.
const TIDY: Duration = Duration::from_millis(10);

/// [`run_if_launcher`] was called: started again, this program becomes a launcher.
static PREPARED: AtomicBool = AtomicBool::new(false);

/// Whether this program can be started again as a launcher. One that does not call [`run_if_launcher`] would
/// do its own work a second time.
pub(super) fn is_prepared() -> bool {
    PREPARED.load(Ordering::Relaxed)
}

/// Becomes the launcher, and later a worker, when this process was started as one, or a template; to be called first in
/// `main`. Otherwise it returns at once. `entry` is what workers run, `template` what processes run that workers
/// with isolates are cloned from, where such workers start often.
pub fn run_if_launcher(entry: WorkerMain, template: Option<Template>) {
    PREPARED.store(true, Ordering::Relaxed);
    let name = std::env::args_os().next();
    if name.as_ref().is_some_and(|name| name == template::NAME) {
        return template::run_if_template(template);
    }
    if name.is_none_or(|name| name != NAME) {
        return;
    }
    let stdin = io::stdin();
    let control = stdin.as_fd();
    // Any other socket, or none: somebody has just chosen a strange name.
    if !matches!(sockopt::socket_type(control), Ok(SocketType::SEQPACKET))
        || !matches!(sockopt::socket_domain(control), Ok(AddressFamily::UNIX))
    {
        return;
    }
    let ended = match Server::new(control, entry, template) {
        Ok(mut server) => {
            let ended = server.serve();
            server.end();
            ended
        }
        Err(error) => message::send(control, &LauncherReply::Unable(error), &[]),
    };
    exit_now(i32::from(ended.is_err()))
}

/// A worker that has not been reaped.
struct Alive {
    id: u64,
    pidfd: OwnedFd,
    own: Option<u32>,
    threads: u32,
    /// Its hard limit of memory.
    most_data: Option<u64>,
    cgroup: Option<WorkerCgroup>,
}

struct Server<'a> {
    control: std::os::fd::BorrowedFd<'a>,
    entry: WorkerMain,
    /// Our own, for workers to see whether we live.
    myself: OwnedFd,
    children: OwnedFd,
    ids: Ids,
    /// By process id.
    workers: BTreeMap<i32, Alive>,
    templates: Templates,
    cgroups: Cgroups,
    untidy: bool,
}

impl<'a> Server<'a> {
    fn new(
        control: std::os::fd::BorrowedFd<'a>,
        entry: WorkerMain,
        template: Option<Template>,
    ) -> Result<Self, JailError> {
        let supervisor = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
        // Whatever the supervisor left open for programs that it starts is not for us.
        sys::descriptor::close_from(3).map_err(|error| unable("close_range", &error))?;
        // Fails for the leader of a process group; then we are in a session of our own already.
        let _ = setsid();
        rustix::process::chdir("/").map_err(|error| unable("chdir", &error))?;
        sys::title::find();
        sys::title::show(NAME.trim_end());
        rustix::thread::set_name(c"stockade-launch")
            .map_err(|error| unable("PR_SET_NAME", &error))?;
        // When the machine runs out of memory, workers go before their supervisor: they inherit this.
        let _ = std::fs::write("/proc/self/oom_score_adj", "500");
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(|error| unable("PR_SET_DUMPABLE", &error))?;
        // A descriptor for each worker and a few for one that starts; workers set a limit of their own.
        let files = getrlimit(Resource::Nofile);
        let _ = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: files.maximum,
                maximum: files.maximum,
            },
        );
        // Workers set it again and insist; there is nothing to hide here.
        let _ = setrlimit(
            Resource::Core,
            Rlimit {
                current: Some(0),
                maximum: Some(0),
            },
        );
        default_signals();
        // Workers must not keep groups of root's; an ordinary user cannot give up his own.
        let _ = rustix::thread::set_thread_groups(&[]);
        let myself = pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
            .map_err(|error| unable("pidfd_open", &error))?;
        // Workers are killed by no other means. To a process that runs this signal means nothing.
        pidfd_send_signal(&myself, Signal::CONT)
            .map_err(|error| unable("pidfd_send_signal", &error))?;
        Ok(Self {
            control,
            entry,
            myself,
            children: child_signals().map_err(|error| unable("signalfd", &error))?,
            ids: Ids::detect(),
            workers: BTreeMap::new(),
            templates: Templates::new(template),
            cgroups: Cgroups::detect(supervisor),
            untidy: true,
        })
    }

    /// Serves until the supervisor is gone.
    fn serve(&mut self) -> io::Result<()> {
        loop {
            if self.untidy {
                self.untidy = self.cgroups.tidy();
            }
            let wait = if self.untidy {
                Some(TIDY)
            } else {
                self.templates.next_expiry()
            };
            let wait = wait.map(timespec);
            let mut ready = [
                PollFd::new(&self.control, PollFlags::IN),
                PollFd::new(&self.children, PollFlags::IN),
            ];
            rustix::io::retry_on_intr(|| poll(&mut ready, wait.as_ref()))?;
            self.templates.expire();
            let [asked, ended] = ready.map(|fd| !fd.revents().is_empty());
            if ended {
                self.reap_all();
            }
            if asked {
                match message::receive::<Request>(self.control) {
                    Ok(Some((request, descriptors))) => self.answer(request, descriptors)?,
                    Ok(None) => return Ok(()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    fn answer(&mut self, request: Request, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        match request {
            Request::Launch { id, spec } => {
                let launched = self.launch(id, &spec, &descriptors);
                drop(descriptors);
                match launched {
                    Ok(pid) => {
                        let pidfd = self.workers.get(&pid).map(|worker| worker.pidfd.as_fd());
                        message::send(
                            self.control,
                            &LauncherReply::Started { id, pid },
                            &Vec::from_iter(pidfd),
                        )
                    }
                    Err(error) => {
                        message::send(self.control, &LauncherReply::Refused { id, error }, &[])
                    }
                }
            }
            Request::SetMemory { id, memory } => {
                let error = self.set_memory(id, memory).err();
                message::send(self.control, &LauncherReply::MemorySet { id, error }, &[])
            }
            Request::Layers => {
                let layers = layers::try_all(&mut self.cgroups, &mut self.ids);
                self.untidy = true;
                message::send(self.control, &LauncherReply::Layers(layers), &[])
            }
        }
    }

    /// Makes a worker; its process id.
    fn launch(
        &mut self,
        id: u64,
        spec: &JailSpec,
        descriptors: &[OwnedFd],
    ) -> Result<i32, JailError> {
        check(spec)?;
        let files = match spec.role {
            Role::Isolates | Role::Attack | Role::Helper => 0,
            Role::Database { .. } => FILES,
        };
        let missing = || {
            JailError::new(
                "launcher",
                "the sockets or files of a worker did not arrive",
                "the limit of open files of the process that starts workers",
                "raise the limit of open files (ulimit -n)",
            )
        };
        let (sockets, files) = match descriptors.len().checked_sub(files) {
            Some(2) => descriptors.split_at(2),
            _ => return Err(missing()),
        };
        let [message, setup] = sockets else {
            return Err(missing());
        };
        let filters = seccomp::filters(spec.wx, files.len() == FILES)?;
        let container = spec.level == Level::Container;
        let own = self
            .ids
            .give(|id| self.workers.values().any(|worker| worker.own == Some(id)));
        let cgroup = if container || spec.cgroup == CgroupUse::Require {
            Some(self.cgroups.make(id, spec)?)
        } else {
            None
        };
        match self.start(spec, own, [message, setup], files, cgroup.as_ref(), filters) {
            Ok(child) => {
                let pid = child.pid;
                self.workers.insert(
                    pid,
                    Alive {
                        id,
                        pidfd: child.pidfd,
                        own,
                        threads: spec.threads,
                        most_data: rlimits::most_data(spec),
                        cgroup,
                    },
                );
                Ok(pid)
            }
            Err(error) => {
                if let Some(cgroup) = cgroup {
                    self.cgroups.remove(&cgroup);
                    self.untidy = true;
                }
                Err(error)
            }
        }
    }

    /// Clones the worker and lets it go on once its ids are mapped and it is in its cgroups.
    fn start(
        &mut self,
        spec: &JailSpec,
        own: Option<u32>,
        [message, setup]: [&OwnedFd; 2],
        files: &[OwnedFd],
        cgroup: Option<&WorkerCgroup>,
        filters: &'static Filters,
    ) -> Result<sys::clone::Child, JailError> {
        let system = |error: rustix::io::Errno| {
            JailError::new(
                "process",
                format!("preparing a worker failed: {error}"),
                "pipe2",
                "raise the limit of open files (ulimit -n)",
            )
        };
        let container = spec.level == Level::Container;
        let namespaces = if container { namespaces::CONTAINER } else { 0 };
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(system);
        let doors = cgroup.map_or(Ok(Vec::new()), WorkerCgroup::doors)?;
        let myself = &self.myself;
        let start = |go| Start {
            spec,
            filters,
            own,
            doors: &doors,
            handed: Handed {
                message,
                setup,
                launcher: myself,
                go,
                files,
            },
        };
        let (go, mut let_go) = pipe()?;
        // Each attempt has a pipe of its own: a clone that a template made and could not report ends at the end of its
        // pipe, and must not take the place of another one.
        let another_go;
        let began = Instant::now();
        let cloned = match spec.template {
            Some(_) => Some(
                match self.templates.clone_from_own(&start(&go), namespaces) {
                    Ok(child) => child,
                    Err(error) if began.elapsed() > template::QUICK => return Err(error),
                    // The template may have ended: then there is a new one.
                    Err(_) => {
                        (another_go, let_go) = pipe()?;
                        let start = start(&another_go);
                        self.templates.clone_from_own(&start, namespaces)?
                    }
                },
            ),
            None => self.templates.clone_worker(&start(&go), namespaces),
        };
        let child = match cloned {
            Some(child) => namespaces::finish(child, namespaces, own)?,
            None => {
                let own_go;
                (own_go, let_go) = pipe()?;
                let (entry, start) = (self.entry, start(&own_go));
                let run = |inside| child::run_on_new_thread(move || entry(inside));
                let writer = let_go.as_raw_fd();
                namespaces::clone_into(namespaces, own, || {
                    // With the copy of it a clone would never see the end of the pipe that it waits at.
                    let _ = sys::descriptor::close_range(writer, writer);
                    child::main(&start, run)
                })?
            }
        };
        let prepared = cgroup
            .map_or(Ok(()), |cgroup| cgroup.enter(child.pid))
            .and_then(|()| {
                // A worker that has been killed already is reported by its exit.
                match rustix::io::write(&let_go, &[1]) {
                    Ok(_) | Err(rustix::io::Errno::PIPE) => Ok(()),
                    Err(error) => Err(system(error)),
                }
            });
        match prepared {
            Ok(()) => {
                self.templates.prepare(spec, &self.myself);
                Ok(child)
            }
            Err(error) => {
                child.kill();
                Err(error)
            }
        }
    }

    fn set_memory(&self, id: u64, memory: Option<u64>) -> Result<(), JailError> {
        let Some((&pid, worker)) = self.workers.iter().find(|(_, worker)| worker.id == id) else {
            // It has just ended, which is reported elsewhere.
            return Ok(());
        };
        let limit = memory.map(|memory| rlimits::data(memory, worker.threads));
        // A limit that is lowered can be raised again.
        let most = limit.and_then(|limit| Some(worker.most_data?.max(limit)));
        set_data_limit(pid, limit, most, worker.own).map_err(|error| {
            JailError::new(
                "rlimits",
                format!("setting the memory of a running worker failed: {error}"),
                format!("prlimit of {limit:?} bytes"),
                "only root can raise a limit of memory above what it was started with; start a new worker",
            )
        })?;
        match &worker.cgroup {
            Some(cgroup) => cgroup.set_memory(memory),
            None => Ok(()),
        }
    }

    /// Reaps all that have ended and notifies the supervisor.
    fn reap_all(&mut self) {
        // The signals carry nothing that wait4 does not say; several children may share one.
        let mut buffer = [0; 1024];
        while matches!(rustix::io::read(&self.children, &mut buffer), Ok(n) if n > 0) {}
        while let Some(reaped) = reap() {
            self.buried(&reaped);
        }
    }

    fn buried(&mut self, reaped: &Reaped) {
        let Some(Alive { id, cgroup, .. }) = self.workers.remove(&reaped.pid) else {
            self.templates.reaped(reaped.pid);
            return;
        };
        let mut oom_killed = false;
        if let Some(cgroup) = cgroup {
            oom_killed = cgroup.oom_killed();
            self.cgroups.remove(&cgroup);
            self.untidy = true;
        }
        let reply = LauncherReply::Exited {
            id,
            status: status(reaped.status),
            max_rss: reaped.max_rss,
            cpu: reaped.cpu,
            oom_killed,
        };
        // A supervisor that cannot be notified any more is gone, which the next receive finds.
        let _ = message::send(self.control, &reply, &[]);
    }

    /// Kills all workers, reaps them and removes every cgroup.
    fn end(&mut self) {
        self.templates.end_all();
        for worker in self.workers.values() {
            let _ = pidfd_send_signal(&worker.pidfd, Signal::KILL);
        }
        let until = Instant::now() + LAST_WAIT;
        while !self.workers.is_empty() || self.cgroups.tidy() {
            self.reap_all();
            if Instant::now() > until {
                break;
            }
            let mut ended = [PollFd::new(&self.children, PollFlags::IN)];
            let _ = poll(&mut ended, Some(&timespec(TIDY)));
        }
        self.cgroups.remove_all();
    }
}

/// Sets RLIMIT_DATA of a worker. Its id cannot have another owner: only we reap it.
fn set_data_limit(
    pid: i32,
    limit: Option<u64>,
    most: Option<u64>,
    own: Option<u32>,
) -> rustix::io::Result<()> {
    let limit = Rlimit {
        current: limit,
        maximum: most,
    };
    let set = || prlimit(Pid::from_raw(pid), Resource::Data, limit).map(|_| ());
    match (set(), own) {
        (Err(rustix::io::Errno::PERM), Some(id)) => {
            // Root without CAP_SYS_RESOURCE, as in containers: it takes the same real ids (prlimit(2)).
            let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
            set_thread_res_gid(gid, None, None)?;
            set_thread_res_uid(uid, None, None)?;
            let result = set();
            set_thread_res_uid(rustix::process::geteuid(), None, None)?;
            set_thread_res_gid(rustix::process::getegid(), None, None)?;
            result
        }
        (result, _) => result,
    }
}

/// What wait4 says, in words.
fn status(raw: i32) -> ExitStatus {
    if libc::WIFSIGNALED(raw) {
        return ExitStatus::Signaled(libc::WTERMSIG(raw));
    }
    match libc::WEXITSTATUS(raw) {
        crate::worker::EXIT_ABORT => ExitStatus::Signaled(libc::SIGABRT),
        code => ExitStatus::Exited(code),
    }
}

/// Sees that the numbers make sense, whatever the supervisor thinks.
fn check(spec: &JailSpec) -> Result<(), JailError> {
    if !(1..=MOST_THREADS).contains(&spec.threads) {
        return Err(invalid(&format!(
            "{} threads are not within 1 to {MOST_THREADS}",
            spec.threads
        )));
    }
    if let Some(memory) = spec.memory.filter(|&memory| memory < LEAST_MEMORY) {
        return Err(invalid(&format!(
            "{memory} bytes of memory are under {LEAST_MEMORY}"
        )));
    }
    if matches!(spec.role, Role::Database { .. } | Role::Helper) && spec.wx != Wx::Strict {
        return Err(invalid("a database or a helper needs no executable memory"));
    }
    let program = spec.template.as_deref().map(Path::new);
    if spec.role == Role::Helper && !program.is_some_and(Path::is_absolute) {
        return Err(invalid("a helper has no program with an absolute path"));
    }
    if let Some(share) = spec
        .cpu_share
        .filter(|share| !(*share > 0.0 && *share <= 1.0))
    {
        return Err(invalid(&format!("a CPU share of {share} is not in (0, 1]")));
    }
    Ok(())
}

/// Why there can be no launcher.
fn unable(what: &str, error: &dyn std::fmt::Display) -> JailError {
    JailError::new(
        "launcher",
        format!("preparing the process that starts workers failed: {what}: {error}"),
        "a system call that every Linux since 5.9 allows",
        "run Linux 5.9 or newer; see whether a seccomp filter or security module around this program refuses it",
    )
}

fn invalid(what: &str) -> JailError {
    JailError::new(
        "launcher",
        what,
        "the description of the worker",
        "report this as a defect",
    )
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs().cast_signed(),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> JailSpec {
        JailSpec {
            level: Level::Process,
            wx: Wx::Jit,
            role: Role::Isolates,
            memory: Some(64 << 20),
            cpu_share: Some(0.5),
            isolates: 1,
            threads: 4,
            cgroup: CgroupUse::Auto,
            template: None,
        }
    }

    #[test]
    fn check_refuses_numbers_out_of_range() {
        check(&spec()).unwrap();
        for cpu_share in [0.0, -1.0, 1.5, f64::NAN, f64::INFINITY] {
            let cpu_share = Some(cpu_share);
            check(&JailSpec {
                cpu_share,
                ..spec()
            })
            .unwrap_err();
        }
        for threads in [0, MOST_THREADS + 1] {
            check(&JailSpec { threads, ..spec() }).unwrap_err();
        }
        check(&JailSpec {
            memory: Some(0),
            ..spec()
        })
        .unwrap_err();
    }

    #[test]
    fn check_refuses_helpers_without_a_program() {
        let helper = |program: Option<&str>| JailSpec {
            wx: Wx::Strict,
            role: Role::Helper,
            template: program.map(str::to_owned),
            ..spec()
        };
        check(&helper(Some("/usr/lib/stockade/helper"))).unwrap();
        check(&helper(Some("helper"))).unwrap_err();
        check(&helper(None)).unwrap_err();
        check(&JailSpec {
            wx: Wx::Jit,
            ..helper(Some("/usr/lib/stockade/helper"))
        })
        .unwrap_err();
    }

    #[test]
    fn status_maps_the_exit_code_of_abort() {
        assert_eq!(status(0), ExitStatus::Exited(0));
        assert_eq!(status(133 << 8), ExitStatus::Exited(133));
        assert_eq!(status(134 << 8), ExitStatus::Signaled(libc::SIGABRT));
        assert_eq!(status(9), ExitStatus::Signaled(9));
        assert_eq!(status(11 | 0x80), ExitStatus::Signaled(11));
    }
}
