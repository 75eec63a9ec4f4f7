//! Memory of its own.

use std::ptr::{self, NonNull};

/// A fresh anonymous mapping.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    /// Maps `length` bytes.
    pub(crate) fn new(bytes: usize, protection: i32, flags: i32) -> Result<Self, i32> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no object.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                protection,
                flags | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        match NonNull::new(start.cast::<u8>()) {
            Some(start) if start.as_ptr().cast() != libc::MAP_FAILED => Ok(Self { start, bytes }),
            _ => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        }
    }

    /// Where it begins, as an argument of a call.
    pub(crate) fn address(&self) -> u64 {
        self.start.as_ptr().expose_provenance() as u64
    }

    /// Changes its protection.
    pub(crate) fn protect(&self, protection: i32) -> Result<(), i32> {
        // SAFETY: nothing but this object refers to the mapping.
        match unsafe { libc::mprotect(self.start.as_ptr().cast(), self.bytes, protection) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        }
    }

    /// Writes one byte into each of its pages.
    pub(crate) fn touch(&self) {
        for offset in (0..self.bytes).step_by(4096) {
            // SAFETY: within the mapping; without the right to write, a fault is the outcome.
            unsafe { self.start.add(offset).write_volatile(1) };
        }
    }

    /// Reads one byte in every `step`.
    pub(crate) fn look(&self, step: usize) -> u64 {
        let mut sum = 0;
        for offset in (0..self.bytes).step_by(step) {
            // SAFETY: within the mapping; without the right to read, a fault is the outcome.
            sum += u64::from(unsafe { self.start.add(offset).read_volatile() });
        }
        sum
    }

    /// Writes these bytes at its beginning.
    pub(crate) fn fill(&self, bytes: &[u8]) {
        for (offset, byte) in bytes.iter().take(self.bytes).enumerate() {
            // SAFETY: within the mapping.
            unsafe { self.start.add(offset).write_volatile(*byte) };
        }
    }

    /// Leaves it mapped.
    pub(crate) fn leak(self) {
        std::mem::forget(self);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing but this object refers to the mapping.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// Runs what lies at the beginning of the mapping: a C function without arguments.
pub(crate) fn execute(mapping: &Mapping) -> i32 {
    // SAFETY: the caller filled it with a whole function; where the page may not be executed, a
    // fault is the outcome.
    let function =
        unsafe { std::mem::transmute::<*mut u8, extern "C" fn() -> i32>(mapping.start.as_ptr()) };
    function()
}
