//! The cases.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it left out"
)]

use std::collections::BTreeSet;
use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stockade::{
    CgroupUse, Event, Isolate, IsolateOptions, Isolation, Limits, Sandbox, SandboxOptions, Wx,
};

fn block_on(test: impl Future<Output = ()>) {
    static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    });
    RUNTIME.block_on(test);
}

fn sandbox() -> Sandbox {
    Sandbox::new(SandboxOptions {
        warm: 0,
        ..SandboxOptions::default()
    })
}

fn options(isolation: Isolation) -> IsolateOptions {
    IsolateOptions {
        isolation,
        ..IsolateOptions::default()
    }
}

fn children(pid: u32) -> BTreeSet<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    (threads.into_iter().flatten().flatten())
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| {
            let pids: Vec<u32> = list
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect();
            pids
        })
        .collect()
}

/// Workers that live: children of this program's launcher, except the templates that it clones them from.
fn workers() -> BTreeSet<u32> {
    let alive = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.trim_start().chars().next());
        stat.contains("(stockade-worker)") && state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
    };
    (children(std::process::id()).into_iter())
        .flat_map(children)
        .filter(alive)
        .collect()
}

/// An isolate that answers, and its worker.
async fn create(sandbox: &Sandbox, options: IsolateOptions) -> (Isolate, u32) {
    let before = workers();
    let mut isolate = sandbox.create(options).await.unwrap();
    answers(&mut isolate).await;
    let new: Vec<u32> = workers().difference(&before).copied().collect();
    let [worker] = new[..] else {
        panic!("one worker was to come, these did: {new:?}");
    };
    (isolate, worker)
}

async fn answers(isolate: &mut Isolate) {
    let sum: u32 = isolate.evaluate("20 + 22").await.unwrap().read().unwrap();
    assert_eq!(sum, 42);
}

pub(crate) fn signals(level: Isolation) {
    let fatal = [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGSEGV,
        Signal::SIGABRT,
        Signal::SIGUSR1,
        Signal::SIGXCPU,
        Signal::SIGKILL,
    ];
    block_on(async {
        let sandbox = sandbox();
        let (mut neighbour, _) = create(&sandbox, options(level)).await;
        for signal in fatal {
            let (mut isolate, worker) = create(&sandbox, options(level)).await;
            kill(Pid::from_raw(worker.try_into().unwrap()), signal).unwrap();
            // The first process of a namespace does not receive signals that it has no handler for, but
            // SIGKILL (pid_namespaces(7)).
            let may_live = level == Isolation::Container && signal != Signal::SIGKILL;
            if may_live && isolate.evaluate("20 + 22").await.is_ok() {
                continue;
            }
            let mut reason = None;
            while let Some(event) = isolate.next().await {
                if let Event::Terminated {
                    reason: why,
                    detail,
                    ..
                } = event
                {
                    reason = Some((why.name(), detail));
                }
            }
            let (reason, detail) =
                reason.unwrap_or_else(|| panic!("{signal}: no reason was reported"));
            assert_eq!(reason, "crashed", "{signal}: {detail}");
            assert!(detail.contains(signal.as_str()), "{signal}: {detail}");
            answers(&mut neighbour).await;
        }
        sandbox.shutdown();
    });
}

/// Mappings that may be executed and are no part of a file.
fn own_code(worker: u32) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{worker}/maps")).unwrap();
    let executable = |line: &&str| {
        let mut fields = line.split_whitespace();
        let may = fields.nth(1).is_some_and(|flags| flags.contains('x'));
        let file = fields.nth(3);
        may && !matches!(file, Some(file) if file.starts_with('/') || file == "[vdso]" || file == "[vsyscall]")
    };
    maps.lines().filter(executable).map(str::to_owned).collect()
}

const HOT: &str = "let sum = 0; for (let i = 0; i < 3e6; i++) sum += i % 7; sum";

/// Whether this user may read the memory map of a worker: it may not be dumped.
fn may_look() -> bool {
    let may = rustix::process::geteuid().is_root();
    if !may {
        eprintln!("left out: only root may read /proc/<worker>/maps");
    }
    may
}

async fn code_after_work(level: Isolation, wx: Wx) -> Vec<String> {
    let sandbox = sandbox();
    let options = IsolateOptions {
        wx,
        limits: Limits {
            cpu: None,
            wall: None,
            ..Limits::default()
        },
        ..options(level)
    };
    let (mut isolate, worker) = create(&sandbox, options).await;
    isolate.evaluate(HOT).await.unwrap();
    let found = own_code(worker);
    sandbox.shutdown();
    found
}

pub(crate) fn strict(level: Isolation) {
    if may_look() {
        block_on(async {
            assert_eq!(
                code_after_work(level, Wx::Strict).await,
                Vec::<String>::new()
            );
        });
    }
}

pub(crate) fn jit(level: Isolation) {
    if may_look() {
        block_on(async {
            assert_ne!(code_after_work(level, Wx::Jit).await, Vec::<String>::new());
        });
    }
}

pub(crate) fn groups(level: Isolation) {
    let in_group = |name: &str| IsolateOptions {
        group: Some(name.to_owned()),
        ..options(level)
    };
    block_on(async {
        let sandbox = sandbox();
        let (mut first, worker) = create(&sandbox, in_group("a")).await;
        let mut second = sandbox.create(in_group("a")).await.unwrap();
        answers(&mut second).await;
        let (mut stranger, other) = create(&sandbox, in_group("b")).await;
        let (_alone, alone) = create(&sandbox, options(level)).await;
        assert_eq!(workers(), BTreeSet::from([worker, other, alone]));
        // Its worker goes with all its isolates and with nobody else's.
        kill(Pid::from_raw(worker.try_into().unwrap()), Signal::SIGKILL).unwrap();
        for isolate in [&mut first, &mut second] {
            while isolate.next().await.is_some() {}
        }
        answers(&mut stranger).await;
        sandbox.shutdown();
    });
}

/// The directories of a process's cgroups for memory and pids, in either version.
fn cgroups_of(worker: u32) -> Vec<PathBuf> {
    let list = fs::read_to_string(format!("/proc/{worker}/cgroup")).unwrap();
    list.lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            let root = match controllers {
                "" => "/sys/fs/cgroup".to_owned(),
                "memory" | "pids" => format!("/sys/fs/cgroup/{controllers}"),
                _ => return None,
            };
            path.contains("/stockade-")
                .then(|| PathBuf::from(root + path))
        })
        .collect()
}

pub(crate) fn cgroups(level: Isolation) {
    block_on(async {
        let sandbox = sandbox();
        let wanted = IsolateOptions {
            cgroup: CgroupUse::Require,
            limits: Limits {
                memory: Some(64 << 20),
                ..Limits::default()
            },
            ..options(level)
        };
        let (isolate, worker) = match sandbox.create(wanted.clone()).await {
            Ok(isolate) => {
                isolate.destroy();
                create(&sandbox, wanted).await
            }
            Err(error) => return eprintln!("left out: {error}"),
        };
        let groups = cgroups_of(worker);
        let read = |names: [&str; 2]| {
            groups
                .iter()
                .find_map(|group| {
                    names
                        .iter()
                        .find_map(|name| fs::read_to_string(group.join(name)).ok())
                })
                .unwrap_or_else(|| panic!("{names:?} is in none of {groups:?}"))
        };
        let memory: u64 = read(["memory.max", "memory.limit_in_bytes"])
            .trim()
            .parse()
            .unwrap();
        assert!((64 << 20..1 << 30).contains(&memory), "{memory}");
        let pids: u64 = read(["pids.max", "pids.max"]).trim().parse().unwrap();
        assert!((1..100).contains(&pids), "{pids}");
        isolate.destroy();
        let gone = || groups.iter().all(|group| !group.exists());
        let deadline = Instant::now() + Duration::from_secs(60);
        while !gone() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(gone(), "left behind: {groups:?}");
        sandbox.shutdown();
    });
}

/// Children of this program's launcher that workers are cloned from.
fn templates() -> BTreeSet<u32> {
    let is_template = |pid: &u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim_end() == "stockade-templ"
    };
    (children(std::process::id()).into_iter())
        .flat_map(children)
        .filter(is_template)
        .collect()
}

/// Threads of a worker that comes from a template.
const CLONED: usize = 3;

/// Threads of a process. A worker that the launcher made has four: the one that was cloned, the isolate's, the one that
/// watches its limits and the one for blocking work. One that comes from a template goes on with the isolate's.
fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
}

/// Starts isolates until one comes from a template, and returns the template.
async fn until_cloned(sandbox: &Sandbox, level: Isolation) -> u32 {
    for _ in 0..1000 {
        let (isolate, worker) = create(sandbox, options(level)).await;
        let cloned = threads(worker) == CLONED;
        isolate.destroy();
        if cloned {
            let all = templates();
            assert_eq!(all.len(), 1);
            return *all.first().unwrap();
        }
    }
    panic!("no worker came from a template");
}

/// How often the bytes are in the memory of a process.
fn count_in_memory(pid: u32, bytes: &[u8]) -> usize {
    use std::os::unix::fs::FileExt as _;
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut count = 0;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let range = line.split(' ').next().unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        let (mut at, to) = (number(from), number(to));
        let mut page = [0; 4096];
        while at < to {
            // Pages that cannot be read hold nothing of anybody.
            if memory.read_exact_at(&mut page, at).is_ok() {
                count += page
                    .windows(bytes.len())
                    .filter(|&part| part == bytes)
                    .count();
            }
            at += page.len() as u64;
        }
    }
    count
}

pub(crate) fn secrets_of_others(level: Isolation) {
    if !may_look() {
        return;
    }
    block_on(async {
        let sandbox = sandbox();
        let template = until_cloned(&sandbox, level).await;
        // Put together in the guest, so that the text is nowhere but in what evaluates it.
        let half = format!(
            "{:032x}",
            u128::from(std::process::id()) * 0x9e37_79b9_7f4a_7c15
        );
        let (mut owner, first) = create(&sandbox, options(level)).await;
        let planted = format!(
            "globalThis.kept = ['{half}', 'planted'].join('-secret-'); kept.length + (kept + '').indexOf('!')"
        );
        owner.evaluate(&planted).await.unwrap();
        let (_other, second) = create(&sandbox, options(level)).await;
        assert_eq!((threads(first), threads(second)), (CLONED, CLONED));
        let secret = format!("{half}-secret-planted");
        assert_ne!(count_in_memory(first, secret.as_bytes()), 0);
        assert_eq!(count_in_memory(second, secret.as_bytes()), 0);
        assert_eq!(count_in_memory(template, secret.as_bytes()), 0);
        // What a guest had is not in the memory of one that comes after it.
        drop(owner);
        let (_third, third) = create(&sandbox, options(level)).await;
        assert_eq!(count_in_memory(third, secret.as_bytes()), 0);
        // The template holds its socket and the launcher's pidfd besides three that lead nowhere.
        let open = fs::read_dir(format!("/proc/{template}/fd"))
            .unwrap()
            .count();
        assert_eq!(open, 5);
        sandbox.shutdown();
    });
}

/// How many clones are compared; `STOCKADE_TEST_CLONES` sets another number.
const COMPARED: usize = 200;

/// Everything that a guest can draw from a generator of random numbers, as texts.
const DRAWN: &str = r#"(async () => {
  const hex = (bytes) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const key = async (algorithm, uses, format = "raw") => {
    const made = await crypto.subtle.generateKey(algorithm, true, uses);
    return hex(await crypto.subtle.exportKey(format, made.publicKey ?? made));
  };
  return [
    ...Array.from({ length: 4 }, () => String(Math.random())),
    hex(crypto.getRandomValues(new Uint8Array(8))), crypto.randomUUID(),
    await key({ name: "AES-GCM", length: 128 }, ["encrypt"]),
    await key({ name: "HMAC", hash: "SHA-256" }, ["sign"]),
    await key({ name: "Ed25519" }, ["sign"]),
    await key({ name: "ECDSA", namedCurve: "P-256" }, ["sign"]),
    await key({ name: "X25519" }, ["deriveBits"]),
    URL.createObjectURL(new Blob(["a"])),
    (await new Response(new FormData()).text()).trim(),
  ];
})()"#;

pub(crate) fn draws(level: Isolation) {
    let clones =
        std::env::var("STOCKADE_TEST_CLONES").map_or(COMPARED, |number| number.parse().unwrap());
    block_on(async {
        let sandbox = sandbox();
        until_cloned(&sandbox, level).await;
        let mut seen = BTreeSet::new();
        for clone in 0..clones {
            let mut isolate = sandbox.create(options(level)).await.unwrap();
            let drawn: Vec<String> = isolate.evaluate(DRAWN).await.unwrap().read().unwrap();
            assert_eq!(drawn.len(), 13);
            for value in drawn {
                assert!(
                    !value.is_empty() && seen.insert(value.clone()),
                    "clone {clone} has drawn {value:?}, as another one has"
                );
            }
            isolate.destroy();
        }
        sandbox.shutdown();
    });
}

/// Starts and ends of isolates; `STOCKADE_TEST_KILLS` sets another number.
const KILLS: u32 = 300;

/// Memory that this program and its launcher may gain: the allocators round, and a process that has started much
/// keeps the room for it.
const SLACK: u64 = 16 << 20;

/// Bytes of memory that a process has for itself.
fn memory_of(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mut fields = text
        .split_whitespace()
        .skip_while(|word| *word != "RssAnon:");
    fields.nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// Descriptors of this program and its launcher, and its workers' cgroups and processes.
fn held() -> [usize; 4] {
    let me = std::process::id();
    let descriptors = |pid| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    let launcher = launcher();
    let templates = templates().len();
    // `stockade-<this program>-<its start>/w<worker>` in every hierarchy of this machine.
    let mut groups = 0;
    let mut look = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = look.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let path = entry.path();
                let text = path.to_string_lossy();
                groups +=
                    usize::from(text.contains(&format!("/stockade-{me}-")) && text.contains("/w"));
                look.push(path);
            }
        }
    }
    [
        descriptors(me),
        // One for the socket of each template and one for its process.
        descriptors(launcher).saturating_sub(2 * templates),
        children(launcher).len() - templates,
        groups,
    ]
}

fn launcher() -> u32 {
    let is_launcher = |pid: &u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim_end() == "stockade-launch"
    };
    let mut launchers = children(std::process::id()).into_iter().filter(is_launcher);
    launchers.next().unwrap()
}

pub(crate) fn nothing_left(level: Isolation) {
    let kills =
        std::env::var("STOCKADE_TEST_KILLS").map_or(KILLS, |number| number.parse().unwrap());
    block_on(async {
        let sandbox = sandbox();
        until_cloned(&sandbox, level).await;
        // What is made once is made now: the first hundred count for nothing.
        let mut before = None;
        for round in 0..kills + 100 {
            if round == 100 {
                before = Some((
                    at_most(None).await,
                    memory_of(std::process::id()),
                    memory_of(launcher()),
                ));
            }
            let options = IsolateOptions {
                limits: Limits {
                    cpu: Some(Duration::from_millis(20)),
                    ..Limits::default()
                },
                ..options(level)
            };
            let mut isolate = sandbox.create(options).await.unwrap();
            match round % 4 {
                // Ended by its host, before and after it did something.
                0 => isolate.destroy(),
                1 => {
                    answers(&mut isolate).await;
                    isolate.destroy();
                }
                // Ended by itself, and by somebody else.
                2 => {
                    let _ = isolate.evaluate("for (;;);").await;
                }
                _ => {
                    for worker in workers() {
                        let _ = kill(Pid::from_raw(worker.try_into().unwrap()), Signal::SIGKILL);
                    }
                    while isolate.next().await.is_some() {}
                }
            }
        }
        let (held, own, of_launcher) = before.unwrap();
        at_most(Some(held)).await;
        for (what, now, before) in [
            ("this program", memory_of(std::process::id()), own),
            ("the launcher", memory_of(launcher()), of_launcher),
        ] {
            let grown = now.saturating_sub(before);
            assert!(grown <= SLACK, "{what} has grown by {grown} bytes");
        }
        sandbox.shutdown();
    });
}

/// Waits until no worker is left and no more is held than that.
async fn at_most(most: Option<[usize; 4]>) -> [usize; 4] {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let now = held();
        let fits = |most: [usize; 4]| now.iter().zip(most).all(|(now, most)| *now <= most);
        if now[2] == 0 && most.is_none_or(fits) {
            return now;
        }
        assert!(Instant::now() < deadline, "{most:?} before, {now:?} now");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn template_that_dies(level: Isolation) {
    block_on(async {
        let sandbox = sandbox();
        let template = until_cloned(&sandbox, level).await;
        let (mut clone, _) = create(&sandbox, options(level)).await;
        kill(Pid::from_raw(template.try_into().unwrap()), Signal::SIGKILL).unwrap();
        // Those that were cloned from it live on, and new ones come without it.
        answers(&mut clone).await;
        let (mut next, _) = create(&sandbox, options(level)).await;
        answers(&mut next).await;
        let another = until_cloned(&sandbox, level).await;
        assert_ne!(another, template);
        answers(&mut clone).await;
        sandbox.shutdown();
    });
}
