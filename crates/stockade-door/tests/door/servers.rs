//! Starts servers as an unprivileged user, and ends them with the test.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// Debian's `nobody` and `nogroup`.
const NOBODY: u32 = 65_534;

/// The password of all users. No guest may ever see it.
pub(crate) const PASSWORD: &str = "planted-Secret-7";

/// A server's process, with its folder.
pub(crate) struct Running {
    child: Child,
    pub(crate) folder: TempDir,
    pub(crate) port: u16,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program of this name, in the usual folders and in PostgreSQL's.
#[expect(clippy::print_stdout, reason = "a test says why it is skipped")]
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let postgres = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let postgres = postgres.flatten().map(|version| version.path().join("bin"));
    let usual = ["/usr/sbin", "/usr/bin"].map(PathBuf::from);
    let found = postgres
        .chain(usual)
        .map(|folder| folder.join(name))
        .find(|path| path.exists());
    if found.is_none() {
        println!("skipped: {name} is not installed");
    }
    found
}

/// A folder that the servers' user may write to.
pub(crate) fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if is_root() {
        chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    folder
}

fn is_root() -> bool {
    fs::metadata("/proc/self")
        .is_ok_and(|of_self| std::os::unix::fs::MetadataExt::uid(&of_self) == 0)
}

/// A command that runs as an unprivileged user and ends with this process.
pub(crate) fn unprivileged(program: &Path, folder: &TempDir) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        let id = NOBODY.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
    }
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
        .current_dir(folder.path())
        .env("HOME", folder.path())
        .env("TMPDIR", folder.path());
    command
}

/// A port that nobody listens on. It is none of those that the kernel gives meanwhile to sockets without a port of their
/// own, and another one each time.
pub(crate) fn free_port() -> u16 {
    static TURN: AtomicU32 = AtomicU32::new(0);
    loop {
        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        // Processes that test at the same time begin at different ports.
        let offset = (std::process::id() * 13 + turn) % 20_000;
        let port = 10_000 + u16::try_from(offset).unwrap();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Runs a command to its end, which must be a success.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}{errors}");
    text
}

/// Starts a server, and waits until it has written `ready` to one of its outputs.
pub(crate) fn start(mut command: Command, folder: TempDir, port: u16, ready: &str) -> Running {
    let (reader, writer) = std::io::pipe().unwrap();
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().unwrap())
        .stderr(writer);
    let child = command.spawn().unwrap();
    drop(command);
    let running = Running {
        child,
        folder,
        port,
    };
    let mut output = String::new();
    let mut reader = BufReader::new(reader);
    while !output.contains(ready) {
        let read = reader.read_line(&mut output).unwrap();
        assert!(read > 0, "the server did not start: {output}");
    }
    // It must not block when the pipe is full.
    std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    running
}

/// PostgreSQL with the superuser `admin` and the database `shop`.
pub(crate) fn postgres(settings: &[&str]) -> Option<Running> {
    let (initdb, postgres) = (program("initdb")?, program("postgres")?);
    let folder = folder();
    let password = folder.path().join("password");
    fs::write(&password, PASSWORD).unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o644)).unwrap();
    run(unprivileged(&initdb, &folder)
        .args([
            "-D",
            "data",
            "-U",
            "admin",
            "--pwfile",
            "password",
            "-A",
            "scram-sha-256",
        ])
        .args(["--no-sync", "--locale", "C", "-E", "UTF8"]));
    let port = free_port();
    let mut command = unprivileged(&postgres, &folder);
    command.args(["-D", "data", "-k", ".", "-p", &port.to_string()]);
    command.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
    for setting in settings {
        command.args(["-c", setting]);
    }
    let running = start(command, folder, port, "ready to accept connections");
    running.psql("create database shop");
    Some(running)
}

impl Running {
    /// What `psql` answers to the superuser's statement.
    pub(crate) fn psql(&self, statement: &str) -> String {
        let database = if statement.starts_with("create database") {
            "postgres"
        } else {
            "shop"
        };
        run(Command::new(program("psql").unwrap())
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-U",
                "admin",
            ])
            .args(["-d", database, "-XAtqc", statement])
            .env("PGPASSWORD", PASSWORD))
        .trim()
        .to_owned()
    }
}

/// Makes a file readable for the servers' user alone.
pub(crate) fn give(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// MariaDB with the user `admin`, who may do everything, and the database `shop`.
pub(crate) fn mariadb(options: &[String]) -> Option<Running> {
    let (install, server) = (program("mariadb-install-db")?, program("mariadbd")?);
    let folder = folder();
    run(unprivileged(&install, &folder)
        .args([
            "--no-defaults",
            &format!("--datadir={}", folder.path().join("data").display()),
            "--auth-root-authentication-method=normal",
        ])
        .args(["--skip-test-db", "--skip-log-bin"]));
    let port = free_port();
    let socket = folder.path().join("s.sock");
    let data = folder.path().join("data");
    let mut command = unprivileged(&server, &folder);
    command
        .arg("--no-defaults")
        .arg(format!("--datadir={}", data.display()));
    command.arg(format!("--socket={}", socket.display()));
    command.args(["--bind-address=127.0.0.1", "--port", &port.to_string()]);
    command.args([
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-buffer-pool-size=16M",
    ]);
    command.args(options);
    let running = start(command, folder, port, "ready for connections");
    running.mariadb(&format!(
        "create database shop; create user admin@'%' identified by '{PASSWORD}'; \
         grant all privileges on *.* to admin@'%' with grant option"
    ));
    Some(running)
}

/// The program of MySQL, not of MariaDB: what `STOCKADE_MYSQLD` names, or else `mysqld`.
#[expect(clippy::print_stdout, reason = "a test says why it is skipped")]
fn mysqld() -> Option<PathBuf> {
    let named = std::env::var_os("STOCKADE_MYSQLD").map(PathBuf::from);
    let program = named.or_else(|| program("mysqld"))?;
    let is_mysql = !run(Command::new(&program).arg("--version")).contains("MariaDB");
    if !is_mysql {
        println!("skipped: {} is MariaDB's", program.display());
    }
    is_mysql.then_some(program)
}

/// MySQL with the database `shop`, which has run these statements as its root.
pub(crate) fn mysql(options: &[String], statements: &str) -> Option<Running> {
    let server = mysqld()?;
    let folder = folder();
    let data = format!("--datadir={}", folder.path().join("data").display());
    let small = ["--innodb-buffer-pool-size=16M", "--secure-file-priv="];
    let mut install = unprivileged(&server, &folder);
    run(install
        .args(["--no-defaults", "--initialize-insecure", &data])
        .args(small));
    let first = folder.path().join("first.sql");
    // A statement in a line.
    let statements = statements.replace("; ", ";\n");
    fs::write(&first, format!("create database shop;\n{statements};\n")).unwrap();
    let port = free_port();
    let mut command = unprivileged(&server, &folder);
    command.args(["--no-defaults", &data]).args(small);
    command.arg(format!("--init-file={}", first.display()));
    command.arg(format!(
        "--socket={}",
        folder.path().join("s.sock").display()
    ));
    command.args(["--bind-address=127.0.0.1", "--port", &port.to_string()]);
    command.args([
        "--mysqlx=OFF",
        "--skip-log-bin",
        "--innodb-flush-log-at-trx-commit=0",
    ]);
    command.args(options);
    Some(start(command, folder, port, "ready for connections"))
}

/// Redis with the user `admin`, who may do everything, and `app`, who may use keys that begin with `shop:`.
pub(crate) fn redis(options: &[String]) -> Option<Running> {
    let server = program("redis-server")?;
    let folder = folder();
    let port = free_port();
    let settings = format!(
        "bind 127.0.0.1\nport {port}\nsave \"\"\nuser default off\nuser admin on >{PASSWORD} ~* &* +@all\n\
         user app on >{PASSWORD} ~shop:* &shop:* &shop:p* +@all -@admin -@dangerous +keys +info\n"
    );
    let path = folder.path().join("redis.conf");
    fs::write(&path, settings).unwrap();
    let mut command = unprivileged(&server, &folder);
    command.arg(&path).args(options);
    Some(start(command, folder, port, "Ready to accept connections"))
}

impl Running {
    /// What MariaDB answers to its root.
    pub(crate) fn mariadb(&self, statements: &str) -> String {
        let socket = self.folder.path().join("s.sock");
        run(Command::new(program("mariadb").unwrap())
            .args(["--no-defaults", "-u", "root", "-NBe", statements])
            .arg(format!("--socket={}", socket.display())))
        .trim()
        .to_owned()
    }

    /// What Redis answers to `admin`.
    pub(crate) fn redis(&self, arguments: &[&str]) -> String {
        run(Command::new(program("redis-cli").unwrap())
            .args(["-p", &self.port.to_string(), "--user", "admin"])
            .args(arguments)
            .env("REDISCLI_AUTH", PASSWORD))
        .trim()
        .to_owned()
    }
}
