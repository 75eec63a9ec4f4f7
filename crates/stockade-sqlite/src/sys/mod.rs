//! What needs `unsafe`: SQLite's calls of the system, and locks of open files.

pub(crate) mod calls;
pub(crate) mod lock;
