//! One instance's way out.

use std::sync::Arc;

use http::{Request, Response};

use crate::body::Body;
use crate::error::EgressError;
use crate::policy::EgressPolicy;
use crate::secrets::Secrets;
use crate::websocket::UpstreamSocket;

/// One instance's way out: its policy, secrets, connections and budgets.
pub struct Egress {
    instance: Arc<str>,
    policy: EgressPolicy,
    secrets: Secrets,
}

impl Egress {
    pub(crate) fn new(instance: Arc<str>, policy: EgressPolicy, secrets: Secrets) -> Self {
        Self {
            instance,
            policy,
            secrets,
        }
    }

    /// Sends a request, under policy. The URI must be absolute.
    ///
    /// Redirects are answers like others. The future may be dropped at any time: the exchange ends.
    ///
    /// # Errors
    /// See [`EgressError`]. Errors of the body come from the body.
    pub async fn fetch(
        self: Arc<Self>,
        request: Request<Body>,
    ) -> Result<Response<Body>, EgressError> {
        let _ = (request, &self.instance, &self.policy, &self.secrets);
        Err(EgressError::Invalid {
            what: "the request",
            why: "not built yet".to_owned(),
        })
    }

    /// Opens a WebSocket, under policy.
    ///
    /// # Errors
    /// See [`EgressError`].
    pub async fn websocket(
        self: Arc<Self>,
        url: String,
        protocols: Vec<String>,
    ) -> Result<UpstreamSocket, EgressError> {
        let _ = (url, protocols);
        Err(EgressError::Invalid {
            what: "the URL",
            why: "not built yet".to_owned(),
        })
    }
}
