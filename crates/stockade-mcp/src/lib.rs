//! A server of the Model Context Protocol that runs TypeScript for agents, and offers the tools of other servers to it
//! as functions ("code mode").
//!
//! - [`serve_stdio`] and [`HttpServer`] speak with clients; `server/` answers them.
//! - `upstream/` speaks with the servers of the configuration ([`McpConfig`]).
//! - `catalog.rs` has their tools, `search.rs` finds them and `declare/` makes TypeScript of their schemas.
//! - [`Runner`] is what runs code.
//!
//! Invariant: clients, upstream servers and code are hostile. What each can make the server hold has a bound in
//! [`bounds`].
//!
//! Deliberately absent: V8, the command line, resources, prompts, sampling.

pub mod bounds;
mod catalog;
mod config;
mod declare;
mod glob;
mod http_server;
mod names;
mod run;
mod search;
mod server;
mod stdio;
mod upstream;

pub use config::{McpConfig, McpConfigError, Mode, Reach, Rules, UpstreamConfig};
pub use glob::Glob;
pub use http_server::{Clients, HttpOptions, HttpServer, HttpServerError, PATH, Token};
pub use run::{ConsoleLine, Job, RunOutcome, Runner, Session, ToolName, Tools};
pub use server::{McpOptions, McpServer, Share, TOOLS};
pub use stdio::serve_stdio;
pub use upstream::{Checked, Offered, check};
