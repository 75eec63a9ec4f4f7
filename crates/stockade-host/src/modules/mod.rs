//! Modules of host scripts: local files, read when imported.

mod kind;
mod loader;
mod resolve;

pub(crate) use loader::{Loader, read_source};
