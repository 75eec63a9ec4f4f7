//! The C++ operators `new` and `delete` of the program, V8's above all: they count for the isolate of the thread.
//!
//! Replacing them is what C++ foresees (\[replacement.functions\]); those that the engine's library brings along
//! are weak. The ones for larger alignments stay: they are a pair of their own.

use std::ffi::c_void;

use super::blocks;

/// What `new` gives: never null, for the engine is compiled without exceptions.
fn new(size: usize) -> *mut c_void {
    let block = blocks::take(size);
    if block.is_null() {
        // SAFETY: abort(3) has no preconditions.
        unsafe { libc::abort() };
    }
    block
}

/// `operator new(size_t)`.
#[unsafe(export_name = "_Znwm")]
extern "C" fn new_object(size: usize) -> *mut c_void {
    new(size)
}

/// `operator new[](size_t)`.
#[unsafe(export_name = "_Znam")]
extern "C" fn new_array(size: usize) -> *mut c_void {
    new(size)
}

/// `operator new(size_t, nothrow_t const&)`.
#[unsafe(export_name = "_ZnwmRKSt9nothrow_t")]
extern "C" fn try_new_object(size: usize, _: *const c_void) -> *mut c_void {
    blocks::take(size)
}

/// `operator new[](size_t, nothrow_t const&)`.
#[unsafe(export_name = "_ZnamRKSt9nothrow_t")]
extern "C" fn try_new_array(size: usize, _: *const c_void) -> *mut c_void {
    blocks::take(size)
}

/// `operator delete(void*)`.
#[unsafe(export_name = "_ZdlPv")]
unsafe extern "C" fn delete_object(block: *mut c_void) {
    // SAFETY: C++ deletes what one of the operators above gave, once.
    unsafe { blocks::give(block) };
}

/// `operator delete[](void*)`.
#[unsafe(export_name = "_ZdaPv")]
unsafe extern "C" fn delete_array(block: *mut c_void) {
    // SAFETY: as above.
    unsafe { blocks::give(block) };
}

/// `operator delete(void*, size_t)`.
#[unsafe(export_name = "_ZdlPvm")]
unsafe extern "C" fn delete_sized_object(block: *mut c_void, _: usize) {
    // SAFETY: as above.
    unsafe { blocks::give(block) };
}

/// `operator delete[](void*, size_t)`.
#[unsafe(export_name = "_ZdaPvm")]
unsafe extern "C" fn delete_sized_array(block: *mut c_void, _: usize) {
    // SAFETY: as above.
    unsafe { blocks::give(block) };
}

/// `operator delete(void*, nothrow_t const&)`.
#[unsafe(export_name = "_ZdlPvRKSt9nothrow_t")]
unsafe extern "C" fn delete_failed_object(block: *mut c_void, _: *const c_void) {
    // SAFETY: as above.
    unsafe { blocks::give(block) };
}

/// `operator delete[](void*, nothrow_t const&)`.
#[unsafe(export_name = "_ZdaPvRKSt9nothrow_t")]
unsafe extern "C" fn delete_failed_array(block: *mut c_void, _: *const c_void) {
    // SAFETY: as above.
    unsafe { blocks::give(block) };
}
