//! `files`: a granted folder, and `env.FILES` of a site.
//!
//! Each method takes one object. What is not there is `null`, not an error.
//!
//! | method | argument | answer |
//! |---|---|---|
//! | `list` | `{path, limit?, cursor?}` | `{entries: [{name, kind, size, modified}], cursor}` |
//! | `stat` | `{path}` | `{kind, size, modified}` or `null` |
//! | `read` | `{path, offset?, length?}` | bytes or `null` |
//! | `readStream` | `{path, offset?, length?}` | a stream of bytes or `null` |
//! | `write` | `{path, data, createNew?, offset?}`, `data` bytes or a stream | `{kind, size, modified}` |
//! | `append` | `{path, data, createNew?}` | `{kind, size, modified}` |
//! | `truncate` | `{path, length?}` | `{kind, size, modified}` |
//! | `copy` | `{path, to, createNew?}` | `{kind, size, modified}` |
//! | `rename` | `{path, to, createNew?}` | `null` |
//! | `delete` | `{path}` | whether it was there |
//! | `createFolder` | `{path}` | `null` |
//! | `watch` | `{path, recursive?}` | a stream of lines of JSON, `{kind, path}` |
//!
//! `write` with `offset`, `append` and `truncate` change a file in place; the others leave the old file or the new one.
//! Both paths of `copy` and `rename` are in the folder of the grant: there is no way to name another grant's.
//!
//! A watch is a stream, and ends when its reader cancels it, its owner ends, or the grant does.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stockade_broker::{
    Broker, ChangeKind, EntryKind, FileChange, FileChanges, FileError, Folder, FolderOptions,
    Metadata, Mode, StopChanges, WriteOptions,
};
use stockade_capability::{
    Attachments, CallContext, CallPayload, CallPlace, Capability, ErrorName, HandleCount,
    HandleLimits, HandleTable, Owner, Reply,
};
use stockade_config::{CallLimits, FileMode, FilesGrant};
use stockade_http::{Body, BoxError};
use stockade_protocol::{Attachment, GuestError};
use tokio::sync::OnceCell;

use crate::{Finding, GrantError, GrantKind, Ground};

pub(crate) const METHODS: &[&str] = &[
    "list",
    "stat",
    "read",
    "readStream",
    "write",
    "append",
    "truncate",
    "copy",
    "rename",
    "delete",
    "createFolder",
    "watch",
];
pub(crate) const EVERY_CALL: bool = false;

/// Bytes of JSON that are read for one call. The contents of files are not counted.
const MAX_ARGUMENTS: usize = 64 << 10;

/// Bytes that `read` gives at once; more is for `readStream`.
const MAX_READ: usize = 16 << 20;

/// Entries of one listing.
const MAX_LIST: u64 = 1000;

/// Watches that one mirror of a site may have open in one of its `files`.
const SITE_WATCHES: usize = 16;

/// Longer than any process runs: a watch has no deadline.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

impl GrantKind for FilesGrant {
    fn limits(&self) -> &CallLimits {
        &self.limits
    }

    fn open(&self, ground: &Ground) -> Result<Arc<dyn Capability>, GrantError> {
        Ok(Arc::new(Granted(Arc::new(Unopened {
            broker: ground.broker.clone(),
            instance: Arc::clone(&ground.instance),
            options: options(self, &ground.binding),
            folder: OnceCell::new(),
            watches: watches(self.limits.handles, ground.handles.clone()),
        }))))
    }

    fn check<'a>(&'a self, ground: &'a Ground) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(async move {
            let options = options(self, &ground.binding);
            let place = CallPlace::default();
            let opened = folder(&ground.broker, &ground.instance, options, place).await;
            let found = opened.err().map(|what| Finding {
                is_error: true,
                what,
            });
            found.into_iter().collect()
        })
    }
}

fn options(grant: &FilesGrant, binding: &str) -> FolderOptions {
    let mode = match grant.mode {
        FileMode::Read => Mode::Read,
        FileMode::Write => Mode::Write,
    };
    FolderOptions {
        storage_limit: Some(grant.storage),
        max_file_bytes: grant.max_file,
        ..FolderOptions::new(binding, grant.path.clone(), mode)
    }
}

/// Opens a folder, which counts what is in it and may take long. The text of a failure is for the operator.
async fn folder(
    broker: &Broker,
    instance: &Arc<str>,
    options: FolderOptions,
    place: CallPlace,
) -> Result<Arc<Folder>, String> {
    let (broker, instance) = (broker.clone(), Arc::clone(instance));
    let opening = tokio::task::spawn_blocking(move || {
        let _place = place;
        broker.folder(&instance, options)
    });
    match opening.await {
        Ok(opened) => opened.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// A folder that is opened by its first call.
struct Granted(Arc<Unopened>);

impl Capability for Granted {
    fn call(
        &self,
        context: CallContext,
        method: &str,
        arguments: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>> {
        let (unopened, method) = (Arc::clone(&self.0), method.to_owned());
        Box::pin(async move {
            let options = unopened.options.clone();
            let place = context.place.clone();
            let opening = || folder(&unopened.broker, &unopened.instance, options, place);
            let folder = unopened.folder.get_or_try_init(opening).await;
            let folder = folder.map_err(|why| {
                context.notes.add("failure", why.as_str());
                ErrorName::Own("OperationError").error("the folder cannot be opened")
            })?;
            let opened = Opened {
                folder: Arc::clone(folder),
                watches: Arc::clone(&unopened.watches),
            };
            opened.call(&context.owner, &method, arguments).await
        })
    }

    fn ended(&self, owner: &Owner) {
        self.0.watches.ended(owner);
    }
}

struct Unopened {
    broker: Broker,
    instance: Arc<str>,
    options: FolderOptions,
    folder: OnceCell<Arc<Folder>>,
    watches: Arc<Watches>,
}

/// What ends each watch that is open.
type Watches = HandleTable<StopChanges>;

fn watches(most: usize, count: HandleCount) -> Arc<Watches> {
    let limits = HandleLimits {
        most,
        idle: FOREVER,
        life: FOREVER,
    };
    Arc::new(HandleTable::new(limits, count))
}

/// The methods of a folder that is open.
pub struct Files(Opened);

impl Files {
    /// Grants a folder that the host has opened.
    #[must_use]
    pub fn new(folder: Arc<Folder>) -> Self {
        Self(Opened {
            folder,
            watches: watches(SITE_WATCHES, HandleCount::default()),
        })
    }
}

impl Capability for Files {
    fn call(
        &self,
        context: CallContext,
        method: &str,
        arguments: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>> {
        let (opened, method) = (self.0.clone(), method.to_owned());
        Box::pin(async move { opened.call(&context.owner, &method, arguments).await })
    }

    fn ended(&self, owner: &Owner) {
        self.0.watches.ended(owner);
    }
}

/// A folder, and the watches in it.
#[derive(Clone)]
struct Opened {
    folder: Arc<Folder>,
    watches: Arc<Watches>,
}

/// The argument of any method.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileRequest {
    path: String,
    cursor: Option<String>,
    #[serde(default)]
    limit: Value,
    #[serde(default)]
    offset: Value,
    #[serde(default)]
    length: Value,
    #[serde(default)]
    data: String,
    #[serde(default)]
    create_new: Value,
    #[serde(default)]
    recursive: Value,
    to: Option<String>,
}

impl FileRequest {
    fn options(&self) -> WriteOptions {
        WriteOptions {
            create_new: self.create_new == Value::Bool(true),
            make_folders: true,
        }
    }

    /// The second path of a method that takes two.
    fn to(&self, attachments: &Attachments) -> Result<String, GuestError> {
        let to = self
            .to
            .as_deref()
            .ok_or_else(|| ErrorName::Type.error("a second path is needed"))?;
        attachments.text(to).map(str::to_owned)
    }
}

/// An entry of a folder, as the guest gets it.
#[derive(Serialize)]
struct Entry<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Cow<'a, str>>,
    kind: &'static str,
    size: u64,
    /// In milliseconds since 1970-01-01 UTC.
    modified: Option<u64>,
}

#[derive(Serialize)]
struct Listing<'a> {
    entries: Vec<Entry<'a>>,
    cursor: Option<Cow<'a, str>>,
}

impl Opened {
    async fn call(
        self,
        owner: &Owner,
        method: &str,
        arguments: CallPayload,
    ) -> Result<CallPayload, GuestError> {
        let (request, attachments) = arguments.read::<FileRequest>(MAX_ARGUMENTS)?;
        let path = attachments.text(&request.path)?.to_owned();
        match method {
            "stat" | "list" | "read" | "readStream" => {
                look(self.folder, method, path, &request, attachments).await
            }
            "watch" => self.watch(owner, path, &request).await,
            _ => change(self.folder, method, path, &request, attachments).await,
        }
    }

    /// A stream of changes, from now on.
    async fn watch(
        self,
        owner: &Owner,
        path: String,
        request: &FileRequest,
    ) -> Result<CallPayload, GuestError> {
        let recursive = request.recursive == Value::Bool(true);
        let watching = self.folder.watch(path, recursive).await;
        let changes = watching.map_err(|error| refused(&error))?;
        let watch = Watch {
            handle: self.watches.insert(owner, changes.stop())?,
            changes,
            owner: owner.clone(),
            watches: Arc::downgrade(&self.watches),
        };
        let lines = futures_util::stream::unfold(watch, |watch| async move {
            let change = watch.changes.next().await?;
            Some((Ok::<_, BoxError>(Frame::data(line(&change))), watch))
        });
        let mut reply = Reply::default();
        let stream = reply.stream(StreamBody::new(lines).boxed_unsync());
        reply.finish(&stream)
    }
}

/// One watch that is open: its handle is closed with its stream.
struct Watch {
    changes: FileChanges,
    owner: Owner,
    handle: u64,
    watches: Weak<Watches>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(watches) = self.watches.upgrade() {
            drop(watches.remove(&self.owner, self.handle));
        }
    }
}

fn line(change: &FileChange) -> Bytes {
    let kind = match change.kind {
        ChangeKind::Create => "create",
        ChangeKind::Modify => "modify",
        ChangeKind::Remove => "remove",
        ChangeKind::Rescan => "rescan",
    };
    let mut line = json!({ "kind": kind, "path": change.path }).to_string();
    line.push('\n');
    line.into()
}

/// The methods that change nothing.
async fn look(
    folder: Arc<Folder>,
    method: &str,
    path: String,
    request: &FileRequest,
    attachments: Attachments,
) -> Result<CallPayload, GuestError> {
    let mut reply = Reply::default();
    match method {
        "stat" => {
            let metadata = there(folder.stat(path).await)?;
            reply.finish(&metadata.as_ref().map(entry))
        }
        "list" => {
            let cursor = request.cursor.as_deref();
            let cursor = cursor.map(|cursor| attachments.text(cursor)).transpose()?;
            let limit = number(&request.limit, "limit")?
                .unwrap_or(MAX_LIST)
                .min(MAX_LIST);
            let listed = folder
                .list(path, cursor.map(str::to_owned), limit as usize)
                .await
                .map_err(|error| refused(&error))?;
            let entries = listed
                .entries
                .iter()
                .map(|found| Entry {
                    name: Some(reply.text(&found.name)),
                    ..entry(&found.metadata)
                })
                .collect();
            let last = listed.entries.last().filter(|_| listed.more);
            let cursor = last.map(|last| reply.text(&last.name));
            reply.finish(&Listing { entries, cursor })
        }
        "read" => {
            let found = there(folder.read(path, range(request)?).await)?;
            let bytes: Option<Attachment> = match found {
                Some((_, body)) => Some(reply.bytes(whole(body).await?)),
                None => None,
            };
            reply.finish(&bytes)
        }
        _ => {
            let found = there(folder.read(path, range(request)?).await)?;
            let stream = found.map(|(_, body)| reply.stream(body));
            reply.finish(&stream)
        }
    }
}

/// The methods that change the folder.
async fn change(
    folder: Arc<Folder>,
    method: &str,
    path: String,
    request: &FileRequest,
    mut attachments: Attachments,
) -> Result<CallPayload, GuestError> {
    let options = request.options();
    let changed = match method {
        "write" => {
            let offset = number(&request.offset, "offset")?;
            let data = attachments.body(&request.data)?;
            match offset {
                Some(offset) => folder.write_at(path, data, offset, options).await,
                None => folder.write(path, data, options).await,
            }
        }
        "append" => {
            let data = attachments.body(&request.data)?;
            folder.append(path, data, options).await
        }
        "truncate" => {
            let size = number(&request.length, "length")?.unwrap_or(0);
            folder.truncate(path, size).await
        }
        "copy" => {
            let to = request.to(&attachments)?;
            folder.copy(path, to, options).await
        }
        "rename" => {
            let to = request.to(&attachments)?;
            let renamed = folder.rename(path, to, options).await;
            return Reply::plain(&renamed.map_err(|error| refused(&error))?);
        }
        "delete" => {
            let deleted = folder.delete(path).await;
            return Reply::plain(&deleted.map_err(|error| refused(&error))?);
        }
        "createFolder" => {
            let made = folder.make_folder(path).await;
            return Reply::plain(&made.map_err(|error| refused(&error))?);
        }
        _ => return Err(ErrorName::Type.error(format!("a folder has no method {method:?}"))),
    };
    Reply::plain(&entry(&changed.map_err(|error| refused(&error))?))
}

/// The error of a refusal, by the name that the broker gives it, with Node's code.
fn refused(error: &FileError) -> GuestError {
    ErrorName::Own(error.name()).coded(error.code(), error.to_string())
}

/// All bytes of a file.
async fn whole(mut body: Body) -> Result<Vec<u8>, GuestError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| GuestError::new(error.to_string()))?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > MAX_READ {
                return Err(ErrorName::Range.error(format!(
                    "the file has more than {} MiB, which is for readStream",
                    MAX_READ >> 20
                )));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

/// `None` for what is not there.
fn there<T>(outcome: Result<T, FileError>) -> Result<Option<T>, GuestError> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(FileError::NotFound { .. }) => Ok(None),
        Err(error) => Err(refused(&error)),
    }
}

/// An entry without its name.
fn entry(metadata: &Metadata) -> Entry<'static> {
    let modified = metadata
        .modified
        .and_then(|modified| modified.duration_since(UNIX_EPOCH).ok());
    Entry {
        name: None,
        kind: match metadata.kind {
            EntryKind::File => "file",
            EntryKind::Folder => "folder",
        },
        size: metadata.size,
        modified: modified.map(|since| since.as_millis() as u64),
    }
}

fn number(value: &Value, key: &str) -> Result<Option<u64>, GuestError> {
    if value.is_null() {
        return Ok(None);
    }
    let number = value.as_u64().or_else(|| {
        let whole = value.as_f64().filter(|number| number.fract() == 0.0);
        whole
            .filter(|number| (0.0..9e15).contains(number))
            .map(|number| number as u64)
    });
    let number = number
        .ok_or_else(|| ErrorName::Type.error(format!("{key} must be a whole number from 0")))?;
    Ok(Some(number))
}

fn range(request: &FileRequest) -> Result<Option<Range<u64>>, GuestError> {
    let offset = number(&request.offset, "offset")?;
    let length = number(&request.length, "length")?;
    if offset.is_none() && length.is_none() {
        return Ok(None);
    }
    let start = offset.unwrap_or(0);
    Ok(Some(
        start..length.map_or(u64::MAX, |length| start.saturating_add(length)),
    ))
}
