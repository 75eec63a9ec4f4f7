//! Days in UTC, and which of them are over although clocks jump.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// For how long the clock must have shown a day before it is taken for reached.
const SETTLED_AFTER: Duration = Duration::from_secs(3600);

/// The last day with a year of four digits.
const LAST: u32 = 2_932_896;

/// A day in UTC, from 1970-01-01 to 9999-12-31.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(u32);

/// A text is not a day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a day from 1970-01-01 to 9999-12-31, as 2026-11-30")]
pub struct DayError;

impl Day {
    /// The day of a moment. A moment before 1970 is on the first day.
    #[must_use]
    pub fn of(time: SystemTime) -> Self {
        let seconds = time
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        Self(u32::try_from(seconds / 86_400).map_or(LAST, |day| day.min(LAST)))
    }

    /// Today.
    #[must_use]
    pub fn today() -> Self {
        Self::of(SystemTime::now())
    }

    /// The day that is `days` before this one; the first day at the earliest.
    #[must_use]
    pub fn before(self, days: u32) -> Self {
        Self(self.0.saturating_sub(days))
    }

    pub(crate) fn number(self) -> i64 {
        i64::from(self.0)
    }

    pub(crate) fn of_number(number: i64) -> Self {
        Self(u32::try_from(number).map_or(0, |day| day.min(LAST)))
    }
}

/// Year, month and day of the month, by the algorithm `civil_from_days` of Howard Hinnant's "chrono-Compatible Low-Level
/// Date Algorithms", for days from 1970 on.
fn civil(day: u32) -> (u32, u32, u32) {
    let shifted = day + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u32::from(month <= 2);
    (year, month, day_of_month)
}

/// The inverse of [`civil`], by `days_from_civil` of the same source; `None` for a date that does not exist.
fn days(year: u32, month: u32, day: u32) -> Option<u32> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let shifted_year = year - u32::from(month <= 2);
    let era = shifted_year / 400;
    let year_of_era = shifted_year % 400;
    let shifted_month = (month + 9) % 12;
    let of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    let number = (era * 146_097 + of_era).checked_sub(719_468)?;
    (civil(number) == (year, month, day)).then_some(number)
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(self.0);
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl FromStr for Day {
    type Err = DayError;

    fn from_str(text: &str) -> Result<Self, DayError> {
        let number = |at: std::ops::Range<usize>| {
            let digits = text.get(at).ok_or(DayError)?;
            if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(DayError);
            }
            digits.parse::<u32>().map_err(|_| DayError)
        };
        if text.len() != 10
            || text.as_bytes().get(4) != Some(&b'-')
            || text.as_bytes().get(7) != Some(&b'-')
        {
            return Err(DayError);
        }
        days(number(0..4)?, number(5..7)?, number(8..10)?)
            .map(Self)
            .ok_or(DayError)
    }
}

/// Decides which day has been reached. A clock that jumps ahead for less than an hour reaches no day.
#[derive(Debug, Default)]
pub(crate) struct Calendar {
    /// A day that the clock has shown, or a later one, since then.
    candidate: Option<(Day, Instant)>,
    reached: Option<Day>,
}

impl Calendar {
    /// The clock shows `today`. Gives the latest day that has been reached.
    pub(crate) fn shows(&mut self, today: Day, now: Instant) -> Option<Day> {
        match self.candidate {
            Some((day, since)) if today >= day => {
                if now.saturating_duration_since(since) >= SETTLED_AFTER {
                    self.reached = Some(day);
                    if today > day {
                        self.candidate = Some((today, now));
                    }
                }
            }
            _ => {
                self.candidate = Some((today, now));
                self.reached = self.reached.filter(|reached| *reached <= today);
            }
        }
        self.reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    #[test]
    fn day_is_read_as_it_is_written() {
        for number in (0..LAST).step_by(97).chain([LAST, 59, 60, 11_016, 11_017]) {
            let day = Day(number);
            assert_eq!(day.to_string().parse(), Ok(day));
        }
        assert_eq!(Day(0).to_string(), "1970-01-01");
        assert_eq!(day("2000-02-29").before(1), day("2000-02-28"));
        assert_eq!(Day(LAST).to_string(), "9999-12-31");
        for text in [
            "2026-02-29",
            "2026-13-01",
            "2026-00-01",
            "1969-12-31",
            "2026-1-01",
            "+026-01-01",
            "",
            "2026-01-0é",
        ] {
            assert!(text.parse::<Day>().is_err(), "{text}");
        }
    }

    #[test]
    fn day_of_a_moment_changes_at_midnight() {
        let midnight = UNIX_EPOCH + Duration::from_secs(86_400 * 20_000);
        assert_eq!(Day::of(midnight), Day(20_000));
        assert_eq!(Day::of(midnight - Duration::from_nanos(1)), Day(19_999));
        assert_eq!(Day::of(UNIX_EPOCH - Duration::from_secs(1)), Day(0));
    }

    #[test]
    fn calendar_reaches_a_day_only_after_an_hour_without_a_jump_back() {
        let (mut calendar, began) = (Calendar::default(), Instant::now());
        let mut shows = |text: &str, minute: u64| {
            calendar.shows(day(text), began + Duration::from_secs(60 * minute))
        };
        assert_eq!(shows("2026-11-30", 0), None);
        assert_eq!(shows("2026-11-30", 59), None);
        assert_eq!(shows("2026-11-30", 60), Some(day("2026-11-30")));
        // A jump ahead by a century that somebody corrects.
        assert_eq!(shows("2126-11-30", 61), Some(day("2026-11-30")));
        assert_eq!(shows("2126-11-30", 120), Some(day("2026-11-30")));
        assert_eq!(shows("2026-11-30", 121), Some(day("2026-11-30")));
        // The next day comes.
        assert_eq!(shows("2026-12-01", 190), Some(day("2026-11-30")));
        assert_eq!(shows("2026-12-01", 250), Some(day("2026-12-01")));
        // Back.
        assert_eq!(shows("2026-11-30", 251), None);
    }
}
