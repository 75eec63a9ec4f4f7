//! The same tests as an ordinary user, and inside user namespaces.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use libtest_mimic::{Failed, Trial};

/// An id that is nobody's.
const NOBODY: u32 = 65_534;

/// Set in a process of this program that runs as another user: these tests would start themselves for ever.
const VARIABLE: &str = "STOCKADE_TEST_USER";

pub(crate) fn trials() -> Vec<Trial> {
    if std::env::var_os(VARIABLE).is_some() {
        return Vec::new();
    }
    vec![
        Trial::test("users::ordinary_user", || {
            if !rustix::process::geteuid().is_root() {
                return skip("these tests run as an ordinary user already");
            }
            let mut command = Command::new("/proc/self/exe");
            command.gid(NOBODY).uid(NOBODY);
            run(command)
        }),
        Trial::test("users::root_of_a_user_namespace", || {
            if !can("unshare", &["--user", "--map-root-user", "true"]) {
                return skip("unshare --user --map-root-user does not work here");
            }
            let program = std::env::current_exe()?;
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user"]).arg(program);
            run(command)
        }),
    ]
}

fn can(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .output()
        .is_ok_and(|output| output.status.success())
}

fn skip(why: &str) -> Result<(), Failed> {
    eprintln!("skipped: {why}");
    Ok(())
}

fn run(mut command: Command) -> Result<(), Failed> {
    let output = command
        .env(VARIABLE, "1")
        .args(["--color", "never"])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && text.contains(" 0 failed") {
        return Ok(());
    }
    Err(format!("{text}\n{}", String::from_utf8_lossy(&output.stderr)).into())
}
