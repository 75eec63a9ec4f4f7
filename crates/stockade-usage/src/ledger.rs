//! Adding up in memory, and the thread that writes the sums to the file.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Condvar, Mutex, RwLock};

use crate::calendar::{Calendar, Day};
use crate::counts::Counts;
use crate::store::{Batch, Caller, Row, Store, StoreError};

/// How often rows that are too old are removed.
const TIDY_EVERY: Duration = Duration::from_secs(3600);

/// How long the disk may take to write when somebody waits for it.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(20);

/// Rows that wait for a disk besides those of keys: of instances without a key, and of other keys, on several days.
const MORE_WAITING: usize = 10_000;

/// What a ledger is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerOptions {
    /// The file. It is made if it is missing, for its owner alone.
    pub path: PathBuf,
    /// How often sums are written: what a process that is killed has not written yet is lost.
    pub interval: Duration,
    /// Days for which rows are kept; for ever without it.
    pub keep_days: Option<u32>,
    /// Keys that are counted apart on one day. All above it count together.
    pub keys: u64,
    /// Keeps the sum of each key since the start, for metrics.
    pub key_totals: bool,
}

/// How the writer is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LedgerStatus {
    /// Batches that were written.
    pub batches: u64,
    /// Rows of them.
    pub rows: u64,
    /// Rows that wait to be written after a failure.
    pub waiting: usize,
    /// Why the last attempt to write failed, until one succeeds.
    pub failing: Option<String>,
}

/// Adds up what is used. Cheap to clone. With the last clone, the writer writes what is left, and ends.
#[derive(Clone)]
pub struct Ledger {
    open: Arc<Open>,
}

struct Open {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.work.notify_one();
        if let Some(writer) = self.writer.lock().take() {
            let _ = writer.join();
        }
    }
}

struct Shared {
    options: LedgerOptions,
    instances: RwLock<HashMap<Arc<str>, OfInstance>>,
    /// Held while sums move from what is pending to what was taken, so that a total has all of them once.
    taking: Mutex<()>,
    state: Mutex<State>,
    /// The writer waits for work.
    work: Condvar,
    /// Callers of [`Ledger::flush`] wait for the writer.
    done: Condvar,
}

/// The counts of one instance.
#[derive(Default)]
struct OfInstance {
    callers: HashMap<Caller, Mutex<OfCaller>>,
    /// What the writer has taken since the start.
    taken: Mutex<Counts>,
}

/// The counts of one key at one instance.
struct OfCaller {
    /// The day that `pending` belongs to.
    day: Day,
    pending: Counts,
    /// The counts of days before, or after where the clock went back.
    others: Vec<(Day, Counts)>,
    /// What the writer has taken since the start; only with [`LedgerOptions::key_totals`].
    taken: Counts,
}

impl OfCaller {
    fn add(&mut self, day: Day, more: &Counts) {
        if day != self.day {
            let before = std::mem::take(&mut self.pending);
            self.put_off(self.day, before);
            self.day = day;
        }
        self.pending.add(more);
    }

    /// Sums of a day that may have some already. A clock that jumps to and fro makes few entries.
    fn put_off(&mut self, day: Day, counts: Counts) {
        if counts.is_empty() {
            return;
        }
        match self.others.iter_mut().find(|(other, _)| *other == day) {
            Some((_, sum)) => sum.add(&counts),
            None => self.others.push((day, counts)),
        }
    }

    fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.others.is_empty()
    }

    fn total_pending(&self) -> Counts {
        let mut sum = self.pending;
        for (_, counts) in &self.others {
            sum.add(counts);
        }
        sum
    }
}

#[derive(Default)]
struct State {
    closed: bool,
    /// The last write that was asked for, and the last that was done, with its outcome.
    asked: u64,
    done: u64,
    status: LedgerStatus,
}

/// A sum since the start of the ledger, for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Total {
    /// The instance's name.
    pub instance: Arc<str>,
    /// Whose, where keys have sums of their own.
    pub caller: Option<Caller>,
    /// How much.
    pub counts: Counts,
}

impl Ledger {
    /// Opens or makes the file, and starts the writer.
    ///
    /// # Errors
    /// When the file cannot be opened, is another kind of file, or the thread cannot be started.
    pub fn open(options: LedgerOptions) -> Result<Self, StoreError> {
        let store = Store::open(&options.path)?;
        let shared = Arc::new(Shared {
            options,
            instances: RwLock::default(),
            taking: Mutex::default(),
            state: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
        });
        let mut writer = Writer::new(store, Arc::clone(&shared))?;
        let writer = std::thread::Builder::new()
            .name("stockade-usage".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| StoreError::Io {
                path: shared.options.path.clone(),
                source,
            })?;
        Ok(Self {
            open: Arc::new(Open {
                shared,
                writer: Mutex::new(Some(writer)),
            }),
        })
    }

    /// What it was opened with.
    #[must_use]
    pub fn options(&self) -> &LedgerOptions {
        &self.open.shared.options
    }

    /// Counts what the instance used for the key of this number, today. Waits for no disk.
    pub fn add(&self, instance: &Arc<str>, key: Option<u64>, more: &Counts) {
        self.add_on(Day::today(), instance, Caller::of(key), more);
    }

    fn add_on(&self, day: Day, instance: &Arc<str>, caller: Caller, more: &Counts) {
        let shared = &self.open.shared;
        // Under the lock: a caller without counts is removed under it too.
        if let Some(found) = shared
            .instances
            .read()
            .get(instance)
            .and_then(|found| found.callers.get(&caller))
        {
            found.lock().add(day, more);
            return;
        }
        let mut instances = shared.instances.write();
        let callers: usize = instances.values().map(|one| one.callers.len()).sum();
        let is_full = callers as u64 >= shared.options.keys.saturating_add(MORE_WAITING as u64);
        let caller = match caller {
            Caller::Key(_) if is_full => Caller::Others,
            caller => caller,
        };
        let of_instance = instances.entry(Arc::clone(instance)).or_default();
        let made = of_instance.callers.entry(caller).or_insert_with(|| {
            Mutex::new(OfCaller {
                day,
                pending: Counts::default(),
                others: Vec::new(),
                taken: Counts::default(),
            })
        });
        made.lock().add(day, more);
    }

    /// Has what was counted until now written, and waits for that; it blocks the thread.
    ///
    /// # Errors
    /// Why it cannot be written now. It is kept, and may be written later.
    pub fn flush(&self) -> Result<(), String> {
        let shared = &self.open.shared;
        let mut state = shared.state.lock();
        state.asked += 1;
        let wanted = state.asked;
        shared.work.notify_one();
        let until = Instant::now() + FLUSH_TIMEOUT;
        while state.done < wanted {
            if shared.done.wait_until(&mut state, until).timed_out() {
                return Err("the disk takes too long; the counts are kept".to_owned());
            }
        }
        state.status.failing.clone().map_or(Ok(()), Err)
    }

    /// How the writer is doing.
    #[must_use]
    pub fn status(&self) -> LedgerStatus {
        self.open.shared.state.lock().status.clone()
    }

    /// The sums since the ledger was opened, of each instance; of each key too with [`LedgerOptions::key_totals`].
    #[must_use]
    pub fn totals(&self) -> Vec<Total> {
        let shared = &self.open.shared;
        let by_key = shared.options.key_totals;
        let mut totals = Vec::new();
        let _taking = shared.taking.lock();
        for (instance, of_instance) in shared.instances.read().iter() {
            let mut sum = *of_instance.taken.lock();
            for (caller, of_caller) in &of_instance.callers {
                let of_caller = of_caller.lock();
                let pending = of_caller.total_pending();
                if by_key {
                    let mut counts = of_caller.taken;
                    counts.add(&pending);
                    totals.push(Total {
                        instance: Arc::clone(instance),
                        caller: Some(*caller),
                        counts,
                    });
                } else {
                    sum.add(&pending);
                }
            }
            if !by_key {
                totals.push(Total {
                    instance: Arc::clone(instance),
                    caller: None,
                    counts: sum,
                });
            }
        }
        totals
    }
}

/// What a row is of.
type Place = (Day, Arc<str>, Caller);

/// What the thread has.
struct Writer {
    store: Store,
    shared: Arc<Shared>,
    /// Random: no other writer of the file has it.
    id: i64,
    /// The number of the next batch.
    number: i64,
    /// What is not in a batch yet.
    unwritten: BTreeMap<Place, Counts>,
    /// The batch that is being written. It is tried until it is in the file, unchanged.
    batch: Vec<Row>,
    calendar: Calendar,
    tidied: Option<Instant>,
}

impl Writer {
    fn new(store: Store, shared: Arc<Shared>) -> Result<Self, StoreError> {
        Ok(Self {
            id: store.random()?,
            store,
            shared,
            number: 1,
            unwritten: BTreeMap::new(),
            batch: Vec::new(),
            calendar: Calendar::default(),
            tidied: None,
        })
    }

    /// Writes at each interval and when it is asked to, until the ledger is closed.
    fn run(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut due = Instant::now() + shared.options.interval;
        loop {
            let (asked, closed) = {
                let mut state = shared.state.lock();
                while !state.closed && state.asked == state.done {
                    if shared.work.wait_until(&mut state, due).timed_out() {
                        break;
                    }
                }
                (state.asked, state.closed)
            };
            due = Instant::now() + shared.options.interval;
            self.take();
            let mut written = self.write();
            if written.is_ok() {
                written = self.tidy(SystemTime::now(), Instant::now());
            }
            self.report(written.err(), asked);
            if closed {
                let left = self.batch.len() + self.unwritten.len();
                if left > 0 {
                    tracing::error!(
                        rows = left,
                        "usage that could not be written is lost with the end of the process"
                    );
                }
                return;
            }
        }
    }

    /// Takes what was counted.
    fn take(&mut self) {
        let shared = Arc::clone(&self.shared);
        let keeps = shared.options.key_totals;
        let mut idle = Vec::new();
        {
            let _taking = shared.taking.lock();
            for (instance, of_instance) in shared.instances.read().iter() {
                for (caller, of_caller) in &of_instance.callers {
                    let mut of_caller = of_caller.lock();
                    if of_caller.is_idle() {
                        idle.push((Arc::clone(instance), *caller));
                        continue;
                    }
                    let sum = of_caller.total_pending();
                    let (day, pending) = (of_caller.day, std::mem::take(&mut of_caller.pending));
                    of_caller.put_off(day, pending);
                    for (day, counts) in std::mem::take(&mut of_caller.others) {
                        self.put(day, instance, *caller, &counts);
                    }
                    if keeps {
                        of_caller.taken.add(&sum);
                    }
                    of_instance.taken.lock().add(&sum);
                }
            }
        }
        // Callers without counts since the last time make room for others. The totals of keys stay.
        if keeps || idle.is_empty() {
            return;
        }
        let mut instances = shared.instances.write();
        for (instance, caller) in idle {
            if let Some(of_instance) = instances.get_mut(&instance)
                && of_instance
                    .callers
                    .get(&caller)
                    .is_some_and(|one| one.lock().is_idle())
            {
                of_instance.callers.remove(&caller);
            }
        }
    }

    /// Adds to what is to be written, which is bounded while nothing can be written.
    fn put(&mut self, day: Day, instance: &Arc<str>, caller: Caller, counts: &Counts) {
        let keys = usize::try_from(self.shared.options.keys).unwrap_or(usize::MAX);
        let is_full = self.unwritten.len() >= keys.saturating_add(MORE_WAITING);
        let mut place = (day, Arc::clone(instance), caller);
        if is_full && matches!(caller, Caller::Key(_)) && !self.unwritten.contains_key(&place) {
            place.2 = Caller::Others;
        }
        self.unwritten.entry(place).or_default().add(counts);
    }

    /// Writes the batch that failed before, and then what came meanwhile.
    fn write(&mut self) -> Result<(), StoreError> {
        loop {
            if self.batch.is_empty() {
                if self.unwritten.is_empty() {
                    return Ok(());
                }
                let places = std::mem::take(&mut self.unwritten).into_iter();
                let rows = places.map(|((day, instance, caller), counts)| Row {
                    day,
                    instance,
                    caller,
                    counts,
                });
                self.batch = rows.collect();
            }
            let batch = Batch {
                writer: self.id,
                number: self.number,
                rows: &self.batch,
                most_keys: self.shared.options.keys,
            };
            self.store.write(&batch, SystemTime::now())?;
            self.number += 1;
            let mut state = self.shared.state.lock();
            state.status.batches += 1;
            state.status.rows += self.batch.len() as u64;
            self.batch.clear();
        }
    }

    /// Removes what is too old, once in an hour.
    fn tidy(&mut self, now: SystemTime, at: Instant) -> Result<(), StoreError> {
        let reached = self.calendar.shows(Day::of(now), at);
        let is_due = |last: Instant| at.saturating_duration_since(last) >= TIDY_EVERY;
        let (Some(days), Some(reached)) = (self.shared.options.keep_days, reached) else {
            return Ok(());
        };
        if self.tidied.is_none_or(is_due) {
            let removed = self.store.remove_before(reached.before(days))?;
            self.tidied = Some(at);
            tracing::debug!(removed, "rows of usage that were too old are removed");
        }
        Ok(())
    }

    /// States how it went, to those who asked and, where that changed, in the log.
    fn report(&self, error: Option<StoreError>, asked: u64) {
        let failed = error.map(|error| error.to_string());
        let mut state = self.shared.state.lock();
        let failed_before = state.status.failing.is_some();
        match &failed {
            Some(why) if !failed_before => {
                tracing::error!("usage cannot be written, counts wait in memory: {why}");
            }
            None if failed_before => tracing::info!("usage is written again"),
            _ => {}
        }
        state.status.waiting = self.batch.len() + self.unwritten.len();
        state.status.failing = failed;
        state.done = asked;
        self.shared.done.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Query;

    fn options(folder: &std::path::Path) -> LedgerOptions {
        LedgerOptions {
            path: folder.join("usage.db"),
            interval: Duration::from_secs(3600),
            keep_days: Some(30),
            keys: 2,
            key_totals: false,
        }
    }

    fn requests(requests: u64) -> Counts {
        Counts {
            requests,
            ..Counts::default()
        }
    }

    fn read(options: &LedgerOptions) -> Vec<(Day, Caller, u64)> {
        let store = Store::open_to_read(&options.path).unwrap();
        let rows = store.rows(&Query::default()).unwrap();
        rows.iter()
            .map(|row| (row.day, row.caller, row.counts.requests))
            .collect()
    }

    #[test]
    fn counts_are_on_the_day_on_which_they_came_whatever_the_clock_does() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        let ledger = Ledger::open(options.clone()).unwrap();
        let shop: Arc<str> = "shop".into();
        let day = |number| Day::of_number(number);
        for (number, count) in [(10, 1), (11, 2), (10, 4), (11, 8), (10, 16)] {
            ledger.add_on(day(number), &shop, Caller::Nobody, &requests(count));
        }
        ledger.flush().unwrap();
        assert_eq!(
            read(&options),
            [(day(10), Caller::Nobody, 21), (day(11), Caller::Nobody, 10)]
        );
        ledger.add_on(day(10), &shop, Caller::Nobody, &requests(1));
        drop(ledger);
        assert_eq!(read(&options)[0].2, 22);
    }

    #[test]
    fn totals_do_not_change_when_counts_are_written() {
        let folder = tempfile::tempdir().unwrap();
        for key_totals in [false, true] {
            let mut options = options(folder.path());
            options.key_totals = key_totals;
            let ledger = Ledger::open(options).unwrap();
            let shop: Arc<str> = "shop".into();
            ledger.add(&shop, Some(1), &requests(1));
            ledger.add(&shop, None, &requests(2));
            let mut before = ledger.totals();
            before.sort_by_key(|total| total.caller);
            let sums: Vec<u64> = before.iter().map(|total| total.counts.requests).collect();
            assert_eq!(sums, if key_totals { vec![2, 1] } else { vec![3] });
            // The second time, callers without counts are forgotten.
            for _ in 0..3 {
                ledger.flush().unwrap();
                let mut after = ledger.totals();
                after.sort_by_key(|total| total.caller);
                assert_eq!(after, before);
            }
        }
    }

    #[test]
    fn keys_without_counts_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(options(folder.path())).unwrap();
        let shop: Arc<str> = "shop".into();
        for key in 0..100 {
            ledger.add(&shop, Some(key), &requests(1));
        }
        let callers = || ledger.open.shared.instances.read()["shop"].callers.len();
        assert_eq!(callers(), 100);
        ledger.flush().unwrap();
        ledger.flush().unwrap();
        assert_eq!(callers(), 0);
        assert_eq!(ledger.totals()[0].counts, requests(100));
        let found = read(ledger.options());
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].1, Caller::Others);
        assert_eq!(found[0].2, 98);
    }

    #[test]
    fn many_threads_lose_no_count() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        let ledger = Ledger::open(options.clone()).unwrap();
        std::thread::scope(|scope| {
            for key in 0..4 {
                let ledger = &ledger;
                scope.spawn(move || {
                    let shop: Arc<str> = "shop".into();
                    for number in 0..2000 {
                        ledger.add(&shop, (key > 0).then_some(key), &requests(1));
                        if number % 100 == 0 {
                            ledger.flush().unwrap();
                        }
                    }
                });
            }
        });
        drop(ledger);
        let all: u64 = read(&options).iter().map(|row| row.2).sum();
        assert_eq!(all, 8000);
    }
}
