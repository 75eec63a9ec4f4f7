//! A watch as lines of JSON.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::stream::unfold;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde::Serialize;
use stockade_http::Body;
use stockade_state::{ChangeKind, Version, Watch, Watched};

/// Bytes of one chunk of lines. A line may span several.
const CHUNK: usize = 48 << 10;

#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    version: Version,
}

/// The lines of a watch. It takes the next changes only once the last ones were taken from it, and ends when the store
/// does.
pub(super) fn lines(watch: Box<dyn Watch>) -> Body {
    let waiting = VecDeque::new();
    let frames = unfold((watch, waiting), |(mut watch, mut waiting)| async {
        if waiting.is_empty() {
            let text = text(&watch.next().await?).ok()?;
            waiting.extend(text.chunks(CHUNK).map(Bytes::copy_from_slice));
        }
        let chunk = waiting.pop_front()?;
        Some((Ok(Frame::data(chunk)), (watch, waiting)))
    });
    StreamBody::new(frames).boxed_unsync()
}

/// A line for each change.
fn text(watched: &Watched) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut add = |line: &Line<'_>| -> serde_json::Result<()> {
        serde_json::to_writer(&mut text, line)?;
        text.push(b'\n');
        Ok(())
    };
    match watched {
        Watched::Changes { changes, .. } => {
            for change in changes {
                add(&Line {
                    kind: match change.kind {
                        ChangeKind::Put => "put",
                        ChangeKind::Deleted => "delete",
                        ChangeKind::Expired => "expire",
                    },
                    key: Some(change.key.as_str()),
                    version: change.version,
                })?;
            }
        }
        Watched::Lagged { version } => add(&Line {
            kind: "lagged",
            key: None,
            version: *version,
        })?,
    }
    Ok(text)
}
