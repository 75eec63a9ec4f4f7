//! From the configuration to the options of each part. Pure: nothing is opened or started here.

pub(crate) mod egress;
pub(crate) mod gateway;
pub(crate) mod grants;
pub(crate) mod instance;
pub(crate) mod logging;
pub(crate) mod sockets;
#[cfg(test)]
mod tests;
pub(crate) mod tls;
pub(crate) mod tracing;

pub use egress::policy as egress_policy;
