//! What one keyspace may use.

/// The largest value that any limit allows, in bytes.
pub const MAX_VALUE_BYTES: usize = 16 << 20;

/// Most checks and mutations together in one commit.
pub const MAX_OPERATIONS: usize = 128;

/// What an entry counts in addition to its key and its value, in bytes: about what a row, its index and its
/// share of a page cost on disk.
pub const ENTRY_OVERHEAD: u64 = 64;

/// Limits of one keyspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of all entries: keys, values and [`ENTRY_OVERHEAD`] for each.
    pub storage_bytes: u64,
    /// Largest value, in bytes; never above [`MAX_VALUE_BYTES`].
    pub value_bytes: usize,
    /// Most bytes of keys and values in one commit.
    pub commit_bytes: usize,
    /// Changes of entries a second, over time; a second's worth may come at once.
    pub writes_per_second: u32,
    /// Bytes of keys and values written a second, over time; a second's worth may come at once.
    pub write_bytes_per_second: u64,
    /// Commits that may wait for the writer, and reads that may wait for a reader.
    pub pending: usize,
    /// Bytes that waiting commits may hold.
    pub pending_bytes: usize,
    /// Watches that may be open.
    pub watches: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            storage_bytes: 100 << 20,
            value_bytes: 1 << 20,
            commit_bytes: 4 << 20,
            writes_per_second: 10_000,
            write_bytes_per_second: 16 << 20,
            pending: 1024,
            pending_bytes: 16 << 20,
            watches: 1000,
        }
    }
}

impl Limits {
    /// What an entry counts towards [`Limits::storage_bytes`].
    #[must_use]
    pub const fn entry_bytes(key_bytes: usize, value_bytes: usize) -> u64 {
        ENTRY_OVERHEAD + key_bytes as u64 + value_bytes as u64
    }
}
