//! The listener of the admin API.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, ready};
use stockade_config::Admin as Settings;
use stockade_gateway::{
    Address, DatagramLimits, Gateway, Limits, Listener, Pattern, PreparedReload, ProxyProtocol,
    Route, RouteTable, TableOptions, Target, Unobserved,
};
use stockade_http::{HostPattern, PathPattern};

use super::{Change, Prepared, Preparing, Reload, Subsystem};
use crate::admin::AdminTarget;
use crate::error::ServeError;
use crate::plan;
use crate::running::Running;

/// What answers is a gateway of its own, so that its clients and those of the sites share no limit.
pub(crate) struct AdminListener {
    gateway: Gateway,
    target: Arc<AdminTarget>,
}

struct PreparedListener<'a> {
    /// Taken when it is committed.
    next: Option<PreparedReload<'a>>,
    /// Waits until a listener that is gone has given its address back.
    closing: BoxFuture<'static, ()>,
}

impl AdminListener {
    pub(crate) fn new(target: AdminTarget) -> Self {
        Self {
            gateway: Gateway::new(Arc::new(Unobserved)),
            target: Arc::new(target),
        }
    }
}

impl Subsystem for AdminListener {
    fn prepare<'s: 'r, 'r>(&'s mut self, reload: &'r mut Reload) -> Preparing<'s, 'r> {
        async move {
            let next = &mut reload.next;
            let listener = (next.config.admin.as_ref()).map(|settings| listener(settings, next));
            let table = match &next.config.admin {
                Some(settings) => table(settings, Arc::clone(&self.target) as Arc<dyn Target>)?,
                None => RouteTable::default(),
            };
            let listeners = listener.into_iter().collect();
            let prepared = self.gateway.prepare(listeners, table, limits()).await?;
            next.admin_address = prepared.addresses().into_iter().next();
            Ok(Box::new(PreparedListener {
                next: Some(prepared),
                closing: ready(()).boxed(),
            }) as Box<dyn Prepared>)
        }
        .boxed()
    }
}

impl Prepared for PreparedListener<'_> {
    fn commit(&mut self, _: &Change) {
        if let Some(next) = self.next.take() {
            self.closing = next.commit().boxed();
        }
    }

    fn release<'a>(&'a mut self, _: &'a Change) -> BoxFuture<'a, ()> {
        (&mut self.closing).boxed()
    }
}

fn listener(settings: &Settings, next: &Running) -> Listener {
    Listener {
        name: "admin".into(),
        address: Address::Tcp(settings.listen),
        tls: next.admin_tls.clone(),
        proxy_protocol: ProxyProtocol::Off,
        http2: true,
        streams: None,
        datagrams: DatagramLimits::default(),
    }
}

/// One route for everything: the router of the API knows the paths.
fn table(settings: &Settings, target: Arc<dyn Target>) -> Result<RouteTable, ServeError> {
    let everything = Pattern {
        scheme: None,
        host: HostPattern::Any,
        port: None,
        path: PathPattern::Under(String::new()),
    };
    let mut route = Route::new("admin", vec![everything], target);
    route.websocket = false;
    if let Some(tls) = &settings.tls {
        route.client = plan::tls::admin_rule(tls);
    }
    Ok(RouteTable::new(vec![route], TableOptions::default())?)
}

/// Far less than sites get, but time: a reload waits for mirrors to start.
fn limits() -> Limits {
    Limits {
        connections: 256,
        connections_per_address: 64,
        header_bytes: 16 << 10,
        // A route has a lower limit; this one is for versions of code.
        max_body: 260 << 20,
        request_timeout: Duration::from_secs(600),
        h2_streams: 32,
        ..Limits::default()
    }
}
