//! Times in answers: RFC 3339 in UTC, to the second.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A time in seconds since 1970 as RFC 3339 writes it. `None` after the year 9999, for which there is no such text.
pub(crate) fn rfc3339(seconds: u64) -> Option<String> {
    if seconds >= 253_402_300_800 {
        return None;
    }
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
    Some(humantime::format_rfc3339_seconds(time).to_string())
}

/// Now, in seconds since 1970.
pub(crate) fn now_seconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}
