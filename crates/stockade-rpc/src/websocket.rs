//! A WebSocket: each message is a request or a batch, as the body of an HTTP request would be.
//!
//! Invariant: at most [`MESSAGES`] messages of a client are in work or wait to be sent to it. Beyond that
//! nothing is read, so a client that does not read its replies holds up itself.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use jsonrpsee::core::server::MethodResponse;
use jsonrpsee::server::{HttpBody, HttpRequest, HttpResponse};
use jsonrpsee::types::Id;
use jsonrpsee::types::error::reject_too_big_request;
use soketto::connection::Error;
use soketto::data::ByteSlice125;
use soketto::handshake::http::Server;
use stockade_callers::Caller;
use tokio::io::BufStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, timeout};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use crate::answer::{answer, is_silent, text};
use crate::client::Client;
use crate::error;
use crate::methods::ServerContext;

/// Messages of one client that are in work at the same time.
const MESSAGES: usize = 32;

/// How often a client is asked whether it is still there, and how long it may be silent.
const PING: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_secs(90);

/// For one message to be taken by the client.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

type Socket = Compat<BufStream<TokioIo<Upgraded>>>;

/// A reply, and its place among the messages in work.
struct QueuedReply {
    text: String,
    _place: Option<OwnedSemaphorePermit>,
}

/// Answers the handshake; the connection goes on as a WebSocket.
pub(crate) fn open(
    client: Arc<Client>,
    caller: Option<Caller>,
    request: HttpRequest<Incoming>,
) -> HttpResponse {
    let mut server = Server::new();
    match server.receive_request(&request) {
        Ok(response) => {
            tokio::spawn(async move {
                match hyper::upgrade::on(request).await {
                    Ok(upgraded) => run(server, upgraded, &client, caller).await,
                    Err(error) => {
                        tracing::debug!("a connection did not become a WebSocket: {error}")
                    }
                }
            });
            response.map(|()| HttpBody::empty())
        }
        Err(error) => {
            tracing::debug!("a WebSocket handshake failed: {error}");
            text(
                StatusCode::BAD_REQUEST,
                "this is not a WebSocket handshake\n",
            )
        }
    }
}

async fn run(server: Server, upgraded: Upgraded, client: &Client, caller: Option<Caller>) {
    let socket = BufStream::new(TokioIo::new(upgraded)).compat();
    let mut builder = server.into_builder(socket);
    builder.set_max_message_size(client.shared.limits.request_bytes as usize);
    let (sender, receiver) = builder.finish();
    let (replies, to_send) = mpsc::channel(MESSAGES);
    let writer = tokio::spawn(write(sender, to_send));
    read(receiver, replies, client, caller.as_ref()).await;
    // It ends with its last reply, or when the client does not take it.
    let _ = writer.await;
}

/// Reads messages until the client leaves or the server comes to its end, which waits for the replies.
async fn read(
    mut receiver: soketto::Receiver<Socket>,
    replies: mpsc::Sender<QueuedReply>,
    client: &Client,
    caller: Option<&Caller>,
) {
    let credential_ends = async {
        match caller {
            Some(caller) => caller.until_invalid().await,
            None => std::future::pending().await,
        }
    };
    let mut credential_ends = pin!(credential_ends);
    let places = Arc::new(Semaphore::new(MESSAGES));
    let mut answers = JoinSet::new();
    loop {
        while answers.try_join_next().is_some() {}
        let mut message = Vec::new();
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (
                place,
                timeout(SILENCE, receiver.receive(&mut message)).await,
            )
        };
        let (place, received) = tokio::select! {
            next = next => next,
            () = replies.closed() => return,
            () = client.stopped() => break,
            () = &mut credential_ends => {
                // What is in work is not answered any more.
                answers.abort_all();
                let text = MethodResponse::error(Id::Null, error::key_ended()).to_string();
                let _ = replies.send(QueuedReply { text, _place: None }).await;
                break;
            }
        };
        match received {
            Ok(Ok(soketto::Incoming::Data(_))) => {
                let (shared, replies) = (Arc::clone(&client.shared), replies.clone());
                let caller = caller.cloned();
                answers.spawn(async move {
                    if let Some(text) = reply_to(&shared, caller, message).await {
                        // Who is gone needs none.
                        let _ = replies
                            .send(QueuedReply {
                                text,
                                _place: place,
                            })
                            .await;
                    }
                });
            }
            Ok(Ok(soketto::Incoming::Pong(_))) => {}
            Ok(Err(Error::MessageTooLarge { .. })) => {
                let error = reject_too_big_request(client.shared.limits.request_bytes);
                let text = MethodResponse::error(Id::Null, error).to_string();
                let _ = replies
                    .send(QueuedReply {
                        text,
                        _place: place,
                    })
                    .await;
                break;
            }
            Ok(Ok(soketto::Incoming::Closed(_)) | Err(_)) | Err(_) => return,
        }
    }
    while answers.join_next().await.is_some() {}
}

async fn reply_to(
    shared: &Arc<ServerContext>,
    caller: Option<Caller>,
    message: Vec<u8>,
) -> Option<String> {
    let mut request = HttpRequest::new(HttpBody::from(message));
    *request.method_mut() = hyper::Method::POST;
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(CONTENT_TYPE, json);
    let response = answer(shared, caller, request).await;
    if is_silent(&response) {
        return None;
    }
    let body = response.into_body().collect().await.ok()?.to_bytes();
    String::from_utf8(body.into()).ok()
}

/// Sends replies until there can be no more, then says goodbye.
async fn write(mut sender: soketto::Sender<Socket>, mut replies: mpsc::Receiver<QueuedReply>) {
    let mut ping = interval_at(Instant::now() + PING, PING);
    loop {
        let sending = tokio::select! {
            reply = replies.recv() => match reply {
                Some(reply) => timeout(SEND_TIMEOUT, send(&mut sender, Some(reply))).await,
                None => break,
            },
            _ = ping.tick() => timeout(SEND_TIMEOUT, send(&mut sender, None)).await,
        };
        match sending {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
    // Who is gone needs none.
    let _ = timeout(Duration::from_secs(1), sender.close()).await;
}

async fn send(
    sender: &mut soketto::Sender<Socket>,
    reply: Option<QueuedReply>,
) -> Result<(), Error> {
    match reply {
        Some(reply) => sender.send_text_owned(reply.text).await?,
        None => {
            let nothing = ByteSlice125::try_from(&[][..]).map_err(|_| Error::Closed)?;
            sender.send_ping(nothing).await?;
        }
    }
    sender.flush().await
}
