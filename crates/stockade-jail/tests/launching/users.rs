//! The same tests as an ordinary user, and inside user namespaces.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use stockade_jail::{Launcher, Level};

use crate::supervisor::{closed, spec};

/// An id that is nobody's.
const NOBODY: u32 = 65_534;

/// Set in a process of this program that runs as another user: these tests would start themselves for ever.
const VARIABLE: &str = "STOCKADE_TEST_USER";

/// Only where there are no user namespaces.
const WITHOUT: &str = "users::without_user_namespaces";

pub(crate) fn trials() -> Vec<Trial> {
    if std::env::var_os(VARIABLE).is_some() {
        return vec![
            Trial::test(WITHOUT, || {
                without_user_namespaces();
                Ok(())
            })
            .with_ignored_flag(true),
        ];
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
        Trial::test("users::no_user_namespaces_is_refused", || {
            if !can("unshare", &["--user", "--map-root-user", "true"]) {
                return skip("unshare --user --map-root-user does not work here");
            }
            let mut command = Command::new("unshare");
            command
                .args(["--user", "--map-root-user", "sh", "-c"])
                .arg("echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" \"$@\"")
                .arg(std::env::current_exe()?)
                .args(["--ignored", "--exact", WITHOUT]);
            run(command)
        }),
    ]
}

/// What a container says where no user namespace can be made, and that a process needs none.
fn without_user_namespaces() {
    let refused = Launcher::get()
        .unwrap()
        .launch(&spec(Level::Container), Box::new(|_| {}))
        .unwrap_err();
    assert_eq!(refused.layer, "user namespace");
    assert!(refused.what.contains("No space left"), "{refused}");
    assert!(
        refused
            .checked
            .contains("/proc/sys/user/max_user_namespaces = 0"),
        "{refused}"
    );
    assert!(
        refused
            .fix
            .contains("sysctl user.max_user_namespaces=15000"),
        "{refused}"
    );
    let tested = closed(&spec(Level::Process));
    tested.say("hello");
    assert_eq!(tested.receive(), "hello\n");
    let lacked = stockade_jail::layers()
        .into_iter()
        .find(|layer| layer.name == "user namespace")
        .unwrap();
    assert!(!lacked.available && lacked.fix.contains("sysctl"));
}

fn can(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .output()
        .is_ok_and(|output| output.status.success())
}

fn skip(why: &str) -> Result<(), Failed> {
    crate::supervisor::note(&format!("skipped: {why}"));
    Ok(())
}

fn run(mut command: Command) -> Result<(), Failed> {
    let output = command
        .env(VARIABLE, "1")
        .args(["--color", "never"])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && text.contains(" 0 failed") && !text.contains(" 0 passed") {
        return Ok(());
    }
    Err(format!("{text}\n{}", String::from_utf8_lossy(&output.stderr)).into())
}
