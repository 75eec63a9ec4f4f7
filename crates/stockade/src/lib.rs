//! A sandbox for untrusted JavaScript and TypeScript, with hard limits.
//!
//! A [`Sandbox`] creates isolates. Each is a V8 heap of its own with the web platform's globals, no
//! files, no network, no clock finer than it was granted; it talks to its host by messages alone, and
//! is ended when it uses more CPU time, elapsed time or memory than its [`Limits`].
//!
//! ```
//! use stockade::{Event, IsolateOptions, Limits, Payload, Sandbox, SandboxOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // On the main thread, before others start.
//! stockade::initialize();
//!
//! let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
//! runtime.block_on(async {
//!     let sandbox = Sandbox::new(SandboxOptions::default());
//!
//!     // A plugin with 100 ms of CPU time for each thing it does, and 64 MB.
//!     let mut plugin = sandbox
//!         .create(IsolateOptions {
//!             limits: Limits {
//!                 cpu: Some(std::time::Duration::from_millis(100)),
//!                 memory: Some(64 << 20),
//!                 ..Limits::default()
//!             },
//!             ..IsolateOptions::default()
//!         })
//!         .await?;
//!
//!     // It may ask its host for one thing.
//!     plugin.on_request("price", |item: Payload| async move {
//!         let item: String = item.read().unwrap_or_default();
//!         Payload::new(&(item.len() * 10)).map_err(|error| stockade::GuestError::new(error.to_string()))
//!     });
//!
//!     plugin.execute(
//!         "async function total(...items: string[]): Promise<number> {
//!            let sum = 0;
//!            for (const item of items) sum += await NETWORK.request('price', item);
//!            return sum;
//!          }
//!          NETWORK.on('greet', name => NETWORK.send('greeting', `Hello, ${name}!`));",
//!     )?;
//!
//!     // Requests are answered while a call waits and while events are read.
//!     let total: u32 = plugin.call("total", &["tea", "milk"]).await?.read()?;
//!     assert_eq!(total, 70);
//!
//!     plugin.send("greet", Payload::new("Ada")?)?;
//!     let Some(Event::Message { name, data }) = plugin.next().await else {
//!         return Err("no greeting".into());
//!     };
//!     assert_eq!((name.as_str(), data.read::<String>()?.as_str()), ("greeting", "Hello, Ada!"));
//!
//!     // What it does wrong ends it, and nothing else.
//!     plugin.execute("for (;;);")?;
//!     let Some(Event::Terminated { reason, usage, .. }) = plugin.next().await else {
//!         return Err("it should have been ended".into());
//!     };
//!     assert_eq!(reason.name(), "cpu_limit_exceeded");
//!     assert!(usage.cpu >= std::time::Duration::from_millis(100));
//!
//!     sandbox.shutdown();
//!     Ok(())
//! })
//! # }
//! ```

mod env;
mod granted;
mod isolate;
pub mod run;
mod sandbox;
mod start;

pub use env::name_env_functions;
pub use granted::{GrantedError, Grants};
pub use isolate::{Isolate, Next, refuse_socket, reject};
pub use sandbox::{
    Sandbox, backends, backends_with_inspector, worker_backends, worker_backends_driven_by,
};
pub use start::{initialize, run_if_worker};
pub use stockade_grants::{Asked, GrantError, GrantedUse};
pub use stockade_inspector::{Inspector, ListenError, Target};
pub use stockade_isolate::{MeteredAllocator, V8_VERSION};
pub use stockade_limits::{
    CgroupUse, ConsoleMode, CpuShare, IsolateOptions, Isolation, Limits, OptionsError,
    SandboxOptions, Wx,
};
/// CPU profiles in the format of Chrome's DevTools, and flame graphs of them.
pub use stockade_profile as profile;
pub use stockade_protocol::{
    ConsoleLevel, GuestError, HeapSpace, HeapStatistics, Payload, PayloadError, Position,
    RequestId, bounds,
};
/// Functions that a guest exports, called by JSON-RPC 2.0.
pub use stockade_rpc as rpc;
pub use stockade_supervisor::{
    CallError, CpuRecording, CreateError, DestroyReason, End, Event, IsolateHandle as Handle,
    LONGEST_PROFILE, ProbeError, ResourceUsage, SendError, StartError, Stats, TerminateReason,
    write_private,
};
pub use stockade_transpile::{MAX_MODULE_FILES, ModuleFiles, ModuleFilesError};
