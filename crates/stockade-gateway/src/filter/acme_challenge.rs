//! Answers the challenges by which a certificate authority checks that a host is served here (RFC 8555, section 8.3).

use std::sync::Arc;

use http::{HeaderValue, Response, header};
use stockade_http::{Body, full_body};

use super::{Filter, Flow, RequestContext};
use stockade_tls::Acme;

use crate::rejection::Rejection;

const PREFIX: &str = "/.well-known/acme-challenge/";

/// Answers requests for a token of an order that is open. Others go on to their route.
pub(super) struct AcmeChallenge(Arc<Acme>);

impl AcmeChallenge {
    pub(super) fn new(acme: &Arc<Acme>) -> Self {
        Self(Arc::clone(acme))
    }
}

impl Filter for AcmeChallenge {
    fn before_route(&self, request: &mut RequestContext<'_>) -> Result<Flow, Rejection> {
        let host = &request.authority.host;
        let response = answer(request.path.as_str(), |token| {
            self.0.http_answer(host, token)
        });
        Ok(response.map_or(Flow::Continue, |response| Flow::Answer(Box::new(response))))
    }
}

/// The answer to a challenge, if `path` is one and `proof` has what proves its token.
fn answer(path: &str, proof: impl FnOnce(&str) -> Option<String>) -> Option<Response<Body>> {
    let proof = proof(path.strip_prefix(PREFIX)?)?;
    let mut response = Response::new(full_body(proof));
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenge_is_answered_for_its_own_token_alone() {
        let proof = |token: &str| (token == "a").then(|| "a.proof".to_owned());
        let check = |path, answered| assert_eq!(answer(path, proof).is_some(), answered, "{path}");
        check("/.well-known/acme-challenge/a", true);
        check("/.well-known/acme-challenge/b", false);
        check("/.well-known/acme-challenge/", false);
        check("/a", false);
    }
}
