//! A process that acknowledges commits is killed at any instant: nothing acknowledged is lost, nothing is
//! torn.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stockade_state::{
    Atomic, Key, Keyspace, KeyspaceName, Limits, Mutation, SqliteOptions, SqliteStore, Store, Value,
};

const STORE: &str = "STOCKADE_TEST_STATE_STORE";
const TASKS: usize = 4;

fn limits() -> Limits {
    Limits {
        writes_per_second: u32::MAX,
        write_bytes_per_second: u64::MAX,
        ..Limits::default()
    }
}

async fn keyspace(store: &SqliteStore) -> Arc<dyn Keyspace> {
    let name = KeyspaceName::new("site").unwrap();
    store.open(name, limits()).await.unwrap()
}

/// The value of the n-th commit of a task; the last task's are large, so that the log moves often.
fn value(task: usize, number: u64) -> Value {
    let length = if task == TASKS - 1 { 150_000 } else { 100 };
    let mut data = format!("{number} ").into_bytes();
    #[expect(clippy::cast_possible_truncation, reason = "a pattern")]
    data.resize(length, number as u8);
    Value::bytes(data)
}

fn key(side: &str, task: usize) -> Key {
    Key::new(&format!("{side}{task}")).unwrap()
}

/// What a task wrote last, after a check that both its entries are of one commit.
async fn last(keyspace: &Arc<dyn Keyspace>, task: usize) -> u64 {
    let entries = keyspace
        .read(vec![key("left", task), key("right", task)])
        .await
        .unwrap();
    let [left, right] = <[_; 2]>::try_from(entries).unwrap();
    assert_eq!(left, right, "task {task}: torn");
    let Some(entry) = left else {
        return 0;
    };
    let data = &entry.value.data;
    let end = data.iter().position(|byte| *byte == b' ').unwrap();
    let number: u64 = std::str::from_utf8(&data[..end]).unwrap().parse().unwrap();
    assert_eq!(entry.value, value(task, number), "task {task}: torn value");
    number
}

/// Writes until it is killed; not a test by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_writes() {
    let Ok(path) = std::env::var(STORE) else {
        return;
    };
    let store = SqliteStore::open(SqliteOptions::new(path)).unwrap();
    let keyspace = keyspace(&store).await;
    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let keyspace = Arc::clone(&keyspace);
        tasks.push(tokio::spawn(async move {
            let first = last(&keyspace, task).await + 1;
            for number in first.. {
                let mutations = ["left", "right"]
                    .map(|side| Mutation::Put {
                        key: key(side, task),
                        value: value(task, number),
                        ttl: None,
                    })
                    .to_vec();
                let atomic = Atomic {
                    checks: Vec::new(),
                    mutations,
                };
                keyspace.commit(atomic).await.unwrap();
                // One write, so that no line is cut.
                let line = format!("ack {task} {number}\n");
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                std::io::stdout().flush().unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

fn start(path: &Path) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child_writes", "--exact", "--nocapture", "--test-threads=1"])
        .env(STORE, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_killed_at_any_instant_loses_nothing_acknowledged() {
    let rounds: u64 = std::env::var("STOCKADE_TEST_KILLS")
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(200);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut acknowledged = [0_u64; TASKS];
    let mut total = 0;
    for round in 0..rounds {
        let (mut child, mut output) = start(&path);
        // One in eight is killed while it starts, the others after some acknowledgements and a moment.
        let acks = if round % 8 == 0 {
            0
        } else {
            1 + random.below(60)
        };
        let moment = if acks == 0 {
            random.below(40_000)
        } else {
            random.below(4_000)
        };
        let mut seen = 0;
        let mut line = String::new();
        let mut note = |line: &str| {
            // The test harness prints lines of its own.
            let Some(ack) = line.split("ack ").nth(1).filter(|_| line.ends_with('\n')) else {
                return 0;
            };
            let (task, number) = ack.trim().split_once(' ').unwrap();
            acknowledged[task.parse::<usize>().unwrap()] = number.parse().unwrap();
            1
        };
        while seen < acks {
            line.clear();
            assert_ne!(
                output.read_line(&mut line).unwrap(),
                0,
                "round {round}: it ended by itself"
            );
            seen += note(&line);
        }
        let until = Instant::now() + Duration::from_micros(moment);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        loop {
            line.clear();
            if output.read_line(&mut line).unwrap() == 0 {
                break;
            }
            seen += note(&line);
        }
        child.wait().unwrap();
        total += seen;

        let store = SqliteStore::open(SqliteOptions::new(&path)).unwrap();
        let keyspace = keyspace(&store).await;
        for (task, acknowledged) in acknowledged.iter_mut().enumerate() {
            let found = last(&keyspace, task).await;
            assert!(
                found >= *acknowledged,
                "round {round}, task {task}: {acknowledged} is lost, {found} is there"
            );
            assert!(
                found <= *acknowledged + 1,
                "round {round}, task {task}: {found} was never sent"
            );
            *acknowledged = found;
        }
        // In every second round the next process finds the log as the killed one left it.
        if round % 2 == 0 {
            store.close().await;
        }
    }
    assert!(
        total >= rounds,
        "{total} acknowledgements in {rounds} rounds"
    );
    println!("{rounds} kills, {total} commits acknowledged, none lost");
}
