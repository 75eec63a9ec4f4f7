//! A worker that is a plain child process: this program again, without the jail and without a launcher.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stockade_limits::{IsolateOptions, Isolation, Limits};
use stockade_protocol::{FromIsolate, Payload, ToIsolate};
use stockade_supervisor::{
    Event, ExitCause, GuestContext, HostConnection, LaunchedWorker, StartError, TerminateReason,
    WorkerEvent, WorkerEvents, WorkerExit, WorkerLauncher, WorkerProcess,
};

use crate::{block_on, create, options, supervisor, until_destroyed};

/// Set where this program is a worker.
const IS_WORKER: &str = "STOCKADE_TEST_WORKER";

struct Process(Pid);

impl WorkerProcess for Process {
    fn kill(&self) {
        let _ = kill(self.0, Signal::SIGKILL);
    }

    fn pause(&self) {
        let _ = kill(self.0, Signal::SIGSTOP);
    }

    fn resume(&self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }

    fn cpu_time(&self) -> Option<Duration> {
        let clock = nix::time::clock_getcpuclockid(self.0).ok()?;
        clock.now().ok().map(Duration::from)
    }
}

struct Children;

impl WorkerLauncher for Children {
    type Spec = ();

    fn isolation(&self) -> Isolation {
        Isolation::Container
    }

    fn spec(&self, _: &IsolateOptions, _: u32) {}

    fn launch(&self, (): &(), events: WorkerEvents) -> Result<LaunchedWorker, StartError> {
        let (host, worker) = UnixStream::pair().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child::worker_side"])
            .env(IS_WORKER, "1")
            .stdin(OwnedFd::from(worker))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id().try_into().unwrap());
        events(WorkerEvent::Sealed);
        std::thread::spawn(move || {
            let status = child.wait().unwrap();
            events(WorkerEvent::Exited(WorkerExit {
                cause: ExitCause::Crashed {
                    detail: format!("signal {:?}", status.signal()),
                    exhausted_above: None,
                },
                peak_memory: 0,
                cpu: Duration::ZERO,
            }));
        });
        Ok(LaunchedWorker {
            process: Box::new(Process(pid)),
            socket: OwnedFd::from(host),
        })
    }
}

/// Not a test, but what runs in the worker.
#[test]
fn worker_side() {
    if std::env::var_os(IS_WORKER).is_none() {
        return;
    }
    let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let connection = HostConnection::new(socket).unwrap();
    connection.ready();
    connection.serve(|guest| drop(std::thread::spawn(move || run(&guest))))
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// A guest that sends events back, and computes for ever when it is called.
fn run(guest: &GuestContext) {
    guest.started(Ok(()));
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    while !guest.is_ending() {
        while let Some((message, size)) = guest.try_recv() {
            guest.begin();
            match message {
                ToIsolate::Event { name, data } => {
                    guest.send(FromIsolate::Event { name, data }).unwrap();
                }
                _ => while !guest.is_ending() {},
            }
            guest.end();
            guest.done(size);
        }
        guest.set_idle(true);
        if guest.poll_ready(&mut cx).is_pending() {
            std::thread::park();
        }
    }
    guest.report();
}

#[test]
fn guest_in_a_child_process_answers_and_is_held_to_its_limits() {
    block_on(async {
        let supervisor = supervisor(Children);
        let limits = Limits {
            cpu: Some(Duration::from_millis(50)),
            ..Limits::default()
        };
        let (handle, queue) = create(
            &supervisor,
            IsolateOptions {
                limits,
                ..options()
            },
        )
        .await;
        for number in 0..100 {
            handle.send("echo", Payload::new(&number).unwrap()).unwrap();
        }
        let mut numbers = Vec::new();
        while numbers.len() < 100 {
            for event in queue.events().await.1 {
                let Event::Message { data, .. } = event else {
                    panic!("{event:?}")
                };
                numbers.push(data.read::<usize>().unwrap());
            }
        }
        assert!(numbers.into_iter().eq(0..100));
        let call = handle.call("for ever", Payload::from_json("[]".to_owned()));
        assert!(call.await.is_err());
        let events = until_destroyed(&queue).await;
        let [Event::Terminated { reason, detail, .. }, _] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!(*reason, TerminateReason::CpuLimit);
        assert_eq!(detail, "cpuLimitMs 50");
    });
}
