//! What of Deno's extensions the worker realm has.

use deno_core::OpDecl;

use crate::stage::Stage;
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

/// Ops of `deno_core` that the realm's own scripts need once they have been set up. Besides these all
/// that only say what a value is (`op_is_…`) and those of timers (`op_timer_…`).
const CORE_OPS: &[&str] = &[
    "op_abort_wasm_streaming",
    "op_cancel_handle",
    "op_close",
    "op_decode",
    "op_deserialize",
    "op_destructure_error",
    "op_drain_pending_rejections",
    "op_encode",
    "op_encode_binary_string",
    "op_event_loop_has_more_work",
    "op_get_ext_import_meta_proto",
    "op_get_promise_details",
    "op_get_proxy_details",
    "op_has_tick_scheduled",
    "op_immediate_check",
    "op_leak_tracing_submit",
    "op_preview_entries",
    "op_read_all",
    "op_ref_op",
    "op_run_microtasks",
    "op_serialize",
    "op_set_format_exception_callback",
    "op_set_handled_promise_rejection_handler",
    "op_set_wasm_streaming_callback",
    "op_str_byte_length",
    "op_structured_clone",
    "op_unref_op",
    "op_wasm_streaming_feed",
    "op_write_all",
];

/// Ops of the extensions that the realm's scripts call.
const OPS: &[&str] = &[
    "op_base64_atob",
    "op_base64_btoa",
    "op_base64_decode",
    "op_base64_encode_from_buffer",
    "op_blob_clone_part",
    "op_blob_create_object_url",
    "op_blob_create_part",
    "op_blob_from_object_url",
    "op_blob_remove_part",
    "op_blob_revoke_object_url",
    "op_blob_slice_part",
    "op_broadcast_deserialize",
    "op_broadcast_free",
    "op_broadcast_recv",
    "op_broadcast_send",
    "op_broadcast_serialize",
    "op_broadcast_subscribe",
    "op_broadcast_unsubscribe",
    "op_compression_finish",
    "op_compression_new",
    "op_compression_write",
    "op_console_css_to_ansi",
    "op_console_format_value",
    "op_console_get_string_width",
    "op_console_inspect",
    "op_console_inspect_args",
    "op_console_parse_css",
    "op_console_parse_css_color",
    "op_console_quote_string",
    "op_console_strip_vt",
    "op_crypto_is_seeded",
    "op_crypto_random_uuid_batch",
    "op_defer",
    "op_encoding_decode",
    "op_encoding_decode_single",
    "op_encoding_decode_utf8",
    "op_encoding_decode_utf8_ascii_only",
    "op_encoding_encode_into",
    "op_encoding_encode_into_fallback",
    "op_encoding_new_decoder",
    "op_encoding_normalize_label",
    "op_guest_blob_read",
    "op_guest_chunk",
    "op_guest_collect",
    "op_guest_console",
    "op_guest_console_call",
    "op_guest_console_piece",
    "op_guest_control",
    "op_guest_failed",
    "op_guest_listen",
    "op_guest_reply",
    "op_guest_request",
    "op_guest_respond",
    "op_guest_respond_bytes",
    "op_guest_send",
    "op_guest_settings",
    "op_guest_uncaught",
    "op_html_change",
    "op_html_check_selector",
    "op_html_close",
    "op_html_next",
    "op_html_open",
    "op_html_read",
    "op_html_read_end",
    "op_html_take",
    "op_html_write",
    "op_message_port_create_entangled",
    "op_message_port_post_message",
    "op_message_port_post_message_raw",
    "op_message_port_recv_message",
    "op_message_port_recv_message_sync",
    "op_payload_add_bytes",
    "op_payload_clear",
    "op_payload_part_length",
    "op_payload_take_bytes",
    "op_readable_stream_resource_allocate",
    "op_readable_stream_resource_allocate_sized",
    "op_readable_stream_resource_await_close",
    "op_readable_stream_resource_close",
    "op_readable_stream_resource_get_sink",
    "op_readable_stream_resource_write_buf",
    "op_readable_stream_resource_write_error",
    "op_readable_stream_resource_write_sync",
    "op_url_get_serialization",
    "op_url_parse",
    "op_url_parse_search_params",
    "op_url_parse_with_base",
    "op_url_reparse",
    "op_url_stringify_search_params",
    "op_urlpattern_parse",
    "op_urlpattern_process_match_input",
];

/// What an op does in this realm: the same, something else, or nothing but throw.
///
/// While the snapshot is made nothing is forbidden: setting up needs ops that guests must not have,
/// and no guest runs. The snapshot holds references by number, so what it was made with does not
/// matter here.
pub(crate) fn adapt(op: OpDecl, stage: Stage) -> OpDecl {
    match op.name {
        // Deno ends the program for an error that nothing caught; here it is reported to the host.
        "op_dispatch_exception" => op.with_implementation_from(&guest::op_guest_uncaught()),
        "op_now" => op.with_implementation_from(&clock::op_guest_now()),
        "op_time_origin" => op.with_implementation_from(&clock::op_guest_time_origin()),
        _ if stage == Stage::Snapshot => op,
        name if allowed(name) => op,
        _ => op.disable(),
    }
}

fn allowed(name: &str) -> bool {
    name.starts_with("op_is_")
        || name.starts_with("op_timer_")
        || CORE_OPS.contains(&name)
        || OPS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowed_ops_reach_no_file_process_or_loader() {
        for name in [
            "op_print",
            "op_resources",
            "op_eval_context",
            "op_load_ext_script",
            "op_lazy_load_esm",
            "op_compile_function",
            "op_memory_usage",
            "op_op_names",
            "op_set_promise_hooks",
        ] {
            assert!(!allowed(name), "{name}");
        }
    }
}
