//! What guests are granted by `grants`, of which each kind needs the broker and nothing else of its host. The same
//! kinds serve `stockade serve`, host scripts, the command line and Rust programs.
//!
//! A kind is a folder here with its capability, a row of [`KINDS`], a section in `stockade_config`, and
//! `stockade-realm/js/bindings/<kind>.js`, which makes the object that a guest finds in `env`.
//!
//! Invariants:
//! 1. Every capability is behind [`bounded`], which holds each call to the grant's limits and records it: a kind
//!    counts nothing of its own.
//! 2. A grant that a reload did not change keeps its object, with its connections and handles. What was spent stays
//!    spent ([`Grants`]).
//! 3. No secret, address of a server or text of a server's greeting is in what a guest receives.
//!
//! Deliberately absent: sites, V8, how a grant is configured.

mod approval;
mod audit;
mod bounded;
mod dns;
mod doors;
mod electrum;
mod files;
mod ground;
mod installed;
mod kept;
mod key;
mod lightning;
mod nostr;
#[cfg(target_os = "linux")]
mod pgp;
mod program;
#[cfg(target_os = "linux")]
mod sqlite;
mod statements;
mod tally;
#[cfg(not(target_os = "linux"))]
mod unsupported;
mod wireguard;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::Value;
use stockade_capability::Capability;
use stockade_config::{CallLimits, Grant};

use doors::{mongo, mysql, postgres, redis};
#[cfg(not(target_os = "linux"))]
use unsupported::{pgp, sqlite};
use wireguard::{peers, tunnel};

pub use approval::{Approval, Approver, Asked};
pub use audit::{CallAudit, CallMoved, CallOutcome, CallRecord, LogAudit, RefusalReason};
pub use files::Files;
pub use ground::{GrantError, Ground};
pub use kept::{Granting, Grants, OpenHandles};
pub use program::ProgramGrants;
pub use tally::GrantedUse;
pub use wireguard::tunnel::ways;

/// One kind of grants.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Its key in `grants`, which is the name of its script and a metric's label.
    pub name: &'static str,
    /// Its methods. A call of another one is refused.
    pub methods: &'static [&'static str],
    /// Whether the record of every call is written. Otherwise records of one grant are limited in number a second.
    pub every_call: bool,
}

/// Something about a grant that an operator should know, found by asking its servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether the grant cannot work, or is not safe.
    pub is_error: bool,
    /// In words, without a secret.
    pub what: String,
}

/// What each kind implements for its section of the configuration.
pub(crate) trait GrantKind: Sync {
    /// Bounds of its calls.
    fn limits(&self) -> &CallLimits;

    /// Makes the capability. Connections are made when they are needed, so this does not wait.
    fn open(&self, ground: &Ground) -> Result<Arc<dyn Capability>, GrantError>;

    /// What the guest's script may know of the grant before it asks anything, as JSON.
    fn describe(&self) -> Result<Value, GrantError> {
        Ok(Value::Null)
    }

    /// Asks the grant's servers whether the grant works.
    fn check<'a>(&'a self, ground: &'a Ground) -> BoxFuture<'a, Vec<Finding>>;
}

/// The table of kinds, and which one a grant is of.
macro_rules! kinds {
    ($($Variant:ident $name:literal $module:ident,)+) => {
        /// All kinds.
        pub const KINDS: &[Kind] = &[$(Kind {
            name: $name,
            methods: $module::METHODS,
            every_call: $module::EVERY_CALL,
        },)+];

        fn of(grant: &Grant) -> &dyn GrantKind {
            match grant { $(Grant::$Variant(grant) => grant,)+ }
        }
    };
}

kinds! {
    Dns "dns" dns,
    Files "files" files,
    Sqlite "sqlite" sqlite,
    Key "key" key,
    Pgp "pgp" pgp,
    Nostr "nostr" nostr,
    Electrum "electrum" electrum,
    Lightning "lightning" lightning,
    Postgres "postgres" postgres,
    Mysql "mysql" mysql,
    Redis "redis" redis,
    Mongo "mongo" mongo,
    Wireguard "wireguard" peers,
    WireguardTunnel "wireguard_tunnel" tunnel,
}

/// The row of a grant's kind.
fn kind_of(grant: &Grant) -> Result<&'static Kind, GrantError> {
    let kind = KINDS.iter().find(|kind| kind.name == grant.kind());
    kind.ok_or_else(|| GrantError::Invalid("its kind is not in the table of kinds".to_owned()))
}

/// What the guest's script may know of a grant before it asks anything.
///
/// # Errors
/// Why the grant cannot be opened.
pub fn describe(grant: &Grant) -> Result<Value, GrantError> {
    of(grant).describe()
}

/// Asks the servers of a grant whether it works.
pub async fn check(granting: Granting<'_>) -> Vec<Finding> {
    let ground = granting.ground();
    of(granting.grant).check(&ground).await
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn kinds_have_a_script_in_the_realm() {
        let realm = Path::new(env!("CARGO_MANIFEST_DIR")).join("../stockade-realm/js/bindings");
        for kind in KINDS {
            assert!(
                realm.join(format!("{}.js", kind.name)).is_file(),
                "{}",
                kind.name
            );
        }
    }

    #[test]
    fn kinds_have_the_names_of_their_sections() {
        let json = r#"{"A": {"dns": {"names": ["example.com"]}}}"#;
        for (_, grant) in stockade_config::parse_grants(json, Path::new("/")).unwrap() {
            assert_eq!(kind_of(&grant).unwrap().name, grant.kind());
        }
    }
}
