//! Signed receipts: what one run of a guest, or one request to a site, was, and what it used.
//!
//! A receipt is a JSON object, signed as a JSON Web Signature in the compact serialization (RFC 7515) with EdDSA and
//! Ed25519 (RFC 8037). Any library for such signatures verifies it.

mod canonical;
mod jws;
mod request;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use canonical::{Sha256, canonical};
pub use jws::{ReceiptError, jwk, pem, public_key, sign, verify};
pub use request::{Answered, Asked, RequestEgress, RequestReceipt, RequestUse, Statement};

/// The version of the format of runs that is written.
pub const VERSION: u32 = 1;

/// The version of the format of requests that is written. The first one had no egress, no bytes of the request and no refusals
/// of grants.
pub const REQUEST_VERSION: u32 = 2;

/// What one run of a guest was, and what it used. Digests are SHA-256 in lower-case hexadecimal, times are RFC 3339 in
/// UTC.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// [`VERSION`] of the program that wrote it.
    pub version: u32,
    /// Random: no other receipt has it.
    pub jti: String,
    /// What was run: `exec` or `call`.
    pub command: String,
    /// The function that was called, by `call`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// The code that was run.
    pub code: Code,
    /// What the guest was allowed.
    pub policy: Policy,
    /// The digest of the arguments, as a JSON array in the canonical form.
    pub arguments_sha256: String,
    /// The programs that ran it.
    pub runtime: Runtime,
    /// When the guest was started.
    pub started: String,
    /// When nothing of it ran any more.
    pub ended: String,
    /// What it used.
    pub usage: Used,
    /// What it wanted and did not get.
    pub refused: Refused,
    /// The result.
    pub result: Outcome,
}

/// An id for a receipt: 128 random bits; `None` where the system has no random numbers.
#[must_use]
pub fn new_id() -> Option<String> {
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random).ok()?;
    Some(format!("{:032x}", u128::from_be_bytes(random)))
}

/// The code that was run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Code {
    /// The digest of `main` and `modules` of this object, in the canonical form.
    pub sha256: String,
    /// The name of the module that was run.
    pub main: String,
    /// Each module's name and the digest of its text, as it was read. Receipts of requests leave them out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<String, String>,
}

impl Code {
    /// The code that these modules are.
    #[must_use]
    pub fn new(main: &str, modules: impl IntoIterator<Item = (String, String)>) -> Self {
        let modules: BTreeMap<String, String> = modules.into_iter().collect();
        let listed: Map<String, Value> = modules
            .iter()
            .map(|(name, digest)| (name.clone(), Value::from(digest.as_str())))
            .collect();
        let whole = serde_json::json!({ "main": main, "modules": listed });
        Self {
            sha256: Sha256::of(canonical(&whole).as_bytes()),
            main: main.to_owned(),
            modules,
        }
    }
}

/// What the guest was allowed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// The digest of the whole policy, in the canonical form: `isolation`, `limits`, `grants`, `fetch`.
    pub sha256: String,
    /// The level of isolation.
    pub isolation: String,
    /// The limits.
    pub limits: Map<String, Value>,
    /// The kind of each grant, by its name.
    pub grants: BTreeMap<String, String>,
    /// The hosts and rules of `fetch`.
    pub fetch: u64,
}

/// The programs that ran it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Runtime {
    /// The version of Stockade.
    pub stockade: String,
    /// The version of V8.
    pub v8: String,
}

/// What a run used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Used {
    /// CPU time, by the kernel's clock.
    pub cpu_ms: f64,
    /// From the start to the end.
    pub elapsed_ms: f64,
    /// The most memory that its worker had, by the kernel's count; at level `thread` what was last measured.
    pub peak_memory_bytes: u64,
    /// Bytes that it printed.
    pub console_bytes: u64,
    /// Outbound requests.
    pub egress_requests: u64,
    /// Bytes that they sent.
    pub egress_sent_bytes: u64,
    /// Bytes that they received.
    pub egress_received_bytes: u64,
    /// Calls of grants.
    pub grant_calls: u64,
    /// Bytes of their arguments.
    pub grant_sent_bytes: u64,
    /// Bytes of their results.
    pub grant_received_bytes: u64,
}

/// What a run wanted and did not get.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// Outbound requests.
    pub egress: u64,
    /// Calls of grants.
    pub grants: u64,
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// `done`, or the reason for which there is no result.
    pub reason: String,
    /// The exit code of the command.
    pub exit_code: i32,
    /// The digest of the result as JSON, as the command prints it, where there is one.
    pub value_sha256: Option<String>,
    /// The digest of all that the guest printed, in its order.
    pub console_sha256: String,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn receipt() -> Receipt {
        Receipt {
            version: VERSION,
            jti: "00".repeat(16),
            command: "exec".to_owned(),
            function: None,
            code: Code::new("a.ts", [("a.ts".to_owned(), Sha256::of(b"1"))]),
            policy: Policy {
                sha256: Sha256::of(b"{}"),
                isolation: "container".to_owned(),
                limits: Map::new(),
                grants: BTreeMap::new(),
                fetch: 0,
            },
            arguments_sha256: Sha256::of(b"[]"),
            runtime: Runtime {
                stockade: "0.1.0".to_owned(),
                v8: "15.0".to_owned(),
            },
            started: "2026-11-30T12:00:00Z".to_owned(),
            ended: "2026-11-30T12:00:01Z".to_owned(),
            usage: Used {
                cpu_ms: 1.5,
                elapsed_ms: 1000.0,
                peak_memory_bytes: 1,
                console_bytes: 2,
                egress_requests: 3,
                egress_sent_bytes: 4,
                egress_received_bytes: 5,
                grant_calls: 6,
                grant_sent_bytes: 7,
                grant_received_bytes: 8,
            },
            refused: Refused {
                egress: 0,
                grants: 0,
            },
            result: Outcome {
                reason: "done".to_owned(),
                exit_code: 0,
                value_sha256: None,
                console_sha256: Sha256::of(b""),
            },
        }
    }

    #[test]
    fn code_of_other_modules_or_another_main_has_another_digest() {
        let of = |main, name: &str, text: &[u8]| {
            Code::new(main, [(name.to_owned(), Sha256::of(text))]).sha256
        };
        let digest = of("a", "a", b"1");
        assert_eq!(digest, of("a", "a", b"1"));
        for other in [of("b", "a", b"1"), of("a", "b", b"1"), of("a", "a", b"2")] {
            assert_ne!(digest, other);
        }
    }
}
