//! How many mirrors load demands. Time and load are given to it; it reads no clock.
//!
//! As Knative's autoscaler (<https://knative.dev/docs/serving/autoscaling/kpa-specific/>): load is averaged
//! over a long, *stable* window. Where the average over a short window is `panic_factor` times what there is
//! room for, the number goes up at once, and not down before a stable window without a burst. CPU time
//! is compared as in Kubernetes' autoscaler: what there is, times what is used, divided by what is wanted.

use std::collections::VecDeque;
use std::time::Duration;

use crate::observer::ScaleCause;
use crate::options::Autoscale;

/// CPU time this close to what is wanted, as a fraction of it, is as wanted.
const TOLERANCE: f64 = 0.1;

/// At one look the number goes down to this fraction of it at most.
const SLOWEST_DOWN: f64 = 0.5;

/// Samples kept; with more the oldest go early.
const MOST_SAMPLES: usize = 4096;

/// What one look finds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Mirrors that serve.
    pub(crate) ready: usize,
    /// Requests that run and wait.
    pub(crate) requests: usize,
    /// CPU time of all mirrors together since the last look, in percent of one core.
    pub(crate) cpu_percent: f64,
    /// Since the last request.
    pub(crate) idle: Duration,
}

struct Sample {
    at: Duration,
    requests: f64,
    cpu_percent: f64,
}

/// Follows the load of one instance.
pub(crate) struct Scaler {
    options: Autoscale,
    samples: VecDeque<Sample>,
    /// Since when there is a burst: moved along while it lasts.
    panic_since: Option<Duration>,
    /// The most that was wanted in the burst.
    panic_most: usize,
}

impl Scaler {
    pub(crate) fn new(options: Autoscale) -> Self {
        Self {
            options,
            samples: VecDeque::new(),
            panic_since: None,
            panic_most: 0,
        }
    }

    /// How many mirrors are wanted at `now`, on any clock that only goes forward, and why.
    pub(crate) fn look(&mut self, now: Duration, load: Load, wanted: usize) -> (usize, ScaleCause) {
        self.samples.push_back(Sample {
            at: now,
            requests: load.requests as f64,
            cpu_percent: load.cpu_percent,
        });
        let window = self.options.stable_window;
        while self.samples.len() > MOST_SAMPLES
            || self
                .samples
                .front()
                .is_some_and(|first| now.saturating_sub(first.at) > window)
        {
            self.samples.pop_front();
        }
        let (most, least) = (self.options.max.max(1), self.options.min);
        if least == 0 && load.requests == 0 && load.idle >= self.options.idle {
            self.panic_since = None;
            return (0, ScaleCause::Idle);
        }
        let floor = if wanted == 0 && load.requests == 0 {
            0
        } else {
            1
        };
        let (number, cause) = self.demand(now, load, wanted);
        (number.clamp(least.max(floor), most.max(least)), cause)
    }

    fn demand(&mut self, now: Duration, load: Load, wanted: usize) -> (usize, ScaleCause) {
        let stable = self.average(now, self.options.stable_window);
        let burst = self.average(now, self.options.panic_window);
        let target = self.options.requests_per_mirror.max(0.01);
        let by_load = (stable.0 / target).ceil() as usize;
        let by_burst = (burst.0 / target).ceil() as usize;
        let room = load.ready.max(1) as f64;
        if burst.0 / target >= self.options.panic_factor * room {
            self.panic_since = Some(now);
        } else if self
            .panic_since
            .is_some_and(|since| now.saturating_sub(since) >= self.options.stable_window)
        {
            self.panic_since = None;
            self.panic_most = 0;
        }
        // What computes hard for a moment may go up at once; down only what was quiet for long.
        let by_cpu = self
            .by_cpu(load.ready, stable.1)
            .max(self.by_cpu(load.ready, burst.1).filter(|n| *n > load.ready));
        if self.panic_since.is_some() {
            self.panic_most = self.panic_most.max(by_burst).max(wanted);
            let number = self.panic_most.max(by_cpu.unwrap_or(0));
            return (number, ScaleCause::Panic);
        }
        let (number, cause) = match by_cpu {
            Some(by_cpu) if by_cpu > by_load => (by_cpu, ScaleCause::Cpu),
            _ => (by_load, ScaleCause::Load),
        };
        let slowest = (wanted as f64 * SLOWEST_DOWN).floor() as usize;
        (number.max(slowest), cause)
    }

    /// How many mirrors the CPU time asks for, if there is a threshold.
    fn by_cpu(&self, ready: usize, used: f64) -> Option<usize> {
        let threshold = self.options.cpu_percent?.max(1.0);
        let ready = ready.max(1) as f64;
        let ratio = used / (threshold * ready);
        if (ratio - 1.0).abs() <= TOLERANCE {
            return Some(ready as usize);
        }
        Some((ready * ratio).ceil() as usize)
    }

    /// Requests and CPU time over the last `window`, on average.
    fn average(&self, now: Duration, window: Duration) -> (f64, f64) {
        let mut sum = (0.0, 0.0);
        let mut count = 0_u32;
        for sample in self.samples.iter().rev() {
            if count > 0 && now.saturating_sub(sample.at) > window {
                break;
            }
            sum.0 += sample.requests;
            sum.1 += sample.cpu_percent;
            count += 1;
        }
        let count = f64::from(count.max(1));
        (sum.0 / count, sum.1 / count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A second-by-second run over a scaler; mirrors are there as soon as they are wanted.
    struct Run {
        scaler: Scaler,
        now: u64,
        wanted: usize,
        idle: u64,
    }

    impl Run {
        fn new(options: Autoscale) -> Self {
            Self {
                wanted: options.min,
                scaler: Scaler::new(options),
                now: 0,
                idle: 0,
            }
        }

        fn second(&mut self, requests: usize, cpu_percent: f64) -> ScaleCause {
            self.now += 1;
            self.idle = if requests > 0 { 0 } else { self.idle + 1 };
            let load = Load {
                ready: self.wanted,
                requests,
                cpu_percent,
                idle: Duration::from_secs(self.idle),
            };
            let (wanted, cause) =
                self.scaler
                    .look(Duration::from_secs(self.now), load, self.wanted);
            self.wanted = wanted;
            cause
        }

        fn seconds(&mut self, seconds: u64, requests: usize, cpu_percent: f64) -> usize {
            for _ in 0..seconds {
                self.second(requests, cpu_percent);
            }
            self.wanted
        }
    }

    fn options() -> Autoscale {
        Autoscale {
            min: 1,
            max: 10,
            requests_per_mirror: 10.0,
            ..Autoscale::default()
        }
    }

    #[test]
    fn scaler_steady_load_gets_what_it_needs_and_no_more() {
        let mut run = Run::new(options());
        assert_eq!(run.seconds(120, 15, 0.0), 2);
        assert_eq!(run.seconds(60, 15, 0.0), 2);
    }

    #[test]
    fn scaler_burst_goes_up_within_seconds_and_down_only_after_a_stable_window() {
        let mut run = Run::new(options());
        run.seconds(60, 5, 0.0);
        assert_eq!(run.wanted, 1);
        let mut took = 0;
        while run.wanted < 6 {
            run.second(60, 0.0);
            took += 1;
            assert!(took <= 6, "{took} s");
        }
        let highest = run.seconds(3, 60, 0.0);
        assert!(highest >= 6);
        assert_eq!(run.seconds(50, 5, 0.0), highest, "not down in the panic");
        assert_eq!(run.seconds(80, 5, 0.0), 1);
    }

    #[test]
    fn scaler_cpu_above_threshold_adds_and_below_takes_away() {
        let mut run = Run::new(options());
        // One mirror computes all the time.
        assert_eq!(run.seconds(2, 1, 100.0), 2);
        assert_eq!(run.second(1, 150.0), ScaleCause::Cpu);
        // Two at 75 percent are as wanted.
        assert_eq!(run.seconds(60, 1, 150.0), 2);
        assert_eq!(run.seconds(90, 1, 20.0), 1);
    }

    #[test]
    fn scaler_never_leaves_its_bounds() {
        let mut run = Run::new(Autoscale {
            min: 2,
            max: 3,
            ..options()
        });
        assert_eq!(run.seconds(10, 1000, 900.0), 3);
        assert_eq!(run.seconds(300, 0, 0.0), 2);
    }

    #[test]
    fn scaler_idle_goes_to_zero_and_stays_there() {
        let mut run = Run::new(Autoscale {
            min: 0,
            idle: Duration::from_secs(30),
            ..options()
        });
        run.wanted = 1;
        assert_eq!(run.seconds(10, 1, 0.0), 1);
        assert_eq!(run.seconds(29, 0, 0.0), 1);
        assert_eq!(run.second(0, 0.0), ScaleCause::Idle);
        assert_eq!(run.seconds(20, 0, 0.0), 0);
        assert_eq!(run.seconds(1, 1, 0.0), 1);
    }

    #[test]
    fn scaler_down_is_never_faster_than_by_half() {
        let mut run = Run::new(Autoscale {
            stable_window: Duration::from_secs(2),
            panic_window: Duration::from_secs(1),
            panic_factor: 1000.0,
            max: 64,
            ..options()
        });
        run.seconds(10, 640, 0.0);
        assert_eq!(run.wanted, 64);
        run.seconds(3, 0, 0.0);
        assert!(run.wanted >= 8, "{}", run.wanted);
    }
}
