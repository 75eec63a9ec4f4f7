//! How much of something one client may take: a rate, or a quota of a day or a month.

use std::fmt;
use std::num::NonZeroU64;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::rate::{Rate, RateState};

const DAY: u64 = 24 * 60 * 60;

/// The times in which units of an [`Allowance`] come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// From midnight to midnight, UTC.
    Day,
    /// From the first of a month to the first of the next one, UTC.
    Month,
}

impl Period {
    /// Reads `s`, `m`, `h`, `day` or `month`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "s" => Self::Second,
            "m" => Self::Minute,
            "h" => Self::Hour,
            "day" => Self::Day,
            "month" => Self::Month,
            _ => return None,
        })
    }

    /// What [`Self::parse`] reads.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "m",
            Self::Hour => "h",
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

/// A number of units in a period, as people write it: `10/s`, `10000/day`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Amount {
    /// Units.
    pub units: NonZeroU64,
    /// The period in which they come.
    pub period: Period,
}

impl Amount {
    /// The most units: more are meant as no limit.
    pub const MOST: u64 = 1_000_000_000_000_000;

    /// Reads an amount of which `units` reads the part before the slash.
    pub fn parse_with(text: &str, units: impl FnOnce(&str) -> Option<u64>) -> Option<Self> {
        let (number, period) = text.split_once('/')?;
        let number = units(number.trim_ascii()).filter(|number| *number <= Self::MOST)?;
        Some(Self {
            units: NonZeroU64::new(number)?,
            period: Period::parse(period.trim_ascii())?,
        })
    }

    /// Reads a whole number of units in a period.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::parse_with(text, |number| {
            let digits = number.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| number.parse().ok()).flatten()
        })
    }

    /// The allowance of this amount; [`Allowance::new`] describes the burst.
    #[must_use]
    pub fn allowance(self, burst: Option<NonZeroU64>) -> Allowance {
        Allowance::new(self.units, self.period, burst)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.units, self.period.word())
    }
}

/// A day or a month of the calendar, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// From midnight to midnight.
    Day,
    /// From the first of a month to the first of the next one.
    Month,
}

impl Window {
    /// When the window of a time ends, both in seconds since 1970.
    #[must_use]
    pub fn end(self, seconds: u64) -> u64 {
        let day = seconds / DAY;
        match self {
            Self::Day => (day + 1) * DAY,
            Self::Month => first_of_next_month(day) * DAY,
        }
    }

    /// The length of the window of a time, in seconds.
    #[must_use]
    pub fn length(self, seconds: u64) -> u64 {
        match self {
            Self::Day => DAY,
            Self::Month => {
                let (year, month) = year_and_month(seconds / DAY);
                (first_of_next_month(seconds / DAY) - days_before(year, month)) * DAY
            }
        }
    }
}

/// Year, and month from 1 to 12, of a day since 1970 ("chrono-compatible low-level date algorithms", H. Hinnant).
fn year_and_month(day: u64) -> (u64, u64) {
    // Years that begin in March end with the day that leap years have more.
    let since = day.saturating_add(719_468);
    let (era, of_era) = (since / 146_097, since % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let next = u64::from(month >= 10);
    (
        era * 400 + year + next,
        if month < 10 { month + 3 } else { month - 9 },
    )
}

/// Days from 1970 to the first of a month.
fn days_before(year: u64, month: u64) -> u64 {
    let year = if month > 2 { year } else { year - 1 };
    let (era, of_era) = (year / 400, year % 400);
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn first_of_next_month(day: u64) -> u64 {
    match year_and_month(day) {
        (year, 12) => days_before(year + 1, 1),
        (year, month) => days_before(year, month + 1),
    }
}

/// How many units one client may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Allowance {
    /// A rate with a burst, by a clock that never jumps.
    Rate(Rate),
    /// A number in each window of the calendar.
    Quota {
        /// Units.
        units: NonZeroU64,
        /// The window.
        window: Window,
    },
}

/// What was taken of an [`Allowance`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Taken {
    Rate(RateState),
    Quota {
        /// When the window ends in which `units` were taken, in seconds since 1970.
        ends: u64,
        units: u64,
    },
}

/// The time, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// By the clock that never jumps.
    pub instant: Instant,
    /// Seconds since 1970 by the system's clock.
    pub seconds: u64,
}

impl Now {
    /// Reads both clocks.
    #[must_use]
    pub fn read() -> Self {
        Self::of(Instant::now(), SystemTime::now())
    }

    /// What both clocks have shown.
    #[must_use]
    pub fn of(instant: Instant, time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH);
        Self {
            instant,
            seconds: since.map_or(0, |since| since.as_secs()),
        }
    }
}

/// How much of an allowance is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Units that may be taken now.
    pub units: u64,
    /// When there are more: for a rate, when all of the burst is there again; for a quota, when its window ends.
    pub reset: Duration,
}

impl Allowance {
    /// Units that come in each period: for a second, a minute or an hour a rate, of which `burst` units may be taken at
    /// once (without it, those of one period); for a day or a month a quota, which has no burst.
    #[must_use]
    pub fn new(units: NonZeroU64, period: Period, burst: Option<NonZeroU64>) -> Self {
        let rate = |seconds| {
            let per = Duration::from_secs(seconds);
            Self::Rate(Rate::with_burst_of(units, per, burst.unwrap_or(units)))
        };
        let quota = |window| Self::Quota { units, window };
        match period {
            Period::Second => rate(1),
            Period::Minute => rate(60),
            Period::Hour => rate(3600),
            Period::Day => quota(Window::Day),
            Period::Month => quota(Window::Month),
        }
    }

    /// Units of one period.
    #[must_use]
    pub const fn units(&self) -> NonZeroU64 {
        match self {
            Self::Rate(rate) => rate.units(),
            Self::Quota { units, .. } => *units,
        }
    }

    /// Units that may be taken at once: of a rate its burst, of a quota all.
    #[must_use]
    pub fn at_once(&self) -> u64 {
        match self {
            Self::Rate(rate) => rate.at_once(),
            Self::Quota { units, .. } => units.get(),
        }
    }

    /// Seconds of the period that contains a time.
    #[must_use]
    pub fn period(&self, now: Now) -> u64 {
        match self {
            Self::Rate(rate) => rate.per().as_secs(),
            Self::Quota { window, .. } => window.length(now.seconds),
        }
    }

    pub(crate) fn nothing_taken(&self, now: Now) -> Taken {
        match self {
            Self::Rate(_) => Taken::Rate(RateState::default()),
            Self::Quota { window, .. } => Taken::Quota {
                ends: window.end(now.seconds),
                units: 0,
            },
        }
    }

    /// Brings what was taken to the window of the time. A clock that was set back keeps what was counted: otherwise
    /// each jump would give the quota again.
    fn turn(&self, taken: &mut Taken, now: Now) {
        match (self, &mut *taken) {
            (Self::Rate(_), Taken::Rate(_)) => {}
            (Self::Quota { window, .. }, Taken::Quota { ends, units }) => {
                if now.seconds >= *ends {
                    *units = 0;
                }
                *ends = window.end(now.seconds);
            }
            // It was of another allowance.
            _ => *taken = self.nothing_taken(now),
        }
    }

    /// Takes units that are left, or nothing.
    ///
    /// # Errors
    /// The time to wait until they are.
    pub(crate) fn try_take(
        &self,
        taken: &mut Taken,
        wanted: u64,
        now: Now,
    ) -> Result<Left, Duration> {
        self.turn(taken, now);
        match (self, &mut *taken) {
            (Self::Rate(rate), Taken::Rate(state)) => {
                let (units, reset) = rate.try_take_left(state, wanted, now.instant)?;
                return Ok(Left { units, reset });
            }
            (Self::Quota { units: most, .. }, Taken::Quota { ends, units }) => {
                // Without a unit to take, one must be left.
                if units.saturating_add(wanted.max(1)) > most.get() {
                    return Err(Duration::from_secs(ends.saturating_sub(now.seconds).max(1)));
                }
                *units += wanted;
            }
            _ => {}
        }
        Ok(self.left(taken, now))
    }

    /// Takes units in any case. Returns the time until a unit is left again, zero where one is.
    pub(crate) fn take(&self, taken: &mut Taken, used: u64, now: Now) -> Duration {
        self.turn(taken, now);
        match (self, taken) {
            (Self::Rate(rate), Taken::Rate(state)) => rate.take(state, used, now.instant),
            (Self::Quota { units: most, .. }, Taken::Quota { ends, units }) => {
                *units = units.saturating_add(used);
                if *units < most.get() {
                    return Duration::ZERO;
                }
                Duration::from_secs(ends.saturating_sub(now.seconds).max(1))
            }
            _ => Duration::ZERO,
        }
    }

    /// Gives back units that were taken and not used.
    pub(crate) fn give_back(&self, taken: &mut Taken, unused: u64) {
        match (self, taken) {
            (Self::Rate(rate), Taken::Rate(state)) => rate.give_back(state, unused),
            (_, Taken::Quota { units, .. }) => *units = units.saturating_sub(unused),
            _ => {}
        }
    }

    /// What is left where this was taken.
    pub(crate) fn left_of(&self, mut taken: Taken, now: Now) -> Left {
        self.turn(&mut taken, now);
        self.left(&taken, now)
    }

    fn left(&self, taken: &Taken, now: Now) -> Left {
        match (self, taken) {
            (Self::Rate(rate), Taken::Rate(state)) => Left {
                units: rate.left(state, now.instant),
                reset: state.ahead(now.instant),
            },
            (Self::Quota { units: most, .. }, Taken::Quota { ends, units }) => Left {
                units: most.get().saturating_sub(*units),
                reset: Duration::from_secs(ends.saturating_sub(now.seconds)),
            },
            _ => Left {
                units: 0,
                reset: Duration::ZERO,
            },
        }
    }
}

impl Taken {
    /// Whether it is as if nothing was ever taken.
    pub(crate) fn is_nothing(&self, now: Now) -> bool {
        match self {
            Self::Rate(state) => state.ahead(now.instant).is_zero(),
            Self::Quota { ends, units } => *units == 0 || *ends <= now.seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(n: u64) -> NonZeroU64 {
        NonZeroU64::new(n).unwrap()
    }

    fn at(seconds: u64) -> Now {
        Now {
            instant: Instant::now(),
            seconds,
        }
    }

    #[test]
    fn windows_end_with_the_days_and_months_of_the_calendar() {
        for (time, day, month, length) in [
            // 1970-01-01, 2026-11-30 23:59:59, 2026-12-31, 2028-02-29, 2100-02-28
            (0, 86_400, 31 * 86_400, 31),
            (1_796_083_199, 1_796_083_200, 1_796_083_200, 30),
            (1_798_675_200, 1_798_761_600, 1_798_761_600, 31),
            (1_835_395_200, 1_835_481_600, 1_835_481_600, 29),
            (4_107_456_000, 4_107_542_400, 4_107_542_400, 28),
        ] {
            assert_eq!(Window::Day.end(time), day, "{time}");
            assert_eq!(Window::Month.end(time), month, "{time}");
            assert_eq!(Window::Month.length(time), length * 86_400, "{time}");
        }
    }

    #[test]
    fn quota_ends_with_its_window_and_not_with_a_clock_that_is_set_back() {
        let quota = Allowance::new(units(2), Period::Day, None);
        let noon = 20_000 * 86_400 + 43_200;
        let mut taken = quota.nothing_taken(at(noon));
        let left = quota.try_take(&mut taken, 1, at(noon)).unwrap();
        assert_eq!((left.units, left.reset), (1, Duration::from_secs(43_200)));
        quota.try_take(&mut taken, 1, at(noon)).unwrap();
        let wait = quota.try_take(&mut taken, 1, at(noon)).unwrap_err();
        assert_eq!(wait, Duration::from_secs(43_200));
        // Set back by a day, and forward again: the same quota.
        for time in [noon - 86_400, noon - 86_400 + 1] {
            assert!(quota.try_take(&mut taken, 1, at(time)).is_err(), "{time}");
        }
        quota.give_back(&mut taken, 1);
        assert!(quota.try_take(&mut taken, 1, at(noon - 86_400)).is_ok());
        assert!(quota.try_take(&mut taken, 0, at(noon - 86_400)).is_err());
        assert!(!taken.is_nothing(at(noon - 86_400)));
        assert!(quota.try_take(&mut taken, 1, at(noon + 86_400)).is_ok());
    }

    #[test]
    fn units_beyond_the_quota_are_counted_when_they_were_used() {
        let quota = Allowance::new(units(1000), Period::Month, None);
        let mut taken = quota.nothing_taken(at(0));
        assert_eq!(quota.take(&mut taken, 999, at(0)), Duration::ZERO);
        for _ in 0..2 {
            let wait = quota.take(&mut taken, u64::MAX, at(0));
            assert_eq!(wait, Duration::from_secs(31 * 86_400));
        }
        assert!(quota.try_take(&mut taken, 0, at(0)).is_err());
        assert!(quota.try_take(&mut taken, 0, at(40 * 86_400)).is_ok());
    }

    #[test]
    fn amount_is_read_as_it_is_written() {
        for word in ["s", "m", "h", "day", "month"] {
            assert_eq!(Period::parse(word).unwrap().word(), word);
        }
        for text in ["10/s", "1/m", "999999/h", "10000/day", "7/month"] {
            assert_eq!(Amount::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "10",
            "/s",
            "0/s",
            "-1/s",
            "+1/s",
            "1.5/s",
            "10/d",
            "10/S",
            "10/week",
            "1/s/s",
            "1000000000000001/s",
            "99999999999999999999/s",
        ] {
            assert_eq!(Amount::parse(text), None, "{text}");
        }
    }
}
