//! `env.ASSETS`: the site's own files, by `fetch` alone.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use stockade_capability::{CallContext, Capability};
use stockade_config::Instance as SiteConfig;
use stockade_gateway::Target;
use stockade_http::Body;
use stockade_protocol::GuestError;

use super::Ground;
use crate::error::SiteError;

struct Assets(Arc<dyn Target>);

pub(super) fn granted(site: &SiteConfig) -> Vec<&str> {
    let assets = site.assets.as_ref();
    assets
        .and_then(|assets| assets.binding.as_deref())
        .into_iter()
        .collect()
}

pub(super) fn open<'a>(
    ground: &'a Ground<'a>,
    _name: &'a str,
) -> BoxFuture<'a, Result<Option<Arc<dyn Capability>>, SiteError>> {
    let assets = ground
        .assets
        .map(|files| Arc::new(Assets(Arc::clone(files))) as Arc<dyn Capability>);
    Box::pin(std::future::ready(Ok(assets)))
}

impl Capability for Assets {
    fn fetch(
        &self,
        _context: CallContext,
        request: Request<Body>,
    ) -> BoxFuture<'static, Result<Response<Body>, GuestError>> {
        Box::pin(self.0.handle(request).map(Ok))
    }
}
