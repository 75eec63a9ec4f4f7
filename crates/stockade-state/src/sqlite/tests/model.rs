//! Long random runs, compared with a `BTreeMap`.

use std::collections::BTreeMap;

use super::*;
use crate::{List, Page};

/// A small generator (xorshift64*, Vigna 2016), so that a run is repeated by its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }

    fn key(&mut self) -> String {
        let letters = ["a", "b", "\0", "é", "a/", "\u{ffff}"];
        let length = 1 + self.below(3);
        (0..length)
            .map(|_| letters[usize::try_from(self.below(letters.len() as u64)).unwrap()])
            .collect()
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    value: String,
    version: Version,
    expires_ms: Option<i64>,
}

struct Model {
    rows: BTreeMap<String, Row>,
    now_ms: i64,
    limit: u64,
}

impl Model {
    fn live(&self, key: &str) -> Option<&Row> {
        let now = self.now_ms;
        self.rows
            .get(key)
            .filter(|row| row.expires_ms.is_none_or(|at| at > now))
    }

    fn bytes(&self) -> u64 {
        self.rows
            .iter()
            .map(|(key, row)| Limits::entry_bytes(key.len(), row.value.len()))
            .sum()
    }

    /// What a commit must come to: `None` where storage does not allow it.
    fn commit(&mut self, atomic: &Atomic, version: Version) -> Option<bool> {
        let now = self.now_ms;
        for check in &atomic.checks {
            if self.live(check.key.as_str()).map(|row| row.version) != check.version {
                return Some(false);
            }
        }
        // Expired rows count for nothing: the store removes them before it refuses.
        self.rows
            .retain(|_, row| row.expires_ms.is_none_or(|at| at > now));
        let before = self.rows.clone();
        let used = self.bytes();
        for mutation in &atomic.mutations {
            match mutation {
                Mutation::Put { key, value, ttl } => {
                    let row = Row {
                        value: String::from_utf8(value.data.clone()).unwrap(),
                        version,
                        expires_ms: ttl.map(|ttl| now + i64::try_from(ttl.as_millis()).unwrap()),
                    };
                    self.rows.insert(key.as_str().to_owned(), row);
                }
                Mutation::Delete { key } => {
                    self.rows.remove(key.as_str());
                }
            }
        }
        if self.bytes() > used && self.bytes() > self.limit {
            self.rows = before;
            return None;
        }
        Some(true)
    }

    fn page(&self, list: &List) -> Vec<(String, Version, u64)> {
        let mut keys: Vec<_> = self
            .rows
            .keys()
            .filter(|key| self.live(key).is_some() && key.starts_with(&list.prefix))
            .filter(|key| list.start.as_ref().is_none_or(|start| *key >= start))
            .filter(|key| list.end.as_ref().is_none_or(|end| *key < end))
            .map(|key| {
                let row = &self.rows[key];
                (key.clone(), row.version, row.value.len() as u64)
            })
            .collect();
        if list.reverse {
            keys.reverse();
        }
        keys.truncate(list.limit);
        keys
    }
}

fn random_atomic(random: &mut Random, model: &Model) -> Atomic {
    let mut atomic = Atomic::default();
    for _ in 0..random.below(3) {
        let name = random.key();
        let version = match random.below(4) {
            0 => None,
            1 => Some(random.below(100)),
            _ => model.live(&name).map(|row| row.version),
        };
        atomic.checks.push(Check {
            key: key(&name),
            version,
        });
    }
    for _ in 0..=random.below(4) {
        let name = random.key();
        atomic.mutations.push(if random.below(4) == 0 {
            delete(&name)
        } else {
            Mutation::Put {
                key: key(&name),
                value: Value::text(&"v".repeat(usize::try_from(random.below(200)).unwrap())),
                ttl: (random.below(3) == 0).then(|| Duration::from_millis(1 + random.below(50))),
            }
        });
    }
    atomic
}

fn random_list(random: &mut Random) -> List {
    List {
        prefix: if random.below(2) == 0 {
            String::new()
        } else {
            random.key()
        },
        start: (random.below(3) == 0).then(|| random.key()),
        end: (random.below(3) == 0).then(|| random.key()),
        limit: 1 + usize::try_from(random.below(20)).unwrap(),
        cursor: None,
        reverse: random.below(2) == 0,
    }
}

fn listed(page: &Page) -> Vec<(String, Version, u64)> {
    page.keys
        .iter()
        .map(|info| (info.key.clone(), info.version, info.size))
        .collect()
}

async fn run(seed: u64, steps: usize) {
    let mut random = Random(seed);
    let mut bench = Bench::new();
    let limits = Limits {
        storage_bytes: 3000,
        writes_per_second: u32::MAX,
        ..Limits::default()
    };
    let mut keyspace = bench.limited("site", limits).await;
    let mut model = Model {
        rows: BTreeMap::new(),
        now_ms: START_MS,
        limit: limits.storage_bytes,
    };
    for step in 0..steps {
        let place = format!("seed {seed}, step {step}");
        match random.below(20) {
            0..=9 => {
                let atomic = random_atomic(&mut random, &model);
                let outcome = keyspace.commit(atomic.clone()).await;
                let version = match &outcome {
                    Ok(Outcome::Committed { version, .. }) => *version,
                    _ => 0,
                };
                let expected = model.commit(&atomic, version);
                match outcome {
                    Ok(Outcome::Committed { .. }) => assert_eq!(expected, Some(true), "{place}"),
                    Ok(Outcome::Conflict { .. }) => assert_eq!(expected, Some(false), "{place}"),
                    Err(StateError::QuotaExceeded { .. }) => assert_eq!(expected, None, "{place}"),
                    Err(error) => panic!("{place}: {error}"),
                }
            }
            10..=14 => {
                let name = random.key();
                let entry = keyspace.get(key(&name)).await.unwrap();
                let found = entry.map(|entry| Row {
                    value: String::from_utf8(entry.value.data).unwrap(),
                    version: entry.version,
                    expires_ms: entry.expires_ms,
                });
                assert_eq!(found.as_ref(), model.live(&name), "{place}");
            }
            15..=17 => {
                let list = random_list(&mut random);
                let page = keyspace.list(list.clone()).await.unwrap();
                assert_eq!(listed(&page), model.page(&list), "{place}: {list:?}");
            }
            18 => {
                let ms = i64::try_from(random.below(30)).unwrap();
                bench.clock.advance(ms);
                model.now_ms += ms;
            }
            _ if random.below(20) == 0 => {
                drop(keyspace);
                bench = bench.again().await;
                keyspace = bench.limited("site", limits).await;
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_operations_match_the_model() {
    let runs: u64 = std::env::var("STOCKADE_TEST_RUNS")
        .ok()
        .and_then(|runs| runs.parse().ok())
        .unwrap_or(6);
    for seed in 1..=runs {
        run(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15), 700).await;
    }
}
