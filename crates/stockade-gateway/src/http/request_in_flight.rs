//! A request from its head to the end of its response, and its access record.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{StatusCode, request};
use http_body::Body as _;
use hyper::body::Incoming;
use stockade_auth::redact;
use stockade_limits::{Now, Reported};

use crate::access::{AccessRecord, Observer, Outcome, Transferred};
use crate::credential::{self, Validity};
use crate::http::connection::Connection;
use crate::http::connection_state::ConnectionState;
use crate::http::forwarded::Origin;
use crate::http::request_body::BodyProgress;
use crate::listener::connection_limits::RunningRequest;
use crate::rate::{Charges, Unit};
use crate::route::table::TableOptions;

/// A request in flight. Reports the request when it is dropped.
pub(crate) struct RequestInFlight {
    pub(crate) record: Box<AccessRecord>,
    pub(crate) began: Instant,
    /// On its connection, from 1.
    pub(crate) number: u64,
    /// None where the request has no body.
    pub(crate) body: Option<Arc<BodyProgress>>,
    /// What it counts against; none where nothing is limited over time.
    pub(crate) charges: Option<Arc<Charges>>,
    /// Bytes of the response that were charged.
    charged: u64,
    /// How long the credential that let it in is valid; none without one.
    pub(crate) validity: Option<Validity>,
    pub(crate) state: Arc<ConnectionState>,
    reported: Reported,
    observer: Arc<dyn Observer>,
    _running: RunningRequest,
}

impl RequestInFlight {
    /// Begins a request of `connection`. Until its response is complete it counts as one whose client went away.
    pub(crate) fn begin(
        connection: &Connection,
        options: &TableOptions,
        head: &request::Parts,
        origin: &Origin,
        began: Instant,
    ) -> Self {
        let state = Arc::clone(&connection.state);
        state.timers.request_begins();
        let logged = options.logged_headers.iter().flat_map(|name| {
            let values = head.headers.get_all(name).iter();
            values.map(move |value| {
                let text = String::from_utf8_lossy(value.as_bytes());
                (name.clone(), redact(&text).into_owned())
            })
        });
        Self {
            record: Box::new(AccessRecord {
                started: SystemTime::now(),
                request_id: Arc::clone(&origin.request_id),
                listener: Arc::clone(&connection.listener),
                route: None,
                refused_by: None,
                api_key: None,
                client: origin.client,
                peer: connection.peer,
                tls: connection
                    .tls
                    .as_ref()
                    .map(|tls| Arc::clone(&tls.connection.client)),
                method: head.method.clone(),
                scheme: origin.scheme.as_str(),
                host: None,
                path: redact(head.uri.path()).into_owned(),
                query: head.uri.query().map(credential::logged_query),
                version: head.version,
                headers: logged.collect(),
                status: StatusCode::OK,
                bytes_in: 0,
                bytes_out: 0,
                unreported: (0, 0),
                first_byte: Duration::ZERO,
                duration: Duration::ZERO,
                served_by: None,
                trace: None,
                outcome: Outcome::ClientGone,
            }),
            began,
            number: state.requests.next(),
            body: None,
            charges: None,
            charged: 0,
            validity: None,
            state,
            reported: Reported::new(began),
            observer: Arc::clone(&connection.gateway.observer),
            _running: connection.gateway.connections.count_request(),
        }
    }
}

impl RequestInFlight {
    /// Leaves the request's body unread.
    pub(crate) fn leave(&mut self, body: Incoming) {
        if self.state.multiplexed && !body.is_end_stream() {
            self.body.get_or_insert_default().unread.leave(body);
        }
    }

    fn bytes_in(&self) -> u64 {
        self.body.as_ref().map_or(0, |body| body.bytes())
    }

    /// Charges the bytes of the response that were not charged before.
    fn charge(&mut self, now: Instant) {
        let more = self.record.bytes_out - self.charged;
        if let Some(charges) = self.charges.as_ref().filter(|_| more > 0) {
            let time = self.record.started + now.saturating_duration_since(self.began);
            charges.used(Unit::BytesOut, more, Now::of(now, time));
            self.charged += more;
        }
    }

    /// Charges and reports the bytes so far of a request that lasts for long.
    pub(crate) fn progress(&mut self) {
        let now = Instant::now();
        self.charge(now);
        let (bytes_in, bytes_out) = (self.bytes_in(), self.record.bytes_out);
        if let Some(route) = &self.record.route
            && let Some((bytes_in, bytes_out)) = self.reported.due(bytes_in, bytes_out, now)
        {
            self.observer.transferred(&Transferred {
                route: Arc::clone(route),
                api_key: self.record.api_key,
                bytes_in,
                bytes_out,
            });
        }
    }
}

impl Drop for RequestInFlight {
    fn drop(&mut self) {
        self.state.timers.request_ends();
        self.record.bytes_in = self.bytes_in();
        let (bytes_in, bytes_out) = (self.record.bytes_in, self.record.bytes_out);
        self.record.unreported = self.reported.rest(bytes_in, bytes_out);
        let now = Instant::now();
        self.charge(now);
        self.record.duration = now.saturating_duration_since(self.began);
        self.observer.request(&self.record);
        if let Some(body) = &self.body {
            body.unread.answered();
        }
    }
}
