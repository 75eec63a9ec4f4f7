//! The extensions of the worker realm, the same list for making the snapshot and for using it.

use std::borrow::Cow;
use std::sync::Arc;

use deno_core::{Extension, ExtensionFileSource, OpDecl};

use crate::allow;
use crate::blob;
use crate::guest;
use crate::html;
use crate::payload::{self, Parts};
use crate::serve;
use crate::stage::Stage;
use crate::upstream;

include!(concat!(env!("OUT_DIR"), "/binding_scripts.rs"));

deno_core::extension!(
    stockade_payload,
    deps = [deno_web],
    ops_fn = payload_ops,
    lazy_loaded_js = [dir "js", "payload.js", "streams.js"],
    state = |state| {
        state.put(Parts::default());
    },
);

fn payload_ops() -> Vec<OpDecl> {
    payload::payload_extension_ops()
}

deno_core::extension!(
    stockade_realm,
    deps = [deno_webidl, deno_web, deno_crypto, deno_fetch, stockade_payload],
    ops = [
        blob::op_guest_blob_read,
        guest::op_guest_send,
        guest::op_guest_control,
        guest::op_guest_chunk,
        guest::op_guest_request,
        guest::op_guest_listen,
        guest::op_guest_collect,
        guest::op_guest_reply,
        guest::op_guest_uncaught,
        guest::op_guest_console,
        guest::op_guest_console_call,
        guest::op_guest_console_piece,
        guest::op_guest_settings,
        html::op_html_change,
        html::op_html_check_selector,
        html::op_html_close,
        html::op_html_next,
        html::op_html_open,
        html::op_html_read,
        html::op_html_read_end,
        html::op_html_take,
        html::op_html_write,
        serve::op_guest_respond,
        serve::op_guest_respond_bytes,
        serve::op_guest_failed,
    ],
    esm_entry_point = "ext:stockade_realm/boot.js",
    esm = [dir "js", "boot.js"],
    lazy_loaded_js = [
        dir "js",
        "time.js",
        "async_context.js",
        "abort.js",
        "navigator.js",
        "network.js",
        "integrity.js",
        "trace.js",
        "schemes.js",
        "fetch.js",
        "wasm.js",
        "websocket.js",
        "event_source.js",
        "clone.js",
        "console_format.js",
        "console.js",
        "binding_calls.js",
        "fetcher.js",
        "bindings.js",
        "targets.js",
        "sockets.js",
        "pipes.js",
        "connect.js",
        "sql.js",
        "doors.js",
        "datagram.js",
        "answer.js",
        "site.js",
        "site_streams.js",
        "html_rewriter.js",
        "site_globals.js",
        "serve.js",
    ],
    state = |state| {
        state.put(html::Documents::default());
    },
);

/// The extension that carries binary parts of messages, for the host's realm.
#[must_use]
pub fn payload_extension() -> Extension {
    stockade_payload::init()
}

/// Every extension of the worker realm. Before guest code runs, `Rc<dyn GuestPort>` and
/// [`Settings`](crate::Settings) must be put into the op state.
#[must_use]
pub fn realm_extensions(stage: Stage) -> Vec<Extension> {
    let mut web = deno_web::deno_web::init(
        Arc::new(deno_web::BlobStore::default()),
        None,
        false,
        deno_web::InMemoryBroadcastChannel::default(),
    );
    keep_files(&mut web, allow::WEB_FILES, stage);
    let mut fetch = deno_fetch::deno_fetch::init(deno_fetch::Options::default());
    fetch.ops = Cow::Borrowed(&[]);
    fetch.op_state_fn = None;
    keep_files(&mut fetch, allow::FETCH_FILES, stage);
    fetch
        .lazy_loaded_js_files
        .to_mut()
        .push(ExtensionFileSource::new(
            "ext:deno_fetch/22_http_client.js",
            deno_core::ascii_str_include!("../js/http_client.js"),
        ));
    let mut realm = stockade_realm::init();
    let scripts = realm.lazy_loaded_js_files.to_mut();
    scripts.extend(binding_scripts());
    realm.middleware_fn = Some(Box::new(move |op| allow::adapt(op, stage)));
    vec![
        deno_webidl::deno_webidl::init(),
        web,
        deno_crypto::deno_crypto::init(None),
        fetch,
        stockade_payload::init(),
        realm,
    ]
}

/// Scripts matter while the snapshot is made, and not to run from it.
fn keep_files(extension: &mut Extension, names: &[&str], stage: Stage) {
    let keep = |file: &ExtensionFileSource| names.iter().any(|name| file.specifier.ends_with(name));
    extension.lazy_loaded_js_files = extension
        .lazy_loaded_js_files
        .iter()
        .filter(|f| keep(f))
        .map(|file| match stage {
            Stage::Snapshot => upstream::corrected(file),
            Stage::Run => file.clone(),
        })
        .collect();
    extension.lazy_loaded_esm_files = Cow::Borrowed(&[]);
}
