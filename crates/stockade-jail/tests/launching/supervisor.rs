//! The supervisor's side of these tests.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use stockade_jail::{CgroupUse, Exit, JailEvent, JailSpec, Launcher, Level, Role, Worker, Wx};

/// Set in a process of this program that is to be a supervisor, with the levels of its workers.
pub(crate) const VARIABLE: &str = "STOCKADE_TEST_SUPERVISOR";

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(90);

pub(crate) const LEVELS: [Level; 2] = [Level::Process, Level::Container];

/// A worker of these tests.
pub(crate) struct Tested {
    pub(crate) worker: Worker,
    pub(crate) socket: UnixStream,
    pub(crate) events: Receiver<JailEvent>,
}

pub(crate) fn spec(level: Level) -> JailSpec {
    JailSpec {
        level,
        wx: Wx::Jit,
        role: Role::Isolates,
        memory: Some(64 << 20),
        cpu_share: None,
        isolates: 1,
        threads: 8,
        cgroup: CgroupUse::Auto,
        template: None,
    }
}

pub(crate) fn start(spec: &JailSpec) -> Tested {
    let (send, events) = channel();
    let (worker, socket) = Launcher::get()
        .unwrap()
        .launch(
            spec,
            Box::new(move |event| {
                let _ = send.send(event);
            }),
        )
        .unwrap();
    let socket = UnixStream::from(socket);
    socket.set_read_timeout(Some(LONG)).unwrap();
    Tested {
        worker,
        socket,
        events,
    }
}

/// A sealed worker.
pub(crate) fn closed(spec: &JailSpec) -> Tested {
    let tested = start(spec);
    tested.say("close");
    assert_eq!(tested.event(), JailEvent::Closed);
    tested
}

impl Tested {
    pub(crate) fn say(&self, line: &str) {
        (&self.socket)
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
    }

    /// Its answer, up to an empty line where there are more.
    pub(crate) fn receive(&self) -> String {
        let mut line = String::new();
        BufReader::new(&self.socket).read_line(&mut line).unwrap();
        line
    }

    pub(crate) fn look(&self) -> Vec<(String, String)> {
        self.say("look");
        BufReader::new(&self.socket)
            .lines()
            .map(Result::unwrap)
            .take_while(|line| !line.is_empty())
            .map(|line| {
                let (key, value) = line.split_once('=').unwrap();
                (key.to_owned(), value.to_owned())
            })
            .collect()
    }

    pub(crate) fn event(&self) -> JailEvent {
        self.events.recv_timeout(LONG).unwrap()
    }

    /// Drops its handle and waits until it has ended.
    pub(crate) fn ended_by_drop(self) {
        drop(self.worker);
        drop(self.socket);
        let until = Instant::now() + LONG;
        while !matches!(
            self.events
                .recv_timeout(until.saturating_duration_since(Instant::now()))
                .unwrap(),
            JailEvent::Exited(_)
        ) {}
    }

    /// Waits for its end; everything received before is returned too.
    pub(crate) fn ended(self) -> (Vec<JailEvent>, Exit) {
        let mut before = Vec::new();
        loop {
            match self.event() {
                JailEvent::Exited(exit) => {
                    // Nothing comes after, and the handler is let go of.
                    assert!(self.events.recv_timeout(LONG).is_err());
                    return (before, exit);
                }
                other => before.push(other),
            }
        }
    }
}

/// The launcher of this process: its only child by that name.
pub(crate) fn launcher() -> i32 {
    children(std::process::id() as i32)
        .into_iter()
        .find(|pid| {
            fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.starts_with(b"stockade-launcher"))
        })
        .unwrap()
}

/// The processes whose parent is this one, zombies too.
pub(crate) fn children(parent: i32) -> Vec<i32> {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| parent_of(*pid) == Some(parent))
        .collect()
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// The state of a process as ps(1) shows it.
pub(crate) fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.trim_start().chars().next()
}

/// Whether a process with this id exists and is not a zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    state(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Open descriptors of a process.
pub(crate) fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Cgroups of workers of this supervisor, in every hierarchy of this machine.
pub(crate) fn cgroups(supervisor: i32) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut look = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = look.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let path = entry.path();
            let ours = path
                .to_string_lossy()
                .contains(&format!("/stockade-{supervisor}-"));
            if ours {
                found.push(path.clone());
            }
            look.push(path);
        }
    }
    found
}

/// Prints something for the person who runs the tests.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Waits until it is so.
pub(crate) fn eventually(what: &str, so: impl Fn() -> bool) {
    let until = Instant::now() + LONG;
    while !so() {
        assert!(Instant::now() < until, "{what} within {LONG:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Is a supervisor: starts a worker of each level, says their process ids, and goes on for good.
pub(crate) fn run(levels: &str) -> ! {
    let mut pids = vec![0];
    let mut kept = Vec::new();
    for level in LEVELS {
        if levels.contains(&format!("{level:?}")) {
            let tested = closed(&spec(level));
            pids.push(tested.worker.pid());
            kept.push(tested);
        }
    }
    pids[0] = launcher();
    let line: Vec<String> = pids.iter().map(i32::to_string).collect();
    let mut out = std::io::stdout();
    writeln!(out, "{}", line.join(" ")).unwrap();
    loop {
        std::thread::park();
    }
}
