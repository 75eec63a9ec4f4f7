//! Connections that guests open by the rules of their site: from the broker to the guest's pipe.

use std::sync::Arc;

use stockade_broker::{
    Connection, Deadline, EgressError, Protocol, Secure, SocketTarget, Sockets, TlsStart,
};
use stockade_capability::{DuplexStream, ErrorName, Opened, Pipe, StartTls};
use stockade_instance::{ConnectRequest, SecureTransport, SocketProtocol};
use stockade_protocol::GuestError;

/// Opens a connection for a guest.
///
/// # Errors
/// Why there is none, for the guest.
pub(crate) async fn open(
    sockets: Arc<Sockets>,
    request: ConnectRequest,
) -> Result<Pipe, GuestError> {
    // The guest sees the name that it used, and never the address that was connected to.
    let opened = Opened {
        remote_address: Some(format!("{}:{}", request.host, request.port)),
        local_address: None,
    };
    let target = SocketTarget {
        host: request.host,
        port: request.port,
        protocol: match request.protocol {
            SocketProtocol::Tcp => Protocol::Tcp,
            SocketProtocol::Udp => Protocol::Udp,
        },
        secure: match request.secure {
            SecureTransport::Off => Secure::Off,
            SecureTransport::On => Secure::On,
            SecureTransport::StartTls => Secure::StartTls,
        },
        server_name: request.server_name,
    };
    let Connection {
        stream,
        start_tls,
        deadline,
    } = sockets
        .connect(target)
        .await
        .map_err(|error| failed(&error))?;
    let start_tls = start_tls.map(|start| secured(start, opened.clone()));
    Ok(pipe(Box::new(stream), opened, start_tls, deadline))
}

fn pipe(
    stream: Box<dyn DuplexStream>,
    opened: Opened,
    start_tls: Option<StartTls>,
    deadline: Deadline,
) -> Pipe {
    Pipe {
        stream,
        opened,
        start_tls,
        over: Some(Box::pin(async move { failed(&deadline.over().await) })),
    }
}

fn secured(start: TlsStart, opened: Opened) -> StartTls {
    Box::new(move |stream, name| {
        Box::pin(async move {
            let started = start.start(stream, name).await;
            let (stream, deadline) = started.map_err(|error| failed(&error))?;
            Ok(pipe(Box::new(stream), opened, None, deadline))
        })
    })
}

/// An error as the guest sees it: it names the target as the guest did, and no address.
fn failed(error: &EgressError) -> GuestError {
    let name = match error {
        EgressError::TimedOut { .. } => ErrorName::Own("TimeoutError"),
        _ => ErrorName::Type,
    };
    GuestError {
        code: Some(code(error).to_owned()),
        ..name.error(error.to_string())
    }
}

/// What Node calls such a failure.
fn code(error: &EgressError) -> &'static str {
    match error {
        EgressError::Refused(_) => "EACCES",
        EgressError::Invalid { .. } => "EINVAL",
        EgressError::Resolve { .. } => "ENOTFOUND",
        EgressError::Connect { .. } => "ECONNREFUSED",
        EgressError::Tls { .. } => "ERR_TLS_HANDSHAKE",
        EgressError::TimedOut { .. } => "ETIMEDOUT",
        _ => "ECONNRESET",
    }
}
