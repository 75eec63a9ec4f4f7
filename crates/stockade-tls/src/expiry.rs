//! Reports before certificates and lists end, and when they have ended.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::event::TlsEvent;
use super::leaf::Leaf;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A warning is given at each of these remaining lifetimes, except where the whole lifetime is shorter than
/// three times the threshold: there the renewal is routine, and the warning would always be on.
const THRESHOLDS: [Duration; 3] = [DAY.saturating_mul(30), DAY.saturating_mul(7), DAY];

/// Something that ends.
#[derive(Debug, Clone)]
pub(crate) struct End {
    /// Equal for the same thing only.
    pub(crate) key: String,
    /// What it is and of whom.
    pub(crate) what: String,
    pub(crate) file: Option<PathBuf>,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl End {
    /// How near the end is: 0 is far, 4 is over.
    fn stage(&self, now: SystemTime) -> usize {
        let Ok(left) = self.not_after.duration_since(now) else {
            return THRESHOLDS.len() + 1;
        };
        let life = self
            .not_after
            .duration_since(self.not_before)
            .unwrap_or_default();
        let reached = THRESHOLDS
            .iter()
            .filter(|threshold| left <= **threshold && life >= threshold.saturating_mul(3));
        match reached.min() {
            Some(least) => 1 + THRESHOLDS.iter().position(|t| t == least).unwrap_or(0),
            None => 0,
        }
    }

    /// Begins or ends between the two times.
    pub(crate) fn passed(&self, from: SystemTime, to: SystemTime) -> bool {
        let within = |at: SystemTime| from <= at && at < to;
        within(self.not_after) || within(self.not_before)
    }

    /// The lifetime of a server's certificate.
    pub(crate) fn of(leaf: &Leaf) -> Self {
        Self {
            key: leaf.facts.fingerprint_sha256.clone(),
            what: format!("the certificate of {}", leaf.facts.names.join(", ")),
            file: leaf.facts.file.clone(),
            not_before: leaf.facts.not_before,
            not_after: leaf.facts.not_after,
        }
    }

    fn event(&self, stage: usize, now: SystemTime) -> TlsEvent {
        let (what, file, not_after) = (self.what.clone(), self.file.clone(), self.not_after);
        if stage > THRESHOLDS.len() {
            return TlsEvent::Expired {
                what,
                file,
                not_after,
            };
        }
        TlsEvent::Expiring {
            what,
            file,
            not_after,
            left: not_after.duration_since(now).unwrap_or_default(),
        }
    }
}

/// Remembers what was reported, so that nothing is reported twice.
#[derive(Debug, Default)]
pub(crate) struct Notified(HashMap<String, usize>);

impl Notified {
    /// The events that are new at `now`. Forgets what is not among `ends`.
    pub(crate) fn events(&mut self, ends: &[End], now: SystemTime) -> Vec<TlsEvent> {
        self.0
            .retain(|key, _| ends.iter().any(|end| end.key == *key));
        let mut events = Vec::new();
        for end in ends {
            let stage = end.stage(now);
            let notified = self.0.entry(end.key.clone()).or_insert(0);
            if stage > *notified {
                events.push(end.event(stage, now));
            }
            *notified = stage;
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(life_days: u32) -> End {
        End {
            key: "k".into(),
            what: "it".into(),
            file: None,
            not_before: SystemTime::UNIX_EPOCH,
            not_after: SystemTime::UNIX_EPOCH + DAY * life_days,
        }
    }

    fn notified_at(life_days: u32) -> Vec<u32> {
        let mut notified = Notified::default();
        let ends = [end(life_days)];
        let days = 0..=life_days + 1;
        let news = days.filter(|day| {
            let now = SystemTime::UNIX_EPOCH + DAY * *day + Duration::from_secs(1);
            !notified.events(&ends, now).is_empty()
        });
        news.map(|day| life_days - day.min(life_days)).collect()
    }

    #[test]
    fn events_of_long_certificate_come_once_for_each_threshold() {
        // Days left when something was reported; the last is the end itself.
        assert_eq!(notified_at(90), [30, 7, 1, 0]);
        assert_eq!(notified_at(365), [30, 7, 1, 0]);
    }

    #[test]
    fn events_of_short_certificate_leave_out_what_would_always_be_on() {
        assert_eq!(notified_at(47), [7, 1, 0]);
        assert_eq!(notified_at(7), [1, 0]);
        assert_eq!(notified_at(1), [0]);
    }

    #[test]
    fn events_of_replaced_certificate_start_again() {
        let mut notified = Notified::default();
        let late = SystemTime::UNIX_EPOCH + DAY * 91;
        assert_eq!(notified.events(&[end(90)], late).len(), 1);
        assert_eq!(notified.events(&[], late).len(), 0);
        assert_eq!(notified.events(&[end(90)], late).len(), 1);
    }
}
