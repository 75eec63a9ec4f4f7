//! Memory that ICU holds for an isolate: formatters, collators and segmenters of `Intl`, and text that is
//! being compared or normalised.
//!
//! V8 counts such an object as the few bytes of its heap that stand for it. ICU asks for memory through
//! functions that a program may replace. What ICU keeps for the whole process is counted for the isolate that
//! asked for it first.

use std::ffi::{c_int, c_void};

use super::{blocks, guard};

/// From this size on a block may be what an isolate has no room for. It is not refused then: segmenters of Chinese and
/// Japanese, among others, use a null pointer that they were given. The isolate ends at the next point where the engine
/// looks, and its thread stops here if one text takes far too much.
const LARGE: usize = 1 << 20;

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
    // U_ZERO_ERROR; the only error there is says that a function is missing.
    let mut status = 0;
    // SAFETY: the functions keep the contracts of malloc(3), realloc(3) and free(3), as demanded. No other
    // thread uses ICU yet (`initialize`); blocks that it may hold already are freed as what they are.
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

fn hold_to_limit(size: usize) {
    if size >= LARGE {
        guard::hold_to_limit(size as u64);
    }
}

unsafe extern "C" fn allocate(_context: *const c_void, size: usize) -> *mut c_void {
    hold_to_limit(size);
    blocks::take(size)
}

unsafe extern "C" fn reallocate(
    _context: *const c_void,
    block: *mut c_void,
    size: usize,
) -> *mut c_void {
    hold_to_limit(size);
    // SAFETY: ICU passes a block that it holds, or null: rules of numbers and calendars have lists that begin so.
    unsafe { blocks::retake(block, size) }
}

unsafe extern "C" fn free(_context: *const c_void, block: *mut c_void) {
    // SAFETY: ICU frees a block that it holds, once.
    unsafe { blocks::give(block) };
}
