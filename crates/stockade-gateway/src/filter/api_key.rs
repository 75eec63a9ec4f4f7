//! Lets in requests with an API key where a route asks for one, and takes keys out of them.

use std::sync::Arc;
use std::time::Instant;

use super::{Filter, Flow, RequestContext};
use crate::credential::{Caller, CredentialError, KeyRule, logged_query};
use crate::rejection::Rejection;
use crate::route::table::Route;

/// Checks the key of a request by [`Route::api_key`].
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
    let key = rule.take(request.head);
    // Also if the request is refused, its record has no key.
    request.record.query = request.head.uri.query().map(logged_query);
    if rule.is_open(request.path.as_str()) {
        return Ok(());
    }
    let Some(key) = key? else {
        return Err(CredentialError::Missing {
            challenge: rule.challenge(""),
        });
    };
    // An address that guesses is answered before anything is computed for it.
    let (address, now) = (request.record.client.ip(), Instant::now());
    let failures = rule.keys.failures();
    if let Err(wait) = failures.check(address, now) {
        return Err(CredentialError::Guesses { wait });
    }
    let granted = rule
        .check(&key)
        .inspect_err(|_| failures.failed(address, now))?;
    request.record.api_key = Some(granted.id);
    rule.check_scopes(&granted, request.head, request.path.as_str())?;
    request.head.extensions.insert(Caller {
        keys: rule.keys.clone(),
        granted: Arc::new(granted),
    });
    Ok(())
}
