//! A worker that is a thread of the test with one end of a socket pair, and is a process by name only.

use std::io::ErrorKind;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use stockade_limits::{CpuShare, IsolateOptions, Isolation, Limits};
use stockade_protocol::frame::{FromWorker, Reader, ToWorker, encode};
use stockade_protocol::{FromIsolate, Payload, ToIsolate};
use stockade_supervisor::{
    Event, EventQueue, ExitCause, LaunchedWorker, StartError, TerminateReason, WorkerEvent,
    WorkerEvents, WorkerExit, WorkerLauncher, WorkerProcess,
};

use crate::{block_on, create, options, supervisor, until_destroyed};

/// What the test and the supervisor know of one worker.
pub(crate) struct Machine {
    events: WorkerEvents,
    socket: UnixStream,
    killed: AtomicBool,
    pauses: AtomicUsize,
    /// It computes, at a second for each time that its clock is read.
    pub(crate) computes: AtomicBool,
    clock: AtomicU64,
}

impl Machine {
    /// CPU time until now.
    pub(crate) fn clock(&self) -> Duration {
        Duration::from_secs(self.clock.load(Ordering::SeqCst))
    }

    pub(crate) fn exit(&self, cause: ExitCause) {
        let _ = self.socket.shutdown(Shutdown::Both);
        (self.events)(WorkerEvent::Exited(WorkerExit {
            cause,
            peak_memory: 0,
            cpu: Duration::ZERO,
        }));
    }
}

struct Process(Arc<Machine>);

impl WorkerProcess for Process {
    fn kill(&self) {
        if !self.0.killed.swap(true, Ordering::SeqCst) {
            self.0.exit(ExitCause::Crashed {
                detail: "it was switched off".to_owned(),
                exhausted_above: None,
            });
        }
    }

    fn pause(&self) {
        self.0.pauses.fetch_add(1, Ordering::SeqCst);
    }

    fn resume(&self) {}

    fn cpu_time(&self) -> Option<Duration> {
        let computed = u64::from(self.0.computes.load(Ordering::SeqCst));
        let clock = self.0.clock.fetch_add(computed, Ordering::SeqCst);
        Some(Duration::from_secs(clock))
    }
}

/// The worker's end, as the test plays it.
pub(crate) struct Worker {
    pub(crate) machine: Arc<Machine>,
    socket: UnixStream,
    reader: Reader<ToWorker>,
}

impl Worker {
    fn event(&self, event: WorkerEvent) {
        (self.machine.events)(event);
    }

    pub(crate) fn send(&mut self, frame: FromWorker) {
        // The host may have switched it off meanwhile.
        let _ = encode(frame).write_to(&mut self.socket);
    }

    pub(crate) fn next(&mut self) -> Option<ToWorker> {
        self.reader.read_from(&mut self.socket).ok().flatten()
    }

    /// Is sealed and starts the isolate that comes.
    pub(crate) fn start(&mut self) -> Option<u32> {
        self.event(WorkerEvent::Sealed);
        self.send(FromWorker::Ready);
        let ToWorker::Start { isolate, .. } = self.next()? else {
            return None;
        };
        self.send(FromWorker::Started {
            isolate,
            problem: None,
        });
        Some(isolate)
    }

    /// Sends events back and replies to calls with their arguments, until it is switched off.
    fn echo(mut self) {
        let Some(isolate) = self.start() else { return };
        let mut seen = 0;
        while let Some(ToWorker::Message { message, .. }) = self.next() {
            let bytes = message.size() as u64;
            let message = match message {
                ToIsolate::Event { name, data } => FromIsolate::Event { name, data },
                ToIsolate::Call { id, args, .. } => FromIsolate::Reply {
                    id,
                    result: Ok(args),
                },
                other => panic!("{other:?}"),
            };
            self.send(FromWorker::Message { isolate, message });
            seen += 1;
            self.send(FromWorker::Taken {
                isolate,
                messages: 1,
                bytes,
            });
            self.send(FromWorker::State {
                isolate,
                idle: true,
                seen,
                cpu_ns: 0,
                memory: 0,
            });
        }
    }
}

pub(crate) struct Scripted<F>(pub(crate) F);

impl<F: Fn(Worker) + Clone + Send + Sync + 'static> WorkerLauncher for Scripted<F> {
    type Spec = u32;

    fn isolation(&self) -> Isolation {
        Isolation::Container
    }

    fn spec(&self, _: &IsolateOptions, isolates: u32) -> u32 {
        isolates
    }

    fn launch(&self, _: &u32, events: WorkerEvents) -> Result<LaunchedWorker, StartError> {
        let (host, worker) = UnixStream::pair().unwrap();
        let machine = Arc::new(Machine {
            events,
            socket: worker.try_clone().unwrap(),
            killed: AtomicBool::new(false),
            pauses: AtomicUsize::new(0),
            computes: AtomicBool::new(false),
            clock: AtomicU64::new(0),
        });
        let inside = Worker {
            machine: Arc::clone(&machine),
            socket: worker,
            reader: Reader::new(),
        };
        let script = self.0.clone();
        std::thread::spawn(move || script(inside));
        Ok(LaunchedWorker {
            process: Box::new(Process(machine)),
            socket: OwnedFd::from(host),
        })
    }
}

fn broken_layer() -> WorkerEvent {
    WorkerEvent::Failed(StartError {
        what: "the layer has a hole".to_owned(),
        checked: "the layer".to_owned(),
        fix: "mend it".to_owned(),
    })
}

#[test]
fn messages_pass_and_the_end_switches_the_worker_off() {
    let (sender, machines) = std::sync::mpsc::channel();
    block_on(async {
        let supervisor = supervisor(Scripted(move |worker: Worker| {
            let _ = sender.send(Arc::clone(&worker.machine));
            worker.echo();
        }));
        let (handle, queue) = create(&supervisor, options()).await;
        let machine = machines.recv().unwrap();
        for size in [1, 100_000, 3 << 20] {
            let data = Payload::from_bytes(vec![7; size]);
            handle.send("echo", data).unwrap();
            let events = queue.events().await.1;
            let [Event::Message { name, data }] = &events[..] else {
                panic!("{events:?}")
            };
            assert_eq!(
                (name.as_str(), &data.bytes[..]),
                ("echo", &[vec![7; size]][..])
            );
        }
        let reply = handle.call("f", Payload::from_json("[1]".to_owned())).await;
        assert_eq!(reply.unwrap().json, "[1]");
        assert!(!machine.killed.load(Ordering::SeqCst));
        handle.destroy();
        assert!(machine.killed.load(Ordering::SeqCst));
        until_destroyed(&queue).await;
    });
}

#[test]
fn nothing_is_written_to_a_worker_before_it_is_sealed() {
    block_on(async {
        let supervisor = supervisor(Scripted(|mut worker: Worker| {
            let wait = |socket: &UnixStream, time| socket.set_read_timeout(time).unwrap();
            wait(&worker.socket, Some(Duration::from_millis(100)));
            let early = worker.reader.read_from(&mut worker.socket);
            assert_eq!(early.unwrap_err().kind(), ErrorKind::WouldBlock);
            wait(&worker.socket, None);
            worker.echo();
        }));
        let (handle, _queue) = create(&supervisor, options()).await;
        handle.destroy();
    });
}

#[test]
fn layer_that_fails_while_an_isolate_is_assigned_is_named() {
    block_on(async {
        let supervisor = supervisor(Scripted(|worker: Worker| {
            worker.event(broken_layer());
            worker.machine.exit(ExitCause::Crashed {
                detail: "exit code 135".to_owned(),
                exhausted_above: None,
            });
        }));
        for _ in 0..200 {
            let created = supervisor.create(options(), &EventQueue::new()).await;
            let error = created.err().unwrap().to_string();
            assert!(error.contains("the layer has a hole"), "{error}");
        }
    });
}

#[test]
fn worker_that_ends_before_it_answers_is_named_by_its_end() {
    block_on(async {
        let supervisor = supervisor(Scripted(|mut worker: Worker| {
            worker.event(WorkerEvent::Sealed);
            worker.next();
            worker.machine.exit(ExitCause::OutOfMemory);
        }));
        let created = supervisor.create(options(), &EventQueue::new()).await;
        let error = created.err().unwrap().to_string();
        assert!(error.contains("memory_limit_exceeded"), "{error}");
    });
}

#[test]
fn backstop_ends_a_worker_by_its_clock_whatever_it_says() {
    block_on(async {
        let supervisor = supervisor(Scripted(|mut worker: Worker| {
            worker.start();
            // The message that it works on.
            worker.next();
            worker.machine.computes.store(true, Ordering::SeqCst);
            worker.next();
        }));
        let limits = Limits {
            cpu: Some(Duration::from_millis(10)),
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
        handle.send("work", Payload::default()).unwrap();
        let events = until_destroyed(&queue).await;
        let [Event::Terminated { reason, detail, .. }, _] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!(*reason, TerminateReason::CpuLimit);
        assert_eq!(detail, "cpuLimitMs 10, by its process as a whole");
    });
}

#[test]
fn backstop_pauses_a_worker_that_is_far_ahead_of_its_share() {
    let (sender, machines) = std::sync::mpsc::channel();
    block_on(async {
        let supervisor = supervisor(Scripted(move |mut worker: Worker| {
            let _ = sender.send(Arc::clone(&worker.machine));
            worker.start();
            worker.machine.computes.store(true, Ordering::SeqCst);
            worker.next();
        }));
        let limits = Limits {
            cpu: None,
            cpu_share: CpuShare::new(0.1).unwrap(),
            ..Limits::default()
        };
        let (handle, _queue) = create(
            &supervisor,
            IsolateOptions {
                limits,
                ..options()
            },
        )
        .await;
        let machine = machines.recv().unwrap();
        while machine.pauses.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        handle.destroy();
    });
}
