//! Compressed forms of files: which a client takes, and those that are made when they are asked for.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;
use std::time::SystemTime;

use async_compression::Level;
use async_compression::tokio::bufread::{BrotliEncoder, GzipEncoder};
use bytes::Bytes;
use http::HeaderMap;
use http::header;
use lru::LruCache;
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::coding::Coding;
use super::find::OpenFile;

/// Smaller files gain nothing.
const SMALLEST: u64 = 512;
/// Larger files are sent as they are: compress them beforehand.
const LARGEST: u64 = 2 << 20;
/// Files that are compressed at the same time; for others the client gets the file as it is, this time.
const AT_ONCE: usize = 2;

/// The codings that a client takes, best first (RFC 9110, section 12.5.3).
pub(super) fn accepted(headers: &HeaderMap) -> Vec<Coding> {
    let mut weights: HashMap<Coding, f32> = HashMap::new();
    let mut rest = None;
    for value in headers.get_all(header::ACCEPT_ENCODING) {
        for element in value.to_str().unwrap_or_default().split(',') {
            let mut parts = element.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts
                .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
                .map_or(Some(1.0), |weight| weight.parse::<f32>().ok())
                .unwrap_or(0.0);
            match name.as_str() {
                "br" => {
                    weights.insert(Coding::Brotli, weight);
                }
                "gzip" | "x-gzip" => {
                    weights.insert(Coding::Gzip, weight);
                }
                "*" => rest = Some(weight),
                _ => {}
            }
        }
    }
    let weight = |coding: &Coding| weights.get(coding).copied().or(rest).unwrap_or(0.0);
    let mut codings: Vec<Coding> = Coding::ALL
        .into_iter()
        .filter(|coding| weight(coding) > 0.0)
        .collect();
    codings.sort_by(|one, other| weight(other).total_cmp(&weight(one)));
    codings
}

/// Whether content of this kind gets smaller.
pub(super) fn is_compressible(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default();
    kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || matches!(
            kind,
            "application/json"
                | "application/manifest+json"
                | "application/wasm"
                | "application/xml"
                | "image/bmp"
                | "image/x-icon"
                | "image/vnd.microsoft.icon"
                | "font/ttf"
                | "font/otf"
        )
}

/// One version of a file in one form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct CacheKey {
    path: String,
    inode: u64,
    length: u64,
    modified: Option<SystemTime>,
    coding: Coding,
}

/// Compressed files, the most recently used ones within a bound of bytes.
pub(super) struct CompressedFiles {
    cache: Mutex<FileCache>,
    permits: Arc<Semaphore>,
}

struct FileCache {
    files: LruCache<CacheKey, Bytes>,
    bytes: usize,
    limit: usize,
}

impl CompressedFiles {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            cache: Mutex::new(FileCache::new(limit)),
            permits: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// The compressed form of a file; none if the file itself is sent.
    pub(super) async fn take(&self, opened: &mut OpenFile, coding: Coding) -> Option<Bytes> {
        if !(SMALLEST..=LARGEST).contains(&opened.length) {
            return None;
        }
        let key = CacheKey {
            path: opened.path.clone(),
            inode: opened.inode,
            length: opened.length,
            modified: opened.modified,
            coding,
        };
        if let Some(data) = self.cache.lock().files.get(&key) {
            return Some(data.clone());
        }
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        let file = opened.file.try_clone().ok()?;
        let length = opened.length;
        let runtime = Handle::current();
        let data = tokio::task::spawn_blocking(move || {
            let mut plain = Vec::new();
            file.take(length).read_to_end(&mut plain).ok()?;
            let whole = plain.len() as u64 == length;
            let data = runtime.block_on(compress(&plain, coding)).ok()?;
            drop(permit);
            whole.then_some(data)
        });
        let data = data.await.ok().flatten();
        // The clone and the file share their position.
        let back = std::io::Seek::rewind(&mut opened.file);
        let data = data.filter(|_| back.is_ok())?;
        self.cache.lock().keep(key, data.clone());
        Some(data)
    }
}

async fn compress(plain: &[u8], coding: Coding) -> std::io::Result<Bytes> {
    let mut data = Vec::with_capacity(plain.len() / 2);
    match coding {
        Coding::Brotli => {
            let mut encoder = BrotliEncoder::with_quality(plain, Level::Precise(5));
            encoder.read_to_end(&mut data).await?;
        }
        Coding::Gzip => {
            let mut encoder = GzipEncoder::with_quality(plain, Level::Precise(6));
            encoder.read_to_end(&mut data).await?;
        }
    }
    Ok(data.into())
}

impl FileCache {
    fn new(limit: usize) -> Self {
        Self {
            files: LruCache::unbounded(),
            bytes: 0,
            limit,
        }
    }

    fn keep(&mut self, key: CacheKey, data: Bytes) {
        if data.len() > self.limit {
            return;
        }
        self.bytes += data.len();
        if let Some(old) = self.files.put(key, data) {
            self.bytes -= old.len();
        }
        while self.bytes > self.limit
            && let Some((_, old)) = self.files.pop_lru()
        {
            self.bytes -= old.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings_are_those_that_the_client_takes() {
        let check = |value: &str, expected: &[Coding]| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, value.parse().unwrap());
            assert_eq!(accepted(&headers), expected, "{value}");
        };
        check("", &[]);
        check("identity", &[]);
        check("gzip", &[Coding::Gzip]);
        check("gzip, deflate, br, zstd", &[Coding::Brotli, Coding::Gzip]);
        check("br;q=0.5, gzip;q=0.8", &[Coding::Gzip, Coding::Brotli]);
        check("br;q=0, *", &[Coding::Gzip]);
        check("*", &[Coding::Brotli, Coding::Gzip]);
        check("*;q=0", &[]);
        check("gzip;q=nonsense", &[]);
    }

    #[test]
    fn kept_files_stay_within_their_bound() {
        let mut kept = FileCache::new(250);
        let key = |path: &str| CacheKey {
            path: path.to_owned(),
            inode: 0,
            length: 0,
            modified: None,
            coding: Coding::Gzip,
        };
        let data = Bytes::from(vec![0; 100]);
        kept.keep(key("a"), data.clone());
        kept.keep(key("b"), data.clone());
        assert!(kept.files.get(&key("a")).is_some());
        kept.keep(key("c"), data.clone());
        assert!(kept.files.get(&key("b")).is_none());
        assert!(kept.files.get(&key("a")).is_some());
        kept.keep(key("a"), data);
        assert_eq!(kept.bytes, 200);
        kept.keep(key("huge"), vec![0; 300].into());
        assert_eq!((kept.bytes, kept.files.len()), (200, 2));
    }
}
