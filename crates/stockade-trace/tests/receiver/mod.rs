//! A collector: a server of hyper on loopback that decodes what it gets with the official messages of OTLP.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// What a collector received: the head, and the message.
pub(crate) type Received = (http::request::Parts, ExportTraceServiceRequest);

/// How a collector answers.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Answers {
    Accepts,
    /// It rejects this number of spans.
    RejectsSome(i64),
    /// With this status, or status of gRPC, before it accepts.
    FirstFails(u16),
    Status(u16),
    /// A body without an end.
    Floods,
    Never,
}

pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    pub(crate) received: mpsc::UnboundedReceiver<Received>,
}

impl Collector {
    pub(crate) async fn start(grpc: bool, answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, received) = mpsc::unbounded_channel();
        let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (sender, count) = (sender.clone(), Arc::clone(&count));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (sender, count) = (sender.clone(), Arc::clone(&count));
                    async move {
                        let (head, body) = request.into_parts();
                        let mut body = body.collect().await.unwrap().to_bytes();
                        if grpc {
                            let length = u32::from_be_bytes(body[1..5].try_into().unwrap());
                            assert_eq!((body[0], length as usize), (0, body.len() - 5));
                            body = body.slice(5..);
                        }
                        let message = ExportTraceServiceRequest::decode(body).unwrap();
                        // The test may be over.
                        let _ = sender.send((head, message));
                        let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        Ok::<_, Infallible>(answer(grpc, answers, number).await)
                    }
                });
                tokio::spawn(async move {
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let _ = builder
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, received }
    }

    pub(crate) async fn next(&mut self) -> Received {
        let received = tokio::time::timeout(Duration::from_secs(60), self.received.recv()).await;
        received.unwrap().unwrap()
    }
}

type AnswerBody = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

async fn answer(grpc: bool, answers: Answers, number: usize) -> Response<AnswerBody> {
    let mut message = ExportTraceServiceResponse::default();
    let mut status = 200;
    match answers {
        Answers::Accepts => {}
        Answers::RejectsSome(rejected_spans) => {
            message.partial_success = Some(ExportTracePartialSuccess {
                rejected_spans,
                error_message: "\u{1b}[31mtoo many".to_owned(),
            });
        }
        Answers::FirstFails(code) if number == 0 => status = code,
        Answers::FirstFails(_) => {}
        Answers::Status(code) => status = code,
        Answers::Floods => {
            let frames = futures_util::stream::repeat_with(|| {
                Ok(Frame::data(Bytes::from(vec![0; 1 << 16])))
            });
            return Response::new(StreamBody::new(frames).boxed_unsync());
        }
        Answers::Never => std::future::pending().await,
    }
    let mut response = BytesMut::new();
    let mut trailers = HeaderMap::new();
    if grpc {
        let code = if status == 200 { 0 } else { status };
        trailers.insert("grpc-status", HeaderValue::from(code));
        status = 200;
        response.put_u8(0);
        response.put_u32(message.encoded_len() as u32);
    }
    response.put_slice(&message.encode_to_vec());
    let mut frames = vec![Ok(Frame::data(response.freeze()))];
    if grpc {
        frames.push(Ok(Frame::trailers(trailers)));
    }
    let body = StreamBody::new(futures_util::stream::iter(frames));
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// The spans of a message.
pub(crate) fn spans(message: &ExportTraceServiceRequest) -> Vec<&Span> {
    let scopes = message
        .resource_spans
        .iter()
        .flat_map(|one| &one.scope_spans);
    scopes.flat_map(|one| &one.spans).collect()
}
