//! Its own memory, searched for what it inherited.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::ops::Range;

use syscalls::Sysno;

use crate::sys::call::{at, raw};
use crate::targets::{MASK, masked};

const PAGE: u64 = 4096;
/// Unmapped bytes after which a search in one direction gives up.
const GAP: u64 = 16 << 20;
/// A way to change a mask that does not exist.
const NO_WAY: u64 = 999;

/// Whether this page can be read. The kernel reads the new mask before it checks what to do with
/// it: an oracle that needs neither files nor a fault.
fn readable(page: u64) -> bool {
    raw(
        i64::from(Sysno::rt_sigprocmask.id()),
        [NO_WAY, page, 0, 8, 0, 0],
    ) == Err(libc::EINVAL)
}

/// A value of the auxiliary vector.
pub(crate) fn auxiliary(tag: u64) -> u64 {
    // SAFETY: no pointers are involved.
    unsafe { libc::getauxval(tag) }
}

/// The path of the program as the kernel left it on the stack.
pub(crate) fn program_path() -> String {
    let path = auxiliary(libc::AT_EXECFN);
    if path == 0 {
        return String::new();
    }
    let path = usize::try_from(path).unwrap_or(0);
    // SAFETY: the kernel put a text that ends with zero there, and nobody changes it.
    let path = unsafe { CStr::from_ptr(std::ptr::with_exposed_provenance(path)) };
    path.to_string_lossy().into_owned()
}

/// The 16 bytes that the kernel leaves next to arguments and environment for the C library, masked.
pub(crate) fn start_of_stack() -> Vec<u8> {
    let start = usize::try_from(auxiliary(libc::AT_RANDOM)).unwrap_or(0);
    // SAFETY: the kernel put 16 bytes there, and nobody changes them.
    let bytes = unsafe { std::ptr::with_exposed_provenance::<[u8; 16]>(start).read_unaligned() };
    masked(&bytes)
}

/// Pages around what this thread can know of, in order.
fn known_pages() -> Vec<u64> {
    static CONSTANT: u8 = 7;
    let local = 7_u8;
    let boxed = Box::new(7_u8);
    let known = [
        at(&CONSTANT),
        at(&local),
        at(&*boxed),
        libc::getpid as *const () as u64,
        known_pages as *const () as u64,
        auxiliary(libc::AT_RANDOM),
        auxiliary(libc::AT_SYSINFO_EHDR),
        auxiliary(libc::AT_BASE),
        auxiliary(libc::AT_PHDR),
        auxiliary(libc::AT_EXECFN),
        raw(i64::from(Sysno::brk.id()), [0; 6]).map_or(0, i64::cast_unsigned),
    ];
    let mut pages = BTreeMap::new();
    for address in known {
        let start = address & !(PAGE - 1);
        walk(
            &mut pages,
            (0..).map(|step| start.saturating_add(step * PAGE)),
        );
        walk(
            &mut pages,
            (1..).map(|step| start.saturating_sub(step * PAGE)),
        );
    }
    pages
        .into_iter()
        .filter_map(|(page, readable)| readable.then_some(page))
        .collect()
}

/// Reads page after page until nothing was readable for [`GAP`] bytes.
fn walk(pages: &mut BTreeMap<u64, bool>, addresses: impl Iterator<Item = u64>) {
    let mut nothing = 0;
    for page in addresses.take_while(|page| (PAGE..1 << 47).contains(page)) {
        let found = *pages.entry(page).or_insert_with(|| readable(page));
        nothing = if found { 0 } else { nothing + PAGE };
        if nothing >= GAP {
            return;
        }
    }
}

/// Which of these masked secrets lie in memory, and how many bytes were searched.
pub(crate) fn find(masked: &[(String, Vec<u8>)]) -> (Vec<String>, u64) {
    let pages = known_pages();
    let mut found = Vec::new();
    let mut searched = 0;
    let mut range = 0..0;
    for page in pages {
        // what was freed since may be unmapped by now
        if !readable(page) {
            continue;
        }
        searched += PAGE;
        // a secret may lie across the border of two pages
        let start = if range.end == page {
            page.saturating_sub(PAGE)
        } else {
            page
        };
        range = start..page + PAGE;
        for (name, secret) in masked {
            if let Some(address) = find_in(&range, secret) {
                found.push(format!("{name} at {address:#x}"));
            }
        }
    }
    (found, searched)
}

fn find_in(range: &Range<u64>, secret: &[u8]) -> Option<u64> {
    let (first, rest) = secret.split_first()?;
    let last = range.end.checked_sub(secret.len() as u64)?;
    let byte = |address: u64| {
        let address = usize::try_from(address).unwrap_or(0);
        // SAFETY: the page was readable a moment ago, and no other thread unmaps meanwhile. Another
        // thread may write it: any value is as good as another.
        unsafe { std::ptr::with_exposed_provenance::<u8>(address).read_volatile() }
    };
    (range.start..=last).find(|start| {
        byte(*start) ^ MASK == *first
            && rest
                .iter()
                .zip(start + 1..)
                .all(|(want, address)| byte(address) ^ MASK == *want)
    })
}
