//! The cases.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use stockade_jail::{JailEvent, JailSpec, Launcher, Level};

use crate::supervisor::{
    LEVELS, cgroups, children, closed, descriptors, eventually, is_alive, launcher, note, spec,
    start,
};

/// Starts and kills at random instants, for each level; `STOCKADE_TEST_KILLS` sets another number.
const KILLS: u32 = 500;

/// Memory that a process of ours may have gained in a test: the allocator rounds.
const SLACK: u64 = 4 << 20;

/// An id that is nobody's.
const NOBODY: u32 = 65_534;

/// Set in a process of this program that runs as another user.
const VARIABLE: &str = "STOCKADE_TEST_USER";

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, test) in [
        ("killed_at_any_instant_leaves_nothing", killed as fn(Level)),
        ("lost_by_its_template_is_made_without_it", lost),
        ("refused_leaves_nothing_and_ends_no_other", refused),
        // Last: it leaves templates that the others would take for theirs.
        ("of_another_template_has_other_addresses", own),
    ] {
        for level in LEVELS {
            trials.push(Trial::test(
                format!("clones::{level:?}_{name}"),
                move || {
                    test(level);
                    Ok(())
                },
            ));
        }
    }
    if std::env::var_os(VARIABLE).is_none() && is_root() {
        trials.push(Trial::test("clones::ordinary_user", ordinary_user));
    }
    trials
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The same as an ordinary user, whom limits on processes bind.
fn ordinary_user() -> Result<(), Failed> {
    let output = Command::new("/proc/self/exe")
        .gid(NOBODY)
        .uid(NOBODY)
        .env(VARIABLE, "1")
        .args(["--color", "never"])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && text.contains(" 0 failed") && !text.contains(" 0 passed") {
        return Ok(());
    }
    Err(format!("{text}\n{}", String::from_utf8_lossy(&output.stderr)).into())
}

fn is_template(pid: i32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| line.starts_with(b"stockade-template"))
}

/// Templates of the launcher that live.
fn templates() -> BTreeSet<i32> {
    let all = children(launcher()).into_iter();
    all.filter(|pid| is_template(*pid) && is_alive(*pid))
        .collect()
}

/// The template there is, from which a worker has just been cloned. A clone goes on with the thread that made it, and a
/// worker that the launcher made has a second one.
fn template(level: Level) -> i32 {
    eventually("a clone", || {
        let tested = closed(&spec(level));
        let threads = fs::read_dir(format!("/proc/{}/task", tested.worker.pid()));
        let cloned = threads.is_ok_and(|threads| threads.count() == 1);
        tested.ended_by_drop();
        cloned
    });
    *templates().first().unwrap()
}

/// Bytes of memory that a process has for itself.
fn memory(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mut fields = text
        .split_whitespace()
        .skip_while(|word| *word != "RssAnon:");
    fields
        .nth(1)
        .map_or(0, |kibibytes| kibibytes.parse::<u64>().unwrap() << 10)
}

/// What the supervisor and its launcher hold: descriptors of both, processes except templates, cgroups of workers.
fn held() -> (usize, usize, usize, usize) {
    let (me, launcher) = (std::process::id() as i32, launcher());
    let is_worker = |path: &std::path::PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy());
        name.is_some_and(|name| name.starts_with('w'))
    };
    let templates = templates().len();
    (
        descriptors(me),
        // Each template has one for its socket and one for its process. Of a process that is not dumpable only root
        // sees them.
        if is_root() {
            descriptors(launcher) - 2 * templates
        } else {
            0
        },
        children(me).len() + children(launcher).len() - templates,
        cgroups(me).into_iter().filter(is_worker).count(),
    )
}

fn held_again(before: (usize, usize, usize, usize)) {
    eventually(&format!("as before, {before:?}, now {:?}", held()), || {
        held() == before
    });
}

fn killed(level: Level) {
    template(level);
    eventually("nothing left of the tests before", || held().3 == 0);
    let before = held();
    let grown = memory(launcher());
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
    held_again(before);
    let grown = memory(launcher()).saturating_sub(grown);
    assert!(grown <= SLACK, "the launcher has grown by {grown} bytes");
}

/// Lets a process have at most this number of them. False if it has ended.
fn limit(pid: i32, resource: Resource, most: Option<u64>) -> bool {
    let limited = prlimit(
        Pid::from_raw(pid),
        resource,
        Rlimit {
            current: most,
            maximum: getrlimit(resource).maximum,
        },
    );
    if matches!(limited, Err(rustix::io::Errno::SRCH)) {
        return false;
    }
    limited.unwrap();
    true
}

/// Where a template cannot make a clone, or cannot say that it has, the worker is made without it, and nothing is left
/// of the attempt.
fn lost(level: Level) {
    closed(&spec(level)).ended_by_drop();
    eventually("nothing left of the tests before", || held().3 == 0);
    let before = held();
    let mut ended = 0;
    // A template has five descriptors. It gets up to six more for a worker, and one of the clone: the first limits
    // let it receive none, the next some, and then it has none for the clone.
    for more in 0..8 {
        let template = template(level);
        assert!(limit(template, Resource::Nofile, Some(5 + more)));
        works_or_says_why(level);
        // It may have ended: at once, or once it was noticed that it does not answer.
        let usual = getrlimit(Resource::Nofile).current;
        limit(template, Resource::Nofile, usual);
        echo(level);
        held_again(before);
        // One that was killed is dead by now: the launcher has made another worker since.
        ended += usize::from(!is_alive(template));
    }
    assert!(ended >= 3, "only {ended} templates noticed their limit");
    if is_root() {
        note("left out: the limit on processes does not bind root");
        return;
    }
    let template = template(level);
    assert!(limit(template, Resource::Nproc, Some(0)));
    echo(level);
    eventually("the template ends", || !is_alive(template));
    held_again(before);
}

/// Where the launcher has no descriptor left, a worker is refused with the fix, and the others go on.
fn refused(level: Level) {
    template(level);
    eventually("nothing left of the tests before", || held().3 == 0);
    let other = closed(&spec(level));
    let before = held();
    let launcher = launcher();
    let open = match is_root() {
        true => descriptors(launcher) as u64,
        false => 8,
    };
    assert!(limit(launcher, Resource::Nofile, Some(open)));
    let refusal = (Launcher::get()
        .unwrap()
        .launch(&spec(level), Box::new(|_| {})))
    .unwrap_err();
    assert!(refusal.fix.contains("ulimit -n"), "{refusal}");
    let usual = getrlimit(Resource::Nofile).current;
    assert!(limit(launcher, Resource::Nofile, usual));
    other.say("hello");
    assert_eq!(other.receive(), "hello\n");
    echo(level);
    held_again(before);
}

/// Where the program lies in the memory of a worker.
fn address(spec: &JailSpec) -> String {
    let tested = closed(spec);
    let address = address_of(tested.worker.pid());
    tested.ended_by_drop();
    address
}

fn address_of(pid: i32) -> String {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let program = fs::read_link("/proc/self/exe").unwrap();
    let mut lines = maps.lines();
    let line = lines.find(|line| line.ends_with(&*program.to_string_lossy()));
    let (address, _) = line.unwrap().split_once('-').unwrap();
    address.to_owned()
}

/// Workers with a template of their own share no address with others, and all of one name have the same.
fn own(level: Level) {
    if !is_root() {
        note("left out: only root sees the memory map of a worker");
        return;
    }
    template(level);
    let of = |name: Option<&str>| {
        address(&JailSpec {
            template: name.map(str::to_owned),
            ..spec(level)
        })
    };
    let (shared, first, second) = (of(None), of(Some("a")), of(Some("b")));
    assert!(shared != first && shared != second && first != second);
    for (name, address) in [(None, &shared), (Some("a"), &first), (Some("b"), &second)] {
        assert_eq!(of(name), *address);
    }
    // Where the template of a tenant is killed, the next worker has a new one.
    let killed = templates()
        .into_iter()
        .find(|pid| address_of(*pid) == first);
    kill_process(Pid::from_raw(killed.unwrap()).unwrap(), Signal::KILL).unwrap();
    let again = of(Some("a"));
    assert!(![&shared, &first, &second].contains(&&again));
    // Many tenants: the templates that were not used for longest end, and each is made again when it is needed.
    for tenant in 0..40 {
        of(Some(&tenant.to_string()));
    }
    assert!(templates().len() <= 32 + 4, "{:?}", templates());
    assert!(!of(Some("a")).is_empty());
}

/// A worker is made and works; or, where its template left it too few descriptors, it says so and ends.
fn works_or_says_why(level: Level) {
    let tested = start(&spec(level));
    // One that has failed does not read it.
    let _ = (&tested.socket).write_all(b"close\n");
    match tested.event() {
        JailEvent::Closed => {
            tested.say("hello");
            assert_eq!(tested.receive(), "hello\n");
        }
        JailEvent::Failed(error) => assert!(!error.fix.is_empty(), "{error}"),
        other => assert!(matches!(other, JailEvent::Failed(_)), "{other:?}"),
    }
    tested.ended_by_drop();
}

/// A worker is made and works.
fn echo(level: Level) {
    let tested = closed(&spec(level));
    tested.say("hello");
    assert_eq!(tested.receive(), "hello\n");
    tested.ended_by_drop();
}
