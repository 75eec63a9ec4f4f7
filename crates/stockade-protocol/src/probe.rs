//! What an operator asks of a running isolate, and what comes back.
//!
//! Orders go past the queue of messages, so that a guest that computes is asked, too. Nothing that a guest calls makes
//! an order or a finding.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::json;

/// Names a probe of one isolate, from 1. Each is used once.
pub type ProbeId = u32;

/// The first probe: of an isolate that is recorded from its start, that recording.
pub const FIRST_PROBE: ProbeId = 1;

/// What is to be found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    /// Where the CPU time goes from now until [`ProbeOrder::Stop`]: a `.cpuprofile`.
    CpuProfile,
    /// What the heap holds now: a `.heapsnapshot`.
    HeapSnapshot {
        /// Bytes of memory above its limit that the worker may use until all has come, as its supervisor grants them.
        more: u64,
    },
    /// How large the heap is now: [`HeapStatistics`] as JSON.
    HeapStatistics,
    /// A debugger's session until [`ProbeOrder::Stop`], of an isolate that was created for it. Its messages go there as
    /// [`ToWorker::Debug`](crate::frame::ToWorker::Debug).
    Debugger,
}

/// What the isolate's runtime is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeOrder {
    /// Begins a probe.
    Start(Probe),
    /// Ends a probe that lasts, and has its findings sent.
    Stop,
}

/// What a probe comes to. Hostile: see the crate's invariants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The next bytes of the result, at most [`MAX_FINDING_BYTES`](crate::bounds::MAX_FINDING_BYTES).
    Piece(Vec<u8>),
    /// A message to a debugger is complete: the pieces since the last one are its text.
    Message,
    /// All of it has come.
    Done,
    /// Why there is no result; at most [`MAX_ERROR_BYTES`](crate::bounds::MAX_ERROR_BYTES).
    Failed(String),
}

/// How large a heap is and of what it consists. All sizes are bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeapStatistics {
    /// Objects, garbage included.
    pub used_heap: u64,
    /// What V8 has of the operating system for them.
    pub total_heap: u64,
    /// The same, as far as it is in memory.
    pub total_physical: u64,
    /// Machine code and what belongs to it, as far as it may be executed.
    pub total_executable: u64,
    /// How large the heap may become.
    pub heap_limit: u64,
    /// What V8 uses outside of the heap, by its own allocator.
    pub malloced: u64,
    /// The most that this ever was.
    pub peak_malloced: u64,
    /// ArrayBuffers, WebAssembly memory and what else the heap's objects hold elsewhere.
    pub external: u64,
    /// Global objects; one is the guest's.
    pub native_contexts: u64,
    /// Global objects that were left and are still held.
    pub detached_contexts: u64,
    /// All that counts against the isolate's memory limit, which also is what Rust code holds for the guest.
    pub held: u64,
    /// The parts of the heap.
    pub spaces: Vec<HeapSpace>,
}

/// One part of a heap. All sizes are bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeapSpace {
    /// Such as `old_space`.
    pub name: String,
    /// Objects, garbage included.
    pub used: u64,
    /// What is left for more of them.
    pub available: u64,
    /// All of it.
    pub size: u64,
    /// The same, as far as it is in memory.
    pub physical: u64,
}

impl HeapStatistics {
    /// Reads what a worker wrote.
    ///
    /// # Errors
    /// When it is not in the format or has more spaces, or longer names, than an honest one.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        const MOST_SPACES: usize = 64;
        const MOST_NAME: usize = 64;
        let read: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let honest = |name: &str| {
            name.len() <= MOST_NAME && name.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if read.spaces.len() > MOST_SPACES || !read.spaces.iter().all(|space| honest(&space.name)) {
            return Err("the names of the heap's parts are not V8's".to_owned());
        }
        Ok(read)
    }
}

/// The answer to a debugger's message that asks for what V8 cannot do in a sealed worker, if it is one: V8's profiler starts
/// a thread, and ends the process where it cannot.
#[must_use]
pub fn refused_in_worker(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Request<'a> {
        id: i64,
        #[serde(borrow)]
        method: Cow<'a, str>,
    }
    let Request { id, method } = serde_json::from_str(text).ok()?;
    let answer = match method.strip_prefix("Profiler.")? {
        "enable" | "disable" | "setSamplingInterval" => json!({ "id": id, "result": {} }),
        _ => {
            let message = "a worker has no thread for V8's profiler: isolate.cpuProfile records a CPU profile";
            json!({ "id": id, "error": { "code": -32000, "message": message } })
        }
    };
    Some(answer.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiler_of_v8_is_refused_in_a_worker_and_nothing_else() {
        let start = refused_in_worker(r#"{"id":7,"method":"Profiler.start"}"#).unwrap();
        assert!(
            start.contains("-32000") && start.contains("\"id\":7"),
            "{start}"
        );
        let enable = r#"{"id":8,"method":"Profiler.en\u0061ble","params":{}}"#;
        assert_eq!(
            refused_in_worker(enable).unwrap(),
            r#"{"id":8,"result":{}}"#
        );
        for text in [r#"{"id":1,"method":"Debugger.enable"}"#, "{", r#"{"id":1}"#] {
            assert_eq!(refused_in_worker(text), None);
        }
    }

    #[test]
    fn statistics_are_read_as_written_and_hostile_names_are_not() {
        let mut statistics = HeapStatistics {
            used_heap: 7,
            spaces: vec![HeapSpace {
                name: "old_space".to_owned(),
                ..HeapSpace::default()
            }],
            ..HeapStatistics::default()
        };
        let text = serde_json::to_vec(&statistics).unwrap();
        assert_eq!(HeapStatistics::read(&text), Ok(statistics.clone()));
        statistics.spaces[0].name = "\u{1b}[2J".to_owned();
        assert!(HeapStatistics::read(&serde_json::to_vec(&statistics).unwrap()).is_err());
        statistics.spaces = vec![HeapSpace::default(); 65];
        assert!(HeapStatistics::read(&serde_json::to_vec(&statistics).unwrap()).is_err());
    }
}
