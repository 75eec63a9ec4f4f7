//! The supervisor's half: launches workers, has them make the attempts, and inspects the result
//! from outside.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use stockade_jail::{
    CgroupUse, Denial, Exit, ExitStatus, JailError, JailEvent, JailSpec, Launcher, Level, Role,
    Worker, Wx, allowed_syscalls,
};
use syscalls::Sysno;

use crate::attack::{Attack, Expect};
use crate::attacks::attacks;
use crate::controls::{self, index_of};
use crate::judge::{Seen, answered_by_surroundings, is_filtered, judge, resolve};
use crate::outcome::Outcome;
use crate::plant::Surroundings;
use crate::report::{AttemptResult, Report};
use crate::request::Request;
use crate::targets::Targets;
use crate::worker::THREADS;

/// Bytes that a worker may use.
const MEMORY: u64 = 64 << 20;
/// How long a worker may take to seal itself.
const START: Duration = Duration::from_secs(10);
/// How long an attempt may take.
const ATTEMPT: Duration = Duration::from_secs(20);
/// How long what can only be killed goes on before it is.
const GOES_ON: Duration = Duration::from_millis(100);
/// How long the report of a worker's end may take.
const END: Duration = Duration::from_secs(5);

/// The last number that [`Arena::sweep`] tries: well behind any table.
const LAST_NUMBER: i64 = 560;
/// Calls that only the kernel's own probes make (uretprobe, uprobe), which filters do not see.
const PROBES: &[i64] = if cfg!(target_arch = "x86_64") {
    &[335, 336]
} else {
    &[]
};

/// The results of trying every number of a system call that is not allowed.
#[derive(Debug, Default)]
pub struct Sweep {
    /// How many were denied.
    pub denied: usize,
    /// How each of the others ended.
    pub others: Vec<String>,
}

/// One level and its surroundings.
#[derive(Debug)]
pub struct Arena {
    level: Level,
    wx: Wx,
    launcher: Arc<Launcher>,
    surroundings: Surroundings,
    /// Another worker, which no attempt may reach, and which does the harmless things.
    bystander: Mutex<Option<Prisoner>>,
    /// Whether a seccomp filter confines this program itself.
    filtered: bool,
}

impl Arena {
    /// Plants secrets and targets, and starts the launcher if there is none yet. The program must have called
    /// `stockade_jail::run_if_launcher` with [`crate::main`], and [`crate::plant_secrets`] after it.
    ///
    /// # Errors
    /// If something cannot be planted or the launcher cannot be started.
    pub fn open(level: Level, wx: Wx) -> Result<Self, JailError> {
        let surroundings = Surroundings::plant().map_err(|error| JailError {
            layer: "attack".to_owned(),
            what: format!("cannot lay out what is to be attacked ({error})"),
            checked: "a file in the folder for temporary files, a TCP and a Unix listener"
                .to_owned(),
            fix: "give this user a writable folder for temporary files (TMPDIR)".to_owned(),
        })?;
        let launcher = Launcher::get()?;
        Ok(Self {
            level,
            wx,
            launcher,
            surroundings,
            bystander: Mutex::new(None),
            filtered: is_filtered(),
        })
    }

    /// Makes one attempt and its harmless control.
    ///
    /// # Errors
    /// If a worker cannot be started at this level.
    pub fn run(&self, attack: &'static Attack) -> Result<Report, JailError> {
        let mut report = Report {
            group: attack.group,
            name: attack.name,
            control: attack.control,
            level: self.level,
            wx: self.wx,
            result: AttemptResult::Held,
            denial: None,
            micros: 0,
        };
        let expect = resolve(&attack.expect, self.level, self.wx);
        if let Expect::GivenUp(why) = expect {
            report.result = AttemptResult::Skipped {
                why: (*why).to_owned(),
            };
            return Ok(report);
        }
        let mut bystander = self
            .bystander
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let other = match bystander.take() {
            Some(other) => bystander.insert(other),
            None => bystander.insert(self.launch()?),
        };
        let prisoner = self.launch()?;
        let pid = prisoner.worker.pid();
        let targets = self.surroundings.targets(pid, other.worker.pid(), MEMORY);
        let start = Instant::now();
        let seen = prisoner.attempt(attack, expect, targets);
        report.micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        report.denial = seen.denial.as_ref().map(Denial::to_string);
        if answered_by_surroundings(expect, &seen, self.filtered) {
            report.result = AttemptResult::Skipped {
                why: "the seccomp filter around this program, such as a container engine's, refuses the call first"
                    .to_owned(),
            };
            return Ok(report);
        }
        let judged = judge(expect, &seen, MEMORY)
            .and_then(|()| self.surroundings.check(pid))
            .and_then(|()| other.control(attack.control));
        if let Err(why) = judged {
            report.result = AttemptResult::Broken { why };
            // whatever became of it, the next attempt gets a new one
            *bystander = None;
        }
        Ok(report)
    }

    /// Tries every number of a system call that is not among the allowed ones, known or not, each in
    /// a worker of its own.
    ///
    /// # Errors
    /// If a worker cannot be started at this level.
    pub fn sweep(&self) -> Result<Sweep, JailError> {
        let allowed: Vec<i64> = allowed_syscalls(self.wx)
            .iter()
            .filter_map(|name| name.parse::<Sysno>().ok())
            .map(|number| i64::from(number.id()))
            .collect();
        let mut sweep = Sweep::default();
        for number in (0..=LAST_NUMBER).filter(|number| !allowed.contains(number)) {
            let mut prisoner = self.launch()?;
            // no address, no descriptor, no known flags: if it goes through it fails
            let reply = prisoner.ask(
                &Request::Call {
                    number,
                    args: [u64::MAX; 6],
                },
                ATTEMPT,
            );
            let probe = PROBES.contains(&number);
            if let WorkerReply::Answer(outcome) = reply {
                // filters do not see it, and the kernel refuses it
                if probe && outcome == Outcome::Refused(libc::ENXIO) {
                    continue;
                }
                sweep.others.push(format!("{number}: {outcome:?}"));
                continue;
            }
            match prisoner.wait() {
                (Some(denial), _) if i64::from(denial.number) == number => sweep.denied += 1,
                (None, Some(exit))
                    if probe && exit.status == ExitStatus::Signaled(libc::SIGILL) => {}
                other => sweep.others.push(format!("{number}: {other:?}")),
            }
        }
        Ok(sweep)
    }

    /// A sealed worker.
    fn launch(&self) -> Result<Prisoner, JailError> {
        let spec = JailSpec {
            level: self.level,
            wx: self.wx,
            role: Role::Attack,
            memory: Some(MEMORY),
            cpu_share: None,
            isolates: 1,
            threads: THREADS,
            cgroup: CgroupUse::Auto,
            template: None,
        };
        let (send, events) = mpsc::channel();
        let (worker, socket) = self.launcher.launch(
            &spec,
            Box::new(move |event| {
                let _ = send.send(event);
            }),
        )?;
        let error = match events.recv_timeout(START) {
            Ok(JailEvent::Closed) => {
                return Ok(Prisoner {
                    worker,
                    socket: socket.into(),
                    events,
                });
            }
            Ok(JailEvent::Failed(error)) => return Err(error),
            Ok(event) => format!("{event:?}"),
            Err(error) => error.to_string(),
        };
        Err(JailError {
            layer: "attack".to_owned(),
            what: format!("a worker ended or hung before it was sealed: {error}"),
            checked: format!("{:?}, {:?}", self.level, self.wx),
            fix: "report this as a bug".to_owned(),
        })
    }
}

/// A confined worker.
#[derive(Debug)]
struct Prisoner {
    worker: Worker,
    socket: UnixStream,
    events: Receiver<JailEvent>,
}

/// What came over the socket.
enum WorkerReply {
    Answer(Outcome),
    /// The worker closed its end.
    End,
    /// Nothing in time, or nothing that makes sense.
    Nothing(String),
}

impl Prisoner {
    /// Has it do something.
    fn ask(&mut self, request: &Request, patience: Duration) -> WorkerReply {
        let sent = request
            .to_line()
            .map_err(std::io::Error::from)
            .and_then(|line| self.socket.write_all(&line));
        match sent {
            Ok(()) => self.receive(patience),
            Err(error) => WorkerReply::Nothing(format!("the request could not be sent ({error})")),
        }
    }

    fn receive(&mut self, patience: Duration) -> WorkerReply {
        let deadline = Instant::now() + patience;
        let mut line = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() || line.len() > 1 << 20 {
                return WorkerReply::Nothing(format!("no answer after {patience:?}"));
            }
            let read = self
                .socket
                .set_read_timeout(Some(rest))
                .and_then(|()| self.socket.read(&mut buffer));
            match read {
                Ok(0) => return WorkerReply::End,
                Ok(count) => line.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                // a worker that was killed with unread bytes resets its socket
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    return WorkerReply::End;
                }
                Err(_) => {}
            }
            if line.ends_with(b"\n") {
                return match serde_json::from_slice::<Option<Outcome>>(&line) {
                    Ok(Some(outcome)) => WorkerReply::Answer(outcome),
                    Ok(None) => {
                        WorkerReply::Nothing("the worker does not know this attempt".to_owned())
                    }
                    Err(error) => WorkerReply::Nothing(format!("an answer that is none ({error})")),
                };
            }
        }
    }

    /// Has it do a harmless thing.
    fn control(&mut self, name: &str) -> Result<(), String> {
        let Some(index) = index_of(name) else {
            return Err(format!("there is no control '{name}'"));
        };
        match self.ask(&Request::Control { index }, ATTEMPT) {
            WorkerReply::Answer(Outcome::Works) => Ok(()),
            WorkerReply::Answer(other) => {
                Err(format!("another worker, asked for '{name}': {other:?}"))
            }
            WorkerReply::End => Err(format!(
                "another worker ended, asked for '{name}'{}",
                self.ending()
            )),
            WorkerReply::Nothing(why) => Err(format!("another worker, asked for '{name}': {why}")),
        }
    }

    /// What is known about its end, for a message.
    fn ending(&self) -> String {
        let (denial, exit) = self.wait();
        let denial = denial
            .map(|denial| format!("; denied: {denial}"))
            .unwrap_or_default();
        let exit = exit
            .map(|exit| format!("; {:?}", exit.status))
            .unwrap_or_default();
        format!("{denial}{exit}")
    }

    /// Has it try something, and ends it.
    fn attempt(mut self, attack: &'static Attack, expect: &Expect, targets: Targets) -> Seen {
        let index = attacks()
            .position(|other| std::ptr::eq(other, attack))
            .unwrap_or(usize::MAX);
        let request = Request::Attack { index, targets };
        let mut seen = Seen::default();
        if let Expect::KilledInTime = expect {
            match self.ask(&request, GOES_ON) {
                WorkerReply::Answer(outcome) => seen.outcome = Some(outcome),
                // it may close its socket and go on
                WorkerReply::End => std::thread::sleep(GOES_ON),
                WorkerReply::Nothing(_) => {}
            }
            // nobody reads any more what it may send
            seen.exit_before_kill = self
                .events
                .try_recv()
                .ok()
                .map(|event| format!("{event:?}"));
            let kill = Instant::now();
            self.worker.kill();
            (seen.denial, seen.exit) = self.wait();
            seen.killed_in = Some(kill.elapsed());
            return seen;
        }
        match self.ask(&request, ATTEMPT) {
            WorkerReply::Answer(outcome) => {
                seen.outcome = Some(outcome);
                seen.look(self.worker.pid());
                let alive = index_of(controls::MESSAGES).map(|index| Request::Control { index });
                seen.went_on = alive.is_some_and(|control| {
                    matches!(
                        self.ask(&control, ATTEMPT),
                        WorkerReply::Answer(Outcome::Works)
                    )
                });
                if seen.went_on {
                    self.worker.kill();
                    // its end by this kill says nothing about the attempt
                    (seen.denial, _) = self.wait();
                    return seen;
                }
            }
            WorkerReply::End => {}
            WorkerReply::Nothing(why) => {
                seen.trouble = Some(why);
                self.worker.kill();
            }
        }
        (seen.denial, seen.exit) = self.wait();
        // by then its number may belong to another process
        self.worker.kill();
        seen
    }

    /// Waits for its end; what was on record until then.
    fn wait(&self) -> (Option<Denial>, Option<Exit>) {
        let deadline = Instant::now() + END;
        let mut denial = None;
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(rest) {
                Ok(JailEvent::Denied(new)) => denial = denial.or(Some(new)),
                Ok(JailEvent::Exited(exit)) => return (denial, Some(exit)),
                Ok(JailEvent::Closed | JailEvent::Failed(_)) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return (denial, None);
                }
            }
        }
    }
}
