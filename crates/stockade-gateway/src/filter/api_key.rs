//! Lets in requests with an API key, a token or a client certificate where a route asks for one, and takes keys and
//! tokens out of them.

use super::{Filter, Flow, RequestContext};
use crate::credential::{Caller, CredentialError, KeyRule, logged_query};
use crate::rejection::Rejection;
use crate::route::table::Route;

/// Checks the credential of a request by [`Route::api_key`].
pub(super) struct ApiKeyFilter;

impl Filter for ApiKeyFilter {
    fn after_route(
        &self,
        request: &mut RequestContext<'_>,
        route: &Route,
    ) -> Result<Flow, Rejection> {
        if let Some(rule) = &route.api_key {
            let_in(request, rule)?;
        }
        Ok(Flow::Continue)
    }
}

fn let_in(request: &mut RequestContext<'_>, rule: &KeyRule) -> Result<(), CredentialError> {
    let credential = rule.take(request.head);
    // Also if the request is refused, its record has no key.
    if request.record.query.is_some() {
        request.record.query = request.head.uri.query().map(logged_query);
    }
    if rule.is_open(request.path.as_str()) {
        return Ok(());
    }
    let Some(credential) = credential? else {
        if rule.accepts_certificate(request.tls.map(|tls| &tls.connection)) {
            return Ok(());
        }
        return Err(CredentialError::Missing {
            needed: rule.needed(),
            challenge: rule.challenge(""),
        });
    };
    // An address that guesses is answered before anything is computed for it.
    let (address, now) = (request.record.client.ip(), request.began);
    if let Err(wait) = rule.failures.check(address, now) {
        return Err(CredentialError::Guesses { wait });
    }
    let caller = rule
        .check(
            &credential,
            request.record.started,
            &request.connection.last_key,
        )
        .inspect_err(|_| rule.failures.failed(address, now))?;
    if let Caller::Key { granted, .. } = &caller {
        request.record.api_key = Some(granted.id);
        rule.check_scopes(granted, request.head, request.path.as_str())?;
    }
    request.notes.caller = Some(caller);
    Ok(())
}
