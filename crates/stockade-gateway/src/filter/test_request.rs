//! A request for the tests of filters.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{Method, Request, StatusCode, Version, request};
use stockade_http::{Body, NormalPath, Slashes, empty_body};

use super::{Notes, RequestContext};
use crate::access::{AccessRecord, Outcome};
use crate::http::connection_state::ConnectionState;
use crate::limits::Limits;
use crate::route::authority::Authority;
use crate::route::pattern::Pattern;
use crate::route::table::Route;

/// The parts of a request that a test may change.
pub(super) struct TestRequest {
    pub(super) head: request::Parts,
    pub(super) body_bytes: u64,
    pub(super) limits: Limits,
    pub(super) record: AccessRecord,
    authority: Authority,
    pub(super) connection: ConnectionState,
    pub(super) notes: Notes,
}

impl TestRequest {
    pub(super) fn get(path: &str) -> Self {
        let client = SocketAddr::from(([192, 0, 2, 1], 4000));
        Self {
            head: Request::get(path).body(()).unwrap().into_parts().0,
            body_bytes: 0,
            limits: Limits::default(),
            record: AccessRecord {
                started: SystemTime::now(),
                request_id: "id".into(),
                listener: "test".into(),
                route: None,
                refused_by: None,
                api_key: None,
                client,
                peer: client,
                tls: None,
                method: Method::GET,
                scheme: "http",
                host: Some("a.example".to_owned()),
                path: path.to_owned(),
                query: None,
                version: Version::HTTP_11,
                headers: Vec::new(),
                status: StatusCode::OK,
                bytes_in: 0,
                bytes_out: 0,
                unreported: (0, 0),
                first_byte: Duration::ZERO,
                duration: Duration::ZERO,
                served_by: None,
                trace: None,
                outcome: Outcome::ClientGone,
            },
            authority: Authority::parse("a.example").unwrap(),
            connection: ConnectionState::new(false),
            notes: Notes::default(),
        }
    }

    pub(super) fn context(&mut self) -> RequestContext<'_> {
        RequestContext {
            path: NormalPath::parse(self.head.uri.path(), Slashes::Merge).unwrap(),
            head: &mut self.head,
            authority: &self.authority,
            body_bytes: self.body_bytes,
            tls: None,
            limits: &self.limits,
            began: Instant::now(),
            connection: &self.connection,
            notes: &mut self.notes,
            record: &mut self.record,
            websocket: None,
        }
    }
}

/// A route for every request.
pub(super) fn route() -> Route {
    let target = |_: Request<Body>| async { http::Response::new(empty_body()) };
    Route::new("test", vec![Pattern::any()], Arc::new(target))
}
