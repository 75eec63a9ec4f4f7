//! What a response states of limits (draft-ietf-httpapi-ratelimit-headers-10).

use http::HeaderValue;
use stockade_limits::{FieldText, Now, ShownLimits, Standing, push_member, push_state};

use super::limit::Limit;

/// The values of `RateLimit-Policy` and `RateLimit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RateLimitFields {
    pub(crate) policy: HeaderValue,
    pub(crate) state: HeaderValue,
}

/// The limits that a response states, and where they stand.
pub(super) enum Stated<'a> {
    None,
    Closest(Option<(&'a Limit, Standing)>),
    All(Vec<(&'a Limit, Standing)>),
}

impl<'a> Stated<'a> {
    pub(super) fn new(shown: ShownLimits) -> Self {
        match shown {
            ShownLimits::None => Self::None,
            ShownLimits::Closest => Self::Closest(None),
            ShownLimits::All => Self::All(Vec::new()),
        }
    }

    /// Adds a limit, unless it would show what other clients do.
    pub(super) fn add(&mut self, limit: &'a Limit, standing: Standing) {
        if limit.of_all {
            return;
        }
        match self {
            Self::None => {}
            Self::Closest(closest) => {
                // Of equal ones the first.
                if closest
                    .as_ref()
                    .is_none_or(|(_, other)| standing.is_closer_than(other))
                {
                    *closest = Some((limit, standing));
                }
            }
            Self::All(limits) => limits.push((limit, standing)),
        }
    }

    /// The fields; none where there is nothing to state.
    pub(super) fn fields(&self, now: Now) -> Option<RateLimitFields> {
        let limits = match self {
            Self::None => return None,
            Self::Closest(closest) => closest.as_slice(),
            Self::All(limits) => limits.as_slice(),
        };
        let mut state = FieldText::new();
        for (limit, standing) in limits {
            let left = standing.left();
            push_state(&mut state, &limit.name, limit.shown(left.units), left.reset);
        }
        Some(RateLimitFields {
            policy: policy_of(limits, now)?,
            state: HeaderValue::from_bytes(&state).ok()?,
        })
    }
}

fn policy_of(limits: &[(&Limit, Standing)], now: Now) -> Option<HeaderValue> {
    if let [(limit, _)] = limits {
        return limit.policy(now).cloned();
    }
    let mut policy = FieldText::new();
    for (limit, _) in limits {
        push_member(&mut policy, limit.policy(now)?.as_bytes());
    }
    let policy = (!policy.is_empty()).then_some(policy)?;
    HeaderValue::from_bytes(&policy).ok()
}
