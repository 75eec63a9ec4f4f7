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
#[serde(untagged)]
enum Line<'a> {
    Changes {
        changes: Vec<ChangeLine<'a>>,
        version: Version,
    },
    Lagged {
        lagged: bool,
        version: Version,
    },
}

#[derive(Serialize)]
struct ChangeLine<'a> {
    key: &'a str,
    version: Version,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// The lines of a watch. It takes the next changes only once the last ones were taken from it.
pub(super) fn lines(watch: Box<dyn Watch>) -> Lines {
    let waiting = VecDeque::new();
    Box::pin(unfold((watch, waiting), |(mut watch, mut waiting)| async {
        if waiting.is_empty() {
            let line = line(&watch.next().await?).ok()?;
            waiting.extend(line.chunks(CHUNK).map(<[u8]>::to_vec));
        }
        let chunk = waiting.pop_front()?;
        Some((chunk, (watch, waiting)))
    }))
}

fn line(watched: &Watched) -> serde_json::Result<Vec<u8>> {
    let line = match watched {
        Watched::Changes { changes, version } => Line::Changes {
            changes: changes
                .iter()
                .map(|change| ChangeLine {
                    key: change.key.as_str(),
                    version: change.version,
                    kind: match change.kind {
                        ChangeKind::Put => "put",
                        ChangeKind::Deleted => "delete",
                        ChangeKind::Expired => "expire",
                    },
                })
                .collect(),
            version: *version,
        },
        Watched::Lagged { version } => Line::Lagged {
            lagged: true,
            version: *version,
        },
    };
    let mut text = serde_json::to_vec(&line)?;
    text.push(b'\n');
    Ok(text)
}
