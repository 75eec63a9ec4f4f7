//! What the guests of one site may ask of their host: the outside through the broker, other sites, assets,
//! shared state and granted folders.
//!
//! Invariant: a binding is one that the configuration names for this site. What a guest says about itself
//! chooses nothing.
//!
//! Calls between sites may form a circle. Each hop takes a place among the callee's requests and one among
//! the caller's `subrequests`, and has the callee's timeout, so a circle ends with a refusal, not with
//! unbounded work.

mod errors;
mod files;
mod state;

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use stockade_broker::{Egress, Folder};
use stockade_gateway::Target;
use stockade_http::{Body, UpstreamSocket};
use stockade_instance::{Parcel, Services};
use stockade_protocol::GuestError;
use stockade_state::Keyspace;

use crate::directory::Directory;
use crate::metrics::SiteMetrics;

pub(crate) use errors::site as site_error;

/// What a name in `env` stands for.
#[derive(Clone)]
pub(crate) enum Binding {
    /// Another site, by its name.
    Site(String),
    /// The site's own files.
    Assets(Arc<dyn Target>),
    /// Shared state.
    State(Arc<dyn Keyspace>),
    /// A granted folder.
    Files(Arc<Folder>),
}

impl Binding {
    fn kind(&self) -> &'static str {
        match self {
            Self::Site(_) => "another site",
            Self::Assets(_) => "assets",
            Self::State(_) => "state",
            Self::Files(_) => "a folder",
        }
    }
}

/// What one site's guests may ask.
pub(crate) struct SiteServices {
    pub(crate) egress: Arc<Egress>,
    pub(crate) bindings: HashMap<String, Binding>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) metrics: Arc<SiteMetrics>,
}

impl SiteServices {
    fn binding(&self, name: &str) -> Result<Binding, GuestError> {
        let found = self.bindings.get(name).cloned();
        found.ok_or_else(|| GuestError::new(format!("there is no binding {name:?}")))
    }
}

/// Counts how a call went.
async fn counted<T, F>(metrics: Arc<SiteMetrics>, state: bool, call: F) -> Result<T, GuestError>
where
    F: Future<Output = Result<T, GuestError>>,
{
    let outcome = call.await;
    let word = if outcome.is_ok() { "ok" } else { "error" };
    if state {
        metrics.state_operations.add(word, 1);
    } else {
        metrics.binding_calls.add(word, 1);
    }
    outcome
}

impl Services for SiteServices {
    fn fetch(
        &self,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, GuestError>> {
        let egress = Arc::clone(&self.egress);
        Box::pin(async move {
            egress
                .fetch(request)
                .await
                .map_err(|error| errors::egress(&error))
        })
    }

    fn websocket(
        &self,
        url: String,
        protocols: Vec<String>,
    ) -> BoxFuture<'static, Result<UpstreamSocket, GuestError>> {
        let egress = Arc::clone(&self.egress);
        Box::pin(async move {
            egress
                .websocket(url, protocols)
                .await
                .map_err(|error| errors::egress(&error))
        })
    }

    fn binding_fetch(
        &self,
        binding: &str,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, GuestError>> {
        let found = self.binding(binding);
        let directory = Arc::clone(&self.directory);
        let call = async move {
            match found? {
                Binding::Site(name) => directory.fetch(&name, request).await,
                Binding::Assets(assets) => Ok(assets.handle(request).await),
                other => Err(GuestError::new(format!(
                    "{} takes no requests",
                    other.kind()
                ))),
            }
        };
        Box::pin(counted(Arc::clone(&self.metrics), false, call))
    }

    fn binding_call(
        &self,
        binding: &str,
        method: String,
        args: Parcel,
    ) -> BoxFuture<'static, Result<Parcel, GuestError>> {
        let found = self.binding(binding);
        let is_state = matches!(found, Ok(Binding::State(_)));
        let directory = Arc::clone(&self.directory);
        let call = async move {
            match found? {
                Binding::Site(name) => directory.call(&name, &method, args).await,
                Binding::State(keyspace) => state::call(keyspace, &method, args).await,
                Binding::Files(folder) => files::call(folder, &method, args).await,
                Binding::Assets(_) => Err(GuestError::new("assets have only fetch")),
            }
        };
        Box::pin(counted(Arc::clone(&self.metrics), is_state, call))
    }
}
