//! The response fields that state limits: `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).

use std::time::Duration;

use smallvec::SmallVec;

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

/// The text of a field while it is written. Most need no memory of their own.
pub type FieldText = SmallVec<[u8; 256]>;

/// The values of both fields; `None` without a limit.
pub fn rate_limit_fields<'a>(
    limits: impl Iterator<Item = ShownLimit<'a>>,
) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mut policy, mut state) = (FieldText::new(), FieldText::new());
    for limit in limits {
        push_policy(&mut policy, &limit);
        push_state(&mut state, limit.name, limit.left, limit.reset);
    }
    (!policy.is_empty()).then(|| (policy.into_vec(), state.into_vec()))
}

/// Adds a limit to `RateLimit-Policy`.
pub fn push_policy(field: &mut FieldText, limit: &ShownLimit<'_>) {
    push_name(field, limit.name);
    push(field, b";q=", limit.quota);
    field.extend_from_slice(limit.quota_unit.as_bytes());
    push(field, b";w=", limit.window);
}

/// Adds what is left of a limit to `RateLimit`.
pub fn push_state(field: &mut FieldText, name: &str, left: u64, reset: Duration) {
    push_name(field, name);
    push(field, b";r=", left);
    push(field, b";t=", whole_seconds(reset));
}

fn push_name(field: &mut FieldText, name: &str) {
    if !field.is_empty() {
        field.extend_from_slice(b", ");
    }
    field.push(b'"');
    field.extend_from_slice(name.as_bytes());
    field.push(b'"');
}

fn push(field: &mut FieldText, name: &[u8], number: u64) {
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
