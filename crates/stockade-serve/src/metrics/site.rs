//! Metrics of sites.
//!
//! Invariant: a site's series exist from its start, at zero, except requests by method and status; they go
//! with the site, and what still counts for it afterwards is in no text.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Method, StatusCode};
use parking_lot::{Mutex, RwLock};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeMetric, LabelSetEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use stockade_instance::{
    CronOutcome, FetchError, Instance, InstanceStats, MirrorEndReason, MirrorNumbers, MirrorState,
    Refusal,
};
use stockade_supervisor::TerminateReason;
use strum::{VariantArray, VariantNames};

use super::latency::Latencies;
use super::sample::{Sample, Totals};

/// Declares the metrics that every site has: field, kind, name, help and, for [`SiteCounts`], a further label and its
/// values.
macro_rules! site_metrics {
    ($($field:ident: $family:ident($($argument:expr),*);)*) => {
        struct Families {
            $($field: $family,)*
        }

        impl Families {
            fn register(registry: &mut Registry) -> Self {
                Self {
                    $($field: $family::register(registry, $($argument),*),)*
                }
            }

            fn site(&self, instance: &Arc<str>) -> SiteMetrics {
                SiteMetrics {
                    name: Arc::clone(instance),
                    $($field: self.$field.site(instance),)*
                    latencies: Latencies::default(),
                    mirror_numbers: MirrorNumbers::default(),
                    instances: Mutex::default(),
                }
            }

            fn forget(&self, instance: &Arc<str>) {
                $(self.$field.forget(instance);)*
            }
        }

        /// Metrics of one site. They go on when the site's instance is replaced by a changed one.
        pub(crate) struct SiteMetrics {
            pub(crate) name: Arc<str>,
            $(pub(crate) $field: <$family as SiteFamily>::Series,)*
            /// Durations of requests since the history last looked.
            pub(super) latencies: Latencies,
            /// The numbers of the mirrors of all instances of the site: each is of one mirror.
            pub(crate) mirror_numbers: MirrorNumbers,
            instances: Mutex<Instances>,
        }
    };
}

site_metrics! {
    requests: SiteRequests(
        "stockade_requests", "Requests answered, by method and class of status");
    duration: SiteHistogram(
        "stockade_request_duration_seconds", "From a request's head to the end of its response");
    received: SiteCounter(
        "stockade_request_body_bytes", "Bytes of request bodies received from clients");
    sent: SiteCounter(
        "stockade_response_body_bytes", "Bytes of response bodies sent to clients");
    starts: SiteCounts(
        "stockade_mirror_starts", "Mirrors started; cold: while a request waited for it",
        "start", ["cold", "ahead"]);
    start_duration: SiteHistogram(
        "stockade_mirror_start_seconds", "From the decision to start a mirror until it is ready");
    start_failures: SiteCounter(
        "stockade_mirror_start_failures", "Mirrors that could not be started");
    ends: SiteCounts(
        "stockade_mirror_ends", "Mirrors ended",
        "reason", MirrorEndReason::names());
    failures: SiteCounts(
        "stockade_requests_failed", "Requests without a response of the guest",
        "reason", FetchError::VARIANTS.iter().copied());
    refusals: SiteCounts(
        "stockade_requests_refused", "Requests that found no room",
        "reason", Refusal::VARIANTS.iter().copied());
    retries: SiteCounter(
        "stockade_requests_retried", "Requests given to a second mirror because the first one ended");
    uncaught: SiteCounter(
        "stockade_uncaught_errors", "Exceptions and rejections that nothing in the guest caught");
    misbehaved: SiteCounter(
        "stockade_guest_misbehaviour", "Times a mirror broke the protocol or went over one of its bounds");
    console_lines: SiteCounter(
        "stockade_console_lines", "Lines of guests' console that were logged");
    console_dropped: SiteCounter(
        "stockade_console_lines_dropped", "Lines of guests' console above the rate that is logged");
    crons: SiteCounts(
        "stockade_cron_runs", "Scheduled runs",
        "outcome", CronOutcome::VARIANTS.iter().copied());
    state_operations: SiteCounts(
        "stockade_state_operations", "Operations of guests on their shared state",
        "outcome", ["ok", "error"]);
    binding_calls: SiteCounts(
        "stockade_binding_calls", "Calls and requests of guests to other instances, assets and files",
        "outcome", ["ok", "error"]);
}

/// A family of metrics with series of every site.
pub(crate) trait SiteFamily {
    /// What one site has of it.
    type Series;

    /// Makes the site's series, or finds those there are.
    fn site(&self, instance: &Arc<str>) -> Self::Series;

    fn forget(&self, instance: &Arc<str>);
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSite {
    instance: Arc<str>,
}

/// One series of each site.
pub(crate) struct SiteSeries<M>(Family<OfSite, M>);

impl<M: Clone> SiteFamily for SiteSeries<M> {
    type Series = M;

    fn site(&self, instance: &Arc<str>) -> M {
        let instance = Arc::clone(instance);
        self.0.get_or_create_owned(&OfSite { instance })
    }

    fn forget(&self, instance: &Arc<str>) {
        let instance = Arc::clone(instance);
        self.0.remove(&OfSite { instance });
    }
}

type SiteCounter = SiteSeries<Counter>;

impl SiteCounter {
    fn register(registry: &mut Registry, name: &str, help: &str) -> Self {
        let family = Family::default();
        registry.register(name, help, family.clone());
        Self(family)
    }
}

/// Buckets of durations, in seconds.
pub(crate) const SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
];

type SiteHistogram = SiteSeries<Histogram>;

impl SiteHistogram {
    fn register(registry: &mut Registry, name: &str, help: &str) -> Self {
        let family = Family::<_, Histogram>::new_with_constructor(|| Histogram::new(SECONDS));
        registry.register(name, help, family.clone());
        Self(family)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct OfSiteAnd {
    instance: Arc<str>,
    label: &'static str,
    value: &'static str,
}

impl EncodeLabelSet for OfSiteAnd {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> fmt::Result {
        [("instance", &*self.instance), (self.label, self.value)].encode(encoder)
    }
}

/// A counter of each site for each value of a further label.
pub(crate) struct SiteCounts {
    family: Family<OfSiteAnd, Counter>,
    label: &'static str,
    values: Vec<&'static str>,
}

impl SiteCounts {
    fn register(
        registry: &mut Registry,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = &'static str>,
    ) -> Self {
        let family = Family::default();
        registry.register(name, help, family.clone());
        Self {
            family,
            label,
            values: values.into_iter().collect(),
        }
    }

    fn labels(&self, instance: &Arc<str>) -> impl Iterator<Item = OfSiteAnd> {
        self.values.iter().map(|value| OfSiteAnd {
            instance: Arc::clone(instance),
            label: self.label,
            value,
        })
    }
}

/// Counts of one site, by the values of a label.
pub(crate) struct Counts(Vec<(&'static str, Counter)>);

impl Counts {
    /// `value` is one of those that the metric was declared with.
    pub(crate) fn add(&self, value: &str, more: u64) {
        let found = self.0.iter().find(|(known, _)| *known == value);
        debug_assert!(found.is_some(), "{value} is not declared");
        if let Some((_, counter)) = found {
            counter.inc_by(more);
        }
    }
}

impl SiteFamily for SiteCounts {
    type Series = Counts;

    fn site(&self, instance: &Arc<str>) -> Counts {
        let series = self.labels(instance);
        Counts(
            series
                .map(|labels| (labels.value, self.family.get_or_create_owned(&labels)))
                .collect(),
        )
    }

    fn forget(&self, instance: &Arc<str>) {
        for labels in self.labels(instance) {
            self.family.remove(&labels);
        }
    }
}

/// Values of the label `method`; other methods count as the last.
const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other",
];
const STATUSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRequest {
    instance: Arc<str>,
    method: &'static str,
    status: &'static str,
}

/// Requests of each site by method and class of status. A series begins with its first request.
pub(crate) struct SiteRequests(Family<OfRequest, Counter>);

impl SiteRequests {
    fn register(registry: &mut Registry, name: &str, help: &str) -> Self {
        let family = Family::default();
        registry.register(name, help, family.clone());
        Self(family)
    }
}

/// Requests of one site. Series are looked up once.
pub(crate) struct RequestCounters {
    family: Family<OfRequest, Counter>,
    counters: [[OnceLock<Counter>; STATUSES.len()]; METHODS.len()],
}

impl SiteFamily for SiteRequests {
    type Series = RequestCounters;

    fn site(&self, _: &Arc<str>) -> RequestCounters {
        RequestCounters {
            family: self.0.clone(),
            counters: Default::default(),
        }
    }

    fn forget(&self, instance: &Arc<str>) {
        for method in METHODS {
            for status in STATUSES {
                self.0.remove(&OfRequest {
                    instance: Arc::clone(instance),
                    method,
                    status,
                });
            }
        }
    }
}

/// Instances of one site that run or drain.
#[derive(Default)]
struct Instances {
    /// Each with its number.
    running: Vec<(u64, Instance)>,
    /// CPU time of those that ended.
    cpu: Duration,
}

impl SiteMetrics {
    /// Counts a request that was answered.
    pub(crate) fn answered(&self, method: &Method, status: StatusCode, took: Duration) {
        let method = METHODS
            .iter()
            .position(|known| *known == method.as_str())
            .unwrap_or(METHODS.len() - 1);
        let status = usize::from(status.as_u16() / 100).clamp(1, STATUSES.len()) - 1;
        let counter = self.requests.counters[method][status].get_or_init(|| {
            self.requests.family.get_or_create_owned(&OfRequest {
                instance: Arc::clone(&self.name),
                method: METHODS[method],
                status: STATUSES[status],
            })
        });
        counter.inc();
        self.duration.observe(took.as_secs_f64());
        self.latencies.add(took);
    }

    /// The instance with this number, which none had before, runs; its usage counts as the site's.
    pub(crate) fn runs(&self, number: u64, instance: Instance) {
        self.instances.lock().running.push((number, instance));
    }

    /// The instance with this number has ended; its CPU time stays counted.
    pub(crate) fn ended(&self, number: u64) {
        let mut instances = self.instances.lock();
        let mut running = instances.running.iter();
        let at = running.position(|(other, _)| *other == number);
        if let Some((_, instance)) = at.map(|at| instances.running.remove(at)) {
            instances.cpu += instance.stats().cpu;
        }
    }

    /// The usage of all instances that run, added up; CPU time since the site's first instance.
    fn stats(&self) -> InstanceStats {
        let instances = self.instances.lock();
        let mut all = InstanceStats {
            cpu: instances.cpu,
            ..InstanceStats::default()
        };
        for (_, instance) in &instances.running {
            let stats = instance.stats();
            all.mirrors.extend(stats.mirrors);
            all.queued += stats.queued;
            all.in_flight += stats.in_flight;
            all.cpu += stats.cpu;
            // Those that are draining want none.
            if !stats.draining {
                all.wanted += stats.wanted;
                all.crashes_in_a_row = all.crashes_in_a_row.max(stats.crashes_in_a_row);
            }
        }
        all
    }
}

/// Whether an operator wants to know of mirrors that ended for this reason.
fn is_kill(reason: &str) -> bool {
    let of_runtime = TerminateReason::VARIANTS.iter();
    let mut of_runtime = of_runtime.map(|reason| reason.name());
    let others = [
        MirrorEndReason::Misbehaved,
        MirrorEndReason::NotReady,
        MirrorEndReason::RecycledForStuck,
    ];
    of_runtime.any(|known| known == reason) || others.iter().any(|other| other.name() == reason)
}

impl SiteMetrics {
    /// What was counted until now, and the state of now.
    pub(super) fn totals(&self) -> (Totals, Sample) {
        let stats = self.stats();
        let of_status = |status: usize| -> u64 {
            let counters = self.requests.counters.iter();
            let counters = counters.filter_map(|method| method[status].get());
            counters.map(Counter::get).sum()
        };
        let ends = self.ends.0.iter().filter(|(reason, _)| is_kill(reason));
        let totals = Totals {
            requests: (0..STATUSES.len()).map(of_status).sum(),
            errors: of_status(STATUSES.len() - 1),
            cpu: stats.cpu,
            kills: ends.map(|(reason, count)| (*reason, count.get())).collect(),
        };
        let sample = Sample {
            memory: stats.mirrors.iter().map(|mirror| mirror.memory).sum(),
            mirrors: stats.mirrors.len(),
            in_flight: stats.in_flight,
            queued: stats.queued,
            ..Sample::default()
        };
        (totals, sample)
    }
}

/// The metrics of all sites, by their names.
pub(crate) struct SiteTable {
    families: Families,
    sites: RwLock<BTreeMap<Arc<str>, Arc<SiteMetrics>>>,
}

impl SiteTable {
    pub(crate) fn register(registry: &mut Registry) -> Arc<Self> {
        let table = Arc::new(Self {
            families: Families::register(registry),
            sites: RwLock::default(),
        });
        registry.register_collector(Box::new(StatsCollector(Arc::clone(&table))));
        table
    }

    /// The metrics of the site of this name, which begin at zero where there are none.
    pub(crate) fn site(&self, name: &str) -> Arc<SiteMetrics> {
        let mut sites = self.sites.write();
        if let Some(site) = sites.get(name) {
            return Arc::clone(site);
        }
        let name: Arc<str> = name.into();
        let site = Arc::new(self.families.site(&name));
        sites.insert(name, Arc::clone(&site));
        site
    }

    /// The metrics of the site of this name, if there are any.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<SiteMetrics>> {
        self.sites.read().get(name).map(Arc::clone)
    }

    /// All sites, by their names.
    pub(super) fn all(&self) -> BTreeMap<Arc<str>, Arc<SiteMetrics>> {
        self.sites.read().clone()
    }

    /// How many sites there are.
    pub(super) fn count(&self) -> usize {
        self.sites.read().len()
    }

    /// Forgets all sites but these.
    pub(crate) fn keep(&self, wanted: impl Fn(&str) -> bool) {
        self.sites.write().retain(|name, _| {
            let keep = wanted(name);
            if !keep {
                self.families.forget(name);
            }
            keep
        });
    }
}

/// What instances say about themselves.
struct StatsCollector(Arc<SiteTable>);

impl fmt::Debug for StatsCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatsCollector").finish_non_exhaustive()
    }
}

type Gauge = (&'static str, &'static str, fn(&InstanceStats) -> f64);

const GAUGES: [Gauge; 5] = [
    (
        "stockade_requests_in_flight",
        "Requests that mirrors handle now",
        |stats| stats.in_flight as f64,
    ),
    (
        "stockade_requests_queued",
        "Requests that wait for a mirror with room",
        |stats| stats.queued as f64,
    ),
    (
        "stockade_mirrors_wanted",
        "Mirrors that there should be",
        |stats| stats.wanted as f64,
    ),
    (
        "stockade_isolate_memory_bytes",
        "Memory of all mirrors: heap, ArrayBuffers, WebAssembly",
        |stats| {
            stats
                .mirrors
                .iter()
                .map(|mirror| mirror.memory as f64)
                .sum()
        },
    ),
    (
        "stockade_websockets_open",
        "WebSockets that guests hold",
        |stats| {
            stats
                .mirrors
                .iter()
                .map(|mirror| mirror.sockets as f64)
                .sum()
        },
    ),
];

impl Collector for StatsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let sites: Vec<_> = self.0.sites.read().values().map(Arc::clone).collect();
        let sites: Vec<_> = sites
            .iter()
            .map(|site| (&*site.name, site.stats()))
            .collect();
        for (name, help, of) in GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (instance, stats) in &sites {
                let labels = [("instance", *instance)];
                ConstGauge::new(of(stats)).encode(family.encode_family(&labels)?)?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "stockade_isolate_cpu_seconds",
            "CPU time of all mirrors there ever were",
            None,
            MetricType::Counter,
        )?;
        for (instance, stats) in &sites {
            let labels = [("instance", *instance)];
            ConstCounter::new(stats.cpu.as_secs_f64()).encode(family.encode_family(&labels)?)?;
        }
        let mut family = encoder.encode_descriptor(
            "stockade_mirrors",
            "Mirrors there are",
            None,
            MetricType::Gauge,
        )?;
        for (instance, stats) in &sites {
            for state in MirrorState::VARIANTS {
                let labels = [("instance", *instance), ("state", state.name())];
                let count = stats.mirrors.iter().filter(|mirror| mirror.state == *state);
                ConstGauge::new(count.count() as i64).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
