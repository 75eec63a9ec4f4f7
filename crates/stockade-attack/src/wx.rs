//! Whether the worker may have executable memory.

use std::sync::OnceLock;

use stockade_jail::Wx;

static STRICT: OnceLock<bool> = OnceLock::new();

/// Notes the setting of this worker, once.
pub(crate) fn note_wx(wx: Wx) {
    let _ = STRICT.set(wx == Wx::Strict);
}

/// Whether executable memory is refused here.
pub(crate) fn is_strict() -> bool {
    STRICT.get().copied().unwrap_or_default()
}
