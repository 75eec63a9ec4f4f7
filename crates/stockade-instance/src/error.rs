//! Why a request has no response of the guest.

use std::time::Duration;

use http::StatusCode;
use stockade_http::Problem;
use stockade_protocol::GuestError;
use stockade_supervisor::End;
use strum::{IntoStaticStr, VariantNames};

/// Why there was no place for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Refusal {
    /// As many requests wait as may.
    QueueFull,
    /// No mirror had room within the time a request may wait.
    #[strum(serialize = "queue_wait")]
    WaitedTooLong,
    /// The instance takes no more requests.
    Draining,
}

impl Refusal {
    /// For logs and labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Why a request has no response of the guest. The text is for logs; clients get
/// [`FetchError::public_message`].
#[derive(Debug, Clone, thiserror::Error, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum FetchError {
    /// All mirrors have as many requests as they may, and so has the queue.
    #[error("no room for the request ({}); retry after {} s", .refusal.name(), .retry_after.as_secs())]
    Busy {
        /// When to try again.
        retry_after: Duration,
        /// What was full.
        refusal: Refusal,
    },
    /// No mirror runs, for the last one could not be started.
    #[error("no mirror runs: {why}")]
    NotStarted {
        /// Why the last attempt failed.
        why: String,
        /// When the next attempt is due.
        retry_after: Duration,
    },
    /// The guest gave no response in time.
    #[error("no response within {} ms", .limit.as_millis())]
    TimedOut {
        /// The limit.
        limit: Duration,
    },
    /// The mirror ended before it responded.
    #[error("the mirror ended before it responded: {end}")]
    Ended {
        /// How.
        end: End,
    },
    /// The guest's handler threw.
    #[error("the handler threw {0}")]
    Threw(GuestError),
    /// The guest's response is none that HTTP allows, or is over a limit.
    #[error("the guest's response was refused: {why}")]
    BadResponse {
        /// What is wrong with it.
        why: String,
    },
    /// The request's body is larger than the limit.
    #[error("the request's body is larger than {limit} bytes")]
    RequestTooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The request's own body failed, or its sender went away.
    #[error("the client went away")]
    ClientGone,
    /// The instance takes no more requests.
    #[error("the instance is draining")]
    Draining,
}

impl FetchError {
    /// The status that a client gets.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Busy { .. } | Self::NotStarted { .. } | Self::Draining => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Ended { .. } | Self::BadResponse { .. } => StatusCode::BAD_GATEWAY,
            Self::Threw(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::RequestTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            // Nobody sees it; nginx's number, for logs.
            Self::ClientGone => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        }
    }

    /// What a client may read. Holds nothing of the guest's and nothing of the machine's.
    #[must_use]
    pub fn public_message(&self) -> &'static str {
        match self {
            Self::Busy { .. } => "The site is busy. Try again shortly.",
            Self::NotStarted { .. } => "The site is not running at the moment. Try again shortly.",
            Self::Draining => "The site is being replaced. Try again shortly.",
            Self::TimedOut { .. } => "The site did not respond in time.",
            Self::Ended { .. } => "The site stopped before it responded.",
            Self::BadResponse { .. } => "The site's response was not valid.",
            Self::Threw(_) => "The site failed to handle the request.",
            Self::RequestTooLarge { .. } => "The request's body is too large.",
            Self::ClientGone => "The client closed the request.",
        }
    }

    /// When a client may try again, for `Retry-After` (RFC 9110, section 10.2.3).
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } | Self::NotStarted { retry_after, .. } => {
                Some(*retry_after)
            }
            Self::Draining => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// The response that a client gets.
    #[must_use]
    pub fn problem(&self) -> Problem {
        Problem {
            retry_after: self.retry_after(),
            ..Problem::new(self.status(), self.public_message())
        }
    }

    /// For labels of metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.into()
    }
}
