//! Routes: which URLs lead to which instance.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin::Admin;
use crate::admin::extract::Json;

/// All routes.
#[derive(Serialize, ToSchema)]
pub(crate) struct Routes {
    routes: Vec<Route>,
}

/// A pattern of URLs and where it leads.
#[derive(Serialize, ToSchema)]
pub(crate) struct Route {
    /// As it stands in the configuration: a host, a path or both.
    pattern: String,
    /// The instance that answers.
    instance: String,
    /// Whether a client needs an API key.
    needs_key: bool,
    /// Whether a client needs a certificate.
    needs_certificate: bool,
}

/// List all routes.
#[utoipa::path(get, path = "/v1/routes", tag = "instances",
    responses((status = 200, description = "All routes, by instance", body = Routes)))]
pub(crate) async fn list(State(admin): State<Arc<Admin>>) -> Json<Routes> {
    let running = admin.running.load_full();
    let mut routes = Vec::new();
    for config in running.iter().map(|running| &running.config) {
        for site in config.instances.values() {
            let rule = crate::plan::tls::rule(config, site);
            routes.extend(site.urls.iter().map(|url| Route {
                pattern: url.text.clone(),
                instance: site.name.clone(),
                needs_key: site.auth.is_some(),
                needs_certificate: rule.required,
            }));
        }
    }
    Json(Routes { routes })
}
