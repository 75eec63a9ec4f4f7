//! What runs in the workers of these tests: it obeys lines on its socket.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use stockade_jail::{EXIT_FAILED, Inside, leave, show};

/// The worker's entry.
pub(crate) fn entry(mut inside: Inside) {
    let socket = UnixStream::from(inside.take_socket().unwrap());
    let number = socket.as_raw_fd();
    // Read and written through the same descriptor: there must be no other.
    let mut lines = BufReader::with_capacity(4096, &socket);
    let mut line = String::with_capacity(4096);
    loop {
        line.clear();
        if lines.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        match line.trim_end() {
            "close" => {
                if inside.seal().is_err() {
                    leave(EXIT_FAILED);
                }
            }
            "look" => {
                let mut seen = look();
                writeln!(seen, "socket={number}").unwrap();
                seen.push('\n');
                (&socket).write_all(seen.as_bytes()).unwrap();
            }
            "exit" => leave(7),
            "abort" => std::process::abort(),
            "panic" => std::panic::resume_unwind(Box::new("as asked")),
            "eat" => eat(),
            "spin" => loop {
                std::hint::black_box(0);
            },
            // What an event loop has.
            "loop" => {
                let epoll =
                    rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC);
                let epoll = epoll.unwrap();
                let woken =
                    rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap();
                std::mem::forget((epoll.try_clone().unwrap(), epoll, woken));
                std::mem::forget(UnixStream::pair().unwrap());
            }
            // A descriptor that leads to another process.
            "leak" => std::mem::forget(socket.try_clone().unwrap()),
            "leak high" => (0..4).for_each(|_| std::mem::forget(UnixStream::pair().unwrap())),
            "leak pipe" => {
                std::mem::forget(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap())
            }
            "fork" => {
                let _ = std::process::Command::new("/proc/self/exe").spawn();
            }
            "socket" => {
                let _ = std::net::TcpStream::connect("127.0.0.1:1");
            }
            // Sealed, and many times: a call outside of the rules would end it.
            guests if guests.starts_with("show") => {
                for _ in 0..100 {
                    show(guests.strip_prefix("show ").unwrap_or_default());
                }
                (&socket).write_all(b"shown\n").unwrap();
            }
            _ => (&socket).write_all(line.as_bytes()).unwrap(),
        }
    }
}

/// Takes memory until the kernel has had enough.
fn eat() {
    let mut taken = Vec::new();
    loop {
        taken.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&taken);
    }
}

/// What can be seen before the worker is sealed: lines of `key=value`.
fn look() -> String {
    let mut text = String::new();
    let mut say = |key: &str, value: &dyn std::fmt::Display| {
        writeln!(text, "{key}={value}").unwrap();
    };
    let numbers = open_descriptors();
    say("descriptors", &numbers.join(" "));
    say("pid", &std::process::id());
    say(
        "parent",
        &rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get()),
    );
    say("uid", &rustix::process::getuid().as_raw());
    say("euid", &rustix::process::geteuid().as_raw());
    say("gid", &rustix::process::getgid().as_raw());
    say("groups", &rustix::process::getgroups().unwrap().len());
    let name = rustix::system::uname();
    say("host", &name.nodename().to_string_lossy());
    say("domain", &name.domainname().to_string_lossy());
    let root = fs::read_dir("/").map_or_else(
        |error| error.kind().to_string(),
        |entries| entries.count().to_string(),
    );
    say("root", &root);
    say("proc", &fs::metadata("/proc/self").is_ok());
    let made = fs::write("/tmp/made-by-a-worker", "x").is_ok() || fs::create_dir("/made").is_ok();
    say("made", &made);
    let capabilities = rustix::thread::capabilities(None).unwrap();
    say(
        "capabilities",
        &(capabilities.effective | capabilities.permitted | capabilities.inheritable).bits(),
    );
    say("no_new_privs", &rustix::thread::no_new_privs().unwrap());
    say(
        "dumpable",
        &(rustix::process::dumpable_behavior().unwrap()
            != rustix::process::DumpableBehavior::NotDumpable),
    );
    say("environment", &std::env::vars_os().count());
    say("arguments", &std::env::args_os().count());
    text
}

/// Those that new descriptors do not get: there is no /proc to ask.
fn open_descriptors() -> Vec<String> {
    let mut made = Vec::new();
    while let Ok((one, two)) = UnixStream::pair() {
        made.extend([one, two]);
    }
    // An odd one may be left.
    while let Ok(one) = made[0].try_clone() {
        made.push(one);
    }
    let given: Vec<i32> = made.iter().map(AsRawFd::as_raw_fd).collect();
    let highest = given.iter().max().copied().unwrap();
    (0..=highest)
        .filter(|number| !given.contains(number))
        .map(|number| number.to_string())
        .collect()
}
