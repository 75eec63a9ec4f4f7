//! `env.STATE`: calls of a guest on its site's keyspace.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use stockade_instance::Parcel;
use stockade_protocol::{GuestError, Payload};
use stockade_state::Keyspace;
use stockade_state::wire::{self, Answer, Data, WireError};

use crate::parcel::Reply;

/// Does what the guest asks.
pub(super) async fn call(
    keyspace: Arc<dyn Keyspace>,
    method: &str,
    parcel: Parcel,
) -> Result<Parcel, GuestError> {
    let Payload {
        json,
        bytes,
        marked,
    } = parcel.payload;
    let data = Data {
        json,
        bytes,
        marked,
    };
    match wire::call(&*keyspace, method, data).await {
        Ok(Answer::Value(data)) => Ok(Payload {
            json: data.json,
            bytes: data.bytes,
            marked: data.marked,
        }
        .into()),
        Ok(Answer::Lines(lines)) => {
            let frames = lines.map(|line| Ok(Frame::data(Bytes::from(line))));
            let mut reply = Reply::default();
            let stream = reply.stream(StreamBody::new(frames).boxed_unsync());
            Ok(reply.parcel(&stream))
        }
        Err(error) => Err(told(keyspace.name().as_str(), error)),
    }
}

/// The error for the guest; what it is not told goes to the log.
fn told(site: &str, error: WireError) -> GuestError {
    if let Some(hidden) = &error.hidden {
        tracing::error!(instance = site, error = %hidden, "the shared state failed");
    }
    GuestError {
        name: error.name.to_owned(),
        ..GuestError::new(error.message)
    }
}
