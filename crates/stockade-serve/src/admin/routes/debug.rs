//! Debuggers of mirrors: Chrome's DevTools protocol over a WebSocket of the control socket.
//!
//! Invariants:
//! 1. Only instances with `inspect` have debuggers, and only clients of the control socket attach one: users of this machine
//!    whom the kernel names. No browser can connect there, so no page of any site can.
//! 2. That a debugger attaches is in the audit log before it does.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{
    CONNECTION, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use stockade_audit::Record;
use stockade_instance::MirrorDebugger;
use stockade_protocol::bounds::MAX_DEBUG_BYTES;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use crate::admin::Admin;
use crate::admin::api::Caller;
use crate::admin::extract::Path;
use crate::admin::problem::ApiError;

/// Attach a debugger to a mirror.
///
/// A WebSocket that carries Chrome's DevTools protocol, for instances with `inspect`. It is there on the control socket only,
/// for `stockade inspect`. A mirror has one debugger at a time, and none while it is profiled.
#[utoipa::path(get, path = "/v1/instances/{instance}/mirrors/{mirror}/debug", tag = "instances",
    params(("instance" = String, Path, description = "The name of the instance"),
        ("mirror" = u32, Path, description = "The number of the mirror")),
    responses((status = 101, description = "The debugger is attached")))]
pub(crate) async fn attach(
    State(admin): State<Arc<Admin>>,
    Extension(caller): Extension<Caller>,
    Path((name, number)): Path<(String, u32)>,
    mut request: Request,
) -> Result<Response, ApiError> {
    // Who asks, and how.
    let is_local = matches!(caller, Caller::Local { .. });
    if !is_local || request.headers().contains_key(ORIGIN) {
        let detail = "Debuggers attach by the control socket only: use `stockade inspect` on the server's machine.";
        return Err(ApiError::new(StatusCode::FORBIDDEN, detail));
    }
    if !admin.site(&name)?.config.inspect {
        return Err(ApiError::conflict(format!(
            "the instance {name:?} cannot be debugged\n  fix: set `inspect: true` in its configuration"
        )));
    }
    let (instance, _) = admin.mirror(&name, number)?;
    let accept = accept_key(request.headers())?;
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let upgrade = upgrade.ok_or_else(upgrade_required)?;

    // What is attached is on record first.
    let about = move |event| {
        let (kind, caller_name, _) = caller.facts();
        Record::new(event)
            .text("instance", &name)
            .number("mirror", number.into())
            .text("caller", kind)
            .text("caller_name", &caller_name)
    };
    let confirmed = admin.logs.audit.confirm(about("debugger_attached")).await;
    confirmed.map_err(|why| {
        ApiError::unavailable(format!(
            "no debugger was attached, because the audit log cannot be written: {why}\n  fix: make room on its disk"
        ))
    })?;
    let debugger = match instance.debug(number) {
        Ok(debugger) => debugger,
        Err(error) => {
            admin.logs.audit.record(|| about("debugger_detached"));
            return Err(error.into());
        }
    };
    tracing::warn!(mirror = number, "a debugger is attached");
    tokio::spawn(async move {
        if let Ok(socket) = upgrade.await {
            carry(socket, &debugger).await;
        }
        drop(debugger);
        admin.logs.audit.record(|| about("debugger_detached"));
    });
    let headers = [
        (UPGRADE, HeaderValue::from_static("websocket")),
        (CONNECTION, HeaderValue::from_static("upgrade")),
        (SEC_WEBSOCKET_ACCEPT, accept),
    ];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers, Body::empty()).into_response())
}

fn upgrade_required() -> ApiError {
    let detail = "Connect to this address with a WebSocket.";
    ApiError::new(StatusCode::UPGRADE_REQUIRED, detail)
}

/// The answer to the handshake of a WebSocket (RFC 6455, section 4.2.2).
fn accept_key(headers: &HeaderMap) -> Result<HeaderValue, ApiError> {
    let is = |name, wanted: &[u8]| {
        let value = headers.get(name).map(HeaderValue::as_bytes);
        value.is_some_and(|value| value.eq_ignore_ascii_case(wanted))
    };
    let key = headers.get(SEC_WEBSOCKET_KEY);
    let key = key.filter(|_| is(UPGRADE, b"websocket") && is(SEC_WEBSOCKET_VERSION, b"13"));
    let key = key.ok_or_else(upgrade_required)?;
    HeaderValue::try_from(derive_accept_key(key.as_bytes())).map_err(|_| upgrade_required())
}

/// Carries messages both ways until either side is gone.
async fn carry(socket: Upgraded, debugger: &MirrorDebugger) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_DEBUG_BYTES))
        .max_frame_size(Some(MAX_DEBUG_BYTES));
    let io = TokioIo::new(socket);
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let (mut sink, mut stream) = socket.split();
    let session = debugger.session();
    let read = async {
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Text(text) => session.send(text.to_string()),
                Message::Close(_) => return,
                _ => {}
            }
        }
    };
    let write = async {
        while let Some(message) = session.next().await {
            let message = match message {
                Ok(text) => Message::text(text),
                Err(why) => {
                    tracing::warn!("a debugger's session is over: {why}");
                    Message::Close(Some(CloseFrame {
                        code: CloseCode::Policy,
                        reason: why.to_string().into(),
                    }))
                }
            };
            if sink.send(message).await.is_err() {
                return;
            }
        }
        // The mirror has ended.
        let _ = sink.close().await;
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
}
