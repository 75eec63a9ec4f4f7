//! One request over one connection, and its answer.

use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version, response};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use stockade_http::{Body, empty_body};
use tokio::time::Instant;

use crate::audit::Reason;
use crate::connector::{Connected, Form, Speaks};
use crate::decode::{self, Coding, DecodeLimits, Masked};
use crate::download::{Download, DownloadLimits, describe};
use crate::error::EgressError;
use crate::headers;
use crate::in_flight::InFlight;
use crate::pool::{Key, MAX_FIELDS, MAX_HEAD, Pool, SendFailure, Sender};
use crate::target::Target;
use crate::upload::Upload;

use super::{Allowed, Egress, invalid, timed_out};

/// A request of the guest, as far as it is checked and changed.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) headers: HeaderMap,
    pub(crate) declared: Option<u64>,
}

impl Egress {
    /// Sends, once more over a new connection where the old one was closed by the other end before it
    /// took anything, or where asking twice does no harm.
    pub(crate) async fn send(
        &self,
        in_flight: Arc<InFlight>,
        outgoing: Outgoing,
        body: Option<Body>,
        allowed: Allowed<'_>,
        deadline: Instant,
    ) -> Result<Response<Body>, EgressError> {
        let limits = &self.policy.limits;
        let target = &outgoing.target;
        let kept = self.pool.take(allowed.keys(target));
        let mut is_reused = kept.is_some();
        let (mut key, mut sender) = match kept {
            Some(kept) => kept,
            None => {
                self.connect_new(&in_flight, target, &allowed, deadline)
                    .await?
            }
        };
        let is_repeatable = body.is_none() && outgoing.method.is_safe();
        let body = match body {
            Some(body) => {
                let limit = limits.max_request_bytes;
                let declared = outgoing.declared;
                Upload::new(body, in_flight.clone(), limit, declared, &self.secrets)?.boxed_unsync()
            }
            None => empty_body(),
        };
        let mut request = outgoing.request(&sender, body)?;
        let response = loop {
            let failure = match self.head(&in_flight, &mut sender, request).await? {
                Ok(response) => break response,
                Err(failure) => failure,
            };
            if let Some(failure) = in_flight.failure() {
                return Err(failure);
            }
            let body = match failure.unsent {
                Some(unsent) if is_reused => unsent.into_body(),
                None if is_reused && is_repeatable => empty_body(),
                _ => return Err(in_flight.upstream(describe(&failure.error))),
            };
            is_reused = false;
            let deadline = Instant::now() + limits.connect_timeout;
            (key, sender) = self
                .connect_new(&in_flight, target, &allowed, deadline)
                .await?;
            request = outgoing.request(&sender, body)?;
        };
        let is_head = outgoing.method == Method::HEAD;
        self.receive(
            in_flight,
            response,
            is_head,
            (self.pool.clone(), key, sender),
        )
    }

    /// Waits for the response's head. The clock starts again with each piece of the request.
    async fn head(
        &self,
        in_flight: &InFlight,
        sender: &mut Sender,
        request: Request<Body>,
    ) -> Result<Result<Response<Incoming>, SendFailure>, EgressError> {
        let limits = &self.policy.limits;
        let whole = in_flight.started + limits.request_timeout;
        let mut sending = std::pin::pin!(sender.send(request));
        loop {
            let until = in_flight.progressed() + limits.head_timeout;
            tokio::select! {
                result = &mut sending => return Ok(result),
                () = tokio::time::sleep_until(until.min(whole)) => {}
            }
            if Instant::now() >= whole {
                return Err(in_flight.timed_out("the whole request", limits.request_timeout));
            }
            if in_flight.progressed() + limits.head_timeout <= Instant::now() {
                return Err(in_flight.timed_out("the response's head", limits.head_timeout));
            }
        }
    }

    /// Makes the guest's response of the server's: checks its head and its length, removes what is not for the guest, and
    /// bounds, decodes and masks the body.
    fn receive(
        &self,
        in_flight: Arc<InFlight>,
        response: Response<Incoming>,
        is_head: bool,
        connection: (Arc<Pool>, Key, Sender),
    ) -> Result<Response<Body>, EgressError> {
        let (parts, body) = response.into_parts();
        in_flight.answered(parts.status.as_u16());
        self.check_received(&in_flight, &parts, &body)?;
        let mut headers = parts.headers;
        headers::clean_response(&mut headers);
        self.secrets.mask_headers(&mut headers);
        let has_body = !is_head
            && !matches!(
                parts.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            )
            && !body.is_end_stream();
        let coding = Coding::of(&headers).filter(|_| parts.status != StatusCode::PARTIAL_CONTENT);
        if is_head {
            // What the response to GET has for the guest: no coding that is undone, and no length of one.
            if coding.is_some() {
                headers.remove(header::CONTENT_ENCODING);
            }
            if coding.is_some() || !self.secrets.is_empty() {
                headers.remove(header::CONTENT_LENGTH);
            }
        }
        let coding = coding.filter(|_| has_body);
        if coding.is_some() {
            headers.remove(header::CONTENT_ENCODING);
            headers.remove(header::CONTENT_LENGTH);
        }
        let mut body = self.received_body(in_flight, body, coding, connection);
        if has_body && !self.secrets.is_empty() {
            headers.remove(header::CONTENT_LENGTH);
            body = Masked::new(body, self.secrets.clone()).boxed_unsync();
        }
        let mut response = Response::new(body);
        *response.status_mut() = parts.status;
        *response.headers_mut() = headers;
        let reason = parts.extensions.get::<ReasonPhrase>();
        if let Some(reason) = reason.and_then(|reason| self.secrets.mask_reason(reason)) {
            response.extensions_mut().insert(reason);
        }
        Ok(response)
    }

    /// Checks that a response is one, and not larger than allowed as far as its head says.
    fn check_received(
        &self,
        in_flight: &InFlight,
        head: &response::Parts,
        body: &Incoming,
    ) -> Result<(), EgressError> {
        if head.status.is_informational() {
            return Err(in_flight.upstream("the server switched protocols unexpectedly"));
        }
        let fields = head.headers.iter();
        let bytes: usize = fields
            .map(|(name, value)| name.as_str().len() + value.len())
            .sum();
        if head.headers.len() > MAX_FIELDS || bytes > MAX_HEAD {
            return Err(in_flight.upstream("the response's header is too large"));
        }
        let limit = self.policy.limits.max_response_bytes;
        if let Some(length) = body.size_hint().exact().filter(|&n| n > limit) {
            tracing::debug!(length, "a response is larger than allowed");
            return Err(in_flight.refuse(Reason::TooLarge {
                what: "the response",
                limit,
            }));
        }
        Ok(())
    }

    /// A response's body, bounded in bytes and time, and decoded.
    fn received_body(
        &self,
        in_flight: Arc<InFlight>,
        body: Incoming,
        coding: Option<Coding>,
        connection: (Arc<Pool>, Key, Sender),
    ) -> Body {
        let limits = &self.policy.limits;
        let download = Download::new(
            body,
            in_flight.clone(),
            DownloadLimits {
                bytes: limits.max_response_bytes,
                idle: limits.idle_timeout,
                total: limits.request_timeout,
            },
            connection,
        );
        let Some(coding) = coding else {
            return download.boxed_unsync();
        };
        let bounds = DecodeLimits {
            bytes: limits.max_decoded_bytes,
            ratio: limits.max_ratio,
        };
        decode::decode(download, coding, in_flight, bounds)
    }

    async fn connect_new(
        &self,
        in_flight: &InFlight,
        target: &Target,
        allowed: &Allowed<'_>,
        deadline: Instant,
    ) -> Result<(Key, Sender), EgressError> {
        let connected = tokio::time::timeout_at(deadline, self.start(target, allowed)).await;
        let limit = self.policy.limits.connect_timeout;
        connected
            .unwrap_or_else(|_| Err(timed_out(target, "connecting", limit)))
            .map_err(|error| in_flight.fails(error))
    }

    /// Opens a connection and begins to speak HTTP over it.
    async fn start(
        &self,
        target: &Target,
        allowed: &Allowed<'_>,
    ) -> Result<(Key, Sender), EgressError> {
        let Connected {
            stream,
            address,
            form,
        } = self.connect(target, allowed, Speaks::Http).await?;
        let key = Key::new(target, address, allowed.connector);
        let sender = Sender::start(stream, form)
            .await
            .map_err(|error| EgressError::Connect {
                target: target.to_string(),
                why: describe(&error),
            })?;
        // Others may use it at once.
        if let Sender::H2(shared, task) = &sender {
            self.pool
                .keep(key.clone(), Sender::H2(shared.clone(), task.clone()));
        }
        Ok((key, sender))
    }
}

impl Outgoing {
    fn request(&self, sender: &Sender, body: Body) -> Result<Request<Body>, EgressError> {
        let mut headers = self.headers.clone();
        let authority = self.target.authority();
        let is_h2 = sender.version() == Version::HTTP_2;
        let path = Uri::builder().path_and_query(&*self.target.path);
        let uri = if is_h2 || matches!(sender.form(), Form::Absolute(_)) {
            let whole = path.scheme(self.target.scheme_name());
            whole.authority(authority.as_str()).build()
        } else {
            path.build()
        };
        if let Form::Absolute(Some(authorization)) = sender.form() {
            headers.insert(header::PROXY_AUTHORIZATION, authorization.clone());
        }
        if !is_h2 {
            let host =
                HeaderValue::try_from(authority).map_err(|error| invalid("the host", error))?;
            headers.insert(header::HOST, host);
        }
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri.map_err(|error| invalid("the URL", error))?;
        *request.headers_mut() = headers;
        Ok(request)
    }
}
