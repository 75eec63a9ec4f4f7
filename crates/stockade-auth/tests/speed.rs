//! Measures the memory of many keys and the time of a check. `STOCKADE_TEST_KEYS` is how many there are.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant, SystemTime};

use stockade_auth::{ApiKey, KeyFields, Keys, Pepper, Scope, Store};
use tikv_jemallocator::Jemalloc;

/// As in the program.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Memory of this process in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim()
        .trim_end_matches(" kB")
        .parse::<usize>()
        .unwrap()
        * 1024
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100]
}

#[test]
#[ignore = "a measurement: cargo test --release -p stockade-auth --test speed -- --ignored --nocapture"]
fn many_keys() {
    let count: u64 = std::env::var("STOCKADE_TEST_KEYS").map_or(100_000, |n| n.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.db");
    let pepper = Pepper::new(&[7; 32]).unwrap();
    let mut store = Store::open(&path, pepper.clone()).unwrap();
    let real: Vec<_> = (0..500)
        .map(|number| {
            let fields = KeyFields {
                name: format!("customer-{number:07}"),
                owner: "team-123".to_owned(),
                scopes: vec![Scope::parse("read").unwrap()],
                ..KeyFields::default()
            };
            store.create(&fields, SystemTime::now()).unwrap().key
        })
        .collect();
    // Hashes of no key, in an order in which the database takes them fast.
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute_batch("PRAGMA synchronous = OFF; BEGIN")
        .unwrap();
    let mut keys = raw
        .prepare("INSERT INTO keys (id, name, owner, scopes, metadata, created) VALUES (?1, ?2, 'team-123', 'read', '{}', 1)")
        .unwrap();
    let mut secrets = raw
        .prepare(
            "INSERT INTO secrets (hash, key, hint, created) VALUES (?1, ?2, 'sk_stockade_0000', 1)",
        )
        .unwrap();
    let mut state = 1_u64;
    for number in 0..count {
        let mut hash = [0; 32];
        for chunk in hash.chunks_mut(8) {
            // The generator splitmix64.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(mixed ^ (mixed >> 31)).to_ne_bytes());
        }
        let order = (u128::from(number) << 24) / u128::from(count);
        hash[..3].copy_from_slice(&order.to_be_bytes()[13..]);
        let id = i64::try_from(number).unwrap();
        keys.execute((id, format!("customer-{number:07}"))).unwrap();
        secrets.execute((hash, id)).unwrap();
    }
    drop((keys, secrets));
    raw.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
    drop((raw, store));

    let before = resident();
    let began = Instant::now();
    let keys = Keys::open(&path, pepper).unwrap();
    let loaded = began.elapsed();
    let bytes = resident() - before;
    assert!(keys.count() as u64 >= count);
    println!(
        "{} keys: {} MB, loaded in {loaded:?}",
        keys.count(),
        bytes / 1_000_000
    );

    let now = SystemTime::now();
    let unknown: Vec<_> = (0..20_000).map(|_| ApiKey::generate().unwrap()).collect();
    let time = |key: &ApiKey, valid: bool| {
        let began = Instant::now();
        let found = keys.check(key.reveal().as_bytes(), now);
        let took = began.elapsed();
        assert_eq!(found.is_ok(), valid);
        took
    };
    let mut valid: Vec<_> = (0..100_000)
        .map(|at| time(&real[at * 7 % real.len()], true))
        .collect();
    let mut invalid: Vec<_> = unknown.iter().map(|key| time(key, false)).collect();
    for (what, times) in [("valid", &mut valid), ("unknown", &mut invalid)] {
        let (p50, p99) = (percentile(times, 50), percentile(times, 99));
        println!("check of a {what} key: p50 {p50:?}, p99 {p99:?}");
    }
}
