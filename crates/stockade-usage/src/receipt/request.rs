//! Receipts of requests that `stockade serve` answered.

use serde::{Deserialize, Serialize};

use super::{Code, Policy, Receipt, Runtime};

/// What one request of a client to a site was, and what it used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestReceipt {
    /// [`super::REQUEST_VERSION`] of the program that wrote it.
    pub version: u32,
    /// Random: no other receipt has it. The response has it as `stockade-receipt`.
    pub jti: String,
    /// `serve`.
    pub command: String,
    /// The instance that answered.
    pub instance: String,
    /// The code that it runs, without the digest of each module.
    pub code: Code,
    /// What the instance is allowed.
    pub policy: Policy,
    /// The programs that ran it.
    pub runtime: Runtime,
    /// What was asked.
    pub request: Asked,
    /// When the request came.
    pub started: String,
    /// When the response was sent and the guest was done with the request.
    pub ended: String,
    /// What it used.
    pub usage: RequestUse,
    /// Outbound requests and connections that a rule or a limit refused to the guest while it worked on this request alone.
    pub refused: u64,
    /// Calls of grants that a rule or a limit refused to it in the same way; `None` in version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_grants: Option<u64>,
    /// What was answered.
    pub result: Answered,
}

/// What a client asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// The request's id, as logs and `x-request-id` have it.
    pub id: String,
    /// Its method.
    pub method: String,
    /// The digest of its URL.
    pub url_sha256: String,
}

/// What a request used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestUse {
    /// Its share of the CPU time of its mirror, by the kernel's clock.
    pub cpu_ms: f64,
    /// From its head to the end.
    pub elapsed_ms: f64,
    /// Bytes of the response's body.
    pub sent_bytes: u64,
    /// Bytes of the request's body that were received; `None` in version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_bytes: Option<u64>,
    /// What the guest sent and received while it worked on this request alone; `None` in version 1.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<RequestEgress>,
}

/// Outbound requests and connections of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestEgress {
    /// How many were begun.
    pub egress_requests: u64,
    /// Bytes of bodies and messages that they sent.
    pub egress_sent_bytes: u64,
    /// Bytes of bodies and messages that they received.
    pub egress_received_bytes: u64,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// Whether the response's body was sent to its end.
    pub complete: bool,
}

/// What a receipt states.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Statement {
    /// The receipt of a run of `exec` or `call`.
    Run(Box<Receipt>),
    /// The receipt of a request that `serve` answered.
    Request(Box<RequestReceipt>),
}

impl From<Receipt> for Statement {
    fn from(receipt: Receipt) -> Self {
        Self::Run(Box::new(receipt))
    }
}

impl From<RequestReceipt> for Statement {
    fn from(receipt: RequestReceipt) -> Self {
        Self::Request(Box::new(receipt))
    }
}
