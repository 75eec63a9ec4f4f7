//! What a debugger is shown, and how it is listed.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::session::Debuggable;

/// One isolate, as debuggers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// A name for people.
    pub title: String,
    /// What it runs.
    pub url: String,
}

/// A registered isolate.
#[derive(Clone)]
pub(crate) struct ListedTarget {
    pub(crate) id: Uuid,
    pub(crate) target: Target,
    pub(crate) isolate: Arc<dyn Debuggable>,
}

impl ListedTarget {
    pub(crate) fn socket_url(&self, host: &str) -> String {
        format!("ws://{host}/ws/{}", self.id)
    }

    /// One entry of `/json/list`, for a client that reached this server as `host`.
    pub(crate) fn describe(&self, host: &str) -> Value {
        let id = self.id.to_string();
        let frontend = format!(
            "devtools://devtools/bundled/js_app.html?ws={host}/ws/{id}&experiments=true&v8only=true"
        );
        json!({
            "description": "stockade",
            "devtoolsFrontendUrl": frontend,
            "id": id,
            "title": self.target.title,
            "type": "node",
            "url": self.target.url,
            "webSocketDebuggerUrl": self.socket_url(host),
        })
    }
}

/// All registered isolates, oldest first.
pub(crate) type Entries = Arc<Mutex<Vec<ListedTarget>>>;

/// Keeps an isolate listed until dropped. Sessions that are open then go on until the isolate is gone.
#[must_use]
pub struct Listed {
    pub(crate) id: Uuid,
    pub(crate) address: SocketAddr,
    pub(crate) entries: Entries,
}

impl Listed {
    /// Where a debugger connects to this isolate.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}/ws/{}", self.address, self.id)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.entries.lock().retain(|entry| entry.id != self.id);
    }
}
