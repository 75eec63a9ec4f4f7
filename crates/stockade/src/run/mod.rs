//! Runs code for a result: this code, with these tools, files, hosts and limits, gives this outcome.
//!
//! ```
//! use serde_json::json;
//! use stockade::run::{ErrorKind, Options, Run, Runner, Tool};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! stockade::initialize(); // on the main thread, before others start
//! # let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
//! # runtime.block_on(async {
//! let mut options = Options::default();
//! # options.level = stockade::Isolation::Thread;
//! options.tools.insert(
//!     "price".to_owned(),
//!     Tool::new(|call| async move {
//!         let item: String = call.read()?;
//!         Ok(json!(item.len() * 10))
//!     }),
//! );
//! let runner = Runner::new(options)?;
//!
//! let outcome = runner.run(Run::new("const tea: number = await tools.price('tea'); tea + 1")).await;
//! assert_eq!(outcome.read::<u32>()?, 31);
//!
//! let outcome = runner.run(Run::new("\n  throw new TypeError('no')")).await;
//! let error = outcome.result.unwrap_err();
//! assert_eq!((error.kind, error.position.map(|at| at.line)), (ErrorKind::Thrown, Some(2)));
//!
//! let session = runner.session();
//! session.run(Run::new("let total = 1")).await;
//! assert_eq!(session.run(Run::new("total += 1; total")).await.read::<u32>()?, 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })
//! # }
//! ```
//!
//! `docs/run-code.md` describes the code, the options and the outcome. The code is parsed in the isolate: its cost is the
//! guest's.

mod console;
mod files;
mod options;
mod outcome;
mod prelude;
mod refused;
mod reply;
mod runner;

pub use console::{Line, MAX_CONSOLE_LINES};
pub use files::{Files, FilesError, MAX_FILE_BYTES, MAX_FILES};
pub use options::{
    MAX_JSON_BYTES, MAX_OUTPUT_BYTES, MAX_POOL, MAX_PRELUDE_BYTES, MAX_TOOL_CALL_BYTES,
    MAX_TOOL_CALLS, MAX_TOOL_NAME_BYTES, MAX_TOOLS, Options, Run, Tool, ToolCall,
};
pub use outcome::{ErrorKind, Outcome, RunError, RunUsage};
pub use refused::{MAX_REFUSED, RefusedHost};
pub use runner::{Invalid, Runner, Session};
/// Of [`Run::cancel`], so that no crate of the same version must be named for it.
pub use tokio_util::sync::CancellationToken;

// For the program of this package, which runs files as well. No part of the interface.
#[doc(hidden)]
pub use console::Console;
#[doc(hidden)]
pub use files::GuestFiles;
#[doc(hidden)]
pub use outcome::{NOT_JSON, RESERVED_CODES};
#[doc(hidden)]
pub use prelude::Prelude;
#[doc(hidden)]
pub use refused::Refusals;
#[doc(hidden)]
pub use reply::{TakeEvents, Waited, reply, settled};
#[doc(hidden)]
pub use runner::set_running;
