//! What a guest may be granted: the trait of a capability, its callers, its calls and their errors.
//!
//! A guest finds each grant under a name in `env`. Its runtime turns `env.NAME.method(...)`, `env.NAME.fetch(...)` and
//! `env.NAME.connect(...)` into requests to the host:
//!
//! | request | data | answer |
//! |---|---|---|
//! | `binding.call` | `{binding, method, args}`, `args` an array | a value |
//! | `binding.open` | as `binding.call` | `{id, remoteAddress, localAddress}` of a [`Pipe`] |
//! | `binding.fetch` | `{binding, url, method, headers, body}`, `headers` a flat array of names and values | as that of `fetch` |
//!
//! The host finds the [`Capability`] that `binding` names and calls it. What methods there are, and what they take,
//! is described once, at the head of the module of each kind.
//!
//! Invariants:
//! 1. Everything a guest sends is hostile. A call has a bound on the text that is parsed, and each binary part and
//!    each stream of it is taken once.
//! 2. A guest names a grant, a method and arguments. Who calls is what the host knows, and never what the guest
//!    says.
//!
//! Deliberately absent: the kinds of capabilities, how one is configured, and V8.

mod arguments;
mod call;
mod capability;
mod error_name;
mod handles;
mod notes;
mod pipe;
mod place;
mod reply;

pub use arguments::Attachments;
pub use call::{CallPayload, Part, Target};
pub use capability::{CallContext, Capability, Owner};
pub use error_name::ErrorName;
pub use handles::{HandleCount, HandleLimits, HandleTable, Lease};
pub use notes::{CallNotes, Note};
pub use pipe::{DuplexStream, Opened, Pipe, StartTls};
pub use place::CallPlace;
pub use reply::Reply;
