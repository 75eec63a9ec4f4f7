//! Landlock (landlock(7)): a domain that allows nothing.
//!
//! Required is ABI 4 (Linux 6.7): all access to files of that ABI, and TCP. What later ABIs add is
//! demanded as well where the kernel has it: device ioctls (5), signals and abstract Unix sockets of
//! others (6). Kernels without them lose a second layer there, not the only one: the seccomp rules allow
//! no call that opens, connects, controls a device or signals another process.
//!
//! It covers the calling thread and those it starts later.

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, Scope,
};

use crate::JailError;
use crate::sys;

const LAYER: &str = "landlock";

/// The ABI without which no worker starts.
pub(crate) const REQUIRED: i32 = 4;

/// The newest ABI whose rights are denied; later ones have not been tried.
const KNOWN: i32 = 7;

/// The kernel's Landlock ABI, `None` where it is not built in or not switched on.
pub(crate) fn abi() -> Option<i32> {
    sys::landlock::abi().ok()
}

/// Denies the calling thread all that Landlock can deny.
pub(crate) fn deny_all() -> Result<(), JailError> {
    let abi = match sys::landlock::abi() {
        Ok(abi) if abi >= REQUIRED => abi,
        Ok(abi) => {
            return Err(JailError::new(
                LAYER,
                "the kernel's Landlock is too old",
                format!("its ABI is {abi}, required is {REQUIRED} (Linux 6.7)"),
                "run a kernel of at least 6.7",
            ));
        }
        Err(error) => {
            return Err(JailError::new(
                LAYER,
                "the kernel has no Landlock",
                format!("landlock_create_ruleset: {error}"),
                "boot a kernel of at least 6.7 with CONFIG_SECURITY_LANDLOCK and with `landlock` in its lsm= \
                 parameter; in a container, its seccomp profile must allow the landlock calls",
            ));
        }
    };
    restrict(ABI::from(abi.min(KNOWN))).map_err(|error| {
        JailError::new(
            LAYER,
            format!("the Landlock domain could not be entered ({error})"),
            format!("the kernel's ABI is {abi}"),
            "run a plain Linux kernel of at least 6.7",
        )
    })
}

fn restrict(abi: ABI) -> Result<(), String> {
    let build = || {
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(abi))?
            .handle_access(AccessNet::from_all(abi))?;
        let scopes = Scope::from_all(abi);
        if !scopes.is_empty() {
            ruleset = ruleset.scope(scopes)?;
        }
        ruleset.create()?.no_new_privs(true).restrict_self()
    };
    let status = build().map_err(|error: landlock::RulesetError| error.to_string())?;
    if status.ruleset != RulesetStatus::FullyEnforced || !status.no_new_privs {
        return Err(format!("it is {:?}", status.ruleset));
    }
    Ok(())
}
