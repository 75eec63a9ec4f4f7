//! WireGuard: tunnels that rules lead through, and the peers of interfaces that other programs run.

mod addresses;
mod client;
pub(crate) mod peers;
mod record;
#[cfg(test)]
mod tests;
pub(crate) mod tunnel;
