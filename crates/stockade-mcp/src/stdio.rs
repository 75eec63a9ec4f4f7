//! A client on standard input and output: the program that started this one.

use std::sync::Arc;

use rmcp::ServiceExt;
use rmcp::transport::async_rw::AsyncRwTransport;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::bounds::MESSAGE_BYTES;
use crate::server::{Handler, McpServer};

/// Serves one client until its input ends.
///
/// # Errors
///
/// If the client's first messages are not those of MCP.
pub async fn serve_stdio(
    server: Arc<McpServer>,
    input: impl AsyncRead + Send + Unpin + 'static,
    output: impl AsyncWrite + Send + Unpin + 'static,
) -> Result<(), String> {
    let transport = AsyncRwTransport::new_server(input, output).with_max_line_length(MESSAGE_BYTES);
    let running = match Handler::new(server).serve(transport).await {
        Ok(running) => running,
        // A client that leaves before it has said anything.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(format!("the client does not speak MCP: {error}")),
    };
    running
        .waiting()
        .await
        .map(drop)
        .map_err(|error| format!("the connection was lost: {error}"))
}
