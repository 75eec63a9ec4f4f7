//! CPU profiles as Chrome's DevTools write them, and pictures of them.
//!
//! Invariants:
//! 1. A profile may come from a hostile worker: what it says is bounded before it is used, and a picture holds no text
//!    of it that is not escaped.
//! 2. A picture is one SVG file without scripts and without references to anything outside.
//!
//! Deliberately absent: taking profiles, which is the engine's side; files.

mod cpu_profile;
mod flame_graph;

pub use cpu_profile::{CallFrame, CpuProfile, Node, PositionTick, ProfileError};
pub use flame_graph::flame_graph;
