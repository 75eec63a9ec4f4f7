//! What of Deno's extensions the worker realm has.

use deno_core::OpDecl;

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
pub(crate) const FETCH_FILES: &[&str] =
    &["/20_headers.js", "/21_formdata.js", "/22_body.js", "/23_request.js", "/23_response.js"];

/// Ops that JavaScript of the realm may call. `tests/specs/realm` pins what guests reach.
const OPS: &[&str] = &[];

/// Makes an op that is not on the list throw.
pub(crate) fn restrict(op: OpDecl) -> OpDecl {
    if OPS.is_empty() || OPS.contains(&op.name) { op } else { op.disable() }
}
