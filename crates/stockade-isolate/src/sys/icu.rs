//! Memory that ICU holds for an isolate: formatters, collators and segmenters of `Intl`, and text that is
//! being compared or normalised.
//!
//! V8 counts such an object as the few bytes of its heap that stand for it. ICU asks for memory through
//! functions that a program may replace; these count into the counter of the thread's isolate.
//!
//! Invariant: only the isolate whose count a block is in gets it back. What ICU keeps for the whole process
//! may be freed for another one.

use std::ffi::{c_int, c_void};

use super::alloc::{charge, counter_address};
use super::guard;

/// Bytes in front of each block; they keep malloc(3)'s alignment.
const HEADER: usize = 16;

/// What the owner's word begins with. No address does; nor does what glibc's allocator writes there, the
/// size of a block.
const MARK: u64 = 0xa5c3 << 48;
const MARK_BITS: u64 = 0xffff << 48;

/// From this size on a block is refused where the isolate has no room for it. Smaller ones are not: ICU's
/// answer to those is tested less, and the isolate ends at the next point where the engine looks.
const LARGE: usize = 1 << 20;

/// What stands in front of a block.
#[repr(C)]
struct Header {
    /// Bytes that were asked for.
    size: u64,
    /// The mark, and the address of the counter that has them.
    owner: u64,
}

const _: () = assert!(size_of::<Header>() == HEADER);

type Allocate = unsafe extern "C" fn(*const c_void, usize) -> *mut c_void;
type Reallocate = unsafe extern "C" fn(*const c_void, *mut c_void, usize) -> *mut c_void;
type Free = unsafe extern "C" fn(*const c_void, *mut c_void);

unsafe extern "C" {
    // icu4c/source/common/unicode/uclean.h. The number is ICU's version, which each of its names has.
    #[link_name = "u_setMemoryFunctions_77"]
    fn set_memory_functions(
        context: *const c_void,
        allocate: Allocate,
        reallocate: Reallocate,
        free: Free,
        status: *mut c_int,
    );
}

/// Counts what ICU asks for from now on.
pub(crate) fn count_memory() {
    // U_ZERO_ERROR; the only error there is tells of a function that is missing.
    let mut status = 0;
    // SAFETY: the functions keep the contracts of malloc(3), realloc(3) and free(3), as demanded. No other
    // thread uses ICU yet (`initialize`), and blocks that it may hold already are told apart by their mark.
    unsafe {
        set_memory_functions(
            std::ptr::null(),
            allocate,
            reallocate,
            free,
            &raw mut status,
        );
    }
}

fn owner() -> u64 {
    MARK | (counter_address() as u64 & !MARK_BITS)
}

/// Counts bytes that the calling thread's isolate holds from now on.
fn take(size: usize) {
    charge((size + HEADER) as i64);
}

fn give_back(header: &Header) {
    if header.owner == owner() {
        charge(-((header.size as usize + HEADER) as i64));
    }
}

/// The header of a block of [`allocate`]; null for another one.
///
/// # Safety
/// `block` is one that ICU holds: of [`allocate`], or of malloc(3), where the 16 bytes before it are the
/// allocator's own and may be read.
unsafe fn header_of(block: *mut c_void) -> *mut Header {
    // SAFETY: within the block's allocation, by the caller's word.
    let header = unsafe { block.cast::<u8>().sub(HEADER).cast::<Header>() };
    // SAFETY: readable by the caller's word, aligned as malloc(3) aligns.
    if unsafe { (*header).owner } & MARK_BITS == MARK {
        header
    } else {
        std::ptr::null_mut()
    }
}

/// The block behind a header that is written now; null where there is none.
///
/// # Safety
/// `start` is null, or has room for the header and is owned by the caller.
unsafe fn block_of(start: *mut c_void, size: usize) -> *mut c_void {
    if start.is_null() {
        guard::exhausted();
        return start;
    }
    take(size);
    let header = Header {
        size: size as u64,
        owner: owner(),
    };
    // SAFETY: `start` has room for the header, and malloc(3) aligns for it.
    unsafe {
        start.cast::<Header>().write(header);
        start.cast::<u8>().add(HEADER).cast()
    }
}

fn whole(size: usize) -> Option<usize> {
    if size >= LARGE && !guard::has_room(size as u64) {
        return None;
    }
    size.checked_add(HEADER)
}

unsafe extern "C" fn allocate(_context: *const c_void, size: usize) -> *mut c_void {
    let Some(whole) = whole(size) else {
        return std::ptr::null_mut();
    };
    // SAFETY: malloc(3) takes any size; what it gives has room for the header.
    unsafe { block_of(libc::malloc(whole), size) }
}

unsafe extern "C" fn reallocate(
    _context: *const c_void,
    block: *mut c_void,
    size: usize,
) -> *mut c_void {
    // SAFETY: ICU passes a block that it holds, never null.
    let header = unsafe { header_of(block) };
    if header.is_null() {
        // SAFETY: the block is malloc(3)'s own.
        return unsafe { libc::realloc(block, size) };
    }
    let Some(whole) = whole(size) else {
        return std::ptr::null_mut();
    };
    // SAFETY: the header is that of a block of `allocate`, which begins with it. On failure the block stays
    // as it is, and counted.
    unsafe {
        let before = std::ptr::read(header);
        let start = libc::realloc(header.cast(), whole);
        if !start.is_null() {
            give_back(&before);
        }
        block_of(start, size)
    }
}

unsafe extern "C" fn free(_context: *const c_void, block: *mut c_void) {
    if block.is_null() {
        return;
    }
    // SAFETY: ICU frees a block that it holds, once; it begins with its header where it has one.
    unsafe {
        let header = header_of(block);
        if header.is_null() {
            libc::free(block);
        } else {
            give_back(&*header);
            libc::free(header.cast());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::super::alloc::Charging;
    use super::*;

    fn charged() -> (Arc<AtomicI64>, Charging) {
        let counter = Arc::new(AtomicI64::new(0));
        let charging = Charging::to(Arc::clone(&counter));
        (counter, charging)
    }

    fn held(counter: &AtomicI64) -> i64 {
        counter.load(Ordering::Relaxed)
    }

    #[test]
    fn block_of_a_charged_thread_is_counted_until_it_is_freed() {
        let (counter, _charging) = charged();
        let none = std::ptr::null();
        // SAFETY: each block is used and freed as ICU would.
        unsafe {
            let block = allocate(none, 100);
            let before = held(&counter);
            assert!(before >= 100);
            block.cast::<u8>().write_bytes(7, 100);
            let block = reallocate(none, block, 1000);
            assert_eq!(held(&counter), before + 900);
            assert_eq!(block.cast::<u8>().add(99).read(), 7);
            assert_eq!(block as usize % HEADER, 0);
            free(none, block);
        }
        assert_eq!(held(&counter), 0);
    }

    #[test]
    fn block_freed_for_another_isolate_stays_in_its_own_count() {
        let none = std::ptr::null();
        let (first, charging) = charged();
        // SAFETY: as above.
        let block = unsafe { allocate(none, 100) };
        drop(charging);
        let (second, _charging) = charged();
        // SAFETY: as above.
        unsafe { free(none, block) };
        assert!(held(&first) > 0);
        assert_eq!(held(&second), 0);
    }

    #[test]
    fn block_from_before_is_freed_as_it_is() {
        let (counter, _charging) = charged();
        let none = std::ptr::null();
        // SAFETY: as above.
        unsafe {
            let block = reallocate(none, libc::malloc(40), 80);
            free(none, block);
        }
        assert_eq!(held(&counter), 0);
    }
}
