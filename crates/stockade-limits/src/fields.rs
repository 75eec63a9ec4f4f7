//! The response fields that state limits: `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).

use std::time::Duration;

use smallvec::SmallVec;

use crate::allowance::Left;

/// The limits that responses state. The draft asks for none of them: "Quota policies can be advertised by servers, but they
/// are not required to be" (section 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ShownLimits {
    /// The one that is closest to being used up.
    #[default]
    Closest,
    /// Each one.
    All,
    /// None.
    None,
}

/// Where a limit stands after a request has counted against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What is left; the time to wait where the limit refuses the request.
    pub outcome: Result<Left, Duration>,
    /// Units that may be taken at once.
    pub most: u64,
}

impl Standing {
    /// Whether the limit is closer to being used up than another one: it refuses the request, or a smaller share of it is
    /// left. Of two that refuse, and of two of which nothing is left, the one with the longer wait is.
    #[must_use]
    pub fn is_closer_than(&self, other: &Self) -> bool {
        match (self.outcome, other.outcome) {
            (Err(wait), Err(of_other)) => wait > of_other,
            (Err(_), Ok(_)) => true,
            (Ok(_), Err(_)) => false,
            (Ok(left), Ok(of_other)) if (left.units, of_other.units) == (0, 0) => {
                left.reset > of_other.reset
            }
            // The products of two numbers of 64 bits have 128.
            (Ok(left), Ok(of_other)) => {
                let share = u128::from(left.units) * u128::from(other.most);
                share < u128::from(of_other.units) * u128::from(self.most)
            }
        }
    }

    /// What a client is shown: of a limit that refuses the request nothing is left until the wait is over.
    #[must_use]
    pub fn left(&self) -> Left {
        self.outcome
            .unwrap_or_else(|reset| Left { units: 0, reset })
    }
}

/// A limit as `RateLimit-Policy` has it.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// Its name, of characters that a quoted string of structured fields has without escapes.
    pub name: &'a str,
    /// The parameter `qu` with its semicolon, such as `;qu="content-bytes"`; empty for requests.
    pub quota_unit: &'a str,
    /// Units of one window.
    pub quota: u64,
    /// Seconds.
    pub window: u64,
}

/// The text of a field while it is written. Most need no memory of their own.
pub type FieldText = SmallVec<[u8; 256]>;

/// Adds a limit to `RateLimit-Policy`.
pub fn push_policy(field: &mut FieldText, policy: &Policy<'_>) {
    push_name(field, policy.name);
    push_parameter(field, b";q=", policy.quota);
    field.extend_from_slice(policy.quota_unit.as_bytes());
    push_parameter(field, b";w=", policy.window);
}

/// Adds what is left of a limit to `RateLimit`. `reset` is when there is more.
pub fn push_state(field: &mut FieldText, name: &str, left: u64, reset: Duration) {
    push_name(field, name);
    push_parameter(field, b";r=", left);
    push_parameter(field, b";t=", whole_seconds(reset));
}

/// Adds a member that is already written to a field.
pub fn push_member(field: &mut FieldText, member: &[u8]) {
    push_separator(field);
    field.extend_from_slice(member);
}

fn push_name(field: &mut FieldText, name: &str) {
    push_separator(field);
    field.push(b'"');
    field.extend_from_slice(name.as_bytes());
    field.push(b'"');
}

fn push_separator(field: &mut FieldText) {
    if !field.is_empty() {
        field.extend_from_slice(b", ");
    }
}

fn push_parameter(field: &mut FieldText, name: &[u8], number: u64) {
    field.extend_from_slice(name);
    field.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Rounded up.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_joined_in_their_order() {
        let policy = Policy {
            name: "key",
            quota_unit: "",
            quota: 10,
            window: 60,
        };
        let bytes = Policy {
            name: "address",
            quota_unit: ";qu=\"content-bytes\"",
            ..policy
        };
        let (mut policies, mut state) = (FieldText::new(), FieldText::new());
        for policy in [policy, bytes] {
            let mut member = FieldText::new();
            push_policy(&mut member, &policy);
            push_member(&mut policies, &member);
            push_state(&mut state, policy.name, 3, Duration::from_millis(1001));
        }
        let text = |field: FieldText| String::from_utf8(field.into_vec()).unwrap();
        assert_eq!(
            text(policies),
            "\"key\";q=10;w=60, \"address\";q=10;qu=\"content-bytes\";w=60"
        );
        assert_eq!(text(state), "\"key\";r=3;t=2, \"address\";r=3;t=2");
    }

    fn left(units: u64, most: u64, seconds: u64) -> Standing {
        let reset = Duration::from_secs(seconds);
        Standing {
            outcome: Ok(Left { units, reset }),
            most,
        }
    }

    fn refused(seconds: u64) -> Standing {
        Standing {
            outcome: Err(Duration::from_secs(seconds)),
            most: 10,
        }
    }

    #[test]
    fn limit_of_which_the_smaller_share_is_left_is_closer() {
        let check = |closer: Standing, other: Standing| {
            assert!(closer.is_closer_than(&other), "{closer:?} {other:?}");
            assert!(!other.is_closer_than(&closer), "{closer:?} {other:?}");
        };
        check(left(50, 1000, 1), left(9, 10, 9));
        check(left(0, 10, 1), left(1, u64::MAX, 9));
        // No product of a share overflows, and none is rounded.
        check(
            left(u64::MAX - 1, u64::MAX, 1),
            left(u64::MAX - 1, u64::MAX - 1, 1),
        );
        check(
            left(u64::MAX - 2, u64::MAX, 1),
            left(u64::MAX - 1, u64::MAX, 1),
        );
        // A limit that refuses is what the client has to know, also if another one has no whole unit left.
        check(refused(1), left(0, 10, 3600));
        check(refused(2), refused(1));
        check(left(0, 10, 2), left(0, 1000, 1));
    }

    #[test]
    fn equal_shares_are_equally_close() {
        for (one, other) in [
            (left(5, 10, 1), left(500, 1000, 9)),
            (left(10, 10, 1), left(u64::MAX, u64::MAX, 9)),
            (left(0, 10, 3), left(0, 1000, 3)),
            (refused(3), refused(3)),
        ] {
            assert!(!one.is_closer_than(&other), "{one:?} {other:?}");
            assert!(!other.is_closer_than(&one), "{one:?} {other:?}");
        }
    }
}
