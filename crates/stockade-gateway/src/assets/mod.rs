//! Files of a folder as a [`Target`] (RFC 9110, sections 8, 13 and 14).
//!
//! Invariants:
//! 1. Nothing outside the folder is served, whatever links lie in it; nor is a name that begins with a dot
//!    (except `.well-known`), nor anything but regular files.
//! 2. A file's size does not matter: it is streamed, and what is kept of compressed files is bounded.
//! 3. Reading and compressing happen on threads that may block, never on those that serve.

mod coding;
mod compress;
mod conditional;
mod find;
mod range;

use std::io::{Read, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, request};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use stockade_http::{Body, BoxError, Problem, empty_body, full_body};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use crate::target::Target;
use compress::CompressedFiles;
use conditional::{Precondition, Validators};
use find::{FolderEntry, OpenFile};
use range::Part;

/// Files up to this size are read at once, larger ones in pieces of it.
const PIECE: usize = 64 * 1024;

/// What is served, and how.
#[derive(Debug, Clone)]
pub struct AssetsOptions {
    /// The folder.
    pub folder: PathBuf,
    /// The file that stands for its folder, such as `index.html`.
    pub index: String,
    /// What is served where there is no file.
    pub fallback: Option<AssetFallback>,
    /// Whether text is compressed for clients that take it. A file with the same name and
    /// `.br` or `.gz` after it is always used.
    pub compress: bool,
    /// Bytes of compressed files that are kept.
    pub compressed_bytes: usize,
    /// The header `cache-control` of files.
    pub cache_control: Option<HeaderValue>,
    /// Further headers of files.
    pub headers: HeaderMap,
}

impl AssetsOptions {
    /// The files of a folder, with `index.html` for folders, compressed.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            index: "index.html".to_owned(),
            fallback: None,
            compress: true,
            compressed_bytes: 16 << 20,
            cache_control: None,
            headers: HeaderMap::new(),
        }
    }
}

/// What is served where there is no file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssetFallback {
    /// A file in the folder.
    pub file: String,
    /// 200 for applications that route in the browser, 404 for a page that says so.
    pub status: StatusCode,
}

/// Why a folder can't be served.
#[derive(Debug, thiserror::Error)]
pub enum AssetsError {
    /// The folder can't be opened.
    #[error(
        "cannot open the folder {folder} ({source})\n  fix: make the folder, or allow this user to read it"
    )]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The fallback is not a file in the folder.
    #[error(
        "the fallback {file:?} is not a file in {folder}\n  fix: make the file, or name another"
    )]
    Fallback {
        /// The folder.
        folder: PathBuf,
        /// The file.
        file: String,
    },
}

/// The files of a folder. A clone is the same.
#[derive(Clone)]
pub struct Assets {
    inner: Arc<AssetsInner>,
}

struct AssetsInner {
    options: AssetsOptions,
    folder: Dir,
    compressed: CompressedFiles,
}

impl Assets {
    /// Opens the folder. What is in it is looked up at each request.
    ///
    /// # Errors
    ///
    /// [`AssetsError`] if the folder or its fallback is not there.
    pub fn open(options: AssetsOptions) -> Result<Self, AssetsError> {
        let folder =
            Dir::open_ambient_dir(&options.folder, ambient_authority()).map_err(|source| {
                AssetsError::Folder {
                    folder: options.folder.clone(),
                    source,
                }
            })?;
        if let Some(fallback) = &options.fallback {
            let file = folder.metadata(&fallback.file);
            if !file.is_ok_and(|file| file.is_file()) {
                return Err(AssetsError::Fallback {
                    folder: options.folder.clone(),
                    file: fallback.file.clone(),
                });
            }
        }
        let compressed = CompressedFiles::new(options.compressed_bytes);
        Ok(Self {
            inner: Arc::new(AssetsInner {
                options,
                folder,
                compressed,
            }),
        })
    }
}

impl std::fmt::Debug for Assets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Assets")
            .field("options", &self.inner.options)
            .finish_non_exhaustive()
    }
}

impl Target for Assets {
    fn handle(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        let inner = Arc::clone(&self.inner);
        let (parts, _) = request.into_parts();
        Box::pin(async move { inner.answer(&parts).await })
    }
}

impl AssetsInner {
    async fn answer(self: &Arc<Self>, parts: &request::Parts) -> Response<Body> {
        if parts.method != Method::GET && parts.method != Method::HEAD {
            return other_method(&parts.method);
        }
        let path = find::relative(parts.uri.path());
        let codings = compress::accepted(&parts.headers);
        let ranged = parts.method == Method::GET && parts.headers.contains_key(header::RANGE);
        let inner = Arc::clone(self);
        let found = tokio::task::spawn_blocking(move || {
            // A part is a part of the file itself.
            let codings = if ranged { Vec::new() } else { codings };
            let found = match path {
                Some(path) => find::find(&inner.folder, &path, &inner.options.index, &codings),
                None => Ok(FolderEntry::Nothing),
            };
            match (found, &inner.options.fallback) {
                (Ok(FolderEntry::Nothing), Some(fallback)) => {
                    let found = find::find(
                        &inner.folder,
                        &fallback.file,
                        &inner.options.index,
                        &codings,
                    );
                    (found, fallback.status)
                }
                (found, _) => (found, StatusCode::OK),
            }
        });
        let (found, status) = match found.await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "looking for a file failed");
                return failed();
            }
        };
        match found {
            Ok(FolderEntry::File(opened)) => self.send(parts, opened, status).await,
            Ok(FolderEntry::Folder) => to_folder(&parts.uri),
            Ok(FolderEntry::Nothing) => {
                Problem::new(StatusCode::NOT_FOUND, "There is no such file.").into_response()
            }
            Err(error) => {
                let folder = self.options.folder.display();
                tracing::warn!(%folder, path = parts.uri.path(), %error, "a file cannot be read");
                failed()
            }
        }
    }

    async fn send(
        self: &Arc<Self>,
        parts: &request::Parts,
        mut opened: OpenFile,
        status: StatusCode,
    ) -> Response<Body> {
        let compressible = compress::is_compressible(&opened.content_type);
        let varies = opened.precompressed || (compressible && self.options.compress);
        let mut ready = None;
        let ranged = parts.method == Method::GET && parts.headers.contains_key(header::RANGE);
        if self.options.compress && compressible && !ranged && opened.coding.is_none() {
            let coding = compress::accepted(&parts.headers).into_iter().next();
            if let Some(coding) = coding
                && let Some(data) = self.compressed.take(&mut opened, coding).await
            {
                opened.coding = Some(coding);
                ready = Some(data);
            }
        }
        let validators = Validators::of(&opened);
        let mut response = Response::new(empty_body());
        *response.status_mut() = status;
        self.describe(response.headers_mut(), &opened, &validators, varies);
        if status == StatusCode::OK {
            match conditional::check(&parts.headers, &validators) {
                Precondition::Met => {}
                Precondition::NotModified => {
                    *response.status_mut() = StatusCode::NOT_MODIFIED;
                    response.headers_mut().remove(header::CONTENT_TYPE);
                    response.headers_mut().remove(header::CONTENT_ENCODING);
                    return response;
                }
                Precondition::Failed => {
                    let detail = "The file is not the one that the request is for.";
                    return Problem::new(StatusCode::PRECONDITION_FAILED, detail).into_response();
                }
            }
        }
        let length = ready
            .as_ref()
            .map_or(opened.length, |data| data.len() as u64);
        let mut part = Part { start: 0, length };
        if ranged
            && status == StatusCode::OK
            && conditional::range_holds(&parts.headers, &validators)
        {
            match range::read(&parts.headers, length) {
                None => {}
                Some(Err(range::Unsatisfiable)) => return unsatisfiable(length),
                Some(Ok(wanted)) => {
                    part = wanted;
                    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                    if let Ok(range) = HeaderValue::try_from(part.content_range(length)) {
                        response.headers_mut().insert(header::CONTENT_RANGE, range);
                    }
                }
            }
        }
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, part.length.into());
        if parts.method == Method::HEAD {
            return response;
        }
        *response.body_mut() = match ready {
            Some(data) => full_body(data),
            None => match body(opened, part).await {
                Ok(body) => body,
                Err(error) => {
                    let folder = self.options.folder.display();
                    tracing::warn!(%folder, path = parts.uri.path(), %error, "a file cannot be read");
                    return failed();
                }
            },
        };
        response
    }

    fn describe(
        &self,
        headers: &mut HeaderMap,
        opened: &OpenFile,
        validators: &Validators,
        varies: bool,
    ) {
        let mut insert = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        insert(header::CONTENT_TYPE, &opened.content_type);
        insert(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        insert(header::ACCEPT_RANGES, "bytes");
        insert(header::ETAG, &validators.tag.to_string());
        if let Some(modified) = validators.modified {
            insert(header::LAST_MODIFIED, &httpdate::fmt_http_date(modified));
        }
        if varies {
            insert(header::VARY, "accept-encoding");
        }
        if let Some(coding) = opened.coding {
            insert(header::CONTENT_ENCODING, coding.name());
        }
        if let Some(value) = &self.options.cache_control {
            headers.insert(header::CACHE_CONTROL, value.clone());
        }
        for (name, value) in &self.options.headers {
            headers.insert(name, value.clone());
        }
    }
}

/// The bytes of a file, or of a part of it.
async fn body(opened: OpenFile, part: Part) -> std::io::Result<Body> {
    let mut file = opened.file;
    if part.length <= PIECE as u64 {
        let data = tokio::task::spawn_blocking(move || {
            use std::io::Seek;
            if part.start > 0 {
                file.seek(SeekFrom::Start(part.start))?;
            }
            let mut data = Vec::with_capacity(usize::try_from(part.length).unwrap_or_default());
            file.take(part.length).read_to_end(&mut data)?;
            std::io::Result::Ok(data)
        });
        let data = data.await.map_err(std::io::Error::other)??;
        if data.len() as u64 != part.length {
            return Err(std::io::Error::other(
                "the file became shorter while it was read",
            ));
        }
        return Ok(full_body(Bytes::from(data)));
    }
    let mut file = tokio::fs::File::from_std(file);
    file.set_max_buf_size(PIECE);
    if part.start > 0 {
        file.seek(SeekFrom::Start(part.start)).await?;
    }
    let pieces = ReaderStream::with_capacity(file.take(part.length), PIECE);
    let frames = pieces
        .map_ok(Frame::data)
        .map_err(|error| -> BoxError { error.into() });
    Ok(StreamBody::new(frames).boxed_unsync())
}

fn other_method(method: &Method) -> Response<Body> {
    let allowed = HeaderValue::from_static("GET, HEAD, OPTIONS");
    let mut response = if method == Method::OPTIONS {
        let mut response = Response::new(empty_body());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    } else {
        let detail = "Files can only be read.";
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).into_response()
    };
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}

/// A folder's own URL ends in a slash, so that relative links in its index lead into it.
fn to_folder(uri: &http::Uri) -> Response<Body> {
    let location = match uri.query() {
        Some(query) => format!("{}/?{query}", uri.path()),
        None => format!("{}/", uri.path()),
    };
    // Two slashes would be another host.
    let Some(location) = HeaderValue::try_from(location)
        .ok()
        .filter(|_| !uri.path().starts_with("//"))
    else {
        return failed();
    };
    let mut response = Response::new(empty_body());
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(header::LOCATION, location);
    response
}

fn unsatisfiable(length: u64) -> Response<Body> {
    let detail = "The file has no such part.";
    let mut response = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, detail).into_response();
    if let Ok(range) = HeaderValue::try_from(format!("bytes */{length}")) {
        response.headers_mut().insert(header::CONTENT_RANGE, range);
    }
    response
}

fn failed() -> Response<Body> {
    let detail = "The file cannot be read.";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail).into_response()
}

#[cfg(test)]
mod tests;
