//! What of Deno's extensions the worker realm has.

use deno_core::OpDecl;

use crate::{clock, guest};

/// Scripts of `deno_web` that are in the snapshot.
pub(crate) const WEB_FILES: &[&str] = &[
    "/00_infra.js",
    "/00_url.js",
    "/01_broadcast_channel.js",
    "/01_console.js",
    "/01_dom_exception.js",
    "/01_mimesniff.js",
    "/01_urlpattern.js",
    "/02_event.js",
    "/02_structured_clone.js",
    "/02_timers.js",
    "/03_abort_signal.js",
    "/05_base64.js",
    "/06_streams.js",
    "/08_text_encoding.js",
    "/09_file.js",
    "/10_filereader.js",
    "/12_location.js",
    "/13_message_port.js",
    "/14_compression.js",
    "/15_performance.js",
];

/// Scripts of `deno_fetch` that are in the snapshot: the classes, not the client.
pub(crate) const FETCH_FILES: &[&str] = &[
    "/20_headers.js",
    "/21_formdata.js",
    "/22_body.js",
    "/23_request.js",
    "/23_response.js",
];

/// Ops that JavaScript of the realm may call. `tests/specs/realm` pins what guests reach.
const OPS: &[&str] = &[];

/// What an op of Deno's does in this realm: the same, something else, or nothing but throw.
pub(crate) fn adapt(op: OpDecl) -> OpDecl {
    match op.name {
        // Deno ends the program for an error that nothing caught; a host hears of it.
        "op_dispatch_exception" => op.with_implementation_from(&guest::op_guest_uncaught()),
        "op_now" => op.with_implementation_from(&clock::op_guest_now()),
        "op_time_origin" => op.with_implementation_from(&clock::op_guest_time_origin()),
        name if OPS.is_empty() || OPS.contains(&name) => op,
        _ => op.disable(),
    }
}
