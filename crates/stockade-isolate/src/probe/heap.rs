//! What a heap holds, and how large it is.

use deno_core::v8;
use stockade_protocol::{HeapSpace, HeapStatistics};

use crate::sys::alloc::give_back;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use crate::sys::pool;
use crate::sys::{guard, heap_profiler};

/// Memory that V8 needs to describe a heap, as a multiple of the heap's size: measured were 4 for a heap of long texts, and
/// 8 to 12 for one of small objects.
const SHARE: u64 = 12;

/// Memory that a worker has above its limit and that a snapshot may use.
const SPARE: u64 = stockade_jail::OVERHEAD / 2;

/// Whether there is memory for a snapshot in a process that is limited to `limit` bytes and may use `more` for it, or why not.
/// To try it where there is none would end the guest.
pub(super) fn room(isolate: &mut v8::Isolate, limit: Option<u64>, more: u64) -> Result<(), String> {
    let Some(limit) = limit else {
        return Ok(());
    };
    let heap = isolate.get_heap_statistics().used_heap_size() as u64;
    let held = guard::held_memory(isolate);
    let free = limit
        .saturating_sub(held)
        .saturating_add(SPARE)
        .saturating_add(more);
    let needed = heap.saturating_mul(SHARE);
    if needed <= free {
        return Ok(());
    }
    let mib = |bytes: u64| bytes >> 20;
    Err(format!(
        "a snapshot of a heap of {} MiB may need {} MiB of memory, and the isolate's limit of {} MiB leaves {}, with what \
         a worker is lent for it\n  \
         fix: raise the memory limit for it, or take the snapshot before the heap is that large",
        mib(heap),
        mib(needed),
        mib(limit),
        mib(free)
    ))
}

/// Describes the heap in V8's format, piece by piece, as long as `more` is true.
pub(super) fn snapshot(isolate: &mut v8::Isolate, mut more: impl FnMut(&[u8]) -> bool) {
    // The last call has no bytes.
    isolate.take_heap_snapshot(|piece| piece.is_empty() || more(piece));
}

/// As [`snapshot`], in a worker, which the kernel holds to its limit again once this is over: all memory that it took goes back.
pub(super) fn snapshot_in_worker(isolate: &mut v8::Isolate, more: impl FnMut(&[u8]) -> bool) {
    {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        let _pooled = pool::Pooled::begin();
        snapshot(isolate, more);
    }
    heap_profiler::forget_snapshots(isolate);
    give_back();
}

/// The heap's size and that of its parts, as JSON.
pub(super) fn statistics(isolate: &mut v8::Isolate) -> String {
    let held = guard::held_memory(isolate);
    let heap = isolate.get_heap_statistics();
    let bytes = |size: usize| size as u64;
    let spaces = (0..isolate.number_of_heap_spaces()).filter_map(|index| {
        let space = isolate.get_heap_space_statistics(index)?;
        Some(HeapSpace {
            name: space.space_name().to_string_lossy().into_owned(),
            used: bytes(space.space_used_size()),
            available: bytes(space.space_available_size()),
            size: bytes(space.space_size()),
            physical: bytes(space.physical_space_size()),
        })
    });
    let spaces = spaces.collect();
    let external = bytes(heap.external_memory());
    let statistics = HeapStatistics {
        used_heap: bytes(heap.used_heap_size()),
        total_heap: bytes(heap.total_heap_size()),
        total_physical: bytes(heap.total_physical_size()),
        total_executable: bytes(heap.total_heap_size_executable()),
        heap_limit: bytes(heap.heap_size_limit()),
        malloced: bytes(heap.malloced_memory()),
        peak_malloced: bytes(heap.peak_malloced_memory()),
        external,
        native_contexts: bytes(heap.number_of_native_contexts()),
        detached_contexts: bytes(heap.number_of_detached_contexts()),
        held,
        spaces,
    };
    // Numbers and short names: this does not fail.
    serde_json::to_string(&statistics).unwrap_or_default()
}
