//! What the build script made: the startup snapshot, and the scripts that are not in it.

pub(crate) static SNAPSHOT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/host.snapshot"));

include!(concat!(env!("OUT_DIR"), "/lazy_sources.rs"));
