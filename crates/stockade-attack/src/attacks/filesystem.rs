//! Files: /proc, opening, existence oracles, other roots.

use std::ffi::CString;

use libc::{
    AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, O_CREAT, O_DIRECTORY, O_PATH, O_RDONLY, O_RDWR,
    O_TMPFILE, O_WRONLY,
};
use syscalls::Sysno;

use crate::attack::{Attack, Expect, attack, denied};
use crate::controls::{CLOSED, MESSAGES, SELF};
use crate::other_thread::{on_other_thread, start_on_other_thread};
use crate::outcome::Outcome;
use crate::sys::{at, call, into, text};
use crate::targets::Targets;

/// `struct open_how`.
#[repr(C)]
#[derive(Default)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// `struct file_handle` with room for its bytes.
#[repr(C)]
struct FileHandle {
    bytes: u32,
    kind: i32,
    handle: [u8; 128],
}

impl FileHandle {
    const fn empty() -> Self {
        Self {
            bytes: 128,
            kind: 0,
            handle: [0; 128],
        }
    }
}

const OPEN: Expect = Expect::Denied("openat");

/// Opens a file whose name is known at run time only.
fn open(path: &str) -> Outcome {
    let Ok(path) = CString::new(path) else {
        return Outcome::Refused(libc::EINVAL);
    };
    call(
        Sysno::openat,
        [AT_FDCWD as u64, text(&path), O_RDONLY as u64],
    )
}

/// Two threads look for a moment between a check and its use.
fn race(targets: &Targets) -> Outcome {
    let (send, other) = std::sync::mpsc::sync_channel(1);
    start_on_other_thread(|targets| open(&targets.file), targets, send);
    let outcome = open("/etc/passwd");
    other.recv().unwrap_or(outcome)
}

pub(super) static ATTACKS: &[Attack] = &[
    denied!(
        1, "open /proc/1/root/etc/passwd", SELF,
        openat [AT_FDCWD, text(c"/proc/1/root/etc/passwd"), O_RDONLY]
    ),
    denied!(1, "open /proc/self/exe", SELF, openat [AT_FDCWD, text(c"/proc/self/exe"), O_RDONLY]),
    denied!(
        1, "open /proc/self/environ", SELF,
        openat [AT_FDCWD, text(c"/proc/self/environ"), O_RDONLY]
    ),
    denied!(
        1, "open /proc/self/mem to write", SELF,
        openat [AT_FDCWD, text(c"/proc/self/mem"), O_RDWR]
    ),
    denied!(
        1, "open /proc/self/fd/3 again", SELF,
        openat [AT_FDCWD, text(c"/proc/self/fd/3"), O_RDWR]
    ),
    denied!(1, "open /proc/kcore", SELF, openat [AT_FDCWD, text(c"/proc/kcore"), O_RDONLY]),
    denied!(
        1, "open /proc/sys/kernel/core_pattern to write", SELF,
        openat [AT_FDCWD, text(c"/proc/sys/kernel/core_pattern"), O_WRONLY]
    ),
    denied!(1, "list /proc", SELF, openat [AT_FDCWD, text(c"/proc"), O_RDONLY | O_DIRECTORY]),
    denied!(
        1, "readlinkat /proc/self/exe", SELF,
        readlinkat [AT_FDCWD, text(c"/proc/self/exe"), into(&mut [0_u8; 256]), 256]
    ),
    attack(1, "open /proc/<launcher>/root", SELF, OPEN, |targets| {
        open(&format!("/proc/{}/root/etc/passwd", targets.launcher))
    }),
    attack(
        1,
        "open /proc/<supervisor>/environ",
        SELF,
        OPEN,
        |targets| open(&format!("/proc/{}/environ", targets.supervisor)),
    ),
    attack(
        1,
        "open /proc/<supervisor>/fd of a secret",
        SELF,
        OPEN,
        |targets| {
            open(&format!(
                "/proc/{}/fd/{}",
                targets.supervisor, targets.descriptor
            ))
        },
    ),
    //
    denied!(2, "openat /etc/passwd", MESSAGES, openat [AT_FDCWD, text(c"/etc/passwd"), O_RDONLY]),
    denied!(
        2, "openat2 /etc/passwd", MESSAGES,
        openat2 [AT_FDCWD, text(c"/etc/passwd"), at(&OpenHow::default()), 24]
    ),
    #[cfg(target_arch = "x86_64")]
    denied!(2, "open /etc/passwd", MESSAGES, open [text(c"/etc/passwd"), O_RDONLY]),
    #[cfg(target_arch = "x86_64")]
    denied!(2, "creat in /tmp", MESSAGES, creat [text(c"/tmp/stockade-attack"), 0o600]),
    denied!(
        2, "openat up and up", MESSAGES,
        openat [AT_FDCWD, text(c"../../../../../../../../../../../../etc/passwd"), O_RDONLY]
    ),
    denied!(
        2, "openat below the message socket", MESSAGES,
        openat [3, text(c"../etc/passwd"), O_RDONLY]
    ),
    denied!(2, "openat O_PATH of the root", MESSAGES, openat [AT_FDCWD, text(c"/"), O_PATH]),
    denied!(
        2, "openat O_TMPFILE", MESSAGES,
        openat [AT_FDCWD, text(c"/tmp"), O_TMPFILE | O_RDWR, 0o600]
    ),
    denied!(
        2, "openat O_CREAT in the current folder", MESSAGES,
        openat [AT_FDCWD, text(c"stockade-attack"), O_CREAT | O_WRONLY, 0o600]
    ),
    attack(
        2,
        "openat a world-readable file of the supervisor",
        MESSAGES,
        OPEN,
        |targets| open(&targets.file),
    ),
    attack(
        2,
        "openat from a thread that was there before",
        MESSAGES,
        OPEN,
        |targets| on_other_thread(|targets| open(&targets.file), targets),
    ),
    attack(2, "openat by two threads at once", MESSAGES, OPEN, race),
    denied!(
        2, "open_by_handle_at of a guessed handle", MESSAGES,
        open_by_handle_at [AT_FDCWD, at(&FileHandle::empty()), O_RDONLY]
    ),
    denied!(
        2, "name_to_handle_at /", MESSAGES,
        name_to_handle_at [
            AT_FDCWD, text(c"/"), into(&mut FileHandle::empty()), into(&mut 0_i32), 0
        ]
    ),
    denied!(
        2, "symlinkat to /etc", MESSAGES,
        symlinkat [text(c"/etc"), AT_FDCWD, text(c"stockade-attack")]
    ),
    denied!(
        2, "linkat of an open descriptor", MESSAGES,
        linkat [3, text(c""), AT_FDCWD, text(c"stockade-attack"), AT_EMPTY_PATH]
    ),
    denied!(
        2, "renameat2 of /etc/passwd", MESSAGES,
        renameat2 [AT_FDCWD, text(c"/etc/passwd"), AT_FDCWD, text(c"/etc/no"), 1 << 31]
    ),
    denied!(
        2, "unlinkat /tmp/nothing", MESSAGES,
        unlinkat [AT_FDCWD, text(c"/tmp/stockade-nothing"), 0]
    ),
    denied!(
        2, "mkdirat in /tmp", MESSAGES,
        mkdirat [AT_FDCWD, text(c"/tmp/stockade-attack"), u32::MAX]
    ),
    denied!(2, "truncate /tmp/nothing", MESSAGES, truncate [text(c"/tmp/stockade-nothing"), 0]),
    denied!(2, "getdents64 of descriptor 0", MESSAGES, getdents64 [0, into(&mut [0_u8; 512]), 512]),
    denied!(2, "sendfile from descriptor 0", MESSAGES, sendfile [3, 0, 0, 16]),
    denied!(2, "copy_file_range", MESSAGES, copy_file_range [0, 0, 3, 0, 16, 0]),
    //
    #[cfg(target_arch = "x86_64")]
    denied!(3, "stat /etc/passwd", MESSAGES, stat [text(c"/etc/passwd"), into(&mut [0_u8; 256])]),
    #[cfg(target_arch = "x86_64")]
    denied!(3, "lstat /etc/passwd", MESSAGES, lstat [text(c"/etc/passwd"), into(&mut [0_u8; 256])]),
    #[cfg(target_arch = "x86_64")]
    denied!(
        3, "newfstatat /etc/passwd", MESSAGES,
        newfstatat [AT_FDCWD, text(c"/etc/passwd"), into(&mut [0_u8; 256]), AT_SYMLINK_NOFOLLOW]
    ),
    #[cfg(target_arch = "x86_64")]
    denied!(
        3, "newfstatat AT_EMPTY_PATH with a path after all", MESSAGES,
        newfstatat [3, text(c"/etc/passwd"), into(&mut [0_u8; 256]), AT_EMPTY_PATH]
    ),
    denied!(
        3, "statx /etc/passwd", MESSAGES,
        statx [AT_FDCWD, text(c"/etc/passwd"), 0, 0xfff, into(&mut [0_u8; 256])]
    ),
    denied!(
        3, "statx AT_EMPTY_PATH with a path after all", MESSAGES,
        statx [3, text(c"/etc/passwd"), AT_EMPTY_PATH, 0xfff, into(&mut [0_u8; 256])]
    ),
    #[cfg(target_arch = "x86_64")]
    denied!(3, "access /root", MESSAGES, access [text(c"/root"), 0]),
    denied!(3, "faccessat /root", MESSAGES, faccessat [AT_FDCWD, text(c"/root"), 0]),
    denied!(3, "faccessat2 /root", MESSAGES, faccessat2 [AT_FDCWD, text(c"/root"), 0, 0]),
    #[cfg(target_arch = "x86_64")]
    denied!(3, "readlink /bin", MESSAGES, readlink [text(c"/bin"), into(&mut [0_u8; 64]), 64]),
    denied!(3, "statfs /", MESSAGES, statfs [text(c"/"), into(&mut [0_u8; 256])]),
    denied!(3, "fstatfs of descriptor 0", MESSAGES, fstatfs [0, into(&mut [0_u8; 256])]),
    denied!(
        3, "getxattr of /etc/passwd", MESSAGES,
        getxattr [text(c"/etc/passwd"), text(c"user.x"), 0, 0]
    ),
    denied!(3, "listxattr of /etc", MESSAGES, listxattr [text(c"/etc"), 0, 0]),
    denied!(
        3, "utimensat of /etc/passwd", MESSAGES,
        utimensat [AT_FDCWD, text(c"/etc/passwd"), u64::MAX, 0]
    ),
    denied!(3, "fchmodat /etc/passwd", MESSAGES, fchmodat [AT_FDCWD, text(c"/etc/nothing"), 0o644]),
    denied!(3, "getcwd", MESSAGES, getcwd [into(&mut [0_u8; 256]), 256]),
    denied!(3, "inotify_init1", MESSAGES, inotify_init1[0]),
    denied!(3, "inotify_add_watch /", MESSAGES, inotify_add_watch [0, text(c"/"), 1]),
    denied!(3, "fanotify_init", MESSAGES, fanotify_init [0, 0]),
    denied!(3, "fanotify_mark /", MESSAGES, fanotify_mark [0, 1, 1, AT_FDCWD, text(c"/")]),
    denied!(3, "lookup_dcookie", MESSAGES, lookup_dcookie [1, into(&mut [0_u8; 64]), 64]),
    denied!(
        3, "cachestat of descriptor 0", MESSAGES,
        cachestat [0, at(&[0_u64; 2]), into(&mut [0_u64; 5]), 0]
    ),
    //
    denied!(4, "chroot /", CLOSED, chroot[text(c"/")]),
    denied!(4, "chroot ..", CLOSED, chroot[text(c"..")]),
    denied!(4, "pivot_root once more", CLOSED, pivot_root [text(c"."), text(c".")]),
    denied!(4, "fchdir to descriptor 0", CLOSED, fchdir[0]),
    denied!(
        4,
        "fchdir to a descriptor of the supervisor",
        CLOSED,
        |targets| fchdir[targets.descriptor]
    ),
    denied!(4, "chdir /", CLOSED, chdir[text(c"/")]),
    denied!(
        4, "openat .. of descriptor 0", CLOSED,
        openat [0, text(c".."), O_RDONLY | O_DIRECTORY]
    ),
];
