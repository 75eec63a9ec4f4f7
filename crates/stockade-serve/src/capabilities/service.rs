//! `env.NAME` of another site: its `fetch`, and the methods that its module offers.
//!
//! Arguments and values of methods pass as they are, so a method takes and gives all that a payload can hold.
//!
//! Calls between sites may form a circle. Each hop takes a place among the callee's requests and one among the caller's
//! `subrequests`, and has the callee's timeout, so a circle ends with a refusal, not with unbounded work.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use stockade_capability::{CallContext, CallPayload, Capability};
use stockade_config::Instance as SiteConfig;
use stockade_http::Body;
use stockade_protocol::GuestError;

use super::Ground;
use crate::directory::Directory;
use crate::error::SiteError;

/// Another site. Each call finds what answers for that site now.
struct Service {
    site: String,
    directory: Arc<Directory>,
}

pub(super) fn granted(site: &SiteConfig) -> Vec<&str> {
    site.bindings.keys().map(String::as_str).collect()
}

pub(super) fn open<'a>(
    ground: &'a Ground<'a>,
    name: &'a str,
) -> BoxFuture<'a, Result<Option<Arc<dyn Capability>>, SiteError>> {
    let service = ground.site.bindings.get(name).map(|binding| {
        let service = Service {
            site: binding.instance.clone(),
            directory: Arc::clone(ground.directory),
        };
        Arc::new(service) as Arc<dyn Capability>
    });
    Box::pin(std::future::ready(Ok(service)))
}

impl Capability for Service {
    fn call(
        &self,
        _context: CallContext,
        method: &str,
        arguments: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>> {
        let (site, method) = (self.site.clone(), method.to_owned());
        let directory = Arc::clone(&self.directory);
        Box::pin(async move { directory.call(&site, &method, arguments).await })
    }

    fn fetch(
        &self,
        _context: CallContext,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, GuestError>> {
        let site = self.site.clone();
        let directory = Arc::clone(&self.directory);
        Box::pin(async move { directory.fetch(&site, request).await })
    }
}
