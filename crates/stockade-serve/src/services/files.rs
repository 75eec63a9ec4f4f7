//! `env.FILES`: calls of a guest on a granted folder.
//!
//! Methods and their one argument: `list {path, limit?, cursor?}`, `stat {path}`,
//! `read`/`readStream {path, offset?, length?}`, `write {path, data}`, `delete {path}`,
//! `createFolder {path}`. What is not there is `null`, not an error.

use std::ops::Range;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use http_body_util::BodyExt;
use serde_json::{Map, Value, json};
use stockade_broker::{EntryKind, FileError, Folder, Metadata, WriteOptions};
use stockade_http::Body;
use stockade_instance::Parcel;
use stockade_protocol::GuestError;

use super::errors;
use crate::parcel::{Arguments, Reply, type_error};

/// Bytes that `read` gives at once; more is for `readStream`.
const MAX_READ: usize = 16 << 20;

/// Entries of one listing.
const MAX_LIST: u64 = 1000;

/// Does what the guest asks.
pub(super) async fn call(
    folder: Arc<Folder>,
    method: &str,
    parcel: Parcel,
) -> Result<Parcel, GuestError> {
    let mut arguments = Arguments::read(parcel)?;
    let mut object = arguments.object()?;
    let path = object.remove("path").unwrap_or_default();
    let path = arguments.text(path)?;
    let mut reply = Reply::default();
    let value = match method {
        "stat" => match there(folder.stat(path).await)? {
            Some(metadata) => metadata_of(&metadata),
            None => Value::Null,
        },
        "list" => {
            let cursor = object.remove("cursor").filter(|cursor| !cursor.is_null());
            let cursor = cursor.map(|cursor| arguments.text(cursor)).transpose()?;
            let limit = number(&object, "limit")?.unwrap_or(MAX_LIST).min(MAX_LIST);
            let listing = folder.list(path, cursor, limit as usize).await;
            let listing = listing.map_err(|error| errors::file(&error))?;
            let entries = listing.entries.iter().map(|entry| {
                let mut value = metadata_of(&entry.metadata);
                value["name"] = Reply::text(&entry.name);
                value
            });
            let entries: Vec<Value> = entries.collect();
            let last = listing.entries.last().filter(|_| listing.more);
            json!({ "entries": entries, "cursor": last.map(|entry| Reply::text(&entry.name)) })
        }
        "read" => match there(folder.read(path, range(&object)?).await)? {
            Some((_, body)) => {
                let bytes = whole(body).await?;
                reply.bytes(bytes)
            }
            None => Value::Null,
        },
        "readStream" => match there(folder.read(path, range(&object)?).await)? {
            Some((_, body)) => reply.stream(body),
            None => Value::Null,
        },
        "write" => {
            let data = object.remove("data").unwrap_or_default();
            let body = arguments.body(&data)?;
            let options = WriteOptions {
                create_new: object.get("createNew").and_then(Value::as_bool) == Some(true),
                make_folders: true,
            };
            let written = folder.write(path, body, options).await;
            metadata_of(&written.map_err(|error| errors::file(&error))?)
        }
        "delete" => {
            let deleted = folder.delete(path).await;
            Value::from(deleted.map_err(|error| errors::file(&error))?)
        }
        "createFolder" => {
            let made = folder.make_folder(path).await;
            made.map_err(|error| errors::file(&error))?;
            Value::Null
        }
        _ => return Err(type_error(format!("a folder has no method {method:?}"))),
    };
    Ok(reply.parcel(&value))
}

/// All bytes of a file.
async fn whole(mut body: Body) -> Result<Vec<u8>, GuestError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| GuestError::new(error.to_string()))?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > MAX_READ {
                return Err(errors::range(format!(
                    "the file has more than {} MiB, which is for readStream",
                    MAX_READ >> 20
                )));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

/// Nothing for what is not there.
fn there<T>(outcome: Result<T, FileError>) -> Result<Option<T>, GuestError> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(FileError::NotFound { .. }) => Ok(None),
        Err(error) => Err(errors::file(&error)),
    }
}

fn metadata_of(metadata: &Metadata) -> Value {
    let kind = match metadata.kind {
        EntryKind::File => "file",
        EntryKind::Folder => "folder",
    };
    let modified = metadata
        .modified
        .and_then(|modified| modified.duration_since(UNIX_EPOCH).ok())
        .map(|since| since.as_millis() as u64);
    json!({ "kind": kind, "size": metadata.size, "modified": modified })
}

fn number(object: &Map<String, Value>, key: &str) -> Result<Option<u64>, GuestError> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_u64()
            .or_else(|| {
                let whole = value.as_f64().filter(|number| number.fract() == 0.0);
                whole
                    .filter(|number| (0.0..9e15).contains(number))
                    .map(|number| number as u64)
            })
            .map(Some)
            .ok_or_else(|| type_error(format!("{key} must be a whole number from 0"))),
    }
}

fn range(object: &Map<String, Value>) -> Result<Option<Range<u64>>, GuestError> {
    let offset = number(object, "offset")?;
    let length = number(object, "length")?;
    if offset.is_none() && length.is_none() {
        return Ok(None);
    }
    let start = offset.unwrap_or(0);
    Ok(Some(
        start..length.map_or(u64::MAX, |length| start.saturating_add(length)),
    ))
}
