//! From the wire's form of a response body to the guest's: decompression within bounds, and
//! placeholders for secrets that a server echoes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_compression::tokio::bufread::{BrotliDecoder, DeflateDecoder, GzipDecoder};
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;
use http::header::{self, HeaderMap};
use http_body::{Body as HttpBody, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use stockade_http::{Body, BoxError};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _};
use tokio_util::io::StreamReader;

use crate::audit::Reason;
use crate::in_flight::InFlight;
use crate::secrets::Secrets;

/// Below this size no ratio is an attack.
const FREE: u64 = 1024 * 1024;
/// Bytes that are decompressed at once.
const PIECE: usize = 16 * 1024;

/// A content coding (RFC 9110, 8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Brotli,
    Deflate,
}

impl Coding {
    /// The coding of a body that can be undone. Others, and several at once, are left to the guest.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
        let value = values.next()?.to_str().ok()?.trim().to_ascii_lowercase();
        match (value.as_str(), values.next()) {
            ("gzip" | "x-gzip", None) => Some(Self::Gzip),
            ("br", None) => Some(Self::Brotli),
            ("deflate", None) => Some(Self::Deflate),
            _ => None,
        }
    }
}

/// Bounds of decompression.
#[derive(Clone, Copy)]
pub(crate) struct DecodeLimits {
    pub(crate) bytes: u64,
    pub(crate) ratio: u32,
}

/// Decompresses a body. What it grows to is counted as it grows.
pub(crate) fn decode<B>(
    body: B,
    coding: Coding,
    in_flight: Arc<InFlight>,
    limits: DecodeLimits,
) -> Body
where
    B: HttpBody<Data = Bytes, Error = BoxError> + Send + Unpin + 'static,
{
    let bytes = body.into_data_stream().map_err(io::Error::other);
    let mut reader = StreamReader::new(bytes);
    let decoding = async move {
        let decoder: Box<dyn Decoder> = match coding {
            Coding::Gzip => {
                let mut decoder = GzipDecoder::new(reader);
                decoder.multiple_members(true);
                Box::new(decoder)
            }
            Coding::Brotli => Box::new(BrotliDecoder::new(reader)),
            Coding::Deflate => {
                let skipped = skip_zlib_header(&mut reader).await;
                skipped.map_err(|error| undone(error, &in_flight))?;
                Box::new(DeflateDecoder::new(reader))
            }
        };
        let decoding = Decoding {
            decoder,
            in_flight,
            limits,
            total: 0,
        };
        Ok::<_, BoxError>(futures_util::stream::try_unfold(decoding, Decoding::next))
    };
    StreamBody::new(futures_util::stream::once(decoding).try_flatten()).boxed_unsync()
}

/// A body that is being decompressed.
struct Decoding {
    decoder: Box<dyn Decoder>,
    in_flight: Arc<InFlight>,
    limits: DecodeLimits,
    total: u64,
}

impl Decoding {
    async fn next(mut self) -> Result<Option<(Frame<Bytes>, Self)>, BoxError> {
        let piece = piece(&mut *self.decoder).await;
        let Some(piece) = piece.map_err(|error| undone(error, &self.in_flight))? else {
            return Ok(None);
        };
        self.total += piece.len() as u64;
        let DecodeLimits {
            bytes: limit,
            ratio,
        } = self.limits;
        if self.total > limit {
            let what = "the decompressed response";
            return Err(self
                .in_flight
                .refuse(Reason::TooLarge { what, limit })
                .into());
        }
        let allowed = self.in_flight.received().saturating_mul(u64::from(ratio));
        if self.total > allowed.saturating_add(FREE) {
            return Err(self
                .in_flight
                .refuse(Reason::DecompressionBomb { ratio })
                .into());
        }
        Ok(Some((Frame::data(piece), self)))
    }
}

/// A decoder over the bytes of a body.
trait Decoder: AsyncRead + Send + Unpin {
    fn source(&mut self) -> &mut (dyn AsyncBufRead + Send + Unpin);
}

macro_rules! decoders {
    ($($name:ident),*) => {$(
        impl<R: AsyncBufRead + Send + Unpin> Decoder for $name<R> {
            fn source(&mut self) -> &mut (dyn AsyncBufRead + Send + Unpin) {
                self.get_mut()
            }
        }
    )*};
}

decoders!(GzipDecoder, BrotliDecoder, DeflateDecoder);

/// The next piece. At the end what follows the compressed data is read and dropped, so that the
/// connection can be used again.
async fn piece(decoder: &mut dyn Decoder) -> io::Result<Option<Bytes>> {
    let mut piece = BytesMut::with_capacity(PIECE);
    if decoder.read_buf(&mut piece).await? > 0 {
        return Ok(Some(piece.freeze()));
    }
    let source = decoder.source();
    loop {
        let length = source.fill_buf().await?.len();
        if length == 0 {
            return Ok(None);
        }
        source.consume(length);
    }
}

/// The body's own error if there is one behind it, else what the decoder says.
fn undone(error: io::Error, in_flight: &InFlight) -> BoxError {
    if let Some(failure) = in_flight.failure() {
        return failure.into();
    }
    in_flight
        .upstream(format!("the response does not decompress: {error}"))
        .into()
}

/// `deflate` means zlib (RFC 9110, 8.4.1.2), yet some send it bare. The first two bytes show which (RFC 1950, 2.2).
async fn skip_zlib_header<R>(reader: &mut R) -> io::Result<()>
where
    R: tokio::io::AsyncBufRead + Unpin,
{
    let first = match reader.fill_buf().await?.first() {
        Some(&first) => first,
        None => return Ok(()),
    };
    // Method 8 with a window of up to 32 KiB. A bare stream begins like this only with an empty or
    // stored block whose padding is not zero, which no encoder writes.
    if first & 0x0f == 8 && first >> 4 <= 7 {
        reader.consume(1);
        if !reader.fill_buf().await?.is_empty() {
            reader.consume(1);
        }
    }
    Ok(())
}

/// Puts placeholders back where a server echoes the values of secrets.
pub(crate) struct Masked {
    inner: Body,
    secrets: Secrets,
    /// The end of what came, which may be the beginning of a value.
    held: Vec<u8>,
    is_over: bool,
}

impl Masked {
    pub(crate) fn new(inner: Body, secrets: Secrets) -> Self {
        Self {
            inner,
            secrets,
            held: Vec::new(),
            is_over: false,
        }
    }
}

impl HttpBody for Masked {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            if this.is_over {
                let held = std::mem::take(&mut this.held);
                return Poll::Ready((!held.is_empty()).then(|| Ok(Frame::data(held.into()))));
            }
            let data = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(_) => continue,
                },
                Some(Err(error)) => {
                    this.is_over = true;
                    this.held.clear();
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    this.is_over = true;
                    continue;
                }
            };
            let is_plain = this.held.is_empty();
            let mut text = std::mem::take(&mut this.held);
            text.extend_from_slice(&data);
            let masked = this.secrets.mask(&text);
            let is_plain = is_plain && masked.is_none();
            let mut out = masked.unwrap_or(text);
            let partial = this.secrets.partial(&out);
            if is_plain && partial == 0 {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            this.held = out.split_off(out.len() - partial);
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out.into()))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over && self.held.is_empty()
    }
}
