//! The process's allocator, which never frees small blocks.
//!
//! deno_core lends V8 three ArrayBuffers of a realm's state (`tick_info`, `immediate_info` and `timer_info`, 2 to 12 bytes),
//! and frees them before V8 writes the snapshot with their contents. Isolates that start from it get buffers of their own,
//! so only the snapshot's bytes depend on what the memory has become. Here it stays as it was.

use std::alloc::{GlobalAlloc, Layout, System};

/// Blocks of at most this many bytes are kept.
const SMALL: usize = 16;

struct KeepsSmallBlocks;

#[global_allocator]
static ALLOCATOR: KeepsSmallBlocks = KeepsSmallBlocks;

// SAFETY: everything is the system's allocator, except that some blocks are never given back to it.
unsafe impl GlobalAlloc for KeepsSmallBlocks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's obligations are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout.size() > SMALL {
            // SAFETY: the block is the system's, by `alloc` above.
            unsafe { System.dealloc(block, layout) }
        }
    }
}
