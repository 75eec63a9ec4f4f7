//! Backups of what servers keep: taken while the server runs, and restored while it does not.
//!
//! A backup is a tar archive:
//! - `stockade-backup.json`: what it is, and who made it when ([`archive`]);
//! - `state.db`, `keys.db`, `usage.db`, `quotas.db`: databases, each as of one instant, without a log ([`database`]);
//! - `keys.pepper`, `audit.key`: secrets, as they are;
//! - `deployments/…`, `audit/…`: folders;
//! - `SHA256SUMS`: the digests of all files before it. An archive that was cut short has none.
//!
//! Invariants:
//! 1. A backup changes nothing that a server keeps, and holds up none of its requests.
//! 2. The file of a backup is there as a whole: until then it has another name.
//! 3. A restore puts nothing into its place before the whole archive was read, compared with its digests, and opened as the
//!    server opens it. Each store is replaced at one instant, and what it replaces is kept.

mod archive;
mod database;
mod error;
mod restore;
mod store;
mod take;

pub use error::BackupError;
pub use restore::{RestoreOptions, Restored, restore};
pub use take::{BackedUp, back_up};
