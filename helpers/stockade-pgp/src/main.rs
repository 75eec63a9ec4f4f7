//! `stockade-pgp`: OpenPGP for guests of Stockade.
//!
//! Stockade starts this program when a grant of the kind `pgp` is first used. It then is a template of the jail's
//! launcher: it has no keys, reads no data and only makes copies of itself. Each copy works for one grant (`worker`):
//! it seals itself, so that it can open nothing, and then receives the grant's keys and the data of calls over its one
//! socket.
//!
//! Invariant: keys and data of guests are only in sealed copies.

mod blinded;
mod certificates;
mod failure;
mod keys;
mod operations;
mod signatures;
mod worker;

#[path = "../../../crates/stockade-grants/src/pgp/message.rs"]
mod message;

#[cfg(test)]
mod tests;

use std::process::ExitCode;

fn main() -> ExitCode {
    stockade_jail::run_if_launcher(worker::main, Some(|_, clones| clones.serve(worker::main)));
    eprintln!(
        "stockade-pgp {}: this program is started by Stockade for grants of the kind `pgp`, and does nothing by itself",
        env!("CARGO_PKG_VERSION")
    );
    ExitCode::from(2)
}
