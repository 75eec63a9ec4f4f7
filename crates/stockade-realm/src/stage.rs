//! What a realm's extensions are used for.

/// What the extensions are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Making the startup snapshot.
    Snapshot,
    /// Running guests from it.
    Run,
}
