//! Records every request that can change something, before and after it is handled.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::Method;
use stockade_audit::Record;

use super::api::{Admin, Caller};
use super::problem::ApiError;

/// The layer around all handlers. The first record is on the disk before the handler runs; the second one, with the
/// status of the answer, follows it.
pub(crate) async fn recorded(
    State(admin): State<Arc<Admin>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    if matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    ) {
        return Ok(next.run(request).await);
    }
    // Clients that are not let in were answered before the router.
    let caller = request.extensions().get::<Caller>().cloned();
    let caller = caller.ok_or_else(|| ApiError::internal(&"a request without a caller"))?;
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let about = |event| {
        let (kind, name, address) = caller.facts();
        Record::new(event)
            .text("method", method.as_str())
            .text("path", &path)
            .text("caller", kind)
            .text("caller_name", &name)
            .text("client", address)
    };
    let confirmed = admin.logs.audit.confirm(about("admin_request")).await;
    confirmed.map_err(|why| {
        ApiError::unavailable(format!(
            "nothing was changed, because the audit log cannot be written: {why}\n  fix: make room on its disk"
        ))
    })?;
    let response = next.run(request).await;
    let status = response.status().as_u16();
    tracing::info!(%method, path, status, caller = caller.facts().1, "a request to the admin API");
    let done = || about("admin_response").number("status", status.into());
    admin.logs.audit.record(done);
    Ok(response)
}
