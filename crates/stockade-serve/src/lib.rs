//! `stockade serve`: a configuration file put to work, reloaded and watched.
//!
//! [`serve`] reads the file, starts an instance for each site, opens the gateway before them, and reports
//! in logs and metrics what happens until it is asked to stop.
//!
//! Invariants:
//! 1. No guest code and no V8 runs in this process: its isolation backends are those of workers.
//! 2. A reload takes effect as a whole or not at all, and leaves alone what did not change.
//! 3. Neither a slow log nor a client of the metrics or of the control socket holds up a request.
//! 4. Labels of metrics are names of the configuration or of this program.
//!
//! Deliberately absent: HTTP, TLS, policy, storage. They are the crates below; this one only joins them.

mod admin;
mod backup;
mod brokers;
mod capabilities;
mod check;
mod config_file;
mod control;
mod deployments;
mod development;
mod directory;
mod error;
mod keys;
mod log;
mod metrics;
mod observe;
mod plan;
mod previews;
mod receipts;
mod running;
mod server;
mod services;
mod site;
mod sockets;
mod status;
mod streams;
mod subsystem;
mod tls;
mod token_keys;

pub use admin::{AdminClient, AdminResponse, AskError};
pub use backup::{BackedUp, BackupError, RestoreOptions, Restored, back_up, restore};
#[doc(hidden)]
pub use capabilities::parse_state_calls;
pub use check::{Checked, check};
pub use deployments::DeployError;
#[doc(hidden)]
pub use deployments::parse_bundle;
pub use development::{Development, DevelopmentStatus, Made};
pub use error::{ControlError, ServeError, SiteError};
pub use log::show_line;
pub use plan::egress_policy;
pub use server::{ServeOptions, Stopped, serve};
pub use tls::CertificatesError;
