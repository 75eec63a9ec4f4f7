//! What a host script may read about its run.

use std::io::IsTerminal;

use deno_core::{OpState, op2, v8};
use serde::Serialize;

/// The version of Deno whose crates the host realm is made of: what `Deno.version.deno` says.
const DENO_VERSION: &str = "2.9.6";

/// What a host script may read about its run.
#[derive(Debug, Clone)]
pub struct RunInfo {
    /// `Deno.args`.
    pub args: Vec<String>,
    /// `Deno.mainModule`, a `file:` URL.
    pub main_module: String,
    /// `navigator.userAgent`, and what `fetch` sends.
    pub user_agent: String,
    /// Whether standard output gets colours.
    pub stdout_color: bool,
    /// Whether standard error gets colours.
    pub stderr_color: bool,
}

impl RunInfo {
    /// Facts about this process; colours only on a terminal, and not where `NO_COLOR` says otherwise.
    #[must_use]
    pub fn new(main_module: String, args: Vec<String>) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            args,
            main_module,
            user_agent: format!("Stockade/{}", env!("CARGO_PKG_VERSION")),
            stdout_color: wanted && std::io::stdout().is_terminal(),
            stderr_color: wanted && std::io::stderr().is_terminal(),
        }
    }
}

#[op2]
#[serde]
pub(crate) fn op_host_args(state: &mut OpState) -> Vec<String> {
    state.borrow::<RunInfo>().args.clone()
}

#[op2]
#[string]
pub(crate) fn op_host_main_module(state: &mut OpState) -> String {
    state.borrow::<RunInfo>().main_module.clone()
}

#[op2]
#[string]
pub(crate) fn op_host_user_agent(state: &mut OpState) -> String {
    state.borrow::<RunInfo>().user_agent.clone()
}

#[op2]
#[string]
pub(crate) fn op_host_language() -> String {
    v8::icu::get_language_tag()
}

#[op2(fast)]
#[smi]
pub(crate) fn op_host_cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
}

#[op2(fast)]
pub(crate) fn op_host_no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

#[op2(fast)]
pub(crate) fn op_host_stdout_no_color(state: &mut OpState) -> bool {
    !state.borrow::<RunInfo>().stdout_color
}

#[op2(fast)]
pub(crate) fn op_host_stderr_no_color(state: &mut OpState) -> bool {
    !state.borrow::<RunInfo>().stderr_color
}

#[derive(Serialize)]
struct Versions {
    version: Version,
    target: String,
}

#[derive(Serialize)]
struct Version {
    deno: &'static str,
    v8: &'static str,
    typescript: &'static str,
    stockade: &'static str,
}

#[op2]
#[serde]
pub(crate) fn op_host_versions() -> Versions {
    let arch = std::env::consts::ARCH;
    let target = match std::env::consts::OS {
        "macos" => format!("{arch}-apple-darwin"),
        os => format!("{arch}-unknown-{os}-gnu"),
    };
    Versions {
        version: Version {
            deno: DENO_VERSION,
            v8: v8::VERSION_STRING,
            typescript: "",
            stockade: env!("CARGO_PKG_VERSION"),
        },
        target,
    }
}
