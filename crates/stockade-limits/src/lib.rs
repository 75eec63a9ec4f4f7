//! Limits, grants and options of isolates: parsed, checked, and nothing else. Also the rate limiter of the program, and
//! the counters of what clients use, and what errors say of texts that may hold secrets.
//!
//! Invariants:
//! 1. A [`Limits`] or [`IsolateOptions`] value is always within the ranges its fields document.
//! 2. Checking goes on after the first problem: one error names them all.
//!
//! Deliberately absent: any I/O, any enforcement, so that every other crate may depend on it.

mod allowance;
mod built_in;
mod counters;
mod fields;
mod limits;
mod misread;
mod options;
mod problem;
mod rate;
mod read;
mod reported;
mod wire;

pub use allowance::{Allowance, Amount, Left, Now, Period, Window};
pub use built_in::{NODE_MODULES, SITE_MODULES, node_module};
pub use counters::{COUNTER_KEY, CountedQuota, CounterId, Counters, NetworkId, network};
pub use fields::{FieldText, Policy, ShownLimits, Standing, push_member, push_policy, push_state};
pub use limits::{
    CpuShare, Limits, MAX_IO_BYTES, MAX_IO_OPS, MAX_MEMORY_MB, MAX_PENDING_REQUESTS, MIN_IO_BYTES,
    MIN_MEMORY, MIN_TIME, MIN_WALL_TIME_DEFAULT,
};
pub use misread::without_value;
pub use options::{
    CgroupUse, ConsoleMode, DEFAULT_KILL_GRACE, DEFAULT_TIMER_PRECISION, Fresh, IsolateOptions,
    Isolation, KILL_GRACE, MAX_MODULE_BYTES, MAX_NAME_LEN, SandboxOptions, Wx,
};
pub use problem::{OptionProblem, OptionsError};
pub use rate::{Admission, IoLimiter, IoRates, LineLimiter, Rate, RateLimiter, RateState};
pub use reported::Reported;
pub use wire::WireError;
