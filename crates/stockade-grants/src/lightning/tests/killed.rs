//! The ledger under `kill -9`.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::*;

const FOLDER: &str = "STOCKADE_TEST_LEDGER";
const KILLS: &str = "STOCKADE_LEDGER_KILLS";
const LIMIT: u64 = 100_000;

/// Pays until it is killed; not a test by itself. What the wallet is asked to pay stands in a file of its own, written
/// after the reservation and before the outcome is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_pays() {
    let Ok(folder) = std::env::var(FOLDER) else {
        return;
    };
    let folder = Path::new(&folder);
    let ledger = open(folder, LIMIT).await.unwrap();
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    let mut wallet = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(folder.join("wallet"))
        .unwrap();
    println!("began");
    for number in 0_u64.. {
        let hash = format!("{}-{number}", std::process::id());
        let amount = 1 + number * 37 % 200;
        match ledger.reserve(&hash, Msat(amount), Msat(10), now).await {
            Ok(_) => {}
            Err(LedgerError::Day { .. }) => break,
            Err(error) => panic!("{error}"),
        }
        // One of three fails, and the wallet pays nothing; one of three is paid without anybody knowing.
        if number % 3 != 0 {
            // In one piece, so that no line is cut.
            wallet
                .write_all(format!("{hash} {amount}\n").as_bytes())
                .unwrap();
        }
        match number % 3 {
            0 => drop(ledger.settle(&hash, None, None, now).await.unwrap()),
            1 => drop(
                ledger
                    .settle(&hash, None, Some((Msat(0), &preimage(1))), now)
                    .await
                    .unwrap(),
            ),
            _ => {}
        }
    }
    println!("full");
    std::thread::park();
}

#[test]
fn ledger_under_kill_never_exceeds_its_limit() {
    let kills: u64 = std::env::var(KILLS)
        .ok()
        .and_then(|kills| kills.parse().ok())
        .unwrap_or(25);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    let mut folder = tempfile::tempdir().unwrap();
    for kill in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "lightning::tests::killed::child_pays",
                "--nocapture",
            ])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let began = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("began")));
        assert!(began.is_some(), "the child does not begin");
        // An instant that differs each time, in the midst of a commit as well as between two.
        std::thread::sleep(Duration::from_micros(kill * 7919 % 30_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let full = lines
            .map_while(Result::ok)
            .any(|line| line.contains("full"));

        // What the wallet paid is what the ledger knows of, and within the limit.
        let text = std::fs::read_to_string(folder.path().join("wallet")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut seen = HashSet::new();
        let mut paid = 0;
        for (hash, amount) in whole.lines().filter_map(|line| line.split_once(' ')) {
            assert!(seen.insert(hash), "{hash} was paid twice");
            paid += amount.parse::<u64>().unwrap();
        }
        let spent = runtime.block_on(async {
            let ledger = open(folder.path(), LIMIT).await.unwrap();
            for hash in seen.iter().take(50) {
                let (payment, _) = ledger.payment(hash).await.unwrap().unwrap();
                assert_ne!(payment.state, PaymentState::Failed, "{hash}");
            }
            ledger.spent(now).await.unwrap()
        });
        assert!(
            paid <= spent.0 && spent.0 <= LIMIT,
            "kill {kill}: {paid} paid, {} spent of {LIMIT}",
            spent.0
        );
        if full {
            folder = tempfile::tempdir().unwrap();
        }
    }
}
