//! The admin API: HTTP with JSON below `/v1/`, described by a generated OpenAPI document.
//!
//! One router answers on two ways in. On the control socket, the kernel states who the client is, and only this user and
//! root are served (`../control.rs`). On the listener of `admin`, a client needs an API key with the scope `admin` or a
//! client certificate (`entrance.rs`), and a browser that another site controls gets nowhere.
//!
//! A route is a function in a file of `routes/`, which `router.rs` adds to the router and to the document.
//!
//! Invariants:
//! 1. A request reaches the router after its client was let in. The only exceptions are GETs of [`document::OPEN`]
//!    and of the dashboard's files.
//! 2. A request that can change something is recorded in the audit log, on the disk, before its handler runs. Where the
//!    audit log cannot be written, nothing is changed.
//! 3. What a handler holds of a request is bounded in size, and in the time for which it waits for it.
//! 4. Every answer of a handler that is not a success is problem+json (RFC 9457).
//! 5. The listener has connections and limits of its own: nothing that its clients do takes a place of the sites' clients.

mod api;
mod client;
mod command;
mod dashboard;
mod document;
mod entrance;
mod extract;
mod problem;
mod recorded;
mod router;
mod routes;
#[cfg(test)]
mod tests;
mod time;

pub(crate) use api::Admin;
pub use client::{AdminClient, AdminResponse, AskError};
pub(crate) use command::{
    Command, Commands, Configure, ConfigureError, Configured, Deploy, DeployChange, DeployRefusal,
};
pub(crate) use entrance::{AdminTarget, answer_local};
pub(crate) use router::router;
