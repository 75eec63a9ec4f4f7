//! Sizes and times as people write them: in the file, and on the command line.

use std::time::Duration;

/// What each unit of a size stands for; powers of 1024, whether the `i` is there or not.
const SIZES: [(&str, u32); 14] = [
    ("b", 0),
    ("k", 10),
    ("kb", 10),
    ("kib", 10),
    ("m", 20),
    ("mb", 20),
    ("mib", 20),
    ("g", 30),
    ("gb", 30),
    ("gib", 30),
    ("t", 40),
    ("tb", 40),
    ("tib", 40),
    ("bytes", 0),
];

/// What [`size`] takes, as a regular expression.
pub(crate) const SIZE_PATTERN: &str =
    r"^[0-9]+(\.[0-9]+)? ?([bB]|[kKmMgGtT]([iI]?[bB])?|[bB][yY][tT][eE][sS])$";

/// What [`time`] takes, as a regular expression; humantime's longer names are allowed too.
pub(crate) const TIME_PATTERN: &str = r"^0$|^([0-9]+(\.[0-9]+)? ?(ns|nsec|us|usec|ms|msec|millis|s|sec|secs|second|seconds|m|min|mins|minute|minutes|h|hr|hrs|hour|hours|d|day|days|w|week|weeks) ?)+$";

/// The bytes that a text such as `512mb`, `64 MiB` or `1.5gb` stands for; `None` for any other text.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(split);
    let unit = unit.to_ascii_lowercase();
    let (_, shift) = SIZES.iter().find(|(name, _)| *name == unit)?;
    let number = number.strip_suffix(' ').unwrap_or(number);
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if let Some((whole, part)) = number.split_once('.') {
        if !digits(whole) || !digits(part) {
            return None;
        }
        let bytes = number.parse::<f64>().ok()? * 2_f64.powi(i32::try_from(*shift).ok()?);
        return (bytes < 9e15).then_some(bytes as u64);
    }
    if !digits(number) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The time that a text such as `30s`, `500ms`, `1m30s` or `0` stands for; `None` for any other text.
#[must_use]
pub fn time(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    // Months and years of humantime are averages: no limit is meant in them.
    let units = text.split(|c: char| !c.is_alphabetic());
    if units.into_iter().any(|unit| {
        matches!(unit, "M" | "y") || unit.starts_with("month") || unit.starts_with("year")
    }) {
        return None;
    }
    humantime::parse_duration(text).ok()
}

/// Bytes for people: the largest unit that leaves a whole number.
pub(crate) fn show_size(bytes: u64) -> String {
    [(40, "tb"), (30, "gb"), (20, "mb"), (10, "kb")]
        .into_iter()
        .find(|(shift, _)| bytes >= 1 << shift && bytes.trailing_zeros() >= *shift)
        .map_or(format!("{bytes}b"), |(shift, unit)| {
            format!("{}{unit}", bytes >> shift)
        })
}

const SECONDS_A_DAY: u64 = 24 * 60 * 60;

/// A time for people.
pub(crate) fn show_time(time: Duration) -> String {
    if time.is_zero() {
        return "0".to_owned();
    }
    // In the units that are read: months and years are not, since no two are equally long.
    let days = time.as_secs() / SECONDS_A_DAY;
    let rest = time - Duration::from_secs(days * SECONDS_A_DAY);
    let rest = match rest.is_zero() {
        true => String::new(),
        false => humantime::format_duration(rest)
            .to_string()
            .replace(' ', ""),
    };
    match days {
        0 => rest,
        1 => format!("1day{rest}"),
        days => format!("{days}days{rest}"),
    }
}

/// What to write where a unit is missing. `allows` says which bytes are allowed.
pub(crate) fn size_fix(text: &str, allows: impl Fn(u64) -> bool) -> Option<String> {
    with_unit(text, ["mb", "b"], |text| size(text).is_some_and(&allows))
}

/// What to write where a unit is missing. `allows` says which times are allowed.
pub(crate) fn time_fix(text: &str, allows: impl Fn(Duration) -> bool) -> Option<String> {
    with_unit(text, ["s", "ms"], |text| time(text).is_some_and(&allows))
}

/// A number with each unit with which it is allowed.
fn with_unit(text: &str, units: [&str; 2], allowed: impl Fn(&str) -> bool) -> Option<String> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let each = units.map(|unit| format!("{text}{unit}"));
    let each: Vec<_> = each.into_iter().filter(|text| allowed(text)).collect();
    (!each.is_empty()).then(|| each.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_is_shown_can_be_read() {
        for seconds in [
            1,
            90,
            86_400,
            86_401,
            30 * 86_400,
            365 * 86_400,
            400 * 86_400 + 5,
        ] {
            let shown = Duration::from_secs(seconds);
            assert_eq!(time(&show_time(shown)), Some(shown), "{}", show_time(shown));
        }
    }

    #[test]
    fn size_units_are_powers_of_1024() {
        let pattern = regex::Regex::new(SIZE_PATTERN).unwrap();
        for (text, bytes) in [
            ("512mb", 512 << 20),
            ("64 MiB", 64 << 20),
            ("1gb", 1 << 30),
            ("1.5k", 1536),
            ("0b", 0),
            ("7B", 7),
            ("2 TiB", 2 << 40),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
            assert!(pattern.is_match(text), "{text}");
        }
    }

    #[test]
    fn size_of_other_text_is_none() {
        for text in [
            "",
            "512",
            "mb",
            "-1mb",
            "1  mb",
            "1mbb",
            "1e3mb",
            "1.mb",
            ".5mb",
            "99999999999tb",
            "1.5.5mb",
            "１mb",
            "9999999.9tb",
        ] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn time_units_are_read() {
        let pattern = regex::Regex::new(TIME_PATTERN).unwrap();
        for (text, ms) in [
            ("30s", 30_000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("1.5s", 1500),
            ("0", 0),
        ] {
            assert_eq!(time(text), Some(Duration::from_millis(ms)), "{text}");
            assert!(pattern.is_match(text), "{text}");
        }
        for text in [
            "",
            "30",
            "s",
            "-1s",
            "1y",
            "2months",
            "1M",
            "1.s",
            ".5s",
            "99999999999999999999s",
        ] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn fixes_are_values_that_are_allowed() {
        let memory = |bytes: u64| bytes >= 8 << 20;
        assert_eq!(size_fix("64", memory).as_deref(), Some("64mb"));
        for text in ["0", "7", "1.5", "64megs", ""] {
            assert_eq!(size_fix(text, memory), None, "{text}");
        }
        let short = |time: Duration| time <= Duration::from_secs(1);
        assert_eq!(time_fix("30", short).as_deref(), Some("30ms"));
        assert_eq!(time_fix("3000", short), None);
    }

    #[test]
    fn fixes_add_what_is_missing() {
        assert_eq!(size_fix("512", |_| true).as_deref(), Some("512mb or 512b"));
        assert_eq!(time_fix("30", |_| true).as_deref(), Some("30s or 30ms"));
        assert_eq!(show_size(512 << 20), "512mb");
        assert_eq!(show_size(1000), "1000b");
        assert_eq!(show_time(Duration::from_secs(90)), "1m30s");
    }
}
