//! Which extensions make the host realm, in which order, and with which arguments.

use std::rc::Rc;
use std::sync::Arc;

use deno_core::{Extension, ExtensionArguments, OpState};
use deno_features::FeatureChecker;

use crate::info::{self, RunInfo};
use crate::{permissions, process, ready, sandbox, terminal, watch};

/// What a run brings to the realm.
pub struct RealmOptions {
    /// What the script may read about its run.
    pub info: RunInfo,
    /// Where `Deno.exitCode` is kept.
    pub exit_code: deno_os::ExitCode,
    /// Whether a script took Ctrl-C over.
    pub interrupts: process::InterruptsTaken,
    /// The sandboxes that the script makes.
    pub sandboxes: sandbox::Sandboxes,
}

deno_core::extension!(
    stockade_host,
    deps = [deno_web, deno_fetch, deno_net, deno_http, deno_fs, deno_os, stockade_payload],
    ops = [
        info::op_host_args,
        info::op_host_cpus,
        info::op_host_language,
        info::op_host_main_module,
        info::op_host_no_color,
        info::op_host_stderr_no_color,
        info::op_host_stdout_no_color,
        info::op_host_user_agent,
        info::op_host_versions,
        process::op_host_interrupts_taken,
        process::op_host_kill,
        process::op_host_kill_by_number,
        process::op_host_pid,
        process::op_host_ppid,
        ready::op_host_ready,
        sandbox::op_grant_asked,
        sandbox::op_grant_decided,
        sandbox::op_guest_server_event,
        sandbox::op_guest_server_listen,
        sandbox::op_guest_server_shutdown,
        sandbox::op_host_is_pending,
        sandbox::op_isolate_answer,
        sandbox::op_isolate_call,
        sandbox::op_isolate_control,
        sandbox::op_isolate_cpu_profile,
        sandbox::op_isolate_destroy,
        sandbox::op_isolate_drain,
        sandbox::op_isolate_evaluate,
        sandbox::op_isolate_ready,
        sandbox::op_isolate_execute,
        sandbox::op_isolate_fetch,
        sandbox::op_isolate_listen,
        sandbox::op_isolate_handle_event,
        sandbox::op_isolate_handle_method,
        sandbox::op_isolate_heap_snapshot,
        sandbox::op_isolate_heap_statistics,
        sandbox::op_isolate_hold,
        sandbox::op_isolate_ignore_event,
        sandbox::op_isolate_let_go,
        sandbox::op_isolate_reject,
        sandbox::op_isolate_send,
        sandbox::op_isolate_stats,
        sandbox::op_isolate_take,
        sandbox::op_isolate_unstash,
        sandbox::op_isolate_withdraw,
        sandbox::op_sandbox_create,
        sandbox::op_sandbox_abandoned,
        sandbox::op_sandbox_isolates,
        sandbox::op_sandbox_new,
        sandbox::op_sandbox_shutdown,
        sandbox::op_sandbox_threads,
        terminal::op_host_console_size,
        terminal::op_set_raw,
        watch::op_host_watch_next,
        watch::op_host_watch_open,
    ],
    esm_entry_point = "ext:stockade_host/main.js",
    esm = [
        dir "js",
        "approvals.js",
        "deno.js",
        "env.js",
        "errors.js",
        "isolate.js",
        "main.js",
        "navigator.js",
        "sandbox.js",
        "server.js",
        "sockets.js",
        "terminal.js",
        "watch.js",
        "web.js",
    ],
    options = { options: RealmOptions },
    state = |state, options| start_state(state, options.options),
);

fn start_state(state: &mut OpState, options: RealmOptions) {
    state.put(permissions::allow_all());
    let mut features = FeatureChecker::default();
    features.enable_feature("net");
    // A feature of Deno that this realm does not have is missing; using it does not end the process.
    features.set_exit_cb(Box::new(|_, _| {}));
    state.put(Arc::new(features));
    state.put(options.info);
    state.put(options.interrupts);
    state.put(options.sandboxes);
    state.put(sandbox::WaitingData::default());
}

/// Every extension of the realm, without its arguments. Give [`extension_arguments`] to
/// `JsRuntime::lazy_init_extensions` before any script runs.
#[must_use]
pub fn extensions() -> Vec<Extension> {
    vec![
        deno_telemetry::deno_telemetry::lazy_init(),
        deno_webidl::deno_webidl::lazy_init(),
        deno_web::deno_web::lazy_init(),
        deno_fetch::deno_fetch::lazy_init(),
        deno_websocket::deno_websocket::lazy_init(),
        deno_crypto::deno_crypto::lazy_init(),
        deno_net::deno_net::lazy_init(),
        deno_tls::deno_tls::lazy_init(),
        deno_http::deno_http::lazy_init(),
        deno_io::deno_io::lazy_init(),
        deno_fs::deno_fs::lazy_init(),
        deno_os::deno_os::lazy_init(),
        stockade_realm::payload_extension(),
        stockade_host::lazy_init(),
    ]
}

/// The arguments of [`extensions`] for one run.
#[must_use]
pub fn extension_arguments(options: RealmOptions) -> Vec<ExtensionArguments> {
    let user_agent = options.info.user_agent.clone();
    let exit_code = options.exit_code.clone();
    vec![
        deno_telemetry::deno_telemetry::args(),
        deno_webidl::deno_webidl::args(),
        deno_web::deno_web::args(
            deno_web::BlobStore::default_arc(),
            None,
            false,
            deno_web::InMemoryBroadcastChannel::default(),
        ),
        deno_fetch::deno_fetch::args(deno_fetch::Options {
            user_agent,
            file_fetch_handler: Rc::new(deno_fetch::FsFetchHandler),
            ..Default::default()
        }),
        deno_websocket::deno_websocket::args(),
        deno_crypto::deno_crypto::args(None),
        deno_net::deno_net::args(None, None),
        deno_tls::deno_tls::args(),
        deno_http::deno_http::args(deno_http::Options::default()),
        deno_io::deno_io::args(Some(deno_io::Stdio::default())),
        deno_fs::deno_fs::args(Arc::new(deno_fs::RealFs)),
        deno_os::deno_os::args(Some(exit_code)),
        stockade_host::args(options),
    ]
}
