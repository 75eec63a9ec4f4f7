//! What each instance and API key used on each day, in UTC.
//!
//! A [`Ledger`] adds up in memory and writes to a [`Store`], one SQLite file, in the background. [`Store::rows`] reads the
//! file, also while a server writes to it, and [`Report`] groups what it read.
//!
//! [`receipt`] has another record of use: a signed statement of one run.
//!
//! Invariants:
//! 1. [`Ledger::add`] never waits for the disk, and takes no more memory for a key than for the last one: the number of
//!    keys is bounded, and what comes above it is counted together.
//! 2. A count that was added is in the file once, or not yet: a batch is one transaction, and one whose outcome is not
//!    known is recognised by its number before it is written again.
//! 3. No count in the file becomes smaller, whatever the clock does. Rows are removed because of their age only after the
//!    clock has shown that age for an hour.

mod calendar;
mod counts;
mod ledger;
pub mod receipt;
mod report;
mod store;

pub use calendar::{Day, DayError};
pub use counts::Counts;
pub use ledger::{Ledger, LedgerOptions, LedgerStatus, Total};
pub use report::{By, Group, Report, shown};
pub use store::{Caller, Query, Row, Store, StoreError};
