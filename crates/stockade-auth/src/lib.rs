//! API keys: their text, their hashes, their store, and the check of each request. Also the check of tokens, and the
//! quotas of what clients use.
//!
//! A [`Store`] is a file that keeps what is known of each key. [`Keys`] is a store that is open for checks: all keys
//! that may be used are in memory, and changes that another process makes to the file take effect while it is open.
//!
//! Invariants:
//! 1. A key's text exists where it is made and where it is checked. The store and the memory have its keyed hash,
//!    from which nobody without the pepper can find the key, or state whether a text is one.
//! 2. A change of the store happens completely or not at all, and is durable before it is acknowledged.
//! 3. A check takes a bounded time, waits for no file, and takes no other time for a text that resembles a key than
//!    for another one of its form.
//! 4. What a check does not find in the store is no key: an error never makes one valid.
//!
//! Deliberately absent: where a request has its key, what a route asks for, and HTTP.

mod failures;
mod hash;
mod index;
mod jwt;
mod key;
mod keys;
mod limits;
mod quotas;
mod scope;
mod sqlite;
mod store;

pub use failures::FailureLimiter;
pub use hash::{KeyHash, Pepper, PepperError};
pub use index::Granted;
pub use jwt::{
    JwksError, JwtAlgorithm, JwtKeys, JwtOptions, JwtVerifier, MAX_JWKS, MAX_TOKEN, Token,
    TokenError,
};
pub use key::{ApiKey, KeyFormatError, PREFIX, redact};
pub use keys::{CheckError, Keys, LastKey, ReportAction};
pub use limits::{KeyLimits, LimitError};
pub use quotas::{QuotaError, Quotas};
pub use scope::{MAX_SCOPES, Scope, ScopeError, Scopes};
pub use sqlite::{SqliteFault, private_file};
pub use store::{
    Export, ImportReport, KeyAction, KeyFields, KeyId, KeyRecord, NewKey, SecretRecord, Status,
    Store, StoreError, Verified,
};
