//! Notices that files changed.
//!
//! A [`FileWatch`] waits until the [states](FileState) of files differ from known ones and then stay as they are.
//! Configurations, the code of sites and certificates are reloaded by it.
//!
//! Deliberately absent: reading the files, and any decision about what a change means.

mod file_watch;
mod state;

pub use file_watch::FileWatch;
pub use state::{FileState, file_states};
