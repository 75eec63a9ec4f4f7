//! The state of the server.

use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::Admin;
use crate::admin::extract::Json;

/// The state of the server.
#[derive(Serialize, ToSchema)]
pub(crate) struct ServerStatus {
    /// The version of Stockade.
    version: &'static str,
    /// `serving`, or `draining` once it takes no more connections.
    state: &'static str,
    /// When it was started.
    #[schema(format = DateTime)]
    started: String,
    uptime_seconds: u64,
    /// The configuration file.
    config_path: String,
    /// The last reload, if it was refused: the configuration before it stays in use. Null if it was not.
    refused_reload: Option<RefusedReloadStatus>,
    /// Whether the last write to the shared state succeeded; null where there is none.
    state_writable: Option<bool>,
    listeners: Vec<ListenerStatus>,
    instances: InstanceCounts,
    /// Open connections of clients.
    connections: usize,
    /// Requests without a complete response.
    requests: usize,
    /// Open WebSockets of clients.
    websockets: usize,
    /// The audit log; null where there is none.
    audit: Option<AuditLogStatus>,
}

/// A reload that was refused.
#[derive(Serialize, ToSchema)]
pub(crate) struct RefusedReloadStatus {
    #[schema(format = DateTime)]
    at: String,
    why: String,
}

/// Where clients connect.
#[derive(Serialize, ToSchema)]
pub(crate) struct ListenerStatus {
    /// As the configuration names it.
    name: String,
    /// With the port that the system chose.
    address: String,
}

/// How many instances there are.
#[derive(Serialize, ToSchema)]
pub(crate) struct InstanceCounts {
    configured: usize,
    /// Those whose versions all take requests, or have no mirror because none is wanted.
    ready: usize,
}

/// The audit log.
#[derive(Serialize, ToSchema)]
pub(crate) struct AuditLogStatus {
    /// The number of the last line.
    last: u64,
    /// Records that came while the log could not be written, and are lost.
    dropped: u64,
    /// Why it cannot be written now; null while it can.
    failing: Option<String>,
}

/// The state of the server.
#[utoipa::path(get, path = "/v1/status", tag = "server",
    responses((status = 200, description = "The state now", body = ServerStatus)))]
pub(crate) async fn show(State(admin): State<Arc<Admin>>) -> Json<ServerStatus> {
    let running = admin.running.load_full();
    let sites = running.iter().flat_map(|running| running.traffic.values());
    let mut instances = InstanceCounts {
        configured: 0,
        ready: 0,
    };
    for traffic in sites {
        instances.configured += 1;
        instances.ready += usize::from(traffic.is_ready());
    }
    let listener = |(name, address): (Arc<str>, stockade_gateway::Address)| ListenerStatus {
        name: name.to_string(),
        address: address.to_string(),
    };
    let gateway = admin.gateway.stats();
    let audit = admin.logs.audit.status().map(|audit| AuditLogStatus {
        last: audit.last,
        dropped: audit.dropped,
        failing: audit.failing,
    });
    let refused = admin.metrics.process.refused_reload();
    let store = running.as_ref().and_then(|running| running.store.as_ref());
    let uptime = SystemTime::now().duration_since(admin.started);
    Json(ServerStatus {
        version: env!("CARGO_PKG_VERSION"),
        state: match admin.metrics.process.is_draining() {
            true => "draining",
            false => "serving",
        },
        started: humantime::format_rfc3339_seconds(admin.started).to_string(),
        uptime_seconds: uptime.unwrap_or_default().as_secs(),
        config_path: admin.config_path.display().to_string(),
        refused_reload: refused.map(|refused| RefusedReloadStatus {
            at: humantime::format_rfc3339_seconds(refused.at).to_string(),
            why: refused.why,
        }),
        state_writable: store.map(|store| store.stats().writable),
        listeners: admin
            .gateway
            .addresses()
            .into_iter()
            .map(listener)
            .collect(),
        instances,
        connections: gateway.connections,
        requests: gateway.requests,
        websockets: gateway.sockets,
        audit,
    })
}
