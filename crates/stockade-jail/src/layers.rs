//! Which layers this machine can build, for `stockade doctor`.
//!
//! Each layer is really built, in a process made for it by the launcher and killed afterwards.

use std::convert::Infallible;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket, socketpair};
use rustix::process::{
    DumpableBehavior, Signal, dumpable_behavior, parent_process_death_signal,
    set_dumpable_behavior, set_parent_process_death_signal, setsid,
};

use crate::cgroup::{Cgroups, Controller};
use crate::descriptors::SETUP;
use crate::launcher::message;
use crate::namespaces::{self, Ids};
use crate::seccomp::{self, Filters, Listener};
use crate::sys::clone::Child;
use crate::worker::EXIT_FAILED;
use crate::{
    CgroupUse, JailError, JailSpec, Layer, Level, Role, Wx, capabilities, executable, landlock,
    rlimits, root, sys,
};

const BOTH: &[&str] = &["process", "container"];
const CONTAINER: &[&str] = &["container"];
const STRICT: &[&str] = &["wx: strict"];
const REQUIRE: &[&str] = &["cgroup: require"];
const OPTIONAL: &[&str] = &[];

/// How long a trial may take.
const TRIAL_TIME: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

/// Largest number of a worker, for the cgroup of a trial: never given.
const TRIAL: u64 = u64::MAX;

impl Layer {
    fn new(
        name: &str,
        needed_by: &[&str],
        kernel: &str,
        result: Result<String, JailError>,
    ) -> Self {
        let (available, tested, fix) = match result {
            Ok(tested) => (true, tested, String::new()),
            Err(error) => (
                false,
                format!("{}; checked: {}", error.what, error.checked),
                error.fix,
            ),
        };
        Self {
            name: name.to_owned(),
            needed_by: needed_by.iter().map(|&name| name.to_owned()).collect(),
            available,
            tested,
            fix,
            kernel: kernel.to_owned(),
        }
    }
}

/// The launcher itself; without it nothing else can be tried.
pub(crate) fn launcher(error: Option<&JailError>) -> Layer {
    let result = match error {
        None => Ok("started, and it answered".to_owned()),
        Some(error) => Err(error.clone()),
    };
    Layer::new("launcher", BOTH, "5.9", result)
}

/// Tries all layers but the launcher, in the order in which they are built.
pub(crate) fn try_all(cgroups: &mut Cgroups, ids: &mut Ids) -> Vec<Layer> {
    let own = ids.give(|_| false);
    let mut layers = vec![Layer::new("pidfd", BOTH, "5.4", pidfd())];
    layers.push(Layer::new(
        "process",
        BOTH,
        "3.8",
        in_trial(0, None, |_| process()),
    ));
    for (name, flag, kernel) in [
        ("user namespace", 0, "3.8"),
        ("pid namespace", libc::CLONE_NEWPID, "3.8"),
        ("mount namespace", libc::CLONE_NEWNS, "3.8"),
        ("network namespace", libc::CLONE_NEWNET, "3.8"),
        ("ipc namespace", libc::CLONE_NEWIPC, "3.8"),
        ("uts namespace", libc::CLONE_NEWUTS, "3.8"),
        ("cgroup namespace", libc::CLONE_NEWCGROUP, "4.6"),
    ] {
        layers.push(Layer::new(name, CONTAINER, kernel, namespace(flag, own)));
    }
    let inside = |flag: i32| (flag | libc::CLONE_NEWUSER) as u64;
    layers.push(Layer::new(
        "root",
        CONTAINER,
        "3.8",
        in_trial(inside(libc::CLONE_NEWNS), own, |_| {
            namespaces::become_id(namespaces::INSIDE)?;
            root::empty()?;
            Ok("pivot_root to an empty read-only tmpfs; the old root is detached".to_owned())
        }),
    ));
    layers.push(Layer::new(
        "nested user namespaces",
        OPTIONAL,
        "4.9",
        in_trial(inside(0), own, |_| nested()),
    ));
    // Where workers can have ids of their own, none starts without.
    let needed_by = if ids.are_there() { BOTH } else { OPTIONAL };
    layers.push(Layer::new("user id", needed_by, "2.1", user_id(ids, own)));
    layers.push(Layer::new(
        "rlimits",
        BOTH,
        "3.8",
        in_trial(0, None, |_| {
            rlimits::apply(&trial_spec(), false)?;
            Ok("setrlimit of memory, threads, descriptors, files and cores".to_owned())
        }),
    ));
    layers.push(Layer::new(
        "capabilities",
        BOTH,
        "3.5",
        in_trial(0, None, |_| {
            capabilities::drop_all()?;
            Ok("all sets are empty, and no_new_privs is set for good".to_owned())
        }),
    ));
    layers.push(Layer::new(
        "capabilities in a namespace",
        CONTAINER,
        "3.8",
        in_trial(inside(0), own, |_| {
            namespaces::become_id(namespaces::INSIDE)?;
            capabilities::drop_all()?;
            Ok("those that a user namespace gives are gone, with the bounding set and the securebits".to_owned())
        }),
    ));
    layers.push(Layer::new(
        "landlock",
        BOTH,
        "6.7",
        in_trial(0, None, |_| {
            landlock::deny_all()?;
            Ok(format!(
                "a domain that denies everything; ABI {}",
                landlock::abi().unwrap_or_default()
            ))
        }),
    ));
    layers.push(Layer::new("seccomp", BOTH, "5.7", seccomp_reports()));
    layers.push(Layer::new(
        "w^x",
        STRICT,
        "6.3",
        in_trial(0, None, |_| {
            executable::refuse_gain()?;
            Ok("PR_SET_MDWE, and the kernel says so".to_owned())
        }),
    ));
    for controller in Controller::ALL {
        let needed_by = match controller {
            Controller::Memory | Controller::Pids => REQUIRE,
            Controller::Cpu => OPTIONAL,
        };
        layers.push(Layer::new(
            &format!("cgroup {}", controller.name()),
            needed_by,
            "2.6.24 (v1), 4.15 (v2)",
            cgroup(cgroups, controller),
        ));
    }
    layers
}

/// What a trial said, and the process that said it.
struct Trial {
    said: Result<String, JailError>,
    descriptors: Vec<OwnedFd>,
    child: Child,
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.child.kill();
    }
}

/// Runs a test in a process of its own, in these new namespaces, with our socket as its descriptor 4.
fn start_trial(
    flags: u64,
    own: Option<u32>,
    test: impl FnOnce(&OwnedFd) -> Result<String, JailError>,
) -> Result<Trial, JailError> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|error| broken("socketpair", &error.to_string()))?;
    let child = namespaces::clone_into(flags, own, || run_trial(&theirs, test))?;
    drop(theirs);
    // From here on it is killed whatever happens.
    let mut trial = Trial {
        said: Err(broken("waiting for a trial", "it said nothing")),
        descriptors: Vec::new(),
        child,
    };
    rustix::io::write(&ours, &[1])
        .map_err(|error| broken("starting a trial", &error.to_string()))?;
    let mut ready = [PollFd::new(&ours, PollFlags::IN)];
    let _ = poll(&mut ready, Some(&TRIAL_TIME));
    match message::receive::<Result<String, JailError>>(&ours) {
        Ok(Some((said, descriptors))) => {
            trial.said = said;
            trial.descriptors = descriptors;
        }
        Ok(None) => {}
        Err(error) => trial.said = Err(broken("receiving a result", &error.to_string())),
    }
    Ok(trial)
}

/// The trial's own side.
fn run_trial(
    theirs: &OwnedFd,
    test: impl FnOnce(&OwnedFd) -> Result<String, JailError>,
) -> Infallible {
    // Where the seccomp rules let a worker send from.
    if sys::descriptor::place(theirs, SETUP).is_err()
        || sys::descriptor::close_from(SETUP + 1).is_err()
    {
        sys::process::exit_now(EXIT_FAILED);
    }
    let socket = sys::descriptor::take(SETUP);
    let mut byte = [0];
    if !matches!(rustix::io::read(&socket, &mut byte), Ok(1)) {
        sys::process::exit_now(EXIT_FAILED);
    }
    let said = test(&socket);
    let _ = message::send(&socket, &said, &[]);
    sys::process::exit_now(0)
}

fn in_trial(
    flags: u64,
    own: Option<u32>,
    test: impl FnOnce(&OwnedFd) -> Result<String, JailError>,
) -> Result<String, JailError> {
    let mut trial = start_trial(flags, own, test)?;
    std::mem::replace(&mut trial.said, Ok(String::new()))
}

fn pidfd() -> Result<String, JailError> {
    let trial = start_trial(0, None, |_| Ok(String::new()))?;
    trial.said.clone()?;
    trial.child.kill();
    let mut ended = [PollFd::new(&trial.child.pidfd, PollFlags::IN)];
    match poll(&mut ended, Some(&Timespec::default())) {
        Ok(1) => Ok("a process was made, signalled and seen to end by its pidfd".to_owned()),
        other => Err(broken(
            "seeing a process end by its pidfd",
            &format!("poll gives {other:?}"),
        )),
    }
}

/// What is between a worker and the launcher that made it.
fn process() -> Result<String, JailError> {
    let failed = |what: &'static str| move |error: Errno| broken(what, &error.to_string());
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed("PR_SET_PDEATHSIG"))?;
    setsid().map_err(failed("setsid"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed("PR_SET_DUMPABLE"))?;
    match (parent_process_death_signal(), dumpable_behavior()) {
        (Ok(Some(Signal::KILL)), Ok(DumpableBehavior::NotDumpable)) => Ok(
            "a session of its own; it dies with the launcher, and can be neither dumped nor traced"
                .to_owned(),
        ),
        other => Err(broken(
            "tying a process to the launcher",
            &format!("the kernel says {other:?}"),
        )),
    }
}

fn namespace(flag: i32, own: Option<u32>) -> Result<String, JailError> {
    in_trial((flag | libc::CLONE_NEWUSER) as u64, own, move |_| {
        namespaces::become_id(namespaces::INSIDE)?;
        match flag {
            libc::CLONE_NEWUTS => {
                namespaces::set_host_name()?;
                Ok("clone3; its host name was set".to_owned())
            }
            libc::CLONE_NEWPID if std::process::id() != 1 => Err(broken(
                "making a PID namespace",
                "the first process in it is not number 1",
            )),
            0 => Ok(format!(
                "clone3 with a map of one id; it became user {}",
                namespaces::INSIDE
            )),
            _ => Ok("clone3 together with a user namespace".to_owned()),
        }
    })
}

fn nested() -> Result<String, JailError> {
    if !namespaces::forbid_nested() {
        return Err(JailError::new(
            "nested user namespaces",
            "user namespaces inside a worker cannot be forbidden by the kernel's own limit",
            "writing 0 to /proc/sys/user/max_user_namespaces from inside",
            "mount /proc/sys writable; until then the seccomp rules and the lack of capabilities forbid \
             them alone",
        ));
    }
    match sys::clone::unshare_user() {
        Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
            Ok("unshare(CLONE_NEWUSER) inside gives ENOSPC".to_owned())
        }
        other => Err(broken(
            "forbidding nested user namespaces",
            &format!("unshare(CLONE_NEWUSER) inside gives {other:?}"),
        )),
    }
}

fn user_id(ids: &Ids, own: Option<u32>) -> Result<String, JailError> {
    match own {
        Some(id) if ids.are_there() => in_trial(0, None, move |_| {
            namespaces::become_id(id)?;
            Ok(format!(
                "a process became user {id}; each worker gets an id of its own"
            ))
        }),
        _ => Err(JailError::new(
            "user id",
            "workers cannot have user ids of their own",
            "the effective user id, and /proc/self/uid_map",
            "run as root (or in a user namespace with 65,536 ids) for one more layer between workers; as an \
             ordinary user they run under yours",
        )),
    }
}

/// The filter is installed as in a worker, its listener is handed over, and a call that it does not allow
/// arrives there.
fn seccomp_reports() -> Result<String, JailError> {
    let filters: Filters = seccomp::compile(Wx::Jit, false)?;
    let trial = start_trial(0, None, move |setup| {
        use std::os::fd::AsFd as _;
        rustix::thread::set_no_new_privs(true)
            .map_err(|error| broken("setting no_new_privs", &error.to_string()))?;
        let listener = seccomp::install(&filters)?;
        seccomp::self_test()?;
        let said: Result<String, JailError> = Ok(String::new());
        let _ = message::send(setup, &said, &[listener.as_fd()]);
        let _ = socket(AddressFamily::INET, SocketType::STREAM, None);
        Ok(String::new())
    })?;
    trial.said.clone()?;
    let mut trial = trial;
    let listener = trial
        .descriptors
        .pop()
        .and_then(|fd| Listener::new(fd).ok())
        .ok_or_else(|| broken("installing a filter", "its listener did not come"))?;
    let mut ready = [PollFd::from_borrowed_fd(listener.fd(), PollFlags::IN)];
    let _ = poll(&mut ready, Some(&TRIAL_TIME));
    match listener.receive() {
        Some(denial) if denial.syscall == "socket" => Ok(
            "the rules were installed; a call of socket stopped the caller and was reported"
                .to_owned(),
        ),
        other => Err(broken(
            "receiving a denied call",
            &format!("a call of socket gave {other:?}"),
        )),
    }
}

fn cgroup(cgroups: &mut Cgroups, controller: Controller) -> Result<String, JailError> {
    cgroups.needs(controller)?;
    let made = cgroups.make(TRIAL, &trial_spec())?;
    let trial = start_trial(0, None, |socket| {
        let said: Result<String, JailError> = Ok(String::new());
        let _ = message::send(socket, &said, &[]);
        // Until it is killed: a process that has ended cannot be moved.
        let _ = rustix::io::read(socket, &mut [0]);
        Ok(String::new())
    });
    let entered = trial.and_then(|trial| made.enter(trial.child.pid));
    cgroups.remove(&made);
    entered?;
    Ok(format!(
        "a cgroup with limits was made in {}, and a process moved in",
        cgroups
            .directory(controller)
            .map(|path| path.display().to_string())
            .unwrap_or_default()
    ))
}

fn trial_spec() -> JailSpec {
    JailSpec {
        level: Level::Container,
        wx: Wx::Jit,
        role: Role::Isolates,
        memory: Some(64 << 20),
        cpu_share: Some(0.5),
        isolates: 1,
        threads: 8,
        cgroup: CgroupUse::Auto,
        template: None,
    }
}

fn broken(what: &str, checked: &str) -> JailError {
    JailError::new(
        "launcher",
        format!("{what} failed"),
        checked,
        "see whether a seccomp filter or security module around this program refuses it",
    )
}
