//! Secrets of the supervisor that its workers must not find.
//!
//! Those in the environment, in the arguments and behind an inherited descriptor have to be there
//! before the launcher is started, and can be changed safely by starting the program again only.

use std::env;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::FdFlags;

use crate::targets::{Targets, masked};

/// Environment variable with a secret; that it is set says that all are planted.
const SECRET: &str = "STOCKADE_ATTACK_SECRET";
/// Environment variable with the number of the inheritable descriptor.
const DESCRIPTOR: &str = "STOCKADE_ATTACK_DESCRIPTOR";

/// What [`plant_secrets`] left.
#[derive(Debug, Clone)]
pub(crate) struct Planted {
    /// Where it lies, and the secret.
    pub(crate) secrets: Vec<(String, String)>,
    /// The inheritable descriptor.
    pub(crate) descriptor: i32,
}

/// Makes sure that this process has secrets in its environment, its arguments and in an inheritable
/// descriptor: unless it has, it executes itself again, with them.
///
/// To be called first in `main`, after `stockade_jail::run_if_launcher`.
///
/// # Errors
/// If the program cannot be executed again.
pub fn plant_secrets() -> io::Result<()> {
    if env::var_os(SECRET).is_some() {
        return Ok(());
    }
    let file = memfd_create("secret", MemfdFlags::empty())?;
    rustix::io::write(&file, random_text()?.as_bytes())?;
    // inheritable, and not a number that a worker has itself
    let file = rustix::io::fcntl_dupfd_cloexec(&file, 200)?;
    rustix::io::fcntl_setfd(&file, FdFlags::empty())?;
    Err(Command::new(env::current_exe()?)
        .arg0(random_text()?)
        .args(env::args_os().skip(1))
        .env(SECRET, random_text()?)
        .env(DESCRIPTOR, file.as_raw_fd().to_string())
        .exec())
}

/// What is planted in this process; nothing if [`plant_secrets`] was not called.
pub(crate) fn planted() -> Planted {
    let descriptor = env::var(DESCRIPTOR)
        .ok()
        .and_then(|number| number.parse().ok())
        .unwrap_or(-1);
    let mut secrets = Vec::new();
    if let Ok(secret) = env::var(SECRET) {
        secrets.push(("environment".to_owned(), secret));
        if let Some(name) = env::args().next() {
            secrets.push(("arguments".to_owned(), name));
        }
        if let Ok(secret) = std::fs::read_to_string(format!("/proc/self/fd/{descriptor}")) {
            secrets.push(("descriptor".to_owned(), secret));
        }
    }
    Planted {
        secrets,
        descriptor,
    }
}

/// 32 hexadecimal digits that nobody can guess.
pub(crate) fn random_text() -> io::Result<String> {
    let mut bytes = [0u8; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Memory, listeners and a file around the workers.
#[derive(Debug)]
pub(crate) struct Surroundings {
    planted: Planted,
    /// A secret on the heap, which is the canary too.
    heap: String,
    untouched: String,
    tcp: TcpListener,
    unix: UnixListener,
    socket: String,
    file: PathBuf,
}

impl Surroundings {
    /// Lays it all out.
    pub(crate) fn plant() -> io::Result<Self> {
        let heap = random_text()?;
        let socket = format!("stockade-{}", random_text()?);
        let unix = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&socket)?)?;
        unix.set_nonblocking(true)?;
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        tcp.set_nonblocking(true)?;
        let file = env::temp_dir().join(format!("stockade-{}", random_text()?));
        // the layers must hold although the file's own rights say nothing against it
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(&file)?
            .write_all(random_text()?.as_bytes())?;
        Ok(Self {
            planted: planted(),
            untouched: heap.clone(),
            heap,
            tcp,
            unix,
            socket,
            file,
        })
    }

    /// What a worker that knows everything around it would aim at.
    pub(crate) fn targets(&self, worker: i32, sibling: i32, memory: u64) -> Targets {
        let mut secrets: Vec<_> = self
            .planted
            .secrets
            .iter()
            .map(|(name, secret)| (name.clone(), masked(secret.as_bytes())))
            .collect();
        secrets.push(("heap".to_owned(), masked(self.heap.as_bytes())));
        Targets {
            supervisor: i32::try_from(std::process::id()).unwrap_or(0),
            launcher: parent(worker).unwrap_or(0),
            sibling,
            canary: self.heap.as_ptr().expose_provenance() as u64,
            port: self.tcp.local_addr().map_or(0, |address| address.port()),
            socket: self.socket.clone(),
            file: self.file.to_string_lossy().into_owned(),
            descriptor: self.planted.descriptor,
            masked: secrets,
            memory,
        }
    }

    /// Says what the worker of this process number changed around it.
    pub(crate) fn check(&self, worker: i32) -> Result<(), String> {
        if std::hint::black_box(&self.heap) != &self.untouched {
            return Err("the supervisor's memory was changed".to_owned());
        }
        if self.tcp.accept().is_ok() {
            return Err("a connection arrived at the supervisor's TCP port".to_owned());
        }
        if self.unix.accept().is_ok() {
            return Err("a connection arrived at the supervisor's Unix socket".to_owned());
        }
        let folders = [
            PathBuf::from("/"),
            env::temp_dir(),
            env::current_dir().unwrap_or_default(),
        ];
        for core in folders
            .iter()
            .map(|folder| folder.join(format!("core.{worker}")))
        {
            if core.exists() {
                return Err(format!("there is a core file: {}", core.display()));
            }
        }
        Ok(())
    }
}

impl Drop for Surroundings {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// The parent of a process: that of a worker is the launcher.
fn parent(process: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // the name of the process stands in parentheses and may contain anything
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}
