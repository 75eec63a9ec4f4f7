//! One layer taken away.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::Value;

use crate::cases::{CASES, Case, Refused, Taken};
use crate::leftovers;
use crate::taking::Deny;

/// Has this program take calls away and become another.
pub(crate) const WITHOUT: &str = "--without";

/// The case in which what is left is attacked.
const ATTACKED: &str = "user namespaces are refused";

const STOCKADE: &str = env!("CARGO_BIN_EXE_stockade");

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(120);

const GUEST: &str = "export function main() { console.log('the guest ran'); return 7; }";

const HOST: &str = "
const [isolation, wx, cgroup] = Deno.args;
const sandbox = new V8Sandbox({ isolation, wx, cgroup });
try {
  const isolate = await sandbox.createIsolate();
  console.log(await isolate.evaluate(\"'the guest ran'\"));
  sandbox.shutdown();
} catch (error) {
  console.error(error.message);
  Deno.exit(3);
}
";

/// A level as a user asks for it.
#[derive(Clone, Copy)]
struct Level {
    isolation: &'static str,
    wx: &'static str,
    cgroup: &'static str,
}

const fn level(isolation: &'static str, wx: &'static str, cgroup: &'static str) -> Level {
    Level {
        isolation,
        wx,
        cgroup,
    }
}

const LEVELS: [Level; 7] = [
    level("thread", "jit", "auto"),
    level("process", "jit", "auto"),
    level("process", "strict", "auto"),
    level("process", "jit", "require"),
    level("container", "jit", "auto"),
    level("container", "strict", "auto"),
    level("container", "jit", "require"),
];

impl Level {
    fn is_refused(self, refused: Refused) -> bool {
        match refused {
            Refused::Workers => self.isolation != "thread",
            Refused::Containers => self.isolation == "container",
            Refused::Strict => self.wx == "strict",
            Refused::Require => self.cgroup == "require",
            Refused::Nobody => false,
        }
    }
}

/// The calls that this case takes away.
pub(crate) fn calls(case: &str) -> &'static [Deny] {
    let case = CASES.iter().find(|known| known.name == case).unwrap();
    match case.taken {
        Taken::Calls(calls) => calls,
        Taken::Around { .. } => &[],
    }
}

/// What a command did.
struct Ended {
    pid: u32,
    code: Option<i32>,
    out: String,
    err: String,
}

/// What doctor says.
struct Diagnosis {
    code: Option<i32>,
    /// Layers, and whether they are there.
    missing: BTreeSet<String>,
    listed: BTreeSet<String>,
    /// Isolation, wx, cgroup of what works.
    works: BTreeSet<[String; 3]>,
}

pub(crate) fn run(case: &Case) -> Result<(), Failed> {
    // What this machine lacks anyway, it lacks here too.
    let before = diagnose(case, false)?;
    let now = diagnose(case, true)?;
    let expected: BTreeSet<String> = case
        .missing
        .iter()
        .map(|&name| name.to_owned())
        .chain(before.missing)
        .filter(|name| now.listed.contains(name))
        .collect();
    expect(now.missing == expected, || {
        format!(
            "doctor says that {:?} are missing, not {expected:?}",
            now.missing
        )
    })?;
    let mut all_work = true;
    for level in LEVELS {
        let key = [level.isolation, level.wx, level.cgroup].map(str::to_owned);
        let refused = level.is_refused(case.refused);
        let should_work = before.works.contains(&key) && !refused;
        // Where only `cgroup: require` does not work, the levels are complete.
        all_work &= should_work || level.cgroup == "require";
        expect(now.works.contains(&key) == should_work, || {
            format!("doctor says that {key:?} works: {}", !should_work)
        })?;
        // Where it does not work anyway, the refusal may name something else.
        let words = match before.works.contains(&key) {
            true => case.words,
            false => &[],
        };
        let refused = !should_work;
        if level.wx == "jit" && level.cgroup == "auto" {
            let guest = file("guest.ts", GUEST);
            let ended = run_case(
                case,
                true,
                &["exec", &guest, "--isolation", level.isolation],
            )?;
            check(&ended, refused, words, 7, 1)?;
        }
        let host = file("host.js", HOST);
        let ended = run_case(
            case,
            true,
            &["run", &host, "--", level.isolation, level.wx, level.cgroup],
        )?;
        check(&ended, refused, words, 0, 3)?;
    }
    let code = i32::from(!all_work);
    expect(now.code == Some(code), || {
        format!("doctor ends with {:?}, not {code}", now.code)
    })
}

/// A level that cannot be built is not attacked, which is not a success.
pub(crate) fn attack_what_is_there() -> Result<(), Failed> {
    let case = CASES
        .iter()
        .find(|case| case.name == ATTACKED)
        .ok_or("no such case")?;
    let ended = run_case(case, true, &["doctor", "--json", "--attack", "13"])?;
    let found: Value = serde_json::from_str(&ended.out)?;
    for level in found["attack"]["walls"].as_array().ok_or("no levels")? {
        let tried = level["held"] != 0;
        expect(tried == (level["level"] == "process"), || level.to_string())?;
        expect(tried == level["error"].is_null(), || level.to_string())?;
        expect(level["broken"] == 0, || level.to_string())?;
    }
    expect(found["ok"] == false && ended.code == Some(1), || {
        format!("exit code {:?}", ended.code)
    })
}

/// Sees that a command refused, and said what, what was checked and what to do; or that it worked.
fn check(ended: &Ended, refused: bool, words: &[&str], done: i32, no: i32) -> Result<(), Failed> {
    let Ended { code, out, err, .. } = ended;
    let expected = if refused { no } else { done };
    expect(*code == Some(expected), || {
        format!("exit code {code:?}, not {expected}: {out}{err}")
    })?;
    expect(out.contains("the guest ran") != refused, || {
        format!("whether the guest ran: {out}{err}")
    })?;
    if refused {
        for word in words.iter().chain(&["\n  checked: ", "\n  fix: "]) {
            expect(err.contains(word), || format!("'{word}' is not in: {err}"))?;
        }
    }
    leftovers::wait_until_gone(ended.pid).map_err(Failed::from)
}

fn diagnose(case: &Case, taken: bool) -> Result<Diagnosis, Failed> {
    let ended = run_case(case, taken, &["doctor", "--json"])?;
    let found: Value = serde_json::from_str(&ended.out)
        .map_err(|error| format!("{error}: {}{}", ended.out, ended.err))?;
    leftovers::wait_until_gone(ended.pid)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let layers = |wanted: fn(&Value) -> bool| {
        let layers = found["layers"].as_array().into_iter().flatten();
        layers
            .filter(|layer| wanted(layer))
            .map(|layer| text(&layer["name"]))
            .collect()
    };
    let levels = found["levels"].as_array().into_iter().flatten();
    Ok(Diagnosis {
        code: ended.code,
        missing: layers(|layer| layer["available"] == false),
        listed: layers(|_| true),
        works: levels
            .filter(|level| level["works"] == true)
            .map(|level| [&level["isolation"], &level["wx"], &level["cgroup"]].map(text))
            .collect(),
    })
}

/// Runs `stockade` where the case has taken something away, or in the same place where it has not.
fn run_case(case: &Case, taken: bool, arguments: &[&str]) -> Result<Ended, Failed> {
    let mut command;
    match case.taken {
        Taken::Calls(_) if taken => {
            command = Command::new(std::env::current_exe()?);
            command.args([WITHOUT, case.name, STOCKADE]);
        }
        Taken::Calls(_) => command = Command::new(STOCKADE),
        // The user is what is taken away, or is an ordinary one already.
        Taken::Around { program, .. } if program[0] == "setpriv" && !(taken && is_root()) => {
            command = Command::new(STOCKADE);
        }
        Taken::Around { program, script } => {
            let script = if taken { script } else { "true" };
            let stockade = if program[0] == "setpriv" {
                reachable_program()
            } else {
                Path::new(STOCKADE)
            };
            command = Command::new(program[0]);
            if !is_root() {
                command.arg("-r");
            }
            command.args(&program[1..]);
            command.args(["sh", "-c", &format!("{script} && exec \"$@\""), "sh"]);
            command.arg(stockade);
        }
    }
    let directory = directory();
    let path = |kind: &str| directory.join(format!("{:?}-{kind}", std::thread::current().id()));
    let (out, err) = (path("out"), path("err"));
    let mut child = command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(File::create(&out)?)
        .stderr(File::create(&err)?)
        .spawn()?;
    let until = Instant::now() + PATIENCE;
    let code = loop {
        if let Some(status) = child.try_wait()? {
            break status.code();
        }
        if Instant::now() > until {
            child.kill()?;
            child.wait()?;
            return Err(format!("{arguments:?} does not end").into());
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    Ok(Ended {
        pid: child.id(),
        code,
        out: fs::read_to_string(out)?,
        err: fs::read_to_string(err)?,
    })
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Removes what the trials have written.
pub(crate) fn tidy() {
    let _ = fs::remove_dir_all(directory());
}

/// The program at a path that every user may reach: Cargo's target folder may lie in one user's home.
fn reachable_program() -> &'static PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let program = directory().join("stockade");
        fs::hard_link(STOCKADE, &program)
            .or_else(|_| fs::copy(STOCKADE, &program).map(drop))
            .unwrap();
        program
    })
}

/// A folder that every user may read.
fn directory() -> &'static PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        use std::os::unix::fs::PermissionsExt as _;
        let name = format!("stockade-fail-closed-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        directory
    })
}

fn file(name: &str, text: &str) -> String {
    let path = directory().join(name);
    if !path.exists() {
        let new = directory().join(format!("{:?}-{name}", std::thread::current().id()));
        fs::write(&new, text).unwrap();
        fs::rename(new, &path).unwrap();
    }
    path.to_str().unwrap().to_owned()
}

fn expect(condition: bool, message: impl FnOnce() -> String) -> Result<(), Failed> {
    match condition {
        true => Ok(()),
        false => Err(message().into()),
    }
}
