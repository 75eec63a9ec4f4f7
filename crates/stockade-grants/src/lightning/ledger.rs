//! What a grant has spent, durably.
//!
//! A payment is `reserved` before it is sent, with the largest fee that it may have. It becomes `paid`, with what it
//! cost, or `failed`, which gives back what was reserved. Nothing else gives anything back: a payment whose outcome
//! nobody knows stays reserved, also over restarts.
//!
//! Invariants:
//! 1. What is reserved and paid in one day is within the limit of a day, after each commit and so after each crash.
//! 2. The hash of a payment has one entry. It is reserved again after it failed, and never after it was paid.
//! 3. A commit is on the disk before anything is sent.
//! 4. What a payment cost beyond what was reserved for it counts in the day in which that is learned: the limit of a day
//!    that is over holds nothing back.
//!
//! | key | holds |
//! |---|---|
//! | `payment/HASH` | a [`Payment`] |
//! | `day/DAY` | what was reserved and paid in the day, in msat |
//! | `open/HASH` | nothing: the payment is reserved |
//! | `newest/TIME/HASH` | nothing; TIME decreases, so that the newest payments come first |
//! | `invoice/HASH` | nothing: the invoice was made for the guest |

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use stockade_capability::CallPlace;
use stockade_config::Msat;
use stockade_state::{
    Atomic, Check, Key, Keyspace, KeyspaceName, Limits, List, MAX_LIST, MAX_READ_KEYS, Mutation,
    Outcome, SqliteOptions, SqliteStore, StateEntry, StateError, Store, Value, Version,
};
use tokio::sync::OnceCell;

use super::Waiting;

/// How long a payment that has ended is remembered, for those who ask again: longer than an invoice is valid.
const REMEMBERED: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// How long the total of a day is kept. Only that of today limits anything.
const KEPT: Duration = Duration::from_secs(400 * 24 * 60 * 60);

const DAY: u64 = 24 * 60 * 60;

/// The payments that a list gives.
const MOST_LISTED: usize = 100;

/// Tries of a commit that others were before. Each of them means that another payment got through.
const TRIES: usize = 100;

/// Why the ledger did not do it.
#[derive(Debug, thiserror::Error)]
pub(super) enum LedgerError {
    #[error("{what} of {asked} msat, and {left} msat of the day's limit are left", asked = asked.0, left = left.0)]
    Day {
        what: &'static str,
        asked: Msat,
        left: Msat,
    },
    #[error("the record of payments cannot be written")]
    Store,
}

/// A payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Payment {
    pub(super) state: PaymentState,
    /// Without its fee, in msat.
    pub(super) amount: u64,
    /// What counts against the day, in msat: with the largest fee while it is reserved, with the real one when paid.
    pub(super) counted: u64,
    /// The day in which it counts, since 1970.
    day: u64,
    /// Seconds since 1970.
    pub(super) created: u64,
    /// What proves the payment, in hexadecimal digits.
    pub(super) preimage: Option<String>,
    pub(super) fee: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PaymentState {
    Reserved,
    Paid,
    Failed,
}

/// What became of a wish to pay.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reservation {
    /// Pay now.
    New,
    /// It is there already: on its way, of unknown outcome, or paid.
    Known(Payment),
}

pub(super) struct Ledger {
    book: Arc<Book>,
    limit: Msat,
    _shelf: Arc<Shelf>,
}

/// The place of the book of one folder. Its book is opened once, and no other shelf waits for that.
#[derive(Default)]
pub(super) struct Shelf(pub(super) OnceCell<Arc<Book>>);

/// The payments of one folder.
pub(super) struct Book {
    keyspace: Arc<dyn Keyspace>,
    // Its threads end with the last one that has it.
    _store: SqliteStore,
    /// Payments that are on their way, by their hashes.
    paying: Mutex<HashMap<String, Waiting>>,
}

/// The shelves in use: while a changed grant takes the place of an old one, both have the same.
static SHELVES: LazyLock<Mutex<HashMap<PathBuf, Weak<Shelf>>>> = LazyLock::new(Mutex::default);

impl Shelf {
    /// The shelf of this folder.
    pub(super) fn of(folder: &Path) -> Arc<Self> {
        let mut shelves = SHELVES.lock();
        shelves.retain(|_, shelf| shelf.strong_count() > 0);
        if let Some(shelf) = shelves.get(folder).and_then(Weak::upgrade) {
            return shelf;
        }
        let shelf = Arc::new(Self::default());
        shelves.insert(folder.to_owned(), Arc::downgrade(&shelf));
        shelf
    }
}

impl Book {
    async fn open(path: PathBuf) -> Result<Arc<Self>, String> {
        let options = SqliteOptions::new(&path);
        let opening = tokio::task::spawn_blocking(move || SqliteStore::open(options)).await;
        let store = opening
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        let name = KeyspaceName::new("payments").map_err(|error| error.to_string())?;
        let keyspace = store
            .open(name, Limits::default())
            .await
            .map_err(|error| error.to_string())?;
        Ok(Arc::new(Self {
            keyspace,
            _store: store,
            paying: Mutex::default(),
        }))
    }
}

impl Ledger {
    /// Opens the ledger in this folder, and makes it if there is none. That goes on when the caller does not wait any
    /// more, and has `place` until then.
    pub(super) async fn open(folder: &Path, limit: Msat, place: CallPlace) -> Result<Self, String> {
        let shelf = Shelf::of(folder);
        let (opening, path) = (Arc::clone(&shelf), folder.join("payments.db"));
        let opened = tokio::spawn(async move {
            let _place = place;
            let book = opening.0.get_or_try_init(|| Book::open(path)).await;
            book.map(Arc::clone)
        });
        let book = opened.await.map_err(|error| error.to_string())??;
        Ok(Self {
            book,
            limit,
            _shelf: shelf,
        })
    }

    /// Payments that are on their way, of every grant that has the same folder.
    pub(super) fn paying(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        self.book.paying.lock()
    }

    /// Reserves a payment, or gives the one that is there.
    pub(super) async fn reserve(
        &self,
        hash: &str,
        amount: Msat,
        fee: Msat,
        now: SystemTime,
    ) -> Result<Reservation, LedgerError> {
        let counted = amount.0.saturating_add(fee.0);
        let created = seconds(now);
        let day = created / DAY;
        for _ in 0..TRIES {
            let [known, spent] = self.read([payment_key(hash)?, day_key(day)?]).await?;
            let mut before = None;
            if let Some(entry) = &known {
                let payment: Payment = parse(entry)?;
                if payment.state != PaymentState::Failed {
                    return Ok(Reservation::Known(payment));
                }
                before = Some(payment.created);
            }
            let total: u64 = spent.as_ref().map(parse).transpose()?.unwrap_or_default();
            let left = Msat(self.limit.0.saturating_sub(total));
            if counted > left.0 {
                return Err(LedgerError::Day {
                    what: "the payment may cost",
                    asked: Msat(counted),
                    left,
                });
            }
            let payment = Payment {
                state: PaymentState::Reserved,
                amount: amount.0,
                counted,
                day,
                created,
                preimage: None,
                fee: None,
            };
            let mut mutations = vec![
                put(payment_key(hash)?, &payment, None)?,
                put(day_key(day)?, &total.saturating_add(counted), Some(KEPT))?,
                put(open_key(hash)?, &true, None)?,
                put(newest_key(created, hash)?, &true, Some(KEPT))?,
            ];
            if let Some(before) = before.filter(|before| *before != created) {
                let key = newest_key(before, hash)?;
                mutations.push(Mutation::Delete { key });
            }
            let checks = vec![
                check(payment_key(hash)?, known),
                check(day_key(day)?, spent),
            ];
            if self.commit(Atomic { checks, mutations }).await? {
                return Ok(Reservation::New);
            }
        }
        Err(LedgerError::Store)
    }

    /// Ends a payment that is reserved. `paid` is its fee and its proof; `None` where it has failed for certain.
    /// Nothing happens to a payment that has ended, or to one that was reserved again since it had `version`.
    /// Gives what the payment cost beyond what was reserved.
    pub(super) async fn settle(
        &self,
        hash: &str,
        version: Option<Version>,
        paid: Option<(Msat, &str)>,
        now: SystemTime,
    ) -> Result<Msat, LedgerError> {
        let today = seconds(now) / DAY;
        for _ in 0..TRIES {
            let [known] = self.read([payment_key(hash)?]).await?;
            let Some(entry) = known else {
                return Ok(Msat(0));
            };
            let mut payment: Payment = parse(&entry)?;
            let other = version.is_some_and(|version| version != entry.version);
            if payment.state != PaymentState::Reserved || other {
                return Ok(Msat(0));
            }

            // What it was, and what it cost.
            let reserved = payment.counted;
            payment.counted = match paid {
                Some((fee, preimage)) => {
                    payment.state = PaymentState::Paid;
                    (payment.preimage, payment.fee) = (Some(preimage.to_owned()), Some(fee.0));
                    payment.amount.saturating_add(fee.0)
                }
                None => {
                    payment.state = PaymentState::Failed;
                    0
                }
            };
            let excess = payment.counted.saturating_sub(reserved);
            let mut mutations = vec![
                put(payment_key(hash)?, &payment, Some(REMEMBERED))?,
                Mutation::Delete {
                    key: open_key(hash)?,
                },
            ];
            let mut checks = vec![check(payment_key(hash)?, Some(entry))];

            // The day that it was reserved in gets back what it did not cost, and today has what it cost beyond that.
            let within = payment.counted - excess;
            let mut changes = vec![(payment.day, reserved - within, 0)];
            match changes.iter_mut().find(|(day, ..)| *day == today) {
                Some((_, _, more)) => *more = excess,
                None => changes.push((today, 0, excess)),
            }
            for (day, less, more) in changes {
                let [spent] = self.read([day_key(day)?]).await?;
                let total: u64 = spent.as_ref().map(parse).transpose()?.unwrap_or_default();
                let total = total.saturating_sub(less).saturating_add(more);
                mutations.push(put(day_key(day)?, &total, Some(KEPT))?);
                checks.push(check(day_key(day)?, spent));
            }
            if self.commit(Atomic { checks, mutations }).await? {
                return Ok(Msat(excess));
            }
        }
        Err(LedgerError::Store)
    }

    /// What was reserved and paid in the day of `now`.
    pub(super) async fn spent(&self, now: SystemTime) -> Result<Msat, LedgerError> {
        let [spent] = self.read([day_key(seconds(now) / DAY)?]).await?;
        Ok(Msat(
            spent.as_ref().map(parse).transpose()?.unwrap_or_default(),
        ))
    }

    /// A payment, and the version of its entry.
    pub(super) async fn payment(
        &self,
        hash: &str,
    ) -> Result<Option<(Payment, Version)>, LedgerError> {
        let [known] = self.read([payment_key(hash)?]).await?;
        known
            .map(|entry| Ok((parse(&entry)?, entry.version)))
            .transpose()
    }

    /// Remembers an invoice that was made for the guest.
    pub(super) async fn made(&self, hash: &str) -> Result<(), LedgerError> {
        let mutations = vec![put(invoice_key(hash)?, &true, Some(REMEMBERED))?];
        self.commit(Atomic {
            checks: Vec::new(),
            mutations,
        })
        .await?;
        Ok(())
    }

    /// Whether an invoice was made for the guest.
    pub(super) async fn was_made(&self, hash: &str) -> Result<bool, LedgerError> {
        let [known] = self.read([invoice_key(hash)?]).await?;
        Ok(known.is_some())
    }

    /// The latest payments with their hashes, the newest first: at most [`MOST_LISTED`].
    pub(super) async fn payments(&self) -> Result<Vec<(String, Payment)>, LedgerError> {
        let names = self.names(NEWEST, MOST_LISTED).await?;
        let hashes = names.into_iter().filter_map(|name| {
            let (_, hash) = name.split_once('/')?;
            Some(hash.to_owned())
        });
        self.all(hashes.collect()).await
    }

    /// Hashes of the payments that are reserved and count at `now`; the first thousand.
    pub(super) async fn open_payments(&self, now: SystemTime) -> Result<Vec<String>, LedgerError> {
        let today = seconds(now) / DAY;
        let open = self.names(OPEN, MAX_LIST).await?;
        let open = self.all(open).await?.into_iter();
        let counts = open.filter(|(_, payment)| payment.day >= today);
        Ok(counts.map(|(hash, _)| hash).collect())
    }

    /// What comes after `prefix` in the keys that begin with it, in their order.
    async fn names(&self, prefix: &str, limit: usize) -> Result<Vec<String>, LedgerError> {
        let list = List {
            prefix: prefix.to_owned(),
            limit,
            ..List::default()
        };
        let page = self.book.keyspace.list(list).await.map_err(failed)?;
        let keys = page.keys.into_iter();
        Ok(keys
            .filter_map(|info| info.key.strip_prefix(prefix).map(str::to_owned))
            .collect())
    }

    /// The payments of these hashes that there are.
    async fn all(&self, hashes: Vec<String>) -> Result<Vec<(String, Payment)>, LedgerError> {
        let mut out = Vec::new();
        for hashes in hashes.chunks(MAX_READ_KEYS) {
            let keys = hashes.iter().map(|hash| payment_key(hash));
            let keys = keys.collect::<Result<Vec<_>, _>>()?;
            let entries = self.book.keyspace.read(keys).await.map_err(failed)?;
            for (hash, entry) in hashes.iter().zip(entries) {
                if let Some(entry) = entry {
                    out.push((hash.clone(), parse(&entry)?));
                }
            }
        }
        Ok(out)
    }

    async fn read<const N: usize>(
        &self,
        keys: [Key; N],
    ) -> Result<[Option<StateEntry>; N], LedgerError> {
        let entries = self
            .book
            .keyspace
            .read(keys.to_vec())
            .await
            .map_err(failed)?;
        entries.try_into().map_err(|_| LedgerError::Store)
    }

    /// True if all checks held.
    async fn commit(&self, atomic: Atomic) -> Result<bool, LedgerError> {
        match self.book.keyspace.commit(atomic).await.map_err(failed)? {
            Outcome::Committed { .. } => Ok(true),
            Outcome::Conflict { .. } => Ok(false),
        }
    }
}

const NEWEST: &str = "newest/";
const OPEN: &str = "open/";

fn payment_key(hash: &str) -> Result<Key, LedgerError> {
    key(&format!("payment/{hash}"))
}

fn open_key(hash: &str) -> Result<Key, LedgerError> {
    key(&format!("{OPEN}{hash}"))
}

fn newest_key(created: u64, hash: &str) -> Result<Key, LedgerError> {
    key(&format!("{NEWEST}{:016x}/{hash}", u64::MAX - created))
}

fn invoice_key(hash: &str) -> Result<Key, LedgerError> {
    key(&format!("invoice/{hash}"))
}

fn day_key(day: u64) -> Result<Key, LedgerError> {
    key(&format!("day/{day}"))
}

fn key(text: &str) -> Result<Key, LedgerError> {
    Key::new(text).map_err(|_| LedgerError::Store)
}

/// When a day ends, in seconds since 1970.
pub(super) fn day_ends(now: SystemTime) -> u64 {
    (seconds(now) / DAY + 1) * DAY
}

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn check(key: Key, entry: Option<StateEntry>) -> Check {
    Check {
        key,
        version: entry.map(|entry| entry.version),
    }
}

fn put(key: Key, value: &impl Serialize, ttl: Option<Duration>) -> Result<Mutation, LedgerError> {
    let text = serde_json::to_string(value).map_err(|_| LedgerError::Store)?;
    Ok(Mutation::Put {
        key,
        value: Value::text(&text),
        ttl,
    })
}

/// What cannot be read stops payments: it is not taken for nothing.
fn parse<T: serde::de::DeserializeOwned>(entry: &StateEntry) -> Result<T, LedgerError> {
    serde_json::from_slice(&entry.value.data).map_err(|_| LedgerError::Store)
}

fn failed(_: StateError) -> LedgerError {
    LedgerError::Store
}
