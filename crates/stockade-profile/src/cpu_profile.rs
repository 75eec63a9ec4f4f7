//! The format `.cpuprofile`: the type `Profiler.Profile` of the DevTools protocol.

use serde::{Deserialize, Serialize};

/// Bytes of the largest profile that is read.
const MAX_PROFILE_BYTES: usize = 32 << 20;

/// A text is not a profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It is too large.
    #[error(
        "a profile of {0} bytes is above the limit of {MAX_PROFILE_BYTES}: record for a shorter time"
    )]
    TooLarge(usize),
    /// It is not in the format.
    #[error("not a CPU profile of Chrome's format: {0}")]
    Format(#[from] serde_json::Error),
}

/// Where a program spent its time, as a tree of calls and the samples that say which call was running.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CpuProfile {
    /// The tree of calls; the first node is its root.
    pub nodes: Vec<Node>,
    /// In microseconds since a moment that is the same for the whole profile.
    pub start_time: u64,
    /// In microseconds since the same moment.
    pub end_time: u64,
    /// The node that ran from each sample to the next one.
    #[serde(default)]
    pub samples: Vec<u32>,
    /// Microseconds from each sample's predecessor to the sample; the first counts from `start_time`.
    #[serde(default)]
    pub time_deltas: Vec<i64>,
}

/// A function, as called by those above it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// From 1.
    pub id: u32,
    /// What was called.
    pub call_frame: CallFrame,
    /// How many samples had it as the innermost call.
    #[serde(default)]
    pub hit_count: u32,
    /// The ids of what it called.
    #[serde(default)]
    pub children: Vec<u32>,
    /// The lines at which those samples were.
    #[serde(default)]
    pub position_ticks: Vec<PositionTick>,
}

/// A function's name and place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallFrame {
    /// Empty for a function without a name; in parentheses time outside of functions, such as `(idle)`.
    pub function_name: String,
    /// The engine's number of the script.
    pub script_id: String,
    /// The script's name, or that of the file that it was compiled from.
    pub url: String,
    /// From 0; -1 where there is none.
    pub line_number: i64,
    /// From 0; -1 where there is none.
    pub column_number: i64,
}

/// Samples at one line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionTick {
    /// From 1.
    pub line: u32,
    /// How many.
    pub ticks: u32,
}

impl CpuProfile {
    /// Reads a `.cpuprofile` file.
    ///
    /// # Errors
    /// When it is larger than 32 MiB or not in the format.
    pub fn read(text: &[u8]) -> Result<Self, ProfileError> {
        if text.len() > MAX_PROFILE_BYTES {
            return Err(ProfileError::TooLarge(text.len()));
        }
        Ok(serde_json::from_slice(text)?)
    }

    /// Microseconds in which each node was the innermost call, by the node's place in the list.
    pub(crate) fn own_times(&self) -> Vec<u64> {
        let places: std::collections::HashMap<u32, usize> = self
            .nodes
            .iter()
            .enumerate()
            .map(|(place, node)| (node.id, place))
            .collect();
        let mut own = vec![0_u64; self.nodes.len()];
        let span = self.end_time.saturating_sub(self.start_time);
        let mut at = 0_u64;
        for (index, node) in self.samples.iter().enumerate() {
            let delta = |index: usize| self.time_deltas.get(index).copied().unwrap_or(0).max(0);
            at = at.saturating_add(delta(index).unsigned_abs());
            let lasted = match index + 1 < self.samples.len() {
                true => delta(index + 1).unsigned_abs(),
                false => span.saturating_sub(at),
            };
            if let Some(own) = places.get(node).and_then(|place| own.get_mut(*place)) {
                *own = own.saturating_add(lasted);
            }
        }
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profile_of_chrome_is_read_and_written_alike() {
        let text = r#"{"nodes":[{"id":1,"callFrame":{"functionName":"(root)","scriptId":"0","url":"","lineNumber":-1,"columnNumber":-1},"hitCount":0,"children":[2]},{"id":2,"callFrame":{"functionName":"f","scriptId":"7","url":"file:///a.js","lineNumber":3,"columnNumber":10},"hitCount":2,"positionTicks":[{"line":5,"ticks":2}]}],"startTime":1000,"endTime":4000,"samples":[2,2],"timeDeltas":[500,1000]}"#;
        let profile = CpuProfile::read(text.as_bytes()).unwrap();
        assert_eq!(profile.own_times(), [0, 2500]);
        let again = serde_json::to_vec(&profile).unwrap();
        assert_eq!(CpuProfile::read(&again).unwrap(), profile);
    }

    #[test]
    fn profile_with_foreign_ids_and_times_before_its_start_counts_what_is_there() {
        let profile = CpuProfile {
            nodes: vec![Node {
                id: 1,
                ..Node::default()
            }],
            samples: vec![9, 1, 1],
            time_deltas: vec![-5, i64::MAX, -7],
            ..CpuProfile::default()
        };
        assert_eq!(profile.own_times(), [0]);
        assert!(CpuProfile::read(b"[]").is_err());
    }
}
