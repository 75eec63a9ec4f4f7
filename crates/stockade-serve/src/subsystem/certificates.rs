//! Certificates of listeners.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt, ready};

use super::{Change, Prepared, Preparing, Reload, Subsystem};
use crate::tls::{TlsMetrics, TlsStores};

pub(crate) struct Certificates {
    pub(crate) metrics: Arc<TlsMetrics>,
}

struct PreparedCertificates;

impl Subsystem for Certificates {
    fn prepare<'s: 'r, 'r>(&'s mut self, reload: &'r mut Reload) -> Preparing<'s, 'r> {
        async move {
            let none = TlsStores::default();
            let old = reload.old.as_ref().map_or(&none, |old| &old.tls);
            let (tls, mut stores) = old.load(&reload.next.config, &self.metrics).await?;
            reload.next.tls = tls;
            if reload.next.config.admin.is_some() {
                reload.next.admin_tls = stores.pop().flatten();
            }
            reload.next.listener_tls = stores;
            Ok(Box::new(PreparedCertificates) as Box<dyn Prepared>)
        }
        .boxed()
    }
}

impl Prepared for PreparedCertificates {
    fn commit(&mut self, _: &Change) {}

    fn release<'a>(&'a mut self, change: &'a Change) -> BoxFuture<'a, ()> {
        if let Some(old) = &change.old {
            old.tls.retire(&change.next.tls);
        }
        ready(()).boxed()
    }
}
