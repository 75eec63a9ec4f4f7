//! What an upstream server may ask of this client: nothing. Its reports of changed tools are noticed.

use std::sync::Arc;

use rmcp::ClientHandler;
use rmcp::model::ClientConfig;
use rmcp::service::{NotificationContext, RoleClient};
use tokio::sync::Notify;

/// The client's side of a connection to an upstream server.
pub(super) struct UpstreamClient {
    changed: Arc<Notify>,
}

impl UpstreamClient {
    pub(super) fn new(changed: Arc<Notify>) -> Self {
        Self { changed }
    }
}

impl ClientHandler for UpstreamClient {
    fn get_info(&self) -> ClientConfig {
        super::identity()
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }
}
