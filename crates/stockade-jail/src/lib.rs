//! Walls around a worker process.

mod error;
mod spec;

pub use error::JailError;
pub use spec::{CgroupUse, JailSpec, Level, OVERHEAD, Role, Wx};
