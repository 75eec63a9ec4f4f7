//! The files of SQLite: three descriptors by name, and nothing else.
//!
//! SQLite's own code for Unix stays in use. It makes its calls of the system through a table, and the calls here
//! replace those in it that name files. A file of the database is never opened or closed, since its descriptor is
//! there; deleting one empties it, which SQLite takes for a file that is not there.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::os::fd::RawFd;
use std::ptr;
use std::sync::OnceLock;

use rusqlite::ffi;

/// The path of the database for SQLite; its log and journal have this name and an ending.
pub(crate) const PATH: &str = "/database";

/// The VFS of SQLite that locks nothing: the supervisor has locked the file.
pub(crate) const VFS: &CStr = c"unix-none";

/// Stands for the source of random bytes. No descriptor has this number.
const RANDOM: c_int = 1_000_000;

static FILES: OnceLock<[RawFd; stockade_jail::FILES]> = OnceLock::new();

/// Replaces SQLite's calls, once for the process. `false` when SQLite is not built as it must be.
pub(crate) fn replace(files: [RawFd; stockade_jail::FILES]) -> bool {
    if FILES.set(files).is_err() {
        return false;
    }
    // SAFETY: sqlite3_initialize may be called at any time; sqlite3_vfs_find takes a name that ends with 0, and its
    // result stays valid, as nobody unregisters a VFS.
    let vfs = unsafe {
        if ffi::sqlite3_initialize() != ffi::SQLITE_OK {
            return false;
        }
        ffi::sqlite3_vfs_find(VFS.as_ptr())
    };
    if vfs.is_null() {
        return false;
    }
    let calls: [(&CStr, *const ()); 13] = [
        (c"open", open as *const ()),
        (c"close", close as *const ()),
        (c"access", access as *const ()),
        (c"getcwd", getcwd as *const ()),
        (c"stat", stat as *const ()),
        (c"lstat", stat as *const ()),
        (c"fstat", fstat as *const ()),
        (c"read", read as *const ()),
        (c"fchmod", fchmod as *const ()),
        (c"unlink", unlink as *const ()),
        (c"openDirectory", open_directory as *const ()),
        (c"geteuid", geteuid as *const ()),
        (c"readlink", readlink as *const ()),
    ];
    calls.into_iter().all(|(name, call)| {
        // SAFETY: `call` is the address of a function. SQLite calls it with the type of the call of this name, which is
        // the type of the function.
        let call = unsafe { std::mem::transmute::<*const (), unsafe extern "C" fn()>(call) };
        // SAFETY: `vfs` is a live VFS of version 3 of SQLite's code for Unix, and the name ends with 0.
        unsafe {
            match (*vfs).xSetSystemCall {
                Some(set) => set(vfs, name.as_ptr(), Some(call)) == ffi::SQLITE_OK,
                None => false,
            }
        }
    })
}

fn fail(error: c_int) -> c_int {
    // SAFETY: errno of this thread may be written.
    unsafe { *libc::__errno_location() = error };
    -1
}

/// The descriptor of a file of the database.
fn descriptor(path: *const c_char) -> Option<RawFd> {
    if path.is_null() {
        return None;
    }
    // SAFETY: SQLite gives paths that end with 0.
    let path = unsafe { CStr::from_ptr(path) }.to_bytes();
    let index = match path.strip_prefix(PATH.as_bytes())? {
        b"" => 0,
        b"-wal" => 1,
        b"-journal" => 2,
        _ => return None,
    };
    FILES.get().map(|files| files[index])
}

extern "C" fn open(path: *const c_char, _flags: c_int, _mode: c_int) -> c_int {
    // SAFETY: SQLite gives paths that end with 0.
    if !path.is_null() && unsafe { CStr::from_ptr(path) } == c"/dev/urandom" {
        return RANDOM;
    }
    descriptor(path).unwrap_or_else(|| fail(libc::ENOENT))
}

extern "C" fn close(_descriptor: c_int) -> c_int {
    0
}

extern "C" fn access(path: *const c_char, _mode: c_int) -> c_int {
    match descriptor(path) {
        Some(_) => 0,
        None => fail(libc::ENOENT),
    }
}

extern "C" fn getcwd(_buffer: *mut c_char, _size: usize) -> *mut c_char {
    fail(libc::ENOENT);
    ptr::null_mut()
}

extern "C" fn stat(path: *const c_char, into: *mut libc::stat) -> c_int {
    match descriptor(path) {
        Some(descriptor) => fstat(descriptor, into),
        None => fail(libc::ENOENT),
    }
}

extern "C" fn fstat(descriptor: c_int, into: *mut libc::stat) -> c_int {
    // The function of glibc makes a call that takes a path.
    // SAFETY: SQLite gives a live stat. This call of the kernel writes one.
    let result = unsafe { libc::syscall(libc::SYS_fstat, descriptor, into) };
    c_int::try_from(result).unwrap_or(-1)
}

extern "C" fn read(descriptor: c_int, into: *mut c_void, size: usize) -> isize {
    if descriptor == RANDOM {
        // SAFETY: SQLite gives a buffer of this size.
        return unsafe { libc::getrandom(into, size, 0) };
    }
    // SAFETY: as above.
    unsafe { libc::read(descriptor, into, size) }
}

extern "C" fn fchmod(_descriptor: c_int, _mode: libc::mode_t) -> c_int {
    0
}

extern "C" fn unlink(path: *const c_char) -> c_int {
    match descriptor(path) {
        // SAFETY: no pointers.
        Some(descriptor) => unsafe { libc::ftruncate(descriptor, 0) },
        None => fail(libc::ENOENT),
    }
}

extern "C" fn open_directory(_path: *const c_char, _into: *mut c_int) -> c_int {
    ffi::SQLITE_CANTOPEN
}

/// Not root, so that SQLite does not give files to other users.
extern "C" fn geteuid() -> c_uint {
    1
}

extern "C" fn readlink(_path: *const c_char, _buffer: *mut c_char, _size: usize) -> isize {
    fail(libc::EINVAL) as isize
}
