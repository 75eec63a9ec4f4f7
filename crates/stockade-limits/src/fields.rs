//! The response fields that state limits: `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).

use std::time::Duration;

/// A limit as a client is shown it.
#[derive(Clone, Copy, Debug)]
pub struct ShownLimit<'a> {
    /// Its name, of characters that a quoted string of structured fields has without escapes.
    pub name: &'a str,
    /// The parameter `qu` with its semicolon, such as `;qu="content-bytes"`; empty for requests.
    pub quota_unit: &'a str,
    /// Units of one window.
    pub quota: u64,
    /// Seconds.
    pub window: u64,
    /// Units that are left.
    pub left: u64,
    /// When there are more.
    pub reset: Duration,
}

/// The values of both fields; `None` without a limit.
pub fn rate_limit_fields<'a>(
    limits: impl Iterator<Item = ShownLimit<'a>>,
) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mut policy, mut state) = (Vec::new(), Vec::new());
    for limit in limits {
        for field in [&mut policy, &mut state] {
            if field.is_empty() {
                field.reserve(128);
            } else {
                field.extend_from_slice(b", ");
            }
            field.push(b'"');
            field.extend_from_slice(limit.name.as_bytes());
            field.push(b'"');
        }
        push(&mut policy, b";q=", limit.quota);
        policy.extend_from_slice(limit.quota_unit.as_bytes());
        push(&mut policy, b";w=", limit.window);
        push(&mut state, b";r=", limit.left);
        push(&mut state, b";t=", whole_seconds(limit.reset));
    }
    (!policy.is_empty()).then_some((policy, state))
}

fn push(field: &mut Vec<u8>, name: &[u8], number: u64) {
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
    fn fields_have_all_limits_in_their_order() {
        let limit = ShownLimit {
            name: "key",
            quota_unit: "",
            quota: 10,
            window: 60,
            left: 3,
            reset: Duration::from_millis(1001),
        };
        let bytes = ShownLimit {
            name: "address",
            quota_unit: ";qu=\"content-bytes\"",
            ..limit
        };
        let (policy, state) = rate_limit_fields([limit, bytes].into_iter()).unwrap();
        assert_eq!(
            String::from_utf8(policy).unwrap(),
            "\"key\";q=10;w=60, \"address\";q=10;qu=\"content-bytes\";w=60"
        );
        assert_eq!(
            String::from_utf8(state).unwrap(),
            "\"key\";r=3;t=2, \"address\";r=3;t=2"
        );
        assert_eq!(rate_limit_fields(std::iter::empty()), None);
    }
}
