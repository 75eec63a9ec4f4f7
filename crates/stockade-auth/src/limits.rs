//! Limits of one key: how many requests it may send.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};
use stockade_limits::{Allowance, Amount, Period};

/// How many requests a key may send, at all sites together. The default: as many as the sites allow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct KeyLimits {
    rate: Option<(Amount, Option<NonZeroU64>)>,
    quota: Option<Amount>,
}

/// The limits as exports have them.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    burst: Option<NonZeroU64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quota: Option<String>,
}

/// Why a text is not a limit of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// It is not a rate.
    #[error(
        "{0:?} is not a rate: write requests in a second, a minute or an hour, as 10/s, 600/m or 5000/h"
    )]
    Rate(String),
    /// It is not a quota.
    #[error(
        "{0:?} is not a quota: write requests in a day or a month of the calendar (UTC), as 10000/day or 1000000/month"
    )]
    Quota(String),
    /// A burst is of a rate.
    #[error("a burst needs a rate: it is how many requests of the rate may come at once")]
    Burst,
}

impl KeyLimits {
    /// Checks limits as people write them.
    ///
    /// # Errors
    /// [`LimitError`] says what is wrong with which one.
    pub fn parse(
        rate: Option<&str>,
        burst: Option<NonZeroU64>,
        quota: Option<&str>,
    ) -> Result<Self, LimitError> {
        let of = |text: &str, is_quota: bool| {
            let amount = Amount::parse(text);
            amount.filter(|one| matches!(one.period, Period::Day | Period::Month) == is_quota)
        };
        let shown = |text: &str| text.chars().take(100).collect::<String>();
        let rate = rate.map(|text| of(text, false).ok_or_else(|| LimitError::Rate(shown(text))));
        let quota = quota.map(|text| of(text, true).ok_or_else(|| LimitError::Quota(shown(text))));
        let rate = rate.transpose()?;
        if rate.is_none() && burst.is_some() {
            return Err(LimitError::Burst);
        }
        Ok(Self {
            rate: rate.map(|rate| (rate, burst)),
            quota: quota.transpose()?,
        })
    }

    /// Requests that may come in each second, minute or hour.
    #[must_use]
    pub fn rate(&self) -> Option<Allowance> {
        self.rate.map(|(rate, burst)| rate.allowance(burst))
    }

    /// Requests that may come in each day or month.
    #[must_use]
    pub fn quota(&self) -> Option<Allowance> {
        self.quota.map(|quota| quota.allowance(None))
    }

    /// The form of the limits in the store and in memory: empty, or rate, burst and quota with spaces between them, `-` for none.
    pub(crate) fn text(&self) -> String {
        if *self == Self::default() {
            return String::new();
        }
        let rate = self.rate.map(|(rate, _)| rate.to_string());
        let burst = self.rate.and_then(|(_, burst)| burst);
        let quota = self.quota.map(|quota| quota.to_string());
        let parts = [rate, burst.map(|burst| burst.to_string()), quota];
        parts.map(|part| part.unwrap_or("-".to_owned())).join(" ")
    }

    /// Reads what [`Self::text`] wrote. What cannot be read allows one request a month, so that a damaged store never
    /// lifts a limit.
    pub(crate) fn of_text(text: &str) -> Self {
        if text.is_empty() {
            return Self::default();
        }
        let mut parts = text.split(' ').map(|part| (part != "-").then_some(part));
        let mut next = || parts.next().flatten();
        let (rate, burst, quota) = (next(), next(), next());
        let burst = burst.and_then(|burst| burst.parse().ok());
        Self::parse(rate, burst, quota).unwrap_or(Self {
            rate: None,
            quota: Some(Amount {
                units: NonZeroU64::MIN,
                period: Period::Month,
            }),
        })
    }
}

impl TryFrom<Written> for KeyLimits {
    type Error = LimitError;

    fn try_from(written: Written) -> Result<Self, LimitError> {
        Self::parse(
            written.rate.as_deref(),
            written.burst,
            written.quota.as_deref(),
        )
    }
}

impl From<KeyLimits> for Written {
    fn from(limits: KeyLimits) -> Self {
        Self {
            rate: limits.rate.map(|(rate, _)| rate.to_string()),
            burst: limits.rate.and_then(|(_, burst)| burst),
            quota: limits.quota.map(|quota| quota.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_they_were_written() {
        for (rate, burst, quota) in [
            (None, None, None),
            (Some("10/s"), None, None),
            (Some("10/m"), NonZeroU64::new(100), Some("7/day")),
            (None, None, Some("1000000/month")),
        ] {
            let limits = KeyLimits::parse(rate, burst, quota).unwrap();
            assert_eq!(KeyLimits::of_text(&limits.text()), limits);
            let json = serde_json::to_string(&limits).unwrap();
            assert_eq!(serde_json::from_str::<KeyLimits>(&json).unwrap(), limits);
        }
        assert_eq!(KeyLimits::default().text(), "");
    }

    #[test]
    fn limits_that_are_none_are_refused_and_damaged_ones_allow_little() {
        let one = NonZeroU64::MIN;
        for (rate, burst, quota) in [
            (Some("10/day"), None, None),
            (Some("0/s"), None, None),
            (Some("10"), None, None),
            (None, Some(one), None),
            (None, None, Some("10/s")),
        ] {
            assert!(KeyLimits::parse(rate, burst, quota).is_err());
        }
        for text in ["x", "10/s", "- - 5/s", "1/day - -"] {
            let limits = KeyLimits::of_text(text);
            assert!(
                limits.rate().is_some() || limits.quota().is_some(),
                "{text}"
            );
        }
        let json = r#"{"rate":"10/s","speed":1}"#;
        assert!(serde_json::from_str::<KeyLimits>(json).is_err());
    }
}
