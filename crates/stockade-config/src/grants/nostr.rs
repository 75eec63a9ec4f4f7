//! `nostr`: a signer with the operator's key, as NIP-07 describes it to pages.

use std::time::Duration;

use super::GrantSection;
use super::limits::{self, CallLimits, call_limits};
use crate::diagnostic::shown;
use crate::fields::Fields;
use crate::keys::{Format, Kind, integer, list, size, time};
use crate::secret::SecretRef;
use crate::section::section;
use crate::tree::Message;
use crate::value::from_text;

call_limits! {
    "nostr_limits",
    rate: "50",
    concurrent: "16",
    queue: "128",
    timeout: "5s",
    max_request: "256kb",
    max_result: "256kb",
    handles: None,
}

/// A permission in the words of NIP-46.
const PERMISSION: Format = Format {
    what: "a permission of NIP-46: sign_event:KIND, nip04_encrypt, nip04_decrypt, nip44_encrypt or nip44_decrypt",
    pattern: Some(r"^(sign_event:[0-9]{1,5}|nip(04|44)_(en|de)crypt)$"),
    expect: None,
};

/// A relay's URL.
const RELAY: Format = Format {
    what: "the URL of a relay, as wss://relay.example",
    pattern: Some(r"^wss?://\S+$"),
    expect: None,
};

section! {
    /// A signer of Nostr events, as `window.nostr` of NIP-07: `getPublicKey`, `signEvent`,
    /// `getRelays`, `nip04` and `nip44`. The key stays with the host. Relays are reached
    /// by `WebSocket`, under `data_guard`.
    pub struct NostrGrant "nostr" {
        /// The secret key: `nsec1…`, or 64 hexadecimal digits.
        pub key: Option<SecretRef> = SecretRef::key().required() => |grant| SecretRef::of(grant, "key"),
        /// What the guest may do, in the words of NIP-46. A kind of events that is not
        /// listed is not signed. Decryption answers for every message that was ever sent
        /// to the key.
        pub permissions: Vec<NostrPermission> = list(&Kind::Text(PERMISSION))
            .required()
            .nonempty()
            .like(&["[\"sign_event:1\", nip44_encrypt]"]) => permissions,
        /// What `getRelays` answers: relays that are read from and written to.
        pub relays: Vec<String> = list(&Kind::Text(RELAY)).like(&["[\"wss://relay.example\"]"]),
        /// How far `created_at` of an event may be from the time of the host.
        pub window: Duration = time(1000, 31_536_000_000).default("10m"),
        /// Size of an event's `content`, and of a text to encrypt or decrypt.
        pub max_content: u64 = size(1, 1 << 20).default("64kb"),
        /// Events that are signed per minute. Further ones are refused.
        pub events_per_minute: u32 = integer(1, 100_000).default("30"),
        /// Events that are signed per day. Further ones are refused.
        pub events_per_day: u32 = integer(1, 100_000).default("1000"),
        /// Bounds of the calls.
        pub limits: CallLimits = LIMITS_KEY => limits::read,
    }
}

impl GrantSection for NostrGrant {
    fn secrets(&mut self) -> Vec<&mut SecretRef> {
        self.key.iter_mut().collect()
    }
}

/// What a guest may do with the operator's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NostrPermission {
    /// Sign events of this kind.
    SignEvent(u16),
    /// Encrypt by NIP-04.
    Nip04Encrypt,
    /// Decrypt by NIP-04.
    Nip04Decrypt,
    /// Encrypt by NIP-44.
    Nip44Encrypt,
    /// Decrypt by NIP-44.
    Nip44Decrypt,
}

from_text! {
    NostrPermission = permission,
}

fn permission(text: &str) -> Result<NostrPermission, Message> {
    Ok(match text {
        "nip04_encrypt" => NostrPermission::Nip04Encrypt,
        "nip04_decrypt" => NostrPermission::Nip04Decrypt,
        "nip44_encrypt" => NostrPermission::Nip44Encrypt,
        "nip44_decrypt" => NostrPermission::Nip44Decrypt,
        _ => {
            let kind = text
                .strip_prefix("sign_event:")
                .and_then(|kind| kind.parse().ok());
            return kind.map(NostrPermission::SignEvent).ok_or_else(|| {
                let what = format!("{:?} is no permission", shown(text));
                Message::allowed(what, PERMISSION.what)
            });
        }
    })
}

/// Kinds of events with which more is done than something said.
const RISKY: [(u16, &str); 7] = [
    (0, "replaces the profile"),
    (3, "replaces the list of those who are followed"),
    (5, "asks relays to delete events"),
    (10_002, "replaces the list of relays"),
    (22_242, "logs in to relays (NIP-42)"),
    (23_194, "asks a wallet to pay (NIP-47)"),
    (27_235, "logs in to HTTP servers (NIP-98)"),
];

fn permissions(grant: &Fields<'_>) -> Vec<NostrPermission> {
    let permissions: Vec<NostrPermission> = grant.get("permissions");
    for (kind, does) in RISKY {
        if permissions.contains(&NostrPermission::SignEvent(kind)) {
            let what = format!("the guest may sign events of kind {kind}, which {does}");
            grant.warn(
                "permissions",
                Message::allowed(what, "the kinds that the guest needs"),
            );
        }
    }
    permissions
}
