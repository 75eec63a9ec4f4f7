//! How workers end, and that nothing of them is left.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, kill_process};
use stockade_jail::{CgroupUse, ExitStatus, JailEvent, JailSpec, Launcher, Level};

use crate::supervisor::{
    LEVELS, VARIABLE, cgroups, children, closed, descriptors, eventually, is_alive, launcher, note,
    spec, start,
};

/// Starts and kills at random instants, for each level; `STOCKADE_TEST_KILLS` sets another number.
const KILLS: u32 = 500;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for level in LEVELS {
        for (name, test) in [
            ("says_how_it_ended", statuses as fn(Level)),
            ("denied_call_is_reported_and_fatal", denied),
            ("handle_dropped_ends_it", dropped),
            ("killed_at_any_instant_leaves_nothing", killed),
        ] {
            trials.push(Trial::test(format!("ends::{level:?}_{name}"), move || {
                test(level);
                Ok(())
            }));
        }
    }
    trials.push(Trial::test("ends::out_of_memory_is_reported", || {
        out_of_memory();
        Ok(())
    }));
    trials.push(Trial::test("ends::supervisor_killed_ends_all", || {
        supervisor_killed();
        Ok(())
    }));
    trials.push(Trial::test(
        "ends::both_killed_ends_all_and_is_swept",
        || {
            both_killed();
            Ok(())
        },
    ));
    trials.push(Trial::test(
        "ends::launcher_killed_ends_its_workers",
        || {
            launcher_killed();
            Ok(())
        },
    ));
    trials
}

fn statuses(level: Level) {
    let ended = |line: &str| {
        let tested = closed(&spec(level));
        tested.say(line);
        tested.ended().1
    };
    assert_eq!(ended("exit").status, ExitStatus::Exited(7));
    assert_eq!(
        ended("abort").status,
        ExitStatus::Signaled(Signal::ABORT.as_raw())
    );
    assert_eq!(
        ended("panic").status,
        ExitStatus::Signaled(Signal::ABORT.as_raw())
    );
    let tested = closed(&spec(level));
    tested.worker.kill();
    let (_, exit) = tested.ended();
    assert_eq!(exit.status, ExitStatus::Signaled(Signal::KILL.as_raw()));
    assert!(exit.max_rss > 0 && exit.cpu > Duration::ZERO && !exit.oom_killed);
    // Its supervisor is gone from its point of view: the socket is closed.
    let tested = closed(&spec(level));
    tested.socket.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(tested.ended().1.status, ExitStatus::Exited(0));
}

fn denied(level: Level) {
    let tested = closed(&spec(level));
    tested.say("socket");
    let (events, exit) = tested.ended();
    let [JailEvent::Denied(denial)] = &events[..] else {
        unreachable!("{events:?}");
    };
    assert_eq!(denial.syscall, "socket");
    assert_eq!(exit.status, ExitStatus::Signaled(Signal::KILL.as_raw()));
}

fn dropped(level: Level) {
    let tested = closed(&spec(level));
    drop(tested.worker);
    while !matches!(
        tested.events.recv_timeout(Duration::from_secs(90)).unwrap(),
        JailEvent::Exited(_)
    ) {}
}

/// What a supervisor and its launcher hold.
fn held() -> (usize, usize, usize, usize) {
    let me = std::process::id() as i32;
    let launcher = launcher();
    let workers = cgroups(me)
        .iter()
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with('w'))
        })
        .count();
    (
        descriptors(me),
        // Of a process that is not dumpable only root sees them.
        if rustix::process::geteuid().is_root() {
            descriptors(launcher)
        } else {
            0
        },
        children(me).len() + children(launcher).len(),
        workers,
    )
}

fn killed(level: Level) {
    closed(&spec(level)).ended_by_drop();
    eventually("nothing left of the tests before", || held().3 == 0);
    let before = held();
    let signals: Vec<Signal> = (1..32).filter_map(Signal::from_named_raw).collect();
    let kills =
        std::env::var("STOCKADE_TEST_KILLS").map_or(KILLS, |number| number.parse().unwrap());
    for round in 0..kills {
        let tested = start(&spec(level));
        let signal = signals[round as usize % signals.len()];
        if round % 3 == 0 {
            tested.say("close");
        }
        // Up to a little longer than a start takes.
        std::thread::sleep(Duration::from_micros(u64::from(round * 7919 % 2000)));
        let pid = Pid::from_raw(tested.worker.pid()).unwrap();
        // It is not reaped before its exit is reported, which nobody has waited for yet; but it may be now.
        let _ = kill_process(pid, signal);
        // The first process of a PID namespace lives through most of them, and any stops for SIGSTOP.
        tested.ended_by_drop();
    }
    eventually(&format!("as before, {before:?}, now {:?}", held()), || {
        held() == before
    });
}

fn out_of_memory() {
    let required = JailSpec {
        memory: Some(1 << 20),
        // Room in RLIMIT_DATA, for stacks that are not there, so that the cgroup is the tighter limit.
        threads: 64,
        cgroup: CgroupUse::Require,
        ..spec(Level::Container)
    };
    if let Err(error) = Launcher::get().unwrap().launch(&required, Box::new(|_| {})) {
        note(&format!("skipped: {error}"));
        return;
    }
    let tested = closed(&required);
    tested.say("eat");
    let (_, exit) = tested.ended();
    assert!(exit.oom_killed, "{exit:?}");
    assert_eq!(exit.status, ExitStatus::Signaled(Signal::KILL.as_raw()));
    assert!(exit.max_rss > 50 << 20, "{exit:?}");
}

/// A supervisor with a worker of each level; the ids of its launcher and its workers.
fn other_supervisor() -> (Child, Vec<i32>) {
    let mut supervisor = Command::new("/proc/self/exe")
        .env(VARIABLE, "Process Container")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(supervisor.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let pids: Vec<i32> = line
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect();
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    (supervisor, pids)
}

fn supervisor_killed() {
    let (mut supervisor, pids) = other_supervisor();
    let id = supervisor.id() as i32;
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    eventually("all dead", || !pids.iter().any(|pid| is_alive(*pid)));
    eventually("all cgroups removed", || cgroups(id).is_empty());
}

fn both_killed() {
    let (mut supervisor, pids) = other_supervisor();
    let id = supervisor.id() as i32;
    // Stopped, it cannot clean up before it is killed.
    for (pid, signal) in [(pids[0], Signal::STOP), (pids[0], Signal::KILL)] {
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    eventually("all dead", || !pids.iter().any(|pid| is_alive(*pid)));
    // The next launcher of anybody sweeps what is left.
    let (mut next, _) = other_supervisor();
    eventually("cgroups swept", || cgroups(id).is_empty());
    next.kill().unwrap();
    next.wait().unwrap();
}

fn launcher_killed() {
    let workers: Vec<_> = LEVELS.iter().map(|level| closed(&spec(*level))).collect();
    let pids: Vec<i32> = workers.iter().map(|tested| tested.worker.pid()).collect();
    let before = launcher();
    kill_process(Pid::from_raw(before).unwrap(), Signal::KILL).unwrap();
    for tested in workers {
        let (_, exit) = tested.ended();
        assert_eq!(exit.status, ExitStatus::Signaled(Signal::KILL.as_raw()));
    }
    eventually("all dead", || !pids.iter().any(|pid| is_alive(*pid)));
    for level in LEVELS {
        let tested = closed(&spec(level));
        tested.say("hello");
        assert_eq!(tested.receive(), "hello\n");
    }
    assert_ne!(launcher(), before);
    eventually("cgroups of the first removed", || held().3 == 0);
}
