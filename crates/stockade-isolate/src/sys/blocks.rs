//! Blocks of memory that C and C++ code takes on the thread of an isolate, counted for the isolate.
//!
//! Invariant: a block is taken off the count that it is in, whichever thread frees it. Counters live as long as
//! the process, see [`Charging`](super::alloc::Charging).

use std::ffi::c_void;
use std::sync::atomic::{AtomicI64, Ordering};

use super::alloc::{charge, counter};
use super::{guard, pool};

/// Bytes in front of each block; they keep malloc(3)'s alignment.
const HEADER: usize = 16;

/// What the owner's word begins with. No address does; nor does what glibc's allocator writes there, the
/// size of a block.
const MARK: u64 = 0xa5c3 << 48;
const MARK_BITS: u64 = 0xffff << 48;

/// What the owner's word of a block of the [`pool`] begins with.
const POOLED: u64 = 0xa5c4 << 48;

/// What stands in front of a block.
#[repr(C)]
struct Header {
    /// Bytes that were asked for.
    size: u64,
    /// The mark, and the address of the counter that has them, or 0.
    owner: u64,
}

const _: () = assert!(size_of::<Header>() == HEADER);

impl Header {
    /// The header of a block that belongs to the calling thread's isolate from now on.
    fn taken(size: usize, mark: u64) -> Self {
        charge((size + HEADER) as i64);
        Self {
            size: size as u64,
            owner: mark | (counter() as u64 & !MARK_BITS),
        }
    }

    fn is_pooled(&self) -> bool {
        self.owner & MARK_BITS == POOLED
    }

    fn give_back(&self) {
        let counter = (self.owner & !MARK_BITS) as *const AtomicI64;
        if !counter.is_null() {
            // SAFETY: the address is that of a counter, which lives as long as the process.
            unsafe { &*counter }.fetch_sub(self.size as i64 + HEADER as i64, Ordering::Relaxed);
        }
    }
}

/// The header of a block of [`take`]; null for another one.
///
/// # Safety
/// `block` is of [`take`], or of malloc(3), where the 16 bytes before it are the allocator's own and may be read.
unsafe fn header_of(block: *mut c_void) -> *mut Header {
    // SAFETY: within the block's allocation, by the caller's word.
    let header = unsafe { block.cast::<u8>().sub(HEADER).cast::<Header>() };
    // SAFETY: readable by the caller's word, aligned as malloc(3) aligns.
    if matches!(unsafe { (*header).owner } & MARK_BITS, MARK | POOLED) {
        header
    } else {
        std::ptr::null_mut()
    }
}

/// The block behind a header that is written now; null where there is none.
///
/// # Safety
/// `start` is null, or has room for the header and is owned by the caller.
unsafe fn block_of(start: *mut c_void, size: usize, mark: u64) -> *mut c_void {
    if start.is_null() {
        guard::exhausted();
        return start;
    }
    // SAFETY: `start` has room for the header, and malloc(3) aligns for it.
    unsafe {
        start.cast::<Header>().write(Header::taken(size, mark));
        start.cast::<u8>().add(HEADER).cast()
    }
}

/// A block of `size` bytes, aligned as malloc(3) aligns; null where there is no memory.
pub(super) fn take(size: usize) -> *mut c_void {
    let Some(whole) = size.checked_add(HEADER) else {
        return std::ptr::null_mut();
    };
    if pool::is_in_use() {
        // SAFETY: what the pool gives has room for the header.
        return unsafe { block_of(pool::take(whole), size, POOLED) };
    }
    // SAFETY: malloc(3) takes any size; what it gives has room for the header.
    unsafe { block_of(libc::malloc(whole), size, MARK) }
}

/// A block in place of another one, or of none, as realloc(3).
///
/// # Safety
/// As [`give`]. On failure the block stays as it is.
pub(super) unsafe fn retake(block: *mut c_void, size: usize) -> *mut c_void {
    if block.is_null() {
        return take(size);
    }
    // SAFETY: by the caller's word.
    let header = unsafe { header_of(block) };
    if header.is_null() {
        // SAFETY: the block is malloc(3)'s own.
        return unsafe { libc::realloc(block, size) };
    }
    let Some(whole) = size.checked_add(HEADER) else {
        return std::ptr::null_mut();
    };
    // SAFETY: the header is that of a block of `take`, which begins with it.
    unsafe {
        let before = std::ptr::read(header);
        if before.is_pooled() {
            let next = take(size);
            if !next.is_null() {
                let kept = size.min(before.size as usize);
                std::ptr::copy_nonoverlapping(block.cast::<u8>(), next.cast::<u8>(), kept);
                give(block);
            }
            return next;
        }
        let start = libc::realloc(header.cast(), whole);
        if !start.is_null() {
            before.give_back();
        }
        block_of(start, size, MARK)
    }
}

/// Frees a block.
///
/// # Safety
/// `block` is null, of [`take`] or [`retake`], or of malloc(3); the caller owns it.
pub(super) unsafe fn give(block: *mut c_void) {
    if block.is_null() {
        return;
    }
    // SAFETY: by the caller's word; a block of `take` begins with its header.
    unsafe {
        let header = header_of(block);
        if header.is_null() {
            libc::free(block);
        } else {
            (*header).give_back();
            if (*header).is_pooled() {
                pool::give(header.cast());
            } else {
                libc::free(header.cast());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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
        let block = take(100);
        let before = held(&counter);
        assert!(before >= 100);
        // SAFETY: the block is used within its size, and freed once.
        unsafe {
            block.cast::<u8>().write_bytes(7, 100);
            let block = retake(block, 1000);
            assert_eq!(held(&counter), before + 900);
            assert_eq!(block.cast::<u8>().add(99).read(), 7);
            assert_eq!(block as usize % HEADER, 0);
            give(block);
        }
        assert_eq!(held(&counter), 0);
    }

    #[test]
    fn block_freed_on_another_thread_is_taken_off_its_own_count() {
        let (first, charging) = charged();
        let block = take(100) as usize;
        drop(charging);
        let second = std::thread::spawn(move || {
            let (second, _charging) = charged();
            // SAFETY: the block is freed once.
            unsafe { give(block as *mut c_void) };
            held(&second)
        });
        assert_eq!(second.join().unwrap(), 0);
        assert_eq!(held(&first), 0);
    }

    #[test]
    fn pooled_block_is_counted_grows_and_is_freed_where_it_is_from() {
        let (counter, _charging) = charged();
        let block = {
            let _pooled = pool::Pooled::begin();
            take(100)
        };
        let before = held(&counter);
        // SAFETY: the block is used within its size, and freed once.
        unsafe {
            assert!((*header_of(block)).is_pooled());
            block.cast::<u8>().write_bytes(7, 100);
            let block = retake(block, 1000);
            assert!(!(*header_of(block)).is_pooled());
            assert_eq!(held(&counter), before + 900);
            assert_eq!(block.cast::<u8>().add(99).read(), 7);
            give(block);
        }
        assert_eq!(held(&counter), 0);
    }

    #[test]
    fn block_in_place_of_none_is_a_new_one() {
        let (counter, _charging) = charged();
        // SAFETY: the block is freed once.
        unsafe {
            let block = retake(std::ptr::null_mut(), 100);
            assert!(!block.is_null() && held(&counter) >= 100);
            give(block);
        }
        assert_eq!(held(&counter), 0);
    }

    #[test]
    fn block_from_elsewhere_is_freed_as_it_is() {
        let (counter, _charging) = charged();
        // SAFETY: the block is freed once.
        unsafe {
            give(retake(libc::malloc(40), 80));
            give(std::ptr::null_mut());
        }
        assert_eq!(held(&counter), 0);
    }
}
