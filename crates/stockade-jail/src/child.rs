//! The first life of a worker: a clone of the launcher that applies the layers to itself, one after the other.
//!
//! The order is not free. Ids are mapped before they are taken; what is opened in /proc is opened before
//! the root is gone; capabilities go after all that needs them; the kernel forgets the signal of the
//! parent's death when credentials change, so it is asked for again.

use std::convert::Infallible;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, set_dumpable_behavior,
    set_parent_process_death_signal, setrlimit, setsid,
};

use crate::cgroup;
use crate::descriptors::{Handed, Placed, arrange};
use crate::seccomp::Filters;
use crate::worker::{self, Inside};
use crate::{
    JailError, JailSpec, Level, capabilities, executable, landlock, namespaces, rlimits, root, sys,
};

/// Bytes of stack of the thread that the entry runs on: as much as a main thread has.
const STACK: usize = 8 << 20;

/// What the launcher gives its clone.
pub(crate) struct Start<'a> {
    pub(crate) spec: &'a JailSpec,
    pub(crate) filters: &'static Filters,
    /// The user and group id of its own, where it gets one.
    pub(crate) own: Option<u32>,
    /// The files by which it moves into its cgroups by itself.
    pub(crate) doors: &'a [File],
    pub(crate) handed: Handed<'a>,
}

/// Applies all layers but the last, and calls `run`, which is the worker until its end.
pub(crate) fn main(start: &Start<'_>, run: impl FnOnce(Inside) -> Infallible) -> Infallible {
    let placed = cgroup::go_through(start.doors).and_then(|()| arrange(&start.handed));
    let inside = match placed {
        Ok(placed) => {
            let Placed {
                message,
                setup,
                maps,
                launcher,
                go,
            } = placed;
            match build(start, launcher, go) {
                Ok(()) => Inside {
                    spec: start.spec.clone(),
                    socket: Some(message),
                    setup: Some(setup),
                    maps: Some(maps),
                    filters: start.filters,
                },
                Err(error) => {
                    worker::report_failure(&setup, &error);
                    sys::process::exit_now(worker::EXIT_FAILED)
                }
            }
        }
        Err(error) => {
            let _ = wait(start.handed.go);
            worker::report_failure(start.handed.setup, &error);
            sys::process::exit_now(worker::EXIT_FAILED)
        }
    };
    run(inside)
}

/// All layers except the last.
fn build(start: &Start<'_>, launcher: OwnedFd, go: OwnedFd) -> Result<(), JailError> {
    let spec = start.spec;
    let prepared = prepare(&launcher);
    // Whatever went wrong: the ids of an ended process cannot be mapped, and that would be reported.
    wait(&go)?;
    prepared?;
    undumpable()?;
    match spec.level {
        Level::Process => {
            if let Some(id) = start.own {
                // `drop_all` needs the capabilities that a change from root would take.
                rustix::thread::set_keep_capabilities(true)
                    .map_err(|error| step("PR_SET_KEEPCAPS", error))?;
                namespaces::become_id(id)?;
            }
        }
        Level::Container => {
            namespaces::become_id(namespaces::INSIDE)?;
            let _ = namespaces::forbid_nested();
            root::empty()?;
            namespaces::set_host_name()?;
        }
    }
    let alone = start.own.is_some() || spec.level == Level::Container;
    rlimits::apply(spec, alone)?;
    capabilities::drop_all()?;
    undumpable()?;
    die_with(&launcher)?;
    landlock::deny_all()?;
    if worker::is_strict(spec) {
        executable::refuse_gain()?;
    }
    Ok(())
}

/// What needs neither ids nor namespaces.
fn prepare(launcher: &OwnedFd) -> Result<(), JailError> {
    sys::process::unblock_signals();
    sys::process::ignore_large_files();
    sys::process::exit_on_abort().map_err(|error| {
        step(
            "handling SIGABRT",
            rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::INVAL),
        )
    })?;
    die_with(launcher)?;
    setsid().map_err(|error| step("setsid", error))?;
    rustix::thread::set_name(c"stockade-worker").map_err(|error| step("PR_SET_NAME", error))?;
    worker::show("");
    setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )
    .map_err(|error| step("no core dumps", error))
}

/// Has the kernel kill this process when the launcher dies, and sees that it still lives.
fn die_with(launcher: &OwnedFd) -> Result<(), JailError> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| step("PR_SET_PDEATHSIG", error))?;
    // Its id would not do: in a PID namespace the parent has none.
    let mut ended = [PollFd::new(launcher, PollFlags::IN)];
    match poll(&mut ended, Some(&Timespec::default())) {
        Ok(0) => Ok(()),
        Ok(_) => sys::process::exit_now(worker::EXIT_FAILED),
        Err(error) => Err(step("looking at the launcher's pidfd", error)),
    }
}

/// No core dump, no ptrace and no /proc entries for others of the same user.
fn undumpable() -> Result<(), JailError> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| step("PR_SET_DUMPABLE", error))
}

/// Waits for the launcher to have mapped the ids and moved this process into its cgroups.
fn wait(go: &OwnedFd) -> Result<(), JailError> {
    let mut byte = [0];
    match rustix::io::retry_on_intr(|| rustix::io::read(go, &mut byte)) {
        Ok(1) => Ok(()),
        // The launcher could not, and says so itself.
        Ok(_) => sys::process::exit_now(worker::EXIT_FAILED),
        Err(error) => Err(step("waiting for the launcher", error)),
    }
}

/// Runs the entry on a thread of its own. The thread that was cloned has an outdated idea of its own
/// thread id in glibc; a new one has not.
pub(crate) fn run_on_new_thread(entry: impl FnOnce() + Send + 'static) -> Infallible {
    let thread = std::thread::Builder::new()
        .name("worker".to_owned())
        .stack_size(STACK)
        .spawn(move || run_to_end(entry));
    match thread {
        Ok(thread) => {
            let _ = thread.join();
            sys::process::exit_now(worker::EXIT_ABORT)
        }
        Err(_) => sys::process::exit_now(worker::EXIT_FAILED),
    }
}

/// Runs the entry on this thread and ends the process.
pub(crate) fn run_to_end(entry: impl FnOnce()) -> Infallible {
    match catch_unwind(AssertUnwindSafe(entry)) {
        Ok(()) => sys::process::exit_now(0),
        Err(_) => sys::process::exit_now(worker::EXIT_ABORT),
    }
}

fn step(what: &str, error: rustix::io::Errno) -> JailError {
    JailError::new(
        "process",
        format!("{what} failed: {error}"),
        "a system call that every Linux since 5.9 allows",
        "see whether a seccomp filter or security module around this program refuses it",
    )
}
