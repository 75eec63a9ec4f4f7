//! Times and memory on the command line: with a unit, as in the configuration file, or as a bare number.

use std::time::Duration;

use stockade_config::{size, time};

/// The longest time, in milliseconds.
const MAX_MS: f64 = 1e12;

/// Milliseconds: of a time such as `500ms`, `2s` or `1m30s`, or a bare number of them.
pub(crate) fn milliseconds(text: &str) -> Result<f64, String> {
    let with_unit = || time(text).map(|time| time.as_secs_f64() * 1e3);
    number(text).or_else(with_unit).ok_or_else(|| {
        "expected a time, as 500ms, 2s or 1m30s; a bare number is milliseconds".to_owned()
    })
}

/// Megabytes (2^20 bytes): of a size such as `64mb` or `1gb`, or a bare number of them.
pub(crate) fn megabytes(text: &str) -> Result<f64, String> {
    let with_unit = || size(text).map(|bytes| bytes as f64 / f64::from(1 << 20));
    number(text).or_else(with_unit).ok_or_else(|| {
        "expected a size, as 64mb, 512 MiB or 1gb; a bare number is megabytes".to_owned()
    })
}

/// Bytes: of a size such as `64kb` or `1mb`, or a bare number of them.
pub(crate) fn bytes(text: &str) -> Result<u32, String> {
    let with_unit = || u32::try_from(size(text)?).ok();
    text.parse().ok().or_else(with_unit).ok_or_else(|| {
        "expected a size of less than 4gb, as 64kb or 1mb; a bare number is bytes".to_owned()
    })
}

/// A time, as [`milliseconds`] reads it; 0 means no limit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let ms = milliseconds(text)?;
    if !(0.0..=MAX_MS).contains(&ms) {
        return Err(format!(
            "expected a time from 0 to {MAX_MS:e} milliseconds, as 30s or 30000"
        ));
    }
    Ok(Duration::from_secs_f64(ms / 1e3))
}

/// A bare number. Whether it is in its range is checked with the other options.
fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_with_and_without_unit_is_milliseconds() {
        for (text, ms) in [
            ("500", 500.0),
            ("0.5", 0.5),
            ("0", 0.0),
            ("500ms", 500.0),
            ("2s", 2000.0),
            ("1m30s", 90_000.0),
            ("1.5s", 1500.0),
        ] {
            assert_eq!(milliseconds(text), Ok(ms), "{text}");
        }
        for text in [
            "",
            "s",
            "5 parsecs",
            "64mb",
            "2 cores",
            "ms5",
            "NaN",
            "inf",
            "-inf",
            "1e400",
        ] {
            let error = milliseconds(text).unwrap_err();
            assert!(error.contains("500ms, 2s"), "{text}: {error}");
        }
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("200"), Ok(Duration::from_millis(200)));
        assert!(duration("-1").is_err() && duration("1e13").is_err() && duration("nan").is_err());
    }

    #[test]
    fn memory_with_and_without_unit_is_megabytes() {
        for (text, mb) in [
            ("128", 128.0),
            ("64mb", 64.0),
            ("1gb", 1024.0),
            ("512 KiB", 0.5),
            ("0", 0.0),
        ] {
            assert_eq!(megabytes(text), Ok(mb), "{text}");
        }
        for text in ["", "mb", "64 megs", "2s"] {
            let error = megabytes(text).unwrap_err();
            assert!(error.contains("64mb"), "{text}: {error}");
        }
        assert_eq!(bytes("65536"), Ok(65536));
        assert_eq!(bytes("64kb"), Ok(65536));
        assert!(bytes("4gb").is_err() && bytes("-1").is_err() && bytes("1.5").is_err());
    }
}
