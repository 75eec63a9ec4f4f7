//! What API keys, rate limits and traces that are not recorded cost each request. Asked for by name:
//!
//!     cargo test --release -p stockade-gateway --test gateway cost -- --ignored --nocapture

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use stockade_gateway::{
    LimitBy, Limits, Pattern, RateRule, Route, RouteLimits, RouteTable, TableOptions, TraceParents,
    TraceRule, Unit,
};
use stockade_limits::{Allowance, Counters, Period};
use stockade_trace::{Protocol, TraceCounts, TraceOptions, Tracing};

use crate::harness::*;
use crate::keys::{KeyStore, with};

/// Requests of one round, and rounds.
const REQUESTS: u32 = 20_000;
const ROUNDS: usize = 15;

/// CPU time of this process, client and server, in microseconds.
fn cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
    // utime and stime (proc_pid_stat(5)), of 100 ticks a second.
    (ticks(11) + ticks(12)) * 10_000
}

#[tokio::test]
#[ignore = "a measurement"]
async fn cost_of_keys_limits_and_traces() {
    let mut store = KeyStore::new();
    let made = store.key(&["read"]).await;
    let plain = Route::new("shop", vec![Pattern::any()], Arc::new(hello));
    let mut keyed = plain.clone();
    keyed.api_key = Some(Arc::new(store.rule()));
    let mut limited = keyed.clone();
    let rate = |units| Allowance::new(NonZeroU64::new(units).unwrap(), Period::Second, None);
    let rule = |by, unit| RateRule {
        by: vec![by],
        methods: Vec::new(),
        paths: Vec::new(),
        allowances: vec![(unit, rate(1_000_000_000))],
    };
    let rules = [
        rule(LimitBy::Key, Unit::Requests),
        rule(LimitBy::Address, Unit::Requests),
        rule(LimitBy::Instance, Unit::BytesOut),
    ];
    let rules = rules.map(|rule| ("shop".to_owned(), rule));
    let counters = Arc::new(Counters::new(262_144, [7; 16]));
    limited.limits = Some(Arc::new(RouteLimits::new(counters, 64, rules)));
    let traced = TableOptions {
        tracing: Some(TraceRule {
            tracing: unsampled(),
            parents: TraceParents::Nobody,
        }),
        ..TableOptions::default()
    };
    let mut clients = Vec::new();
    let mut servers = Vec::new();
    for (route, options) in [
        (&plain, TableOptions::default()),
        (&keyed, TableOptions::default()),
        (&limited, TableOptions::default()),
        (&plain, traced.clone()),
        (&limited, traced),
    ] {
        let table = RouteTable::new(vec![route.clone()], options).unwrap();
        let limits = Limits {
            requests_per_connection: u64::MAX,
            ..Limits::default()
        };
        let server = Server::start(listener(), table, limits).await;
        clients.push(server.connect().await);
        servers.push(server);
    }
    let header = format!("authorization: Bearer {}\r\n", made.key.reveal());
    let request = with("GET", "/", &header);
    let mut rounds: Vec<[f64; 5]> = Vec::new();
    for _ in 0..ROUNDS {
        let mut round = [0.0; 5];
        for (client, spent) in clients.iter_mut().zip(&mut round) {
            let before = cpu();
            for _ in 0..REQUESTS {
                assert_eq!(client.ask(&request).await.status, 200);
            }
            *spent = (cpu() - before) as f64 / f64::from(REQUESTS);
        }
        // The log of the test keeps every record.
        servers.iter().for_each(|server| server.log.clear());
        rounds.push(round);
    }
    // The kernel counts in ticks, which are long for one round.
    let mean = |at: usize| rounds.iter().map(|round| round[at]).sum::<f64>() / ROUNDS as f64;
    println!(
        "CPU of client and gateway for each request: {:.2} us",
        mean(0)
    );
    let added = ["a key", "a key and 3 limits", "a trace", "all of them"];
    for (at, name) in added.into_iter().enumerate() {
        let more = mean(at + 1) - mean(0);
        println!("with {name}: {more:+.2} us");
    }
}

/// Traces of which none is recorded.
fn unsampled() -> Tracing {
    let options = TraceOptions {
        endpoint: "http://127.0.0.1:1/".parse().unwrap(),
        protocol: Protocol::HttpProtobuf,
        headers: Vec::new(),
        ca: None,
        ratio: 0.0,
        resource: Vec::new(),
        timeout: Duration::from_secs(1),
        retry_after: Duration::from_secs(1),
        queue: 1,
    };
    Tracing::start(&options, Arc::new(TraceCounts::default())).unwrap()
}
