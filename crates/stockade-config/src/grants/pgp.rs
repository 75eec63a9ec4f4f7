//! `pgp`: OpenPGP with keys that the host holds.

use std::path::PathBuf;
use std::time::Duration;

use super::GrantSection;
use super::limits::{self, CallLimits, call_limits};
use crate::keys::{FILE, Key, Kind, boolean, list, size, time};
use crate::secret::SecretRef;
use crate::section::{Words, section, words};

call_limits! {
    "pgp_limits",
    rate: "20",
    concurrent: "4",
    queue: "64",
    timeout: "30s",
    max_request: "16mb",
    max_result: "16mb",
    handles: None,
}

section! {
    /// OpenPGP with keys that the host holds. The work is done by the program
    /// `stockade-pgp`, in a process of its own that can open no file and no connection.
    pub struct PgpGrant "pgp" {
        /// The secret key, as armor.
        pub secret: Option<SecretRef> = SecretRef::key() => |grant| SecretRef::of(grant, "secret"),
        /// What unlocks the secret key, where it is locked.
        pub passphrase: Option<SecretRef> = SecretRef::key() => |grant| SecretRef::of(grant, "passphrase"),
        /// Files with public keys, as armor or not: everything is encrypted to all of them,
        /// and signatures are checked with them.
        pub recipients: Vec<PathBuf> = list(&Kind::Text(FILE)).like(&["[./keys/ada.asc]"]),
        /// What the guest may do. `sign` and `decrypt` need `secret`.
        pub usages: Vec<PgpUsage> = list(&PgpUsage::KIND).required().nonempty().like(&["[sign]"]),
        /// Whether the guest may add public keys of its own to `recipients`.
        pub guest_keys: bool = boolean().default("true"),
        /// Time of one operation. One that takes longer is ended, with its process.
        pub time: Duration = time(100, 600_000).default("10s"),
        /// Memory of the process. An operation needs about six times the size of its data.
        pub memory: u64 = size(64 << 20, 16 << 30).default("256mb"),
        /// The process ends when there was no call for this long. The next call starts
        /// another one.
        pub idle: Duration = time(1000, 86_400_000).default("60s"),
        /// How the process is confined.
        pub isolation: PgpIsolation = Key::of(PgpIsolation::KIND).default("container"),
        /// Bounds of the calls.
        pub limits: CallLimits = LIMITS_KEY => limits::read,
    }
}

impl GrantSection for PgpGrant {
    fn secrets(&mut self) -> Vec<&mut SecretRef> {
        self.secret.iter_mut().chain(&mut self.passphrase).collect()
    }
}

words! {
    /// What a guest may do with OpenPGP.
    pub enum PgpUsage {
        /// Signatures by the secret key.
        Sign = "sign",
        /// Decryption by the secret key.
        Decrypt = "decrypt",
        /// Encryption to the recipients.
        Encrypt = "encrypt",
        /// Checks of signatures.
        Verify = "verify",
    }
}

words! {
    /// How the process of a grant for OpenPGP is confined.
    pub enum PgpIsolation {
        /// In namespaces of its own as well.
        Container = "container",
        /// As a process.
        Process = "process",
    }
}
