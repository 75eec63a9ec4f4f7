//! Another site that approves the calls of a grant.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use stockade_capability::Reply;
use stockade_config::Approve;
use stockade_grants::{Approval, Approver, Asked};

use crate::directory::Directory;

/// The method of a site that decides.
struct SiteApprover {
    site: String,
    method: String,
    directory: Arc<Directory>,
}

pub(super) fn by(approve: &Approve, directory: &Arc<Directory>) -> Approval {
    let Approve {
        instance,
        method,
        timeout,
    } = approve;
    Approval {
        name: format!("{instance}.{method} {timeout:?}").into(),
        approver: Arc::new(SiteApprover {
            site: instance.clone(),
            method: method.clone(),
            directory: Arc::clone(directory),
        }),
        timeout: *timeout,
    }
}

impl Approver for SiteApprover {
    fn approve(&self, asked: Asked) -> BoxFuture<'static, Result<bool, String>> {
        let (site, method) = (self.site.clone(), self.method.clone());
        let directory = Arc::clone(&self.directory);
        Box::pin(async move {
            let arguments = Reply::plain(&[asked]).map_err(|error| error.message)?;
            let answer = directory.call(&site, &method, arguments).await;
            let answer = answer.map_err(|error| error.to_string())?;
            Ok(answer.payload.json == "true")
        })
    }
}
