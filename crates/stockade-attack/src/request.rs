//! What the two halves say to each other: one line of JSON each way.

use serde::{Deserialize, Serialize};

use crate::targets::Targets;

/// What a worker is asked to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// To try the attack of this index in [`crate::attacks`].
    Attack {
        /// Its index.
        index: usize,
        /// What to aim at.
        targets: Targets,
    },
    /// To do the harmless thing of this index in [`crate::controls`].
    Control {
        /// Its index.
        index: usize,
    },
    /// To make a call that takes no pointers it could read.
    Call {
        /// Its number.
        number: i64,
        /// Its arguments.
        args: [u64; 6],
    },
    /// To send these bytes as they are and nothing else; for those who forge the protocol.
    Raw(Vec<u8>),
}

impl Request {
    /// The request as a line.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn to_line(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }
}
