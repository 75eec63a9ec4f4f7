//! Times and memory on the command line: with a unit, as in the configuration file, or as a bare number.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use stockade_config::{size, time};
use stockade_limits::{MAX_MEMORY_MB, MIN_MEMORY, MIN_TIME};

/// The longest time, in milliseconds.
const MAX_MS: f64 = 1e12;

/// Milliseconds of a limit: of a time such as `500ms`, `2s` or `1m30s`, or a bare number of them; 0 means no limit.
pub(crate) fn limit_of_time(text: &str) -> Result<f64, String> {
    let ms = milliseconds(text)?;
    let least = MIN_TIME.as_secs_f64() * 1e3;
    if ms == 0.0 || (least..=MAX_MS).contains(&ms) {
        return Ok(ms);
    }
    Err(format!(
        "expected 0 (no limit) or a time from {least}ms to {MAX_MS:e}ms, as 500ms or 2s: limits are checked once in a \
         millisecond"
    ))
}

/// Megabytes (2^20 bytes) of a limit: of a size such as `64mb` or `1gb`, or a bare number of them; 0 means no limit.
pub(crate) fn limit_of_memory(text: &str) -> Result<f64, String> {
    let with_unit = || size(text).map(|bytes| bytes as f64 / f64::from(1 << 20));
    let mb = number(text).or_else(with_unit).ok_or_else(|| {
        "expected a size, as 64mb, 512 MiB or 1gb; a bare number is megabytes".to_owned()
    })?;
    let least = (MIN_MEMORY >> 20) as f64;
    if mb == 0.0 || (least..=MAX_MEMORY_MB).contains(&mb) {
        return Ok(mb);
    }
    Err(format!(
        "expected 0 (no limit) or a size from {least}mb, which the engine needs for itself, to {MAX_MEMORY_MB:e}mb; a bare \
         number is megabytes"
    ))
}

/// Milliseconds: of a time such as `500ms`, `2s` or `1m30s`, or a bare number of them.
fn milliseconds(text: &str) -> Result<f64, String> {
    let with_unit = || time(text).map(|time| time.as_secs_f64() * 1e3);
    number(text).or_else(with_unit).ok_or_else(|| {
        "expected a time, as 500ms, 2s or 1m30s; a bare number is milliseconds".to_owned()
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

/// An address to listen on: an IP address or `localhost`, and a port.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    let of_name = || {
        let port = text.strip_prefix("localhost:")?.parse().ok()?;
        Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    };
    text.parse().ok().or_else(of_name).ok_or_else(|| {
        "expected an IP address or localhost, and a port, as 127.0.0.1:7030 or [::1]:7030"
            .to_owned()
    })
}

/// Bytes for a column, in the unit that gives few digits.
pub(crate) fn short_bytes(bytes: u64) -> String {
    match bytes {
        0 => "0".to_owned(),
        1..=1_048_575 => format!("{}k", bytes.div_ceil(1024)),
        1_048_576..=1_073_741_823 => format!("{}M", bytes >> 20),
        _ => format!("{:.1}G", bytes as f64 / f64::from(1 << 30)),
    }
}

/// Bytes for a report, with a unit, by powers of 1024.
pub(crate) fn exact_bytes(bytes: u64) -> String {
    let (mut value, mut units) = (
        bytes as f64,
        ["B", "kB", "MB", "GB", "TB", "PB", "EB"].iter(),
    );
    let mut unit = units.next().unwrap_or(&"B");
    while value >= 1024.0
        && let Some(next) = units.next()
    {
        value /= 1024.0;
        unit = next;
    }
    if *unit == "B" {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {unit}")
    }
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
        assert_eq!(limit_of_time("0"), Ok(0.0));
        assert_eq!(limit_of_time("1ms"), Ok(1.0));
        for text in ["1ns", "999us", "0.5", "-1", "1e13"] {
            let error = limit_of_time(text).unwrap_err();
            assert!(
                error.contains("0 (no limit) or a time from 1ms"),
                "{text}: {error}"
            );
        }
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("200"), Ok(Duration::from_millis(200)));
        assert!(duration("-1").is_err() && duration("1e13").is_err() && duration("nan").is_err());
    }

    #[test]
    fn memory_with_and_without_unit_is_megabytes() {
        for (text, mb) in [("128", 128.0), ("64mb", 64.0), ("1gb", 1024.0), ("0", 0.0)] {
            assert_eq!(limit_of_memory(text), Ok(mb), "{text}");
        }
        for text in ["", "mb", "64 megs", "2s", "64kb", "1", "-64", "1e9"] {
            let error = limit_of_memory(text).unwrap_err();
            assert!(
                error.contains("bare number is megabytes"),
                "{text}: {error}"
            );
        }
        assert_eq!(bytes("65536"), Ok(65536));
        assert_eq!(bytes("64kb"), Ok(65536));
        assert!(bytes("4gb").is_err() && bytes("-1").is_err() && bytes("1.5").is_err());
    }

    #[test]
    fn address_has_a_port() {
        let of = |text: &str| address(text).map(|address| address.to_string());
        assert_eq!(of("localhost:0").as_deref(), Ok("127.0.0.1:0"));
        assert_eq!(of("[::1]:7030").as_deref(), Ok("[::1]:7030"));
        for text in [
            "",
            "7030",
            "localhost",
            "example.com:80",
            "127.0.0.1",
            "127.0.0.1:99999",
        ] {
            assert!(of(text).unwrap_err().contains("127.0.0.1:7030"), "{text}");
        }
    }

    #[test]
    fn bytes_are_written_short_or_exact() {
        for (number, short, exact) in [
            (0, "0", "0 B"),
            (1023, "1k", "1023 B"),
            (4096, "4k", "4.0 kB"),
            (1_000_000, "977k", "976.6 kB"),
            (1_572_864, "1M", "1.5 MB"),
            (3 << 30, "3.0G", "3.0 GB"),
        ] {
            assert_eq!(
                (short_bytes(number).as_str(), exact_bytes(number).as_str()),
                (short, exact)
            );
        }
        assert_eq!(exact_bytes(u64::MAX), "16.0 EB");
    }
}
