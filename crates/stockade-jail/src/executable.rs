//! Executable memory: what the kernel is asked to refuse, and what the worker's own maps show.
//!
//! Under `Wx::Strict` nothing is executable but the program, its libraries and the kernel's vDSO, and none
//! of that is writable. Under `Wx::Jit` V8 keeps its compiled code in private memory that is writable and
//! executable at once (x86_64 without protection keys knows no other way), so that is all this level
//! rules out elsewhere: files, libraries and memory shared with others are never both.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _};

use crate::JailError;
use crate::spec::Wx;
use crate::sys;

const LAYER: &str = "w^x";

/// Switches on memory-deny-write-execute for the process, for good, and reads it back.
pub(crate) fn refuse_gain() -> Result<(), JailError> {
    let failed = |what: &str, checked: String| {
        JailError::new(
            LAYER,
            what,
            checked,
            "run a kernel of at least 6.3, or choose wx: 'jit'",
        )
    };
    sys::memory::refuse_exec_gain().map_err(|e| {
        failed(
            "the kernel cannot refuse executable memory",
            format!("PR_SET_MDWE: {e}"),
        )
    })?;
    match sys::memory::refuses_exec_gain() {
        Ok(true) => Ok(()),
        other => Err(failed(
            "the kernel does not refuse executable memory",
            format!("PR_GET_MDWE gives {other:?}"),
        )),
    }
}

/// Reads the maps of the process (proc_pid_maps(5)) from a descriptor of its `/proc/self/maps`, and
/// refuses what the mode rules out.
pub(crate) fn check_maps(maps: File, wx: Wx) -> Result<(), JailError> {
    let unreadable = |error: std::io::Error| {
        JailError::new(
            LAYER,
            "the maps of the process cannot be read",
            format!("/proc/self/maps: {error}"),
            "mount /proc where this runs",
        )
    };
    let mut maps = maps;
    maps.rewind().map_err(unreadable)?;
    let mut seen = 0_usize;
    for line in BufReader::new(maps).lines() {
        let line = line.map_err(unreadable)?;
        check(&line, wx)?;
        seen += 1;
    }
    if seen == 0 {
        return Err(unreadable(std::io::Error::other("it is empty")));
    }
    Ok(())
}

fn check(line: &str, wx: Wx) -> Result<(), JailError> {
    let refused = |what: &str| {
        JailError::new(
            LAYER,
            format!("{what}\n    {line}"),
            "/proc/self/maps, after the engine had started",
            "this is a fault of Stockade or of a library it is linked with: report the line",
        )
    };
    let Some(mapping) = Mapping::parse(line) else {
        return Err(refused("a line of the maps cannot be read"));
    };
    if mapping.write && mapping.shared {
        return Err(refused("memory that is shared with others is writable"));
    }
    if !mapping.execute {
        return Ok(());
    }
    match wx {
        Wx::Jit if mapping.backing == Backing::Anonymous => Ok(()),
        _ if mapping.write => Err(refused("memory is writable and executable")),
        _ => match mapping.backing {
            Backing::File | Backing::Kernel => Ok(()),
            Backing::Stack => Err(refused("stack or heap is executable")),
            Backing::Anonymous => Err(refused("memory that is not of a file is executable")),
        },
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Backing {
    File,
    /// The vDSO and what is at the fixed address of vsyscall.
    Kernel,
    /// The main thread's stack, or what lies below the program break.
    Stack,
    /// All other memory of the process, and files that only ever lived in memory.
    Anonymous,
}

#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    write: bool,
    execute: bool,
    shared: bool,
    backing: Backing,
}

impl Mapping {
    /// `address perms offset dev inode path`, the path may be missing.
    fn parse(line: &str) -> Option<Self> {
        let mut rest = line;
        let mut field = || {
            let (first, after) = rest.trim_start().split_once(' ')?;
            rest = after;
            Some(first)
        };
        let _address = field()?;
        let &[_read, write, execute, share] = field()?.as_bytes() else {
            return None;
        };
        let _offset = field()?;
        let _device = field()?;
        let mut end = rest.trim_start().splitn(2, ' ');
        let inode: u64 = end.next()?.parse().ok()?;
        let path = end.next().unwrap_or_default().trim_start();
        let in_memory = ["/memfd:", "/SYSV", "/dev/zero", "/dev/shm/"];
        let backing = if inode == 0 {
            match path {
                "[vdso]" | "[vsyscall]" => Backing::Kernel,
                "[stack]" | "[heap]" => Backing::Stack,
                _ => Backing::Anonymous,
            }
        } else if in_memory.iter().any(|prefix| path.starts_with(prefix)) {
            Backing::Anonymous
        } else {
            Backing::File
        };
        Some(Self {
            write: write == b'w',
            execute: execute == b'x',
            shared: share == b's',
            backing,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_lines() {
        let check = |line, wx| super::check(line, wx).is_ok();
        let both = |line, jit, strict| {
            assert_eq!(check(line, Wx::Jit), jit, "jit: {line}");
            assert_eq!(check(line, Wx::Strict), strict, "strict: {line}");
        };
        both(
            "5555a000-5555b000 r-xp 0292d000 fe:00 5313236                    /usr/bin/stockade",
            true,
            true,
        );
        both(
            "5555a000-5555b000 r-xp 0292d000 00:2f 5313236                    /a b (deleted)",
            true,
            true,
        );
        both(
            "5555a000-5555b000 rwxp 0292d000 fe:00 5313236                    /usr/bin/stockade",
            false,
            false,
        );
        both(
            "7f790b000000-7f7917800000 rwxp 00000000 00:00 0 ",
            true,
            false,
        );
        both(
            "7f790b000000-7f7917800000 rwxp 00000000 00:00 0",
            true,
            false,
        );
        both(
            "7f790b000000-7f7917800000 r-xp 00000000 00:00 0 ",
            true,
            false,
        );
        both(
            "7f790b000000-7f7917800000 rw-p 00000000 00:00 0                  [heap]",
            true,
            true,
        );
        both(
            "7f790b000000-7f7917800000 r-xp 00000000 00:01 77                 /memfd:x (deleted)",
            true,
            false,
        );
        both(
            "7f790b000000-7f7917800000 rw-s 00000000 00:01 77                 /memfd:x (deleted)",
            false,
            false,
        );
        both(
            "7f790b000000-7f7917800000 r--s 00000000 00:01 77                 /dev/zero (deleted)",
            true,
            true,
        );
        both(
            "7f798cd3d000-7f798cd3f000 r-xp 00000000 00:00 0                  [vdso]",
            true,
            true,
        );
        both(
            "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0          [vsyscall]",
            true,
            true,
        );
        both(
            "7f798cd3d000-7f798cd3f000 rwxp 00000000 00:00 0                  [stack]",
            false,
            false,
        );
        both(
            "7f798cd3d000-7f798cd3f000 rwxp 00000000 00:00 0                  [anon:v8]",
            true,
            false,
        );
        both("nonsense", false, false);
        both("", false, false);
    }

    #[test]
    fn check_maps_of_this_process_passes_and_can_be_repeated() {
        let maps = File::open("/proc/self/maps").unwrap();
        check_maps(maps.try_clone().unwrap(), Wx::Strict).unwrap();
        check_maps(maps, Wx::Jit).unwrap();
    }
}
