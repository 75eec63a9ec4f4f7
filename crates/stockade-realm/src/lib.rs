//! The worker realm: the web globals a guest sees, `NETWORK`, and the ops behind them.
//!
//! Invariants:
//! 1. Every op that JavaScript of this realm can call is on the list in `allow.rs`; all others throw.
//! 2. After `boot.js` has run its `start`, guest code reaches no object of the runtime but the globals.
//! 3. What a guest's message holds is bounded before it leaves the realm.
//!
//! Deliberately absent: running anything. The crate `stockade-isolate` does that.

mod allow;
mod blob;
mod clock;
mod extensions;
mod guest;
mod html;
mod node;
mod payload;
mod port;
mod serve;
mod stage;
mod upstream;

pub use clock::start_clock;
pub use extensions::{payload_extension, realm_extensions};
pub use guest::{error_from_js, guest_error, place_in_message};
pub use node::node_source;
pub use payload::{Parts, collect_payload};
pub use port::{GuestPort, Settings};
pub use serve::{RUN, SERVE};
pub use stage::Stage;
