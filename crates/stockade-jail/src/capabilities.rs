//! Capabilities (capabilities(7)): none in any set, and no way to any.
//!
//! Invariant: after [`drop_all`] the calling thread, and every thread and program it starts, is without
//! capabilities for good, whatever its user ids are.
//!
//! A process without `CAP_SETPCAP` (not started by root, not in a user namespace of its own) can change
//! neither its bounding set nor its securebits. It needs neither: these say what executing a program
//! gives, and no_new_privs rules that out.

use caps::{CapSet, Capability, CapsHashSet};
use rustix::thread::CapabilitiesSecureBits as SecureBits;

use crate::JailError;

const LAYER: &str = "capabilities";

const SECURE_BITS: SecureBits = SecureBits::NO_ROOT
    .union(SecureBits::NO_ROOT_LOCKED)
    .union(SecureBits::NO_SETUID_FIXUP)
    .union(SecureBits::NO_SETUID_FIXUP_LOCKED)
    .union(SecureBits::KEEP_CAPS_LOCKED)
    .union(SecureBits::NO_CAP_AMBIENT_RAISE)
    .union(SecureBits::NO_CAP_AMBIENT_RAISE_LOCKED);

/// Sets are 64 bits wide in the kernel's interface.
const NUMBERS: std::ops::Range<u32> = 0..64;

/// Takes all capabilities from the calling thread and sets no_new_privs, then reads all of it back.
///
/// A thread that changes its user id from 0 before this must keep its permitted capabilities over the
/// change (`PR_SET_KEEPCAPS`): without `CAP_SETPCAP` the bounding set stays as it is.
pub(crate) fn drop_all() -> Result<(), JailError> {
    let may_set = raise_setpcap().map_err(|e| failed("raising CAP_SETPCAP", e))?;
    if may_set {
        drop_bounding()?;
    }
    caps::clear(None, CapSet::Ambient).map_err(|e| failed("clearing the ambient set", e))?;
    if may_set {
        rustix::thread::set_capabilities_secure_bits(SECURE_BITS)
            .map_err(|e| failed("locking the securebits", e))?;
    }
    for set in [CapSet::Effective, CapSet::Inheritable, CapSet::Permitted] {
        caps::clear(None, set).map_err(|e| failed("clearing the capability sets", e))?;
    }
    rustix::thread::set_no_new_privs(true).map_err(|e| failed("setting no_new_privs", e))?;
    verify(may_set)
}

fn raise_setpcap() -> Result<bool, caps::errors::CapsError> {
    let setpcap = Capability::CAP_SETPCAP;
    if !caps::has_cap(None, CapSet::Permitted, setpcap)? {
        return Ok(false);
    }
    caps::set(None, CapSet::Effective, &CapsHashSet::from_iter([setpcap]))?;
    Ok(true)
}

/// Empties the bounding set, of capabilities that the `caps` crate does not know as well.
fn drop_bounding() -> Result<(), JailError> {
    caps::clear(None, CapSet::Bounding).map_err(|e| failed("clearing the bounding set", e))?;
    for capability in NUMBERS.map(set_of) {
        // The kernel refuses numbers above its last one.
        if rustix::thread::capability_is_in_bounding_set(capability).unwrap_or(false) {
            rustix::thread::remove_capability_from_bounding_set(capability)
                .map_err(|e| failed("clearing the bounding set", e))?;
        }
    }
    Ok(())
}

fn set_of(number: u32) -> rustix::thread::CapabilitySet {
    rustix::thread::CapabilitySet::from_bits_retain(1 << number)
}

fn verify(bounding: bool) -> Result<(), JailError> {
    let sets = rustix::thread::capabilities(None)
        .map_err(|e| failed("reading the capability sets back", e))?;
    if !(sets.effective | sets.permitted | sets.inheritable).is_empty() {
        return Err(left("a capability set", format!("capget gives {sets:?}")));
    }
    for (number, capability) in NUMBERS.map(|number| (number, set_of(number))) {
        if rustix::thread::capability_is_in_ambient_set(capability).unwrap_or(false) {
            return Err(left(
                "the ambient set",
                format!("capability {number} is in it"),
            ));
        }
        if bounding && rustix::thread::capability_is_in_bounding_set(capability).unwrap_or(false) {
            return Err(left(
                "the bounding set",
                format!("capability {number} is in it"),
            ));
        }
    }
    if bounding {
        let bits = rustix::thread::capabilities_secure_bits()
            .map_err(|e| failed("reading the securebits back", e))?;
        if !bits.contains(SECURE_BITS) || bits.contains(SecureBits::KEEP_CAPS) {
            return Err(left("the securebits", format!("they are {bits:?}")));
        }
    }
    match rustix::thread::no_new_privs() {
        Ok(true) => Ok(()),
        other => Err(left(
            "no_new_privs",
            format!("PR_GET_NO_NEW_PRIVS gives {other:?}"),
        )),
    }
}

fn failed(what: &str, error: impl std::fmt::Display) -> JailError {
    JailError::new(
        LAYER,
        format!("{what} failed ({error})"),
        "capset(2) and prctl(2)",
        "allow both calls where this runs: a seccomp profile of the container around it may refuse them",
    )
}

fn left(what: &str, checked: String) -> JailError {
    JailError::new(
        LAYER,
        format!("{what} is not as it was set"),
        checked,
        "this is a fault of the kernel or of a sandbox that stands in for it; run on a plain Linux kernel",
    )
}
