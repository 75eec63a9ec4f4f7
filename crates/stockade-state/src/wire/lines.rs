//! A watch as lines of JSON.

use std::collections::VecDeque;
use std::pin::Pin;

use futures_util::Stream;
use futures_util::stream::unfold;
use serde::Serialize;

use crate::value::Version;
use crate::watch::{ChangeKind, Watch, Watched};

/// Chunks of lines, each chunk at most 48 KiB; a line may span several.
pub type Lines = Pin<Box<dyn Stream<Item = Vec<u8>> + Send>>;

const CHUNK: usize = 48 << 10;

#[derive(Serialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    version: Version,
}

/// The lines of a watch. It takes the next changes only once the last ones were taken from it.
pub(super) fn lines(watch: Box<dyn Watch>) -> Lines {
    let waiting = VecDeque::new();
    Box::pin(unfold((watch, waiting), |(mut watch, mut waiting)| async {
        if waiting.is_empty() {
            let text = text(&watch.next().await?).ok()?;
            waiting.extend(text.chunks(CHUNK).map(<[u8]>::to_vec));
        }
        let chunk = waiting.pop_front()?;
        Some((chunk, (watch, waiting)))
    }))
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
