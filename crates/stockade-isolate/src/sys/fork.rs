//! What a copy of a process needs so that an engine works in it and shares no random state with other copies.

use std::ffi::c_void;
use std::io;

use deno_core::v8;

unsafe extern "C" {
    // v8/src/execution/isolate.h: the generator of `Math.random` and of what V8 draws for itself. The isolate
    // owns it.
    #[link_name = "_ZN2v88internal7Isolate23random_number_generatorEv"]
    fn random_number_generator(isolate: *mut c_void) -> *mut c_void;
    // v8/src/base/utils/random-number-generator.h
    #[link_name = "_ZN2v84base21RandomNumberGenerator7SetSeedEl"]
    fn set_seed(generator: *mut c_void, seed: i64);
    // v8/src/base/platform/platform.h: where V8 asks for memory next.
    #[link_name = "_ZN2v84base2OS17SetRandomMmapSeedEl"]
    safe fn set_random_mmap_seed(seed: i64);
}

/// Has copies of this process get all of its memory. V8 maps its own so that copies lack it, which is faster for
/// programs that copy themselves only to become another one.
pub(crate) fn share_with_copies() -> io::Result<()> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    for line in maps.lines() {
        let range = line.split(' ').next().unwrap_or_default();
        let number = |text| usize::from_str_radix(text, 16).ok();
        let Some((Some(from), Some(to))) =
            (range.split_once('-')).map(|(from, to)| (number(from), number(to)))
        else {
            continue;
        };
        // SAFETY: MADV_DOFORK changes nothing in this process; the range is a mapping of it. Those of the kernel
        // (vdso) refuse.
        unsafe { libc::madvise(from as *mut c_void, to - from, libc::MADV_DOFORK) };
    }
    Ok(())
}

/// Gives the engine's generators of random numbers new seeds from the kernel: a copy has those of its original.
pub(crate) fn reseed(isolate: &mut v8::Isolate) -> io::Result<()> {
    set_random_mmap_seed(random()?);
    // SAFETY: the handle is one pointer to the engine's own isolate, which is what the first function takes
    // (`v8::Isolate` has no members of its own). It gives a generator that lives as long as the isolate. This thread
    // has entered the isolate, so that nobody draws from it meanwhile.
    unsafe {
        let raw = std::mem::transmute::<v8::UnsafeRawIsolatePtr, *mut c_void>(
            isolate.as_raw_isolate_ptr(),
        );
        set_seed(random_number_generator(raw), random()?);
    }
    Ok(())
}

/// 64 bits of getrandom(2).
fn random() -> io::Result<i64> {
    let mut bytes = [0; 8];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(8) => Ok(i64::from_ne_bytes(bytes)),
        Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(error) => Err(error.into()),
    }
}
