//! The guest's side of isolates.

pub(crate) mod context;
pub(crate) mod debugging;
