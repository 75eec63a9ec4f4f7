//! The last quarter of an hour of each instance, for charts.
//!
//! Invariants:
//! 1. There are samples of each second of the last two minutes, and of each ten seconds of the last fifteen.
//! 2. At most [`MOST_SAMPLES`] samples are kept, of all instances together: the oldest go first. With more than
//!    [`MOST_BY_SECOND`] instances there are samples of ten seconds only.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;

use super::latency::Taken;
use super::sample::{Sample, Totals};
use super::site::SiteTable;

/// Samples of one second.
const SECONDS: usize = 120;

/// Samples of ten seconds.
const TENS: usize = 90;

/// Seconds of a longer sample.
const PER_TEN: u64 = 10;

/// Samples of all instances together, of each kind. About 100 bytes each.
const MOST_SAMPLES: usize = 200_000;

/// Instances of which there are samples of each second.
const MOST_BY_SECOND: usize = 500;

/// The samples of all instances at one time.
struct Tick {
    /// The end of the interval.
    at: SystemTime,
    samples: BTreeMap<Arc<str>, Sample>,
}

/// Ticks of one length.
#[derive(Default)]
struct Ticks {
    ticks: VecDeque<Tick>,
    samples: usize,
}

impl Ticks {
    fn push(&mut self, tick: Tick, most: usize) {
        self.samples += tick.samples.len();
        self.ticks.push_back(tick);
        while self.ticks.len() > most || (self.samples > MOST_SAMPLES && self.ticks.len() > 1) {
            let gone = self.ticks.pop_front();
            self.samples -= gone.map_or(0, |gone| gone.samples.len());
        }
    }
}

/// What an instance had counted at the last sample.
#[derive(Default)]
struct Seen {
    totals: Totals,
    durations: Taken,
}

#[derive(Default)]
struct Recorded {
    seconds: Ticks,
    tens: Ticks,
}

/// Samples of all instances. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct History(Arc<Mutex<Recorded>>);

impl History {
    /// The samples that are kept, from the oldest to the latest, by the second or by ten: the end of each interval, and the
    /// sample. `wanted` says of which instances.
    pub(crate) fn samples(
        &self,
        by_second: bool,
        since: Option<SystemTime>,
        wanted: impl Fn(&str) -> bool,
    ) -> BTreeMap<Arc<str>, Vec<(SystemTime, Sample)>> {
        let recorded = self.0.lock();
        let ticks = match by_second {
            true => &recorded.seconds.ticks,
            false => &recorded.tens.ticks,
        };
        let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for tick in ticks
            .iter()
            .filter(|tick| since.is_none_or(|since| tick.at > since))
        {
            for (name, sample) in tick.samples.iter().filter(|(name, _)| wanted(name)) {
                let all = found.entry(Arc::clone(name)).or_default();
                all.push((tick.at, sample.clone()));
            }
        }
        found
    }

    /// Takes samples of `sites` until the task is aborted.
    pub(crate) async fn record(self, sites: Arc<SiteTable>) {
        let mut interval = tokio::time::interval(Duration::from_secs(1));
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut recorder = Recorder::new(sites);
        for second in 1_u64.. {
            interval.tick().await;
            self.tick(&mut recorder, second, SystemTime::now());
        }
    }

    fn tick(&self, recorder: &mut Recorder, second: u64, at: SystemTime) {
        let is_ten = second.is_multiple_of(PER_TEN);
        if recorder.sites.count() <= MOST_BY_SECOND {
            let samples = recorder.look(false);
            self.0.lock().seconds.push(Tick { at, samples }, SECONDS);
        } else if !is_ten {
            return;
        }
        if is_ten {
            let samples = recorder.look(true);
            self.0.lock().tens.push(Tick { at, samples }, TENS);
        }
    }
}

/// What makes samples of totals.
struct Recorder {
    sites: Arc<SiteTable>,
    /// At the last second, and at the last ten.
    by_second: BTreeMap<Arc<str>, Seen>,
    by_ten: BTreeMap<Arc<str>, Seen>,
}

impl Recorder {
    fn new(sites: Arc<SiteTable>) -> Self {
        Self {
            sites,
            by_second: BTreeMap::new(),
            by_ten: BTreeMap::new(),
        }
    }

    /// Samples of all instances since the last look of this kind.
    fn look(&mut self, ten: bool) -> BTreeMap<Arc<str>, Sample> {
        let sites = self.sites.all();
        let known = |name: &Arc<str>| sites.contains_key(name);
        self.by_second.retain(|name, _| known(name));
        self.by_ten.retain(|name, _| known(name));
        let mut samples = BTreeMap::new();
        for (name, site) in &sites {
            // What is taken counts for both kinds of intervals.
            let durations = site.latencies.take();
            let of_ten = self.by_ten.entry(Arc::clone(name)).or_default();
            of_ten.durations.merge(&durations);
            let of_second = self.by_second.entry(Arc::clone(name)).or_default();
            of_second.durations.merge(&durations);
            let seen = if ten { of_ten } else { of_second };
            let (totals, sample) = site.totals();
            samples.insert(Arc::clone(name), seen.sample(totals, sample));
        }
        samples
    }
}

impl Seen {
    /// What was counted since, with the state of now in `sample`.
    fn sample(&mut self, totals: Totals, sample: Sample) -> Sample {
        let before = std::mem::replace(&mut self.totals, totals);
        let now = &self.totals;
        let durations = std::mem::take(&mut self.durations);
        let kills = now.kills.iter().filter_map(|(reason, count)| {
            let earlier = before.kills.iter().find(|(known, _)| known == reason);
            let more = count.saturating_sub(earlier.map_or(0, |(_, count)| *count));
            (more > 0).then_some((*reason, more))
        });
        Sample {
            requests: now.requests.saturating_sub(before.requests),
            errors: now.errors.saturating_sub(before.errors),
            p50: durations.percentile(0.5),
            p99: durations.percentile(0.99),
            cpu: now.cpu.saturating_sub(before.cpu),
            kills: kills.collect(),
            ..sample
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, StatusCode};
    use prometheus_client::registry::Registry;

    use super::*;

    fn times(count: u64) -> impl Iterator<Item = (u64, SystemTime)> {
        (1..=count).map(|second| (second, SystemTime::UNIX_EPOCH + Duration::from_secs(second)))
    }

    #[test]
    fn samples_have_what_happened_in_their_interval() {
        let sites = SiteTable::register(&mut Registry::default());
        let history = History::default();
        let mut recorder = Recorder::new(Arc::clone(&sites));
        let site = sites.site("shop");
        for (second, at) in times(20) {
            if second == 12 {
                site.answered(&Method::GET, StatusCode::OK, Duration::from_millis(10));
                site.answered(
                    &Method::GET,
                    StatusCode::BAD_GATEWAY,
                    Duration::from_millis(100),
                );
                site.ends.add("memory_limit_exceeded", 1);
                site.ends.add("scaled_down", 1);
            }
            history.tick(&mut recorder, second, at);
        }
        let check = |by_second: bool, which: usize, count: usize| {
            let samples = history
                .samples(by_second, None, |_| true)
                .remove("shop")
                .unwrap();
            assert_eq!(samples.len(), count);
            for (index, (_, sample)) in samples.iter().enumerate() {
                let expected = if index == which { (2, 1) } else { (0, 0) };
                assert_eq!((sample.requests, sample.errors), expected, "{index}");
            }
            let sample = &samples[which].1;
            assert_eq!(sample.kills, [("memory_limit_exceeded", 1)]);
            let near = |found: Option<f64>, expected: f64| {
                assert!(
                    (found.unwrap() - expected).abs() < expected / 4.0,
                    "{found:?}"
                );
            };
            near(sample.p50, 10.0);
            near(sample.p99, 100.0);
        };
        check(true, 11, 20);
        check(false, 1, 2);
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(15);
        let late = history.samples(true, Some(since), |_| true);
        assert_eq!(late["shop"].len(), 5);
        assert!(
            history
                .samples(true, None, |name| name == "other")
                .is_empty()
        );
    }

    #[test]
    fn history_is_bounded_and_forgets_sites_that_are_gone() {
        let sites = SiteTable::register(&mut Registry::default());
        let history = History::default();
        let mut recorder = Recorder::new(Arc::clone(&sites));
        sites.site("shop");
        sites.site("gone");
        for (second, at) in times(2000) {
            if second == 1000 {
                sites.keep(|name| name != "gone");
            }
            history.tick(&mut recorder, second, at);
        }
        let by_second = history.samples(true, None, |_| true);
        assert_eq!(by_second["shop"].len(), SECONDS);
        assert_eq!(history.samples(false, None, |_| true)["shop"].len(), TENS);
        assert!(!by_second.contains_key("gone"));
        assert_eq!(recorder.by_second.len(), 1);
        // Many instances have samples of ten seconds only, and together no more than the bound.
        for number in 0..2 * MOST_BY_SECOND {
            sites.site(&format!("site-{number}"));
        }
        for (second, at) in times(3000) {
            history.tick(&mut recorder, second, at);
        }
        let recorded = history.0.lock();
        assert!(
            recorded.tens.samples <= MOST_SAMPLES,
            "{}",
            recorded.tens.samples
        );
        assert_eq!(recorded.tens.ticks.len(), TENS);
    }
}
