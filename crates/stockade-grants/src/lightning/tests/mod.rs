//! What is paid and what is not, with a wallet that follows a script.

mod killed;

use std::path::Path;
use std::time::UNIX_EPOCH;

use bitcoin::hashes::{Hash, sha256};
use bitcoin::secp256k1::{Secp256k1, SecretKey};
use futures_util::FutureExt;
use lightning_invoice::{Currency, InvoiceBuilder, PaymentSecret};
use parking_lot::Mutex;
use stockade_broker::{Broker, BrokerOptions};
use stockade_capability::{CallNotes, Owner};
use stockade_config::FeeLimit;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use super::wallet::{Found, Made, WalletError};
use super::*;

/// When it is, in seconds since 1970, where a test says what time it is.
const NOW: u64 = 1_700_000_000;

/// The proof of the n-th payment.
fn preimage(number: u8) -> String {
    format!("{number:02x}").repeat(32)
}

fn hash(number: u8) -> sha256::Hash {
    sha256::Hash::hash(&[number; 32])
}

/// An invoice that the n-th preimage proves.
fn invoice(number: u8, msat: Option<u64>, currency: Currency, created: SystemTime) -> String {
    let key = SecretKey::from_slice(&[7; 32]).unwrap();
    let builder = InvoiceBuilder::new(currency)
        .description("test".to_owned())
        .payment_hash(hash(number))
        .payment_secret(PaymentSecret([9; 32]))
        .timestamp(created)
        .min_final_cltv_expiry_delta(18);
    let builder = match msat {
        Some(msat) => builder.amount_milli_satoshis(msat),
        None => builder,
    };
    let sign = |message: &_| Secp256k1::new().sign_ecdsa_recoverable(message, &key);
    builder.build_signed(sign).unwrap().to_string()
}

fn regtest(number: u8, msat: u64) -> String {
    invoice(number, Some(msat), Currency::Regtest, SystemTime::now())
}

/// A wallet that answers each payment as the test says, and counts.
#[derive(Default)]
struct Script {
    answers: Mutex<Vec<Paid>>,
    found: Mutex<Option<Result<Found, WalletError>>>,
    paid: Mutex<Vec<String>>,
    /// Payments wait for it, where they are to.
    hold: Option<Notify>,
    knows_all: bool,
}

impl Wallet for Script {
    fn pay<'a>(
        &'a self,
        _invoice: &'a str,
        hash: &'a str,
        _amount: Option<Msat>,
    ) -> BoxFuture<'a, Paid> {
        Box::pin(async move {
            self.paid.lock().push(hash.to_owned());
            if let Some(hold) = &self.hold {
                hold.notified().await;
            }
            self.answers.lock().remove(0)
        })
    }

    fn make<'a>(
        &'a self,
        amount: Msat,
        _description: &'a str,
        _expiry: Option<u64>,
    ) -> BoxFuture<'a, Result<Made, WalletError>> {
        Box::pin(async move {
            Ok(Made {
                invoice: regtest(99, amount.0),
            })
        })
    }

    fn find<'a>(&'a self, _hash: &'a str) -> BoxFuture<'a, Result<Found, WalletError>> {
        let found = self.found.lock().clone();
        Box::pin(async move { found.unwrap_or(Err(WalletError::Unreachable("gone".to_owned()))) })
    }

    fn knows_all(&self) -> bool {
        self.knows_all
    }
}

fn account(wallet: &Arc<Script>, folder: &Path) -> Arc<Account> {
    let spend = Spend {
        payment: Msat(10_000),
        day: Msat(30_000),
        fee: FeeLimit {
            millionths: 10_000,
            fixed: Msat(1000),
        },
    };
    Arc::new(Account {
        wallet: Arc::clone(wallet) as Arc<dyn Wallet>,
        network: BitcoinNetwork::Regtest,
        receive: true,
        spend: Some(spend),
        data: folder.to_owned(),
        ledger: OnceCell::new(),
        overcharges: AtomicU32::new(0),
        is_reviewing: AtomicBool::new(false),
    })
}

async fn open(folder: &Path, limit: u64) -> Result<Ledger, String> {
    Ledger::open(folder, Msat(limit), CallPlace::default()).await
}

fn yes(number: u8, fee: u64) -> Paid {
    Paid::Yes {
        fee: Msat(fee),
        preimage: preimage(number),
    }
}

/// The context of a call, with this place.
fn context(place: CallPlace) -> CallContext {
    CallContext {
        owner: Owner {
            instance: "shop".into(),
            start: 1,
            mirror: 1,
        },
        notes: CallNotes::default(),
        place,
    }
}

async fn call(account: &Arc<Account>, method: &str, argument: Value) -> Result<Value, GuestError> {
    let request = serde_json::from_value(argument).unwrap();
    let context = context(CallPlace::default());
    account.call(&context, method, request).await
}

async fn pay(account: &Arc<Account>, invoice: &str) -> Result<Value, GuestError> {
    call(account, "payInvoice", json!({ "invoice": invoice })).await
}

async fn left(account: &Arc<Account>) -> u64 {
    call(account, "getBalance", json!({})).await.unwrap()["balance"]
        .as_u64()
        .unwrap()
}

fn script(answers: &[Paid]) -> Arc<Script> {
    Arc::new(Script {
        answers: Mutex::new(answers.to_vec()),
        ..Script::default()
    })
}

#[tokio::test]
async fn payment_within_its_limits_is_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let wallet = script(&[yes(1, 50)]);
    let account = account(&wallet, folder.path());
    let first = pay(&account, &regtest(1, 5000)).await.unwrap();
    assert_eq!(first, json!({ "preimage": preimage(1), "fees_paid": 50 }));
    // The same hash, also in another invoice of another amount: nothing is sent, and the proof is the first one.
    for again in [regtest(1, 5000), format!("lightning:{}", regtest(1, 9000))] {
        assert_eq!(pay(&account, &again).await.unwrap(), first);
    }
    assert_eq!(wallet.paid.lock().len(), 1);
    assert_eq!(left(&account).await, 30_000 - 5050);
    let listed = call(&account, "listTransactions", json!({})).await.unwrap();
    assert_eq!(listed["transactions"][0]["state"], "settled");
    let budget = call(&account, "getBudget", json!({})).await.unwrap();
    assert_eq!(
        (&budget["used_budget"], &budget["total_budget"]),
        (&json!(5050), &json!(30_000))
    );
}

#[tokio::test]
async fn payment_beyond_a_limit_is_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let wallet = script(&[yes(1, 0), yes(2, 0)]);
    let account = account(&wallet, folder.path());
    assert_eq!(
        pay(&account, &regtest(5, 10_001)).await.unwrap_err().name,
        "QuotaExceededError"
    );
    pay(&account, &regtest(1, 10_000)).await.unwrap();
    pay(&account, &regtest(2, 10_000)).await.unwrap();
    // With its largest fee it would be 11,100 of the 10,000 that are left.
    let error = pay(&account, &regtest(3, 10_000)).await.unwrap_err();
    assert_eq!(error.name, "QuotaExceededError");
    assert!(
        error.message.contains("11100") && error.message.contains("10000"),
        "{error}"
    );
    assert_eq!(wallet.paid.lock().len(), 2);
}

#[tokio::test]
async fn text_that_is_no_invoice_to_pay_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let wallet = script(&[]);
    let account = account(&wallet, folder.path());
    let now = SystemTime::now();
    let old = now - Duration::from_secs(7200);
    let broken = regtest(1, 1000).replace('q', "p");
    for (text, part) in [
        (String::new(), "not a Lightning invoice"),
        ("lnbcrt1".to_owned(), "not a Lightning invoice"),
        ("l".repeat(10_000), "not a Lightning invoice"),
        (broken, "not a Lightning invoice"),
        (
            invoice(1, Some(1000), Currency::Bitcoin, now),
            "another network",
        ),
        (invoice(1, Some(1000), Currency::Regtest, old), "expired"),
        (invoice(1, None, Currency::Regtest, now), "names no amount"),
    ] {
        let error = pay(&account, &text).await.unwrap_err();
        assert!(error.message.contains(part), "{text}: {error}");
    }
    let other = json!({ "invoice": regtest(1, 1000), "amount": 999 });
    let error = call(&account, "payInvoice", other).await.unwrap_err();
    assert!(error.message.contains("no other amount"), "{error}");
    assert_eq!(wallet.paid.lock().len(), 0);
    assert_eq!(left(&account).await, 30_000);
}

/// Of LNbits 1.6.2, without the feature bits that newer wallets write.
#[test]
fn invoice_of_an_older_form_is_read() {
    let text = "lnbc210n1p4secemdqzwsxqrrsssp56dfl9u9mp7a9t8ndwyv34stc90lltlt5xm7qy5q4y0vdtrda6dhspp5y4sz898u4l5ql2z6pe75vhves3mqruu3lwde2jxjmp8nj4zwemss8vue7c3nwgw8j5auf52wlud4xuylf4yctf6zv9ezkdwclsgf9ujxq68zfcyzxwn002u67sjwkjatyylyc6u9kfv32v085kjmnct9qqqq46r6ww";
    let invoice = Invoice::read(text, BitcoinNetwork::Mainnet).unwrap();
    assert_eq!(
        invoice.hash,
        "25602394fcafe80fa85a0e7d465d99847601f391fb9b9548d2d84f39544ecee1"
    );
    assert_eq!(invoice.named, Some(Msat(21_000)));
    // Its signature is of the whole text.
    let other = text.replacen("210n", "220n", 1);
    assert!(Invoice::read(&other, BitcoinNetwork::Mainnet).is_err());
}

#[tokio::test]
async fn payment_that_failed_gives_back_what_was_reserved() {
    let folder = tempfile::tempdir().unwrap();
    let wallet = script(&[Paid::No("no route".to_owned()), yes(1, 7)]);
    let account = account(&wallet, folder.path());
    let error = pay(&account, &regtest(1, 5000)).await.unwrap_err();
    assert!(error.message.contains("no route"), "{error}");
    assert_eq!(left(&account).await, 30_000);
    assert_eq!(
        pay(&account, &regtest(1, 5000)).await.unwrap()["fees_paid"],
        7
    );
}

#[tokio::test]
async fn payment_of_unknown_outcome_stays_spent_until_the_wallet_knows() {
    let folder = tempfile::tempdir().unwrap();
    let lost = || Paid::Unknown("lost".to_owned());
    for (found, state) in [
        (
            Found {
                incoming: false,
                settled: true,
                failed: false,
                preimage: Some(preimage(1)),
                fee: Some(Msat(20)),
            },
            "settled",
        ),
        (
            Found {
                incoming: false,
                settled: false,
                failed: true,
                preimage: None,
                fee: None,
            },
            "failed",
        ),
        // A wallet that lies, or does not know yet.
        (
            Found {
                incoming: false,
                settled: true,
                failed: false,
                preimage: Some(preimage(2)),
                fee: None,
            },
            "pending",
        ),
        (
            Found {
                incoming: false,
                settled: false,
                failed: false,
                preimage: None,
                fee: None,
            },
            "pending",
        ),
    ] {
        let folder = folder.path().join(state).join(format!("{}", found.settled));
        let wallet = script(&[lost()]);
        let account = account(&wallet, &folder);
        let error = pay(&account, &regtest(1, 5000)).await.unwrap_err();
        assert!(error.message.contains("unknown"), "{error}");
        assert_eq!(left(&account).await, 30_000 - 5000 - 1050);
        // Asked again it is not sent again, as long as the wallet says nothing.
        assert!(
            pay(&account, &regtest(1, 5000))
                .await
                .unwrap_err()
                .message
                .contains("unknown")
        );
        assert_eq!(wallet.paid.lock().len(), 1);
        *wallet.found.lock() = Some(Ok(found));
        let shown = call(
            &account,
            "lookupInvoice",
            json!({ "invoice": regtest(1, 5000) }),
        )
        .await
        .unwrap();
        assert_eq!(shown["state"], state);
        let expected = match state {
            "settled" => 30_000 - 5020,
            "failed" => 30_000,
            _ => 30_000 - 6050,
        };
        assert_eq!(left(&account).await, expected, "{state}");
    }
}

#[tokio::test]
async fn incoming_or_unknown_payment_gives_nothing_back() {
    let folder = tempfile::tempdir().unwrap();
    let wallet = script(&[Paid::Unknown("lost".to_owned())]);
    let account = account(&wallet, folder.path());
    pay(&account, &regtest(1, 5000)).await.unwrap_err();
    let found = |incoming| {
        Ok(Found {
            incoming,
            settled: false,
            failed: true,
            preimage: None,
            fee: None,
        })
    };
    let ledger = account
        .ledger(&context(CallPlace::default()))
        .await
        .unwrap();
    let later = SystemTime::now() + CERTAIN * 2;
    for (answer, left_over) in [
        (found(true), 30_000 - 6050),
        (Err(WalletError::NotFound), 30_000 - 6050),
        (found(false), 30_000),
    ] {
        *wallet.found.lock() = Some(answer);
        let hash = hash(1).to_string();
        account.resolve(ledger, &hash, later, false).await.unwrap();
        assert_eq!(left(&account).await, left_over);
    }
}

#[tokio::test]
async fn wallet_without_proof_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    for (number, proof) in [
        (1, preimage(2)),
        (2, String::new()),
        (3, "zz".repeat(32)),
        (4, preimage(4)[1..].to_owned()),
    ] {
        let wallet = script(&[Paid::Yes {
            fee: Msat(0),
            preimage: proof,
        }]);
        let account = account(&wallet, &folder.path().join(number.to_string()));
        let error = pay(&account, &regtest(number, 1000)).await.unwrap_err();
        assert!(error.message.contains("no proof"), "{error}");
        assert_eq!(left(&account).await, 30_000 - 1000 - 1010);
    }
}

#[tokio::test]
async fn wallet_that_takes_too_much_pays_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let wallet = script(&[yes(1, 2000), yes(2, 2000), yes(3, 0)]);
    let account = account(&wallet, folder.path());
    for number in [1, 2] {
        pay(&account, &regtest(number, 1000)).await.unwrap();
    }
    // What it took is what counts.
    assert_eq!(left(&account).await, 30_000 - 6000);
    assert!(
        pay(&account, &regtest(3, 1000))
            .await
            .unwrap_err()
            .message
            .contains("largest fee")
    );
    assert_eq!(wallet.paid.lock().len(), 2);
}

#[tokio::test]
async fn wallet_that_took_too_much_as_is_learned_late_pays_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let lost = || Paid::Unknown("lost".to_owned());
    let wallet = script(&[lost(), lost(), yes(3, 0)]);
    let account = account(&wallet, folder.path());
    for number in [1, 2] {
        pay(&account, &regtest(number, 1000)).await.unwrap_err();
        *wallet.found.lock() = Some(Ok(Found {
            incoming: false,
            settled: true,
            failed: false,
            preimage: Some(preimage(number)),
            fee: Some(Msat(2000)),
        }));
        let argument = json!({ "invoice": regtest(number, 1000) });
        let found = call(&account, "lookupInvoice", argument).await.unwrap();
        assert_eq!(found["fees_paid"], 2000);
        assert_eq!(left(&account).await, 30_000 - 3000 * u64::from(number));
    }
    let error = pay(&account, &regtest(3, 1000)).await.unwrap_err();
    assert!(error.message.contains("largest fee"), "{error}");
    assert_eq!(wallet.paid.lock().len(), 2);
}

#[tokio::test]
async fn excess_that_is_learned_on_another_day_counts_on_that_day() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path(), 1000).await.unwrap();
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    let next = now + Duration::from_secs(24 * 60 * 60);
    for hash in ["a", "b", "c"] {
        let reserved = ledger.reserve(hash, Msat(90), Msat(10), now).await;
        assert_eq!(reserved.unwrap(), Reservation::New);
    }
    for (hash, paid, excess) in [("a", Some(500), 490), ("b", Some(4), 0), ("c", None, 0)] {
        let paid = paid.map(|fee| (Msat(fee), "proof"));
        let learned = ledger.settle(hash, None, paid, next).await.unwrap();
        assert_eq!(learned, Msat(excess), "{hash}");
    }
    assert_eq!(ledger.spent(now).await.unwrap(), Msat(100 + 94));
    assert_eq!(ledger.spent(next).await.unwrap(), Msat(490));
    let error = ledger.reserve("d", Msat(501), Msat(10), next).await;
    assert!(matches!(error, Err(LedgerError::Day { .. })), "{error:?}");
}

#[tokio::test]
async fn payments_that_are_listed_are_the_latest() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path(), 1_000_000).await.unwrap();
    let at = |second: u64| UNIX_EPOCH + Duration::from_secs(NOW + second);
    // Hashes whose order says nothing about when they were made.
    let hash = |number: u64| format!("{:03}", number * 7 % 300);
    for number in 0..300 {
        let hash = hash(number);
        let reserved = ledger.reserve(&hash, Msat(1), Msat(0), at(number)).await;
        assert_eq!(reserved.unwrap(), Reservation::New);
    }
    // One that failed and was paid later is among the latest, once.
    let first = hash(0);
    ledger.settle(&first, None, None, at(0)).await.unwrap();
    let reserved = ledger.reserve(&first, Msat(1), Msat(0), at(300)).await;
    assert_eq!(reserved.unwrap(), Reservation::New);
    let listed = ledger.payments().await.unwrap();
    let listed: Vec<String> = listed.into_iter().map(|(hash, _)| hash).collect();
    let mut expected = vec![first];
    expected.extend((201..300).rev().map(hash));
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn wallet_is_asked_again_about_a_payment_of_unknown_outcome() {
    let folder = tempfile::tempdir().unwrap();
    let lost = || Paid::Unknown("a proxy broke off".to_owned());
    let wallet = Arc::new(Script {
        answers: Mutex::new(vec![lost(), lost()]),
        knows_all: true,
        ..Script::default()
    });
    let account = account(&wallet, folder.path());
    for number in [1, 2] {
        pay(&account, &regtest(number, 5000)).await.unwrap_err();
    }
    let now = SystemTime::now();
    let reserved = 30_000 - 2 * 6050;
    // Nothing is given back while the wallet says nothing, or may still come to it.
    assert!(account.review_once(now + REVIEW).await);
    *wallet.found.lock() = Some(Err(WalletError::NotFound));
    assert!(account.review_once(now).await);
    assert_eq!(left(&account).await, reserved);
    assert!(!account.review_once(now + REVIEW).await);
    assert_eq!(left(&account).await, 30_000);
    // What was left of a day that is over holds nothing back, and is not asked about.
    let wallet = script(&[lost()]);
    let account = self::account(&wallet, &folder.path().join("other"));
    pay(&account, &regtest(1, 5000)).await.unwrap_err();
    let two_days = Duration::from_secs(2 * 24 * 60 * 60);
    assert!(!account.review_once(now + two_days).await);
}

#[tokio::test]
async fn ledger_that_cannot_be_opened_is_named_in_the_record_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("planted-path");
    std::fs::write(&file, "").unwrap();
    let account = account(&script(&[]), &file);
    let context = context(CallPlace::default());
    let request = serde_json::from_value(json!({})).unwrap();
    let error = account.call(&context, "getBalance", request).await;
    let error = error.unwrap_err();
    assert!(!error.message.contains("planted"), "{error}");
    let notes = format!("{:?}", context.notes.take());
    assert!(
        notes.contains("failure") && notes.contains("planted-path"),
        "{notes}"
    );
}

#[tokio::test]
async fn ledger_that_is_slow_to_open_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let slow = folder.path().join("slow");
    let shelf = ledger::Shelf::of(&slow);
    let (go, wait) = tokio::sync::oneshot::channel::<()>();
    let opening = tokio::spawn(async move {
        let failing = || async {
            wait.await.map_err(|error| error.to_string())?;
            Err("it was slow".to_owned())
        };
        shelf.0.get_or_try_init(failing).await.map(|_| ())
    });
    tokio::task::yield_now().await;
    // A guest that cancels what waits for it keeps its place meanwhile.
    let held = Arc::new(());
    let place = CallPlace::new(Arc::clone(&held) as _);
    let mut waiting = Box::pin(Ledger::open(&slow, Msat(1), place));
    assert!((&mut waiting).now_or_never().is_none());
    drop(waiting);
    assert_eq!(Arc::strong_count(&held), 2);
    let other = open(&folder.path().join("other"), 1000).await.unwrap();
    assert_eq!(other.spent(SystemTime::now()).await.unwrap(), Msat(0));
    go.send(()).unwrap();
    assert_eq!(opening.await.unwrap().unwrap_err(), "it was slow");
    let opened = open(&slow, 1000).await.unwrap();
    assert_eq!(opened.spent(SystemTime::now()).await.unwrap(), Msat(0));
    assert_eq!(Arc::strong_count(&held), 1);
}

#[tokio::test]
async fn payment_goes_on_without_its_guest_and_others_join_it() {
    let folder = tempfile::tempdir().unwrap();
    let wallet = Arc::new(Script {
        answers: Mutex::new(vec![yes(1, 3)]),
        hold: Some(Notify::new()),
        ..Script::default()
    });
    let account = account(&wallet, folder.path());
    let text = regtest(1, 1000);
    let held = Arc::new(());
    let context = context(CallPlace::new(Arc::clone(&held) as _));
    let request = serde_json::from_value(json!({ "invoice": text })).unwrap();
    let mut abandoned = Box::pin(async {
        let context = context;
        account.call(&context, "payInvoice", request).await
    });
    // Until it is at the wallet.
    while wallet.paid.lock().is_empty() {
        tokio::select! {
            biased;
            _ = &mut abandoned => panic!("it is held"),
            () = tokio::task::yield_now() => {}
        }
    }
    drop(abandoned);
    assert_eq!(Arc::strong_count(&held), 2, "the payment has the place");
    let joined = tokio::spawn({
        let (account, text) = (Arc::clone(&account), text.clone());
        async move { pay(&account, &text).await }
    });
    wallet.hold.as_ref().unwrap().notify_one();
    assert_eq!(joined.await.unwrap().unwrap()["fees_paid"], 3);
    assert_eq!(Arc::strong_count(&held), 1);
    assert_eq!(wallet.paid.lock().len(), 1);
}

#[tokio::test]
async fn invoice_is_made_and_found_by_the_grant_alone() {
    let folder = tempfile::tempdir().unwrap();
    let wallet = script(&[]);
    let account = account(&wallet, folder.path());
    let made = call(
        &account,
        "makeInvoice",
        json!({ "amount": 2000, "description": "tea" }),
    )
    .await
    .unwrap();
    assert_eq!(
        (&made["amount"], &made["description"]),
        (&json!(2000), &json!("tea"))
    );
    *wallet.found.lock() = Some(Ok(Found {
        incoming: false,
        settled: true,
        failed: false,
        preimage: Some(preimage(99)),
        fee: None,
    }));
    let found = call(
        &account,
        "lookupInvoice",
        json!({ "payment_hash": made["payment_hash"] }),
    )
    .await
    .unwrap();
    assert_eq!(found["state"], "settled");
    let other = call(
        &account,
        "lookupInvoice",
        json!({ "invoice": regtest(5, 1) }),
    )
    .await
    .unwrap_err();
    assert_eq!(other.name, "NotFound");
    for argument in [
        json!({}),
        json!({ "amount": 0 }),
        json!({ "amount": 1, "description": "x".repeat(640) }),
    ] {
        assert!(call(&account, "makeInvoice", argument).await.is_err());
    }
}

#[tokio::test]
async fn payments_at_the_same_time_stay_within_the_day() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Arc::new(open(folder.path(), 1000).await.unwrap());
    let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let reserving = (0..50).map(|number| {
        let ledger = Arc::clone(&ledger);
        tokio::spawn(async move {
            ledger
                .reserve(&format!("{number}"), Msat(90), Msat(10), now)
                .await
        })
    });
    let mut new = 0;
    for reserved in futures_util::future::join_all(reserving).await {
        match reserved.unwrap() {
            Ok(reservation) => new += u64::from(reservation == Reservation::New),
            Err(error) => assert!(matches!(error, LedgerError::Day { .. }), "{error}"),
        }
    }
    assert_eq!((new, ledger.spent(now).await.unwrap()), (10, Msat(1000)));
    // The next day has its own.
    let next = now + Duration::from_secs(24 * 60 * 60);
    assert_eq!(ledger.spent(next).await.unwrap(), Msat(0));
    // A second one of the same folder has the same book.
    let again = open(folder.path(), 1000).await.unwrap();
    assert_eq!(again.spent(now).await.unwrap(), Msat(1000));
}

// ---- LNbits ----

/// A server that gives one of `answers` to each request, in their order: a status and a body, as LNbits 1.x has them.
async fn lnbits(answers: Vec<(u16, String)>) -> lnbits::Lnbits {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for (status, body) in answers {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = tokio::io::BufReader::new(stream);
            let (mut line, mut length) = (String::new(), 0);
            while stream.read_line(&mut line).await.unwrap() > 2 {
                let header = line.to_ascii_lowercase();
                if let Some(value) = header.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            stream.read_exact(&mut vec![0; length]).await.unwrap();
            let length = body.len();
            let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let network = Broker::new(BrokerOptions::default()).unwrap().network();
    let tls = network.tls(&TlsClientOptions::default()).unwrap();
    lnbits::Lnbits::new(&url, "key", network, tls).unwrap()
}

#[tokio::test]
async fn lnbits_error_gives_a_payment_up_only_where_it_was_surely_not_made() {
    let own = |status: &str| json!({ "detail": "no", "status": status }).to_string();
    let gone = (
        404,
        json!({ "detail": "Payment does not exist." }).to_string(),
    );
    let paid = |paid| {
        let details = json!({ "status": if paid { "success" } else { "pending" }, "amount": -1000, "fee": -7 });
        (
            200,
            json!({ "paid": paid, "preimage": preimage(1), "details": details }).to_string(),
        )
    };
    for (answer, found, expected) in [
        ((520, own("failed")), gone.clone(), "no"),
        ((400, own("failed")), gone.clone(), "no"),
        ((520, own("failed")), paid(true), "yes"),
        ((520, own("pending")), gone.clone(), "unknown"),
        ((520, own("pending")), paid(false), "unknown"),
        // Of a proxy: one that stands before a server which is still at it.
        (
            (504, json!({ "detail": "timed out" }).to_string()),
            gone.clone(),
            "unknown",
        ),
        ((520, "<html>".to_owned()), gone.clone(), "unknown"),
        // The answer about the payment is a proxy's.
        ((520, own("failed")), (404, "<html>".to_owned()), "unknown"),
    ] {
        let shown = format!("{answer:?} {found:?}");
        let wallet = lnbits(vec![answer, found]).await;
        let hash = hash(1).to_string();
        let outcome = match wallet.pay(&regtest(1, 1000), &hash, None).await {
            Paid::Yes { fee, .. } => {
                assert_eq!(fee, Msat(7));
                "yes"
            }
            Paid::No(_) => "no",
            Paid::Unknown(_) => "unknown",
        };
        assert_eq!(outcome, expected, "{shown}");
    }
}
