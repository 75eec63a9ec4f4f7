//! Memory apart, for what V8 takes while it describes a heap: all of it goes back to the kernel when it is freed.
//!
//! With malloc(3) a worker would keep most of it: a small block that stays, anywhere between those that are freed, keeps the
//! pages around it writable, and writable pages are what the kernel's limit counts. The next allocations of the guest would
//! then find no room.
//!
//! Invariants:
//! 1. A chunk is writable while a block in it is in use, and while [`Pooled`] lives one more of each size of blocks.
//! 2. A block is freed where it was taken, whichever thread frees it: its header names the pool.

use std::cell::Cell;
use std::ffi::c_void;

use parking_lot::Mutex;

use super::alloc::Uncounted;

/// Bytes of a chunk, and how many there are at most.
const CHUNK: usize = 1 << 20;
const CHUNKS: usize = 8192;

/// Blocks from this size on have chunks of their own.
const LARGE: usize = CHUNK / 4;

/// What malloc(3) aligns blocks to.
const ALIGN: usize = 16;

thread_local! {
    /// The calling thread takes its blocks from here.
    static IN_USE: Cell<bool> = const { Cell::new(false) };
}

static POOL: Mutex<Option<Pool>> = Mutex::new(None);

struct Pool {
    /// The address of the first chunk.
    start: usize,
    chunks: Box<[Chunk]>,
    /// Chunks with room for a block of each size, some of which may have changed since.
    with_room: Vec<Vec<u32>>,
}

/// Blocks of one size, or the beginning of one large block.
#[derive(Clone, Copy, Default)]
struct Chunk {
    /// It is writable.
    taken: bool,
    /// Bytes of a block in it; 0 for a large one.
    size: u32,
    /// Blocks in it that are in use.
    blocks: u32,
    /// Bytes that blocks were cut from.
    cut: u32,
    /// The first of its blocks that were freed, counted from 1; each begins with the number of the next one.
    free: u32,
    /// Chunks of the large block that it begins.
    run: u32,
}

impl Chunk {
    fn has_room(&self, size: u32) -> bool {
        self.taken
            && self.size == size
            && (self.free > 0 || u64::from(self.cut) + u64::from(size) <= CHUNK as u64)
    }
}

/// Which list a size has, and the size that blocks in it have: four between two powers of two, so that at most a fifth is not
/// used.
fn class(size: usize) -> (usize, u32) {
    if size <= 16 * ALIGN {
        let units = size.div_ceil(ALIGN).max(1);
        return (units, (units * ALIGN) as u32);
    }
    let shift = (size - 1).ilog2() - 2;
    let steps = ((size - 1) >> shift) + 1;
    (
        17 + (shift as usize - 6) * 4 + steps - 5,
        (steps << shift) as u32,
    )
}

/// Lists of classes.
const CLASSES: usize = 64;

/// While it lives, the calling thread takes its blocks from the pool.
pub(crate) struct Pooled(());

impl Pooled {
    /// Where the kernel reserves no addresses for it, blocks come from malloc(3) as ever.
    pub(crate) fn begin() -> Self {
        // What is kept for the process is not the guest's.
        let _uncounted = Uncounted::begin();
        let mut pool = POOL.lock();
        if pool.is_none() {
            *pool = Pool::reserve();
        }
        IN_USE.set(pool.is_some());
        Self(())
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        IN_USE.set(false);
        if let Some(pool) = &mut *POOL.lock() {
            pool.tidy();
        }
    }
}

/// Whether the calling thread takes its blocks from here.
pub(super) fn is_in_use() -> bool {
    IN_USE.get()
}

/// A block of `size` bytes; null where there is no memory.
pub(super) fn take(size: usize) -> *mut c_void {
    let mut pool = POOL.lock();
    let _uncounted = Uncounted::begin();
    let address = pool.as_mut().and_then(|pool| pool.take(size));
    address.map_or(std::ptr::null_mut(), |address| address as *mut c_void)
}

/// Frees a block of [`take`].
pub(super) fn give(block: *mut c_void) {
    if let Some(pool) = &mut *POOL.lock() {
        let _uncounted = Uncounted::begin();
        pool.give(block as usize, is_in_use());
    }
}

impl Pool {
    fn reserve() -> Option<Self> {
        // SAFETY: a new private mapping, where the kernel likes, that nothing can read or write.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                CHUNKS * CHUNK,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        (start != libc::MAP_FAILED).then(|| Self {
            start: start as usize,
            chunks: vec![Chunk::default(); CHUNKS].into_boxed_slice(),
            with_room: vec![Vec::new(); CLASSES],
        })
    }

    fn take(&mut self, size: usize) -> Option<usize> {
        if size >= LARGE {
            let count = size.div_ceil(CHUNK);
            let first = self.begin_run(count)?;
            let chunk = self.chunks.get_mut(first)?;
            (chunk.blocks, chunk.run) = (1, u32::try_from(count).ok()?);
            return Some(self.start + first * CHUNK);
        }
        let (class, size) = class(size);
        let index = self.chunk_for(class, size)?;
        let chunk = self.chunks.get_mut(index)?;
        chunk.blocks += 1;
        let base = self.start + index * CHUNK;
        if chunk.free > 0 {
            let address = base + (chunk.free as usize - 1) * size as usize;
            // SAFETY: the block is the pool's and not in use; it begins with the number that `give` has written.
            chunk.free = unsafe { (address as *const u32).read() };
            return Some(address);
        }
        let address = base + chunk.cut as usize;
        chunk.cut += size;
        Some(address)
    }

    /// The chunk from which a block of this size is taken.
    fn chunk_for(&mut self, class: usize, size: u32) -> Option<usize> {
        let known = self.with_room.get_mut(class)?;
        while let Some(index) = known.last() {
            let index = *index as usize;
            if self
                .chunks
                .get(index)
                .is_some_and(|chunk| chunk.has_room(size))
            {
                return Some(index);
            }
            known.pop();
        }
        let first = self.begin_run(1)?;
        let chunk = self.chunks.get_mut(first)?;
        (chunk.size, chunk.run) = (size, 1);
        self.with_room.get_mut(class)?.push(first as u32);
        Some(first)
    }

    /// Frees a block; with `goes_on` more blocks will be taken.
    fn give(&mut self, address: usize, goes_on: bool) {
        let index = address.wrapping_sub(self.start) / CHUNK;
        let Some(chunk) = self.chunks.get_mut(index) else {
            return;
        };
        chunk.blocks = chunk.blocks.saturating_sub(1);
        if chunk.size == 0 {
            return self.end_run(index);
        }
        let size = chunk.size;
        let (class, _) = class(size as usize);
        let is_first = |known: &Vec<u32>| known.last() == Some(&(index as u32));
        let in_turn = self.with_room.get(class).is_some_and(is_first);
        // The chunk that blocks are taken from stays, so that one block that comes and goes costs no system call.
        if chunk.blocks == 0 && !(in_turn && goes_on) {
            return self.end_run(index);
        }
        let was_full = !chunk.has_room(size);
        let block = (address - self.start) % CHUNK / size as usize;
        // SAFETY: the block is the pool's and not in use any more, and has room for a number.
        unsafe { (address as *mut u32).write(chunk.free) };
        chunk.free = block as u32 + 1;
        if was_full && let Some(known) = self.with_room.get_mut(class) {
            // Behind the one in turn.
            let at = known.len().saturating_sub(1);
            known.insert(at, index as u32);
        }
    }

    /// Gives chunks back in which no block is in use.
    fn tidy(&mut self) {
        for index in 0..self.chunks.len() {
            let unused = |chunk: &Chunk| chunk.run > 0 && chunk.blocks == 0;
            if self.chunks.get(index).is_some_and(unused) {
                self.end_run(index);
            }
        }
        self.with_room.iter_mut().for_each(Vec::clear);
        for (index, chunk) in self.chunks.iter().enumerate() {
            if chunk.size > 0 && chunk.has_room(chunk.size) {
                let (class, _) = class(chunk.size as usize);
                if let Some(known) = self.with_room.get_mut(class) {
                    known.push(index as u32);
                }
            }
        }
    }

    /// Makes free chunks in a row writable; gives the first.
    fn begin_run(&mut self, count: usize) -> Option<usize> {
        let mut free = 0;
        let end = self.chunks.iter().position(|chunk| {
            free = if chunk.taken { 0 } else { free + 1 };
            free == count
        })?;
        let first = end + 1 - count;
        // SAFETY: the addresses are the pool's, and nothing is in these chunks.
        let made = unsafe {
            let at = (self.start + first * CHUNK) as *mut c_void;
            libc::mprotect(at, count * CHUNK, libc::PROT_READ | libc::PROT_WRITE)
        };
        if made != 0 {
            return None;
        }
        for chunk in self.chunks.iter_mut().skip(first).take(count) {
            chunk.taken = true;
        }
        Some(first)
    }

    /// Gives the memory of a run, in which no block is in use, back to the kernel.
    fn end_run(&mut self, first: usize) {
        let count = self.chunks.get(first).map_or(0, |chunk| chunk.run) as usize;
        // SAFETY: the addresses are the pool's, and no block in them is in use.
        unsafe {
            let at = (self.start + first * CHUNK) as *mut c_void;
            libc::madvise(at, count * CHUNK, libc::MADV_DONTNEED);
            libc::mprotect(at, count * CHUNK, libc::PROT_NONE);
        }
        for chunk in self.chunks.iter_mut().skip(first).take(count) {
            *chunk = Chunk::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chunks that are writable.
    fn taken(pool: &Pool) -> usize {
        pool.chunks.iter().filter(|chunk| chunk.taken).count()
    }

    #[test]
    fn pool_keeps_only_chunks_in_which_a_block_is_in_use() {
        let mut pool = Pool::reserve().unwrap();
        let small: Vec<usize> = (0..40_000).map(|_| pool.take(100).unwrap()).collect();
        let large = pool.take(3 * CHUNK + 1).unwrap();
        for address in small.iter().chain([&large]) {
            assert_eq!(address % ALIGN, 0);
            // SAFETY: the block is in use and has at least as many bytes.
            unsafe { (*address as *mut u8).write_bytes(7, 100) };
        }
        // Blocks do not overlap.
        let mut sorted = small.clone();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|pair| pair[1] - pair[0] >= 100));
        // 112 bytes each.
        let chunks = 40_000_usize.div_ceil(CHUNK / 112);
        assert_eq!(taken(&pool), chunks + 4);
        pool.give(large, true);
        // What is freed is used again before more is made writable.
        let (stays, others) = small.split_first().unwrap();
        others.iter().for_each(|address| pool.give(*address, true));
        let again: Vec<usize> = (0..others.len()).map(|_| pool.take(100).unwrap()).collect();
        assert!(taken(&pool) <= chunks);
        let distinct: std::collections::BTreeSet<usize> =
            again.iter().chain([stays]).copied().collect();
        assert_eq!(distinct.len(), 40_000);
        again.iter().for_each(|address| pool.give(*address, true));
        pool.tidy();
        assert_eq!(taken(&pool), 1);
        pool.give(*stays, false);
        assert_eq!(taken(&pool), 0);
        // The addresses are used again.
        assert_eq!(pool.take(CHUNK), Some(pool.start));
    }

    #[test]
    fn class_has_room_for_its_sizes_and_wastes_a_fifth_at_most() {
        let mut before = (0, 0);
        for size in 1..LARGE {
            let (list, room) = class(size);
            assert!(room as usize >= size && list < CLASSES, "{size}");
            assert_eq!(room as usize % ALIGN, 0);
            assert!(
                size <= 16 * ALIGN || room as usize * 4 <= size * 5,
                "{size}: {room}"
            );
            assert!(
                (list, room) == before || (list == before.0 + 1 && room > before.1),
                "{size}"
            );
            before = (list, room);
        }
    }

    #[test]
    fn pool_that_is_full_gives_nothing() {
        let mut pool = Pool::reserve().unwrap();
        assert_eq!(pool.take(CHUNKS * CHUNK + 1), None);
        assert_eq!(pool.take(usize::MAX), None);
        let all = pool.take(CHUNKS * CHUNK).unwrap();
        assert_eq!(pool.take(1), None);
        pool.give(all, true);
        assert!(pool.take(1).is_some());
    }
}
