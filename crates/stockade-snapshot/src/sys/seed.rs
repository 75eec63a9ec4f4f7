//! The seed of std's hash maps, which std takes from `getrandom`.

/// Has the linker take the function below instead of the C library's. Elsewhere than on Linux std has other sources,
/// and hash maps keep their random order.
pub(crate) fn fix_hash_maps() {
    #[cfg(target_os = "linux")]
    std::hint::black_box(getrandom as *const ());
}

/// Fills the buffer with the numbers 0, 1, 2… instead of random ones.
#[cfg(target_os = "linux")]
#[unsafe(no_mangle)]
extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: std::ffi::c_uint) -> isize {
    for index in 0..length {
        // SAFETY: as for getrandom(2), the caller owns `length` writable bytes from `buffer` on.
        unsafe { buffer.add(index).write(index as u8) };
    }
    length as isize
}
