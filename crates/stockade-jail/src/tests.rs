//! What single layers do to a process.
//!
//! Each test that changes its process does so in a child: this program again, with the one test `child` and
//! the name of a scene. Descriptor 0 of the child is its message socket, 2 its setup socket; why it panics
//! comes over the latter too.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, socketpair,
};

use crate::event::Denial;
use crate::seccomp::{Listener, compile, install, self_test};
use crate::spec::{CgroupUse, JailSpec, Level, Role, Wx};
use crate::{capabilities, executable, landlock, rlimits, sys};

const SCENE: &str = "STOCKADE_JAIL_SCENE";

/// A child in its scene, with the parent's ends of its sockets.
struct Played {
    child: Child,
    message: OwnedFd,
    setup: OwnedFd,
}

fn play(scene: &str) -> Played {
    let pair = |kind| socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    let (message, their_message) = pair(SocketType::STREAM);
    let (setup, their_setup) = pair(SocketType::SEQPACKET);
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::child", "--ignored", "--nocapture"])
        .args(["--test-threads", "1"])
        .env(SCENE, scene)
        .stdin(Stdio::from(their_message))
        .stdout(Stdio::null())
        .stderr(Stdio::from(their_setup))
        .spawn()
        .unwrap();
    Played {
        child,
        message,
        setup,
    }
}

impl Played {
    /// What the child said over its setup socket before it closed or handed over a listener.
    fn listener(&self) -> Result<Listener, String> {
        let mut said = String::new();
        loop {
            let mut bytes = [0; 4096];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let received = rustix::net::recvmsg(
                &self.setup,
                &mut [IoSliceMut::new(&mut bytes)],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            )
            .unwrap();
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
                    return Ok(Listener::new(descriptors.next().unwrap()).unwrap());
                }
            }
            if received.bytes == 0 {
                return Err(said);
            }
            said.push_str(&String::from_utf8_lossy(&bytes[..received.bytes]));
        }
    }

    fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// The child does all it must and ends well.
    fn succeeds(self) {
        let said = self.listener().err();
        let status = self.wait();
        assert!(status.success(), "{status}: {said:?}");
    }

    /// The child seals itself and then ends well, without a denial.
    fn succeeds_when_sealed(self) {
        let listener = self.listener().unwrap();
        let denial = denial(&listener);
        assert_eq!(denial, None, "{denial:?}");
        let status = self.wait();
        assert!(status.success(), "{status}");
    }

    /// The child seals itself and then makes a call that arrives here; it is killed for it.
    fn end_denied(mut self) -> Denial {
        let listener = self.listener().unwrap();
        let denial = denial(&listener).expect("a denial");
        assert_eq!(self.child.try_wait().unwrap(), None, "it waits");
        self.child.kill().unwrap();
        assert_eq!(self.wait().signal(), Some(libc::SIGKILL));
        assert_eq!(listener.receive(), None, "one denial");
        denial
    }
}

/// Waits for a denial, or for the end of the child.
fn denial(listener: &Listener) -> Option<Denial> {
    let fd = listener.fd();
    let mut poll = [PollFd::new(&fd, PollFlags::IN)];
    let long = Timespec {
        tv_sec: 30,
        tv_nsec: 0,
    };
    let ready = rustix::event::poll(&mut poll, Some(&long)).unwrap();
    assert_eq!(ready, 1, "nothing happened");
    listener.receive()
}

/// Seals the process and passes the listener on.
fn seal_with([message, setup]: [OwnedFd; 2], wx: Wx) {
    let filters = compile(wx, false).unwrap();
    assert!(rustix::thread::set_no_new_privs(true).is_ok());
    let listener = install(&filters).unwrap();
    self_test().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [listener.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let sent = rustix::net::sendmsg(
        &setup,
        &[IoSlice::new(b"closed")],
        &mut control,
        SendFlags::NOSIGNAL,
    );
    assert!(sent.is_ok());
    drop((listener, setup));
    std::mem::forget(message);
}

/// Duplicates of 0 and 2 at 3 and 4, where a worker has them.
fn place_sockets() -> [OwnedFd; 2] {
    let copies = [0, 2].map(|number| {
        let copy = match number {
            0 => rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3),
            _ => rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), 3),
        };
        copy.unwrap()
    });
    assert_eq!(copies[0].as_raw_fd(), 3);
    assert_eq!(copies[1].as_raw_fd(), 4);
    copies
}

fn call(number: libc::c_long, args: &[u64]) -> i64 {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    sys::calls::call(number, all)
}

fn empty_spec() -> JailSpec {
    JailSpec {
        level: Level::Process,
        wx: Wx::Jit,
        role: Role::Attack,
        memory: Some(64 << 20),
        cpu_share: None,
        isolates: 1,
        threads: 3,
        cgroup: CgroupUse::Auto,
        template: None,
    }
}

#[test]
#[ignore = "the other tests run it in a process of its own"]
fn child() {
    let Ok(scene) = std::env::var(SCENE) else {
        return;
    };
    // Before other threads of a scene open anything.
    let sockets = place_sockets();
    scene_in_child(&scene, sockets);
    // Not through the harness: it prints.
    std::process::exit(0);
}

fn scene_in_child(scene: &str, sockets: [OwnedFd; 2]) {
    let seal = |wx| seal_with(sockets, wx);
    const RWX: i32 = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    const RW: i32 = libc::PROT_READ | libc::PROT_WRITE;
    match scene {
        "landlock" => {
            assert!(File::open("/etc/passwd").is_ok());
            landlock::deny_all().unwrap();
            let error = File::open("/etc/passwd").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EACCES));
            assert!(std::fs::read_dir("/").is_err());
            assert!(std::net::TcpListener::bind("127.0.0.1:0").is_err());
            let error = std::net::TcpStream::connect("127.0.0.1:1").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EACCES));
        }
        "capabilities" => {
            capabilities::drop_all().unwrap();
            // Once more, as a process without any.
            capabilities::drop_all().unwrap();
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let value = |name: &str| {
                let line = status.lines().find(|line| line.starts_with(name)).unwrap();
                line.split_whitespace().nth(1).unwrap().to_owned()
            };
            for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
                assert_eq!(value(set), "0000000000000000", "{set}");
            }
            if rustix::process::geteuid().is_root() {
                assert_eq!(value("CapBnd"), "0000000000000000");
            }
            assert_eq!(value("NoNewPrivs"), "1");
        }
        "capabilities after another id" => {
            rustix::thread::set_keep_capabilities(true).unwrap();
            let id = 1_900_000_001;
            let (uid, gid) = (
                rustix::thread::Uid::from_raw(id),
                rustix::thread::Gid::from_raw(id),
            );
            rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            capabilities::drop_all().unwrap();
            let bounding = caps::read(None, caps::CapSet::Bounding).unwrap();
            assert!(bounding.is_empty(), "{bounding:?}");
        }
        "mdwe" => {
            let before = sys::calls::map(4096, RW);
            assert_ne!(before, 0);
            executable::refuse_gain().unwrap();
            let exec = (libc::PROT_READ | libc::PROT_EXEC) as u64;
            let denied = -i64::from(libc::EACCES);
            assert_eq!(
                call(libc::SYS_mprotect, &[before as u64, 4096, exec]),
                denied
            );
            assert_eq!(sys::calls::map(4096, RWX), 0);
            executable::check_maps(File::open("/proc/self/maps").unwrap(), Wx::Strict).unwrap();
        }
        "maps" => {
            assert_ne!(sys::calls::map(4096, RWX), 0);
            let check = |wx| executable::check_maps(File::open("/proc/self/maps").unwrap(), wx);
            check(Wx::Jit).unwrap();
            let error = check(Wx::Strict).unwrap_err();
            assert!(error.what.contains(" rwxp "), "{error}");
        }
        "rlimits" => {
            use rustix::process::{Resource, getrlimit};
            let spec = empty_spec();
            rlimits::apply(&spec, true).unwrap();
            let data = rlimits::data(64 << 20, 3);
            for (resource, expected) in [
                (Resource::Core, Some(0)),
                (Resource::Memlock, Some(0)),
                (Resource::Nproc, Some(7)),
                (Resource::Data, Some(data)),
                (Resource::As, Some(265 << 30)),
            ] {
                let limit = getrlimit(resource);
                assert_eq!(limit.current, expected);
                let hard = match resource {
                    Resource::Data => rlimits::most_data(&spec),
                    _ => expected,
                };
                assert_eq!(limit.maximum, hard);
            }
            let large = usize::try_from(data).unwrap();
            assert_eq!(sys::calls::map(large, RW), 0);
            assert_ne!(sys::calls::map(large, libc::PROT_NONE), 0);
        }
        "workload" => {
            seal(Wx::Jit);
            workload();
        }
        "workload strict" => {
            seal(Wx::Strict);
            workload();
        }
        "thread" => {
            let (go, wait) = mpsc::channel();
            let (ready, is_ready) = mpsc::channel();
            let thread = std::thread::spawn(move || {
                ready.send(()).unwrap();
                wait.recv().unwrap();
                call(libc::SYS_getppid, &[]);
            });
            is_ready.recv().unwrap();
            seal(Wx::Jit);
            go.send(()).unwrap();
            thread.join().unwrap();
        }
        "threads just starting" => {
            let threads: Vec<_> = (0..64)
                .map(|_| {
                    let (go, wait) = mpsc::channel::<()>();
                    let body = move || drop((wait.recv(), vec![1_u8; 10_000]));
                    let thread = std::thread::Builder::new().name("late".to_owned());
                    (go, thread.spawn(body).unwrap())
                })
                .collect();
            seal(Wx::Jit);
            for (go, thread) in threads {
                drop(go);
                thread.join().unwrap();
            }
        }
        "open" => {
            seal(Wx::Jit);
            let _ = File::open("/etc/passwd");
        }
        "spawn" => {
            seal(Wx::Jit);
            let _ = std::thread::Builder::new().spawn(|| ());
        }
        "write 12" => {
            seal(Wx::Jit);
            call(libc::SYS_write, &[0xffff_ffff_0000_000c, 0, 0]);
        }
        "oob" => {
            seal(Wx::Jit);
            call(libc::SYS_recvfrom, &[3, 0, 0, 1, 0, 0]);
        }
        "sendmsg 3" => {
            seal(Wx::Jit);
            call(libc::SYS_sendmsg, &[3, 0, 0]);
        }
        "kill another" => {
            seal(Wx::Jit);
            call(libc::SYS_tgkill, &[1, 1, 6]);
        }
        "filter" => {
            seal(Wx::Jit);
            call(libc::SYS_seccomp, &[1, 0, 0]);
        }
        "map exec strict" => {
            seal(Wx::Strict);
            sys::calls::map(4096, RWX);
        }
        "map exec jit" => {
            seal(Wx::Jit);
            assert_ne!(sys::calls::map(4096, RWX), 0);
        }
        "protect exec strict" => {
            seal(Wx::Strict);
            let address = sys::calls::map(4096, RW);
            call(libc::SYS_mprotect, &[address as u64, 4096, 5]);
        }
        "map shared" => {
            seal(Wx::Jit);
            call(libc::SYS_mmap, &[0, 4096, 3, 0x21, u64::MAX, 0]);
        }
        "x32" => {
            seal(Wx::Jit);
            call(0x4000_0000 + 39, &[]);
        }
        #[cfg(target_arch = "x86_64")]
        "int 0x80" => {
            seal(Wx::Jit);
            sys::calls::old_getpid();
        }
        "abort" => {
            seal(Wx::Jit);
            std::process::abort();
        }
        "stack overflow" => {
            seal(Wx::Jit);
            overflow(1);
        }
        other => panic!("no scene {other}"),
    }
}

#[expect(unconditional_recursion, reason = "that is the point")]
fn overflow(depth: u64) -> u64 {
    std::hint::black_box(overflow(std::hint::black_box(depth) + 1)) + 1
}

/// What a worker does all the time.
fn workload() {
    assert_eq!(
        call(libc::SYS_write, &[3, c"ping".as_ptr().addr() as u64, 4]),
        4
    );
    let mut answer = [0_u8; 4];
    let buffer = answer.as_mut_ptr().addr() as u64;
    assert_eq!(call(libc::SYS_recvfrom, &[3, buffer, 4, 0, 0, 0]), 4);
    // Blocks that glibc maps, grows by moving, and arenas that it grows and shrinks.
    let mut block = vec![1_u8; 1 << 20];
    for _ in 0..5 {
        block.resize(block.len() * 2, 2);
    }
    let blocks: Vec<Vec<u8>> = (0..2_000).map(|size| vec![3; size * 40]).collect();
    drop((block, blocks));
    std::thread::sleep(Duration::from_millis(2));
    std::thread::yield_now();
    let (send, receive) = mpsc::channel::<()>();
    assert!(receive.recv_timeout(Duration::from_millis(2)).is_err());
    drop(send);
    rustix::rand::getrandom(&mut answer, rustix::rand::GetRandomFlags::empty()).unwrap();
    for clock in [
        rustix::time::ClockId::ThreadCPUTime,
        rustix::time::ClockId::ProcessCPUTime,
        rustix::time::ClockId::Monotonic,
    ] {
        let _ = rustix::time::clock_gettime(clock);
    }
    // Another thread's clock, as pthread_getcpuclockid makes it.
    let tid = u64::from(rustix::thread::gettid().as_raw_pid().cast_unsigned());
    let mut time = [0_u64; 2];
    let clock = (!tid << 3) | 6;
    assert_eq!(
        call(
            libc::SYS_clock_gettime,
            &[clock, time.as_mut_ptr().addr() as u64]
        ),
        0
    );
    // What a thread does that is only just starting.
    assert_eq!(call(libc::SYS_set_robust_list, &[0, 24]), -38);
    assert_eq!(call(libc::SYS_prctl, &[15, 0]), -22);
    // The panic hook's text goes nowhere, and that is not a denial.
    eprintln!("nobody reads this");
    assert_eq!(call(libc::SYS_prctl, &[0x5356_4d41, 0, 0, 0, 0]), -22);
}

#[test]
fn landlock_denies_files_and_network() {
    if landlock::abi().is_none_or(|abi| abi < landlock::REQUIRED) {
        eprintln!("skipped: this kernel's Landlock is {:?}", landlock::abi());
        return;
    }
    play("landlock").succeeds();
}

#[test]
fn capabilities_are_empty_afterwards() {
    play("capabilities").succeeds();
    if rustix::process::geteuid().is_root() {
        play("capabilities after another id").succeeds();
    }
}

#[test]
fn mdwe_refuses_to_make_memory_executable() {
    play("mdwe").succeeds();
}

#[test]
fn maps_with_executable_memory_pass_jit_only() {
    play("maps").succeeds();
}

#[test]
fn rlimits_hold() {
    play("rlimits").succeeds();
}

#[test]
fn workload_passes_without_denial() {
    for scene in ["workload", "workload strict"] {
        let played = play(scene);
        let mut message = File::from(played.message.try_clone().unwrap());
        let listener = played.listener().unwrap();
        let mut ping = [0; 4];
        message.read_exact(&mut ping).unwrap();
        rustix::io::write(&message, b"pong").unwrap();
        let denial = denial(&listener);
        assert_eq!(denial, None, "{scene}: {denial:?}");
        let status = played.wait();
        assert!(status.success(), "{scene}: {status}");
    }
}

#[test]
fn refused_call_arrives_with_name_and_arguments_and_waits() {
    let denial = play("open").end_denied();
    assert_eq!(denial.syscall, "openat");
    assert_eq!(i64::from(denial.number), libc::SYS_openat);
    assert_eq!(denial.args[0] as u32, libc::AT_FDCWD.cast_unsigned());
    assert!(denial.thread > 0);

    assert_eq!(play("spawn").end_denied().syscall, "clone3");
    assert_eq!(play("filter").end_denied().syscall, "seccomp");
    let denial = play("kill another").end_denied();
    assert_eq!(denial.to_string(), "tgkill with signal 6 to thread 1 of 1");
}

#[test]
fn rules_cover_threads_that_were_there_before() {
    assert_eq!(play("thread").end_denied().syscall, "getppid");
}

#[test]
fn threads_may_start_and_end_during_sealing() {
    for _ in 0..10 {
        play("threads just starting").succeeds_when_sealed();
    }
}

#[test]
fn messages_go_over_their_descriptor_only() {
    let denial = play("write 12").end_denied();
    assert_eq!(denial.to_string(), "write on descriptor 12");
    assert_eq!(play("oob").end_denied().syscall, "recvfrom");
    assert_eq!(
        play("sendmsg 3").end_denied().to_string(),
        "sendmsg on descriptor 3"
    );
}

#[test]
fn executable_memory_is_for_jit_only() {
    let denial = play("map exec strict").end_denied();
    assert_eq!(denial.to_string(), "mmap with PROT_EXEC");
    let denial = play("protect exec strict").end_denied();
    assert_eq!(denial.to_string(), "mprotect with PROT_EXEC");
    let denial = play("map shared").end_denied();
    assert_eq!(denial.to_string(), "mmap with MAP_SHARED");
    play("map exec jit").succeeds_when_sealed();
}

#[cfg(target_arch = "x86_64")]
#[test]
fn other_abis_die() {
    assert_eq!(play("x32").end_denied().syscall, "x32 syscall 39");
    let played = play("int 0x80");
    let listener = played.listener().unwrap();
    assert_eq!(denial(&listener), None);
    assert_eq!(played.wait().signal(), Some(libc::SIGSYS));
}

#[test]
fn crashes_are_crashes_and_not_denials() {
    for (scene, signal) in [("abort", libc::SIGABRT), ("stack overflow", libc::SIGABRT)] {
        let played = play(scene);
        let listener = played.listener().unwrap();
        assert_eq!(denial(&listener), None, "{scene}");
        assert_eq!(played.wait().signal(), Some(signal), "{scene}");
    }
}
