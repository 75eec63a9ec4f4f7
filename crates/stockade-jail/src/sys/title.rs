//! What ps(1) shows of a process: the memory of its arguments, which the kernel reads each time
//! somebody looks (proc_pid_cmdline(5)). Changing it needs no system call, so a sealed worker can do it.
//!
//! Invariants:
//! 1. Only bytes that belonged to this process's arguments at its start are written, and the last of them
//!    stays NUL: what points to arguments still points to text that ends.
//! 2. What is shown is printable ASCII. A worker that was taken over can show what it likes, as every
//!    process can.

use std::sync::OnceLock;

use parking_lot::Mutex;

/// First byte of the arguments, and their length.
#[derive(Clone, Copy)]
struct Area {
    start: usize,
    length: usize,
}

/// Found by the launcher; workers are clones of it and have it at the same place.
static AREA: OnceLock<Option<Area>> = OnceLock::new();

/// Two threads of a worker may show something at the same time.
static WRITING: Mutex<()> = Mutex::new(());

/// Finds the memory of the arguments, while there is a `/proc`.
pub(crate) fn find() {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let _ = AREA.set(area(&stat));
}

/// `arg_start` and `arg_end` of proc_pid_stat(5), fields 48 and 49.
fn area(stat: &str) -> Option<Area> {
    // The name of the program may hold anything, brackets and spaces too.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split_ascii_whitespace().skip(45);
    let start: usize = fields.next()?.parse().ok()?;
    let end: usize = fields.next()?.parse().ok()?;
    let length = end.checked_sub(start)?;
    (start != 0 && length > 1).then_some(Area { start, length })
}

/// Shows this text in place of the arguments, as much of it as fits.
pub(crate) fn show(text: &str) {
    let Some(Area { start, length }) = AREA.get().copied().flatten() else {
        return;
    };
    let mut bytes = vec![0; length];
    let room = length - 1;
    for (to, from) in bytes.iter_mut().take(room).zip(text.bytes()) {
        *to = if matches!(from, b' '..=b'~') {
            from
        } else {
            b'?'
        };
    }
    let _one = WRITING.lock();
    // SAFETY: the kernel put the arguments of this process at these addresses, on the stack of its first
    // thread, which is mapped and writable for the life of the process and of its clones. A reader
    // meanwhile, such as `std::env::args`, sees old and new bytes and a NUL at their end.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), start as *mut u8, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn area_is_read_past_any_name_of_a_program() {
        let fields: Vec<String> = (3..=52)
            .map(|number| (number * number).to_string())
            .collect();
        let stat = format!("7 (a) b ( c) {}", fields.join(" "));
        let area = area(&stat).unwrap();
        assert_eq!((area.start, area.length), (48 * 48, 49 * 49 - 48 * 48));
    }

    #[test]
    fn area_that_is_not_there_is_none() {
        for stat in ["", "7 (a) S 1 2", "7 (a)"] {
            assert!(area(stat).is_none(), "{stat}");
        }
        let hidden = vec!["0"; 50].join(" ");
        assert!(area(&format!("7 (a) {hidden}")).is_none());
    }

    #[test]
    fn area_of_this_process_holds_its_arguments() {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let area = area(&stat).unwrap();
        let shown = std::fs::read("/proc/self/cmdline").unwrap();
        assert_eq!(area.length, shown.len());
    }
}
