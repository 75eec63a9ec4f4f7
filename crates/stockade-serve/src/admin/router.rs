//! All routes, and what holds for each of them.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::api::Admin;
use super::problem::ApiError;
use super::recorded::recorded;
use super::{dashboard, document, routes};

/// Bytes of the body of a request, unless the route says otherwise.
const MAX_BODY: usize = 2 << 20;

/// Every route with its description. A resource has a file in `routes/`, and a line here.
fn described() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::with_openapi(document::base())
        .routes(routes!(routes::openapi::show))
        .routes(routes!(routes::status::show))
        .routes(routes!(routes::reload::reload))
        .routes(routes!(routes::instances::list))
        .routes(routes!(routes::instances::show))
        .routes(routes!(routes::profile::take))
        .routes(routes!(routes::debug::attach))
        .routes(routes!(routes::mirrors::start))
        .routes(routes!(routes::mirrors::drain))
        .routes(routes!(routes::mirrors::restart))
        .routes(routes!(routes::mirrors::kill))
        .routes(routes!(routes::versions::list, routes::versions::upload))
        .routes(routes!(routes::versions::show))
        .routes(routes!(routes::deployment::show, routes::deployment::set))
        .routes(routes!(routes::deployment::roll_back))
        .routes(routes!(routes::table::list))
        .routes(routes!(routes::config::show, routes::config::apply))
        .routes(routes!(routes::config::validate))
        .routes(routes!(routes::config::diff))
        .routes(routes!(routes::config::history))
        .routes(routes!(routes::config::show_past))
        .routes(routes!(routes::config::roll_back))
        .routes(routes!(routes::keys::list, routes::keys::create))
        .routes(routes!(routes::keys::show))
        .routes(routes!(routes::keys::rotate))
        .routes(routes!(routes::keys::revoke))
        .routes(routes!(routes::limits::list))
        .routes(routes!(routes::limits::reset))
        .routes(routes!(routes::limits::reset_key))
        .routes(routes!(routes::policy::show))
        .routes(routes!(routes::refused::list))
        .routes(routes!(routes::state::list))
        .routes(routes!(routes::state::value))
        .routes(routes!(routes::keys::refresh))
        .routes(routes!(routes::logs::logs))
        .routes(routes!(routes::logs::events))
        .routes(routes!(routes::history::history))
        .routes(routes!(routes::audit::search))
        .routes(routes!(routes::usage::show))
}

/// The OpenAPI document of all routes.
pub(crate) fn openapi() -> OpenApi {
    document::complete(described().into_openapi())
}

/// Answers the requests of clients that were let in.
pub(crate) fn router(admin: &Arc<Admin>) -> Router {
    let (router, _) = described().split_for_parts();
    dashboard::add(router)
        .fallback(async || {
            ApiError::not_found("There is nothing at this path. /v1/openapi.json lists all.")
        })
        .method_not_allowed_fallback(async |method: Method| {
            let detail = format!("The method {method} is not one of this path.");
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, detail)
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(Arc::clone(admin), recorded))
        .layer(map_response(guarded))
        .with_state(Arc::clone(admin))
}

/// Headers of all answers, unless a handler has set them: a browser keeps nothing, and guesses and embeds nothing.
async fn guarded(mut response: Response) -> Response {
    let same_origin = HeaderName::from_static("cross-origin-resource-policy");
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (same_origin, "same-origin"),
    ] {
        let headers = response.headers_mut();
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    response
}
