//! How many operations a second, and how long they take. Prints a line of JSON for each case:
//!
//! `cargo test --release -p stockade-state --test speed -- --ignored --nocapture`

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement fails by panicking and prints what it saw"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use stockade_state::{
    Key, Keyspace, KeyspaceName, Limits, SqliteOptions, SqliteStore, Store, Value,
};

const TIME: Duration = Duration::from_secs(3);

#[derive(Clone, Copy)]
enum What {
    Put,
    Get,
    CompareAndPut,
    Mixed,
}

async fn operate(
    keyspace: &Arc<dyn Keyspace>,
    what: What,
    task: usize,
    number: usize,
    bytes: usize,
) {
    let name = Key::new(&format!("key/{task}/{}", number % 1000)).unwrap();
    let value = || Value::bytes(vec![42; bytes]);
    match what {
        What::Put => assert!(keyspace.put(name, value(), None).await.is_ok()),
        What::Get => drop(keyspace.get(name).await.unwrap()),
        What::CompareAndPut => {
            let version = keyspace
                .get(name.clone())
                .await
                .unwrap()
                .map(|entry| entry.version);
            let put = keyspace.compare_and_put(name, version, value(), None).await;
            assert!(put.unwrap().is_some());
        }
        What::Mixed if number.is_multiple_of(10) => {
            assert!(keyspace.put(name, value(), None).await.is_ok())
        }
        What::Mixed => drop(keyspace.get(name).await.unwrap()),
    }
}

async fn measure(store: &SqliteStore, label: &str, what: What, callers: usize, bytes: usize) {
    let limits = Limits {
        writes_per_second: u32::MAX,
        write_bytes_per_second: u64::MAX,
        storage_bytes: 4 << 30,
        ..Limits::default()
    };
    let keyspace = store
        .open(KeyspaceName::new("speed").unwrap(), limits)
        .await
        .unwrap();
    let before = store.stats();
    let begun = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|task| {
            let keyspace = Arc::clone(&keyspace);
            tokio::spawn(async move {
                let mut times = Vec::new();
                while begun.elapsed() < TIME {
                    let one = Instant::now();
                    operate(&keyspace, what, task, times.len(), bytes).await;
                    times.push(one.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    let seconds = begun.elapsed().as_secs_f64();
    times.sort_unstable();
    let after = store.stats();
    let at =
        |share: usize| times[(times.len() * share / 1000).min(times.len() - 1)].as_secs_f64() * 1e3;
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = times.len() as f64 / seconds;
    println!(
        "{{\"case\":\"{label}\",\"callers\":{callers},\"bytes\":{bytes},\"per_second\":{rate:.0},\
         \"p50_ms\":{:.3},\"p99_ms\":{:.3},\"p999_ms\":{:.3},\"transactions\":{}}}",
        at(500),
        at(990),
        at(999),
        after.groups - before.groups,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a check"]
async fn speed() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(SqliteOptions::new(folder.path().join("state.db"))).unwrap();
    for callers in [1, 16, 64, 256] {
        measure(&store, "put", What::Put, callers, 100).await;
    }
    measure(&store, "put 10 KiB", What::Put, 64, 10 << 10).await;
    for callers in [1, 16, 64, 256] {
        measure(&store, "get", What::Get, callers, 100).await;
    }
    measure(&store, "compare and put", What::CompareAndPut, 64, 100).await;
    measure(&store, "nine gets, one put", What::Mixed, 64, 100).await;
    store.close().await;
}
