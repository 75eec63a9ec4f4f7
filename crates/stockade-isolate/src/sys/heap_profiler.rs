//! The part of V8's heap profiler that its Rust interface lacks.

use std::ffi::c_void;

use deno_core::v8;

unsafe extern "C" {
    // v8/include/v8-isolate.h. The isolate owns it.
    #[link_name = "_ZN2v87Isolate15GetHeapProfilerEv"]
    fn heap_profiler(isolate: *mut c_void) -> *mut c_void;
    // v8/include/v8-profiler.h: forgets the numbers of objects, which only several snapshots that are compared need.
    #[link_name = "_ZN2v812HeapProfiler14ClearObjectIdsEv"]
    fn clear_object_ids(profiler: *mut c_void);
}

/// Frees what V8 keeps of a heap snapshot that is over: a number for each object of the heap, about 40 bytes each.
pub(crate) fn forget_snapshots(isolate: &mut v8::Isolate) {
    // SAFETY: the handle is one pointer to the engine's own isolate, which is what the first function takes
    // (`v8::Isolate` has no members of its own). It gives the profiler that lives as long as the isolate, and this thread
    // has entered the isolate.
    unsafe {
        let raw = std::mem::transmute::<v8::UnsafeRawIsolatePtr, *mut c_void>(
            isolate.as_raw_isolate_ptr(),
        );
        clear_object_ids(heap_profiler(raw));
    }
}
