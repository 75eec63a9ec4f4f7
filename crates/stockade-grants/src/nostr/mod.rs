//! `env.NAME` of kind `nostr`: NIP-07's signer with the operator's key.
//!
//! | method | takes | gives |
//! |---|---|---|
//! | `signEvent` | `{kind, createdAt, tags, content}` | `{id, pubkey, sig}` |
//! | `nip04.encrypt`, `nip44.encrypt` | `{pubkey, text}` | the ciphertext |
//! | `nip04.decrypt`, `nip44.decrypt` | `{pubkey, text}` | the plaintext |
//!
//! The public key and the relays are in what [`GrantKind::describe`] gives, and the guest's script answers for them.
//!
//! Invariants:
//! 1. An event is signed when its kind is granted, its time near the host's, and its content within its limit.
//! 2. A signature that was made counts, whether or not the guest waited for it.
//!
//! Deliberately absent: relays. A guest reaches them by `WebSocket`, under the rules of its own network.

mod window;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use nostr::nips::nip44::Version;
use nostr::nips::{nip04, nip44};
use nostr::{Event, Keys, Kind, PublicKey, Tag, Timestamp, UnsignedEvent};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use stockade_capability::{
    Attachments, CallContext, CallNotes, CallPayload, Capability, ErrorName, Reply,
};
use stockade_config::{CallLimits, NostrGrant, NostrPermission, SecretRef};
use stockade_protocol::GuestError;

use window::Window;

use crate::{Finding, GrantError, GrantKind, Ground};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Bytes of JSON around the texts of an event: each byte of a text may take six in JSON, and its tags are texts too.
const MAX_ARGUMENTS: usize = 8 << 20;

pub(crate) const METHODS: &[&str] = &[
    "signEvent",
    "nip04.encrypt",
    "nip04.decrypt",
    "nip44.encrypt",
    "nip44.decrypt",
];
pub(crate) const EVERY_CALL: bool = true;

impl GrantKind for NostrGrant {
    fn limits(&self) -> &CallLimits {
        &self.limits
    }

    fn open(&self, _ground: &Ground) -> Result<Arc<dyn Capability>, GrantError> {
        Ok(Arc::new(Nostr(Arc::new(Signer::new(self)?))))
    }

    /// The public key and the relays, as `getPublicKey` and `getRelays` of NIP-07 give them.
    fn describe(&self) -> Result<Value, GrantError> {
        let both = |relay: &String| (relay.clone(), json!({ "read": true, "write": true }));
        let relays: serde_json::Map<_, _> = self.relays.iter().map(both).collect();
        Ok(json!({ "publicKey": keys(self)?.public_key().to_hex(), "relays": relays }))
    }

    /// A signer has no server of its own; whether its key is one, opening it shows.
    fn check<'a>(&'a self, _ground: &'a Ground) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(std::future::ready(Vec::new()))
    }
}

/// The message shows nothing of what was read.
fn keys(grant: &NostrGrant) -> Result<Keys, GrantError> {
    let text = grant.key.as_ref().map_or("", SecretRef::reveal);
    Keys::parse(text.trim()).map_err(|_| {
        GrantError::Invalid(
            "the key is neither nsec1… nor 64 hexadecimal digits of a key".to_owned(),
        )
    })
}

struct Nostr(Arc<Signer>);

impl Capability for Nostr {
    fn call(
        &self,
        context: CallContext,
        method: &str,
        arguments: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>> {
        let (signer, method) = (Arc::clone(&self.0), method.to_owned());
        Box::pin(async move {
            // A signature takes a tenth of a millisecond, a ciphertext as long as its text.
            let CallContext { notes, place, .. } = context;
            let working = tokio::task::spawn_blocking(move || {
                let _place = place;
                signer.call(&notes, &method, arguments)
            });
            working
                .await
                .map_err(|_| ErrorName::Own("OperationError").error("the operation was stopped"))?
        })
    }
}

/// An event without the members that the signer gives it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Template {
    kind: u16,
    created_at: u64,
    tags: Vec<Vec<String>>,
    content: String,
}

/// A text for or from somebody else.
#[derive(Deserialize)]
struct Message {
    pubkey: String,
    text: String,
}

struct Signer {
    keys: Keys,
    permissions: Vec<NostrPermission>,
    window: Duration,
    max_content: usize,
    /// The windows of a minute and of a day, under one lock: who finds a place takes it.
    windows: Mutex<[(Window, &'static str); 2]>,
}

impl Signer {
    fn new(grant: &NostrGrant) -> Result<Self, GrantError> {
        Ok(Self {
            keys: keys(grant)?,
            permissions: grant.permissions.clone(),
            window: grant.window,
            max_content: usize::try_from(grant.max_content).unwrap_or(usize::MAX),
            windows: Mutex::new([
                (Window::new(MINUTE, grant.events_per_minute), "minute"),
                (Window::new(DAY, grant.events_per_day), "day"),
            ]),
        })
    }

    fn call(
        &self,
        notes: &CallNotes,
        method: &str,
        arguments: CallPayload,
    ) -> Result<CallPayload, GuestError> {
        match method {
            "signEvent" => {
                let (template, attachments) = arguments.read::<Template>(MAX_ARGUMENTS)?;
                let now = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default();
                notes.add("event_kind", u64::from(template.kind));
                let event = self.sign(notes, &template, &attachments, now, Instant::now())?;
                notes.add("event", event.id.to_hex().as_str());
                Reply::plain(&json!({
                    "id": event.id.to_hex(),
                    "pubkey": event.pubkey.to_hex(),
                    "sig": event.sig.to_string(),
                }))
            }
            "nip04.encrypt" => {
                self.message(notes, NostrPermission::Nip04Encrypt, method, arguments)
            }
            "nip04.decrypt" => {
                self.message(notes, NostrPermission::Nip04Decrypt, method, arguments)
            }
            "nip44.encrypt" => {
                self.message(notes, NostrPermission::Nip44Encrypt, method, arguments)
            }
            "nip44.decrypt" => {
                self.message(notes, NostrPermission::Nip44Decrypt, method, arguments)
            }
            _ => Err(ErrorName::Type.error("a signer has no such method")),
        }
    }

    /// Signs an event at `now`, a time since 1970 for its `created_at`, and at `instant` for what was signed before.
    fn sign(
        &self,
        notes: &CallNotes,
        template: &Template,
        attachments: &Attachments,
        now: Duration,
        instant: Instant,
    ) -> Result<Event, GuestError> {
        let kind = template.kind;
        if !self.permissions.contains(&NostrPermission::SignEvent(kind)) {
            notes.refused("permission");
            return Err(ErrorName::Type.error(format!(
                "events of kind {kind} are not signed: the grant has no permission sign_event:{kind}"
            )));
        }
        let away = now.abs_diff(Duration::from_secs(template.created_at));
        if away > self.window {
            notes.refused("created_at");
            return Err(ErrorName::Range.error(format!(
                "created_at is {} s away from now, and at most {} s are allowed",
                away.as_secs(),
                self.window.as_secs()
            )));
        }
        let content = self.bounded(attachments.text(&template.content)?, "content")?;
        let mut tags = Vec::with_capacity(template.tags.len());
        for tag in &template.tags {
            let texts: Result<Vec<&str>, GuestError> =
                tag.iter().map(|text| attachments.text(text)).collect();
            let tag = Tag::parse(texts?)
                .map_err(|_| ErrorName::Type.error("a tag is an array of one text or more"))?;
            tags.push(tag);
        }
        // The place in the day is taken only with one in the minute.
        let mut windows = self.windows.lock();
        for (window, name) in &mut *windows {
            if !window.has_place(instant) {
                notes.refused("events");
                return Err(ErrorName::Quota.error(format!(
                    "{} events were signed within a {name}, the most that the grant allows",
                    window.most()
                )));
            }
        }
        for (window, _) in &mut *windows {
            window.take(instant);
        }
        drop(windows);
        let created = Timestamp::from_secs(template.created_at);
        let public = self.keys.public_key();
        UnsignedEvent::new(public, created, Kind::from_u16(kind), tags, content)
            .sign_with_keys(&self.keys)
            .map_err(|_| ErrorName::Own("OperationError").error("the event could not be signed"))
    }

    fn message(
        &self,
        notes: &CallNotes,
        permission: NostrPermission,
        method: &str,
        arguments: CallPayload,
    ) -> Result<CallPayload, GuestError> {
        if !self.permissions.contains(&permission) {
            notes.refused("permission");
            return Err(ErrorName::Type.error(format!(
                "the grant has no permission {}",
                method.replace('.', "_")
            )));
        }
        let (message, attachments) = arguments.read::<Message>(MAX_ARGUMENTS)?;
        let text = self.bounded(attachments.text(&message.text)?, "text")?;
        let other = attachments.text(&message.pubkey)?;
        notes.add("with", other);
        let other = PublicKey::from_hex(other)
            .map_err(|_| ErrorName::Type.error("a public key is 64 hexadecimal digits"))?;
        let own = self.keys.secret_key();
        // One message for each direction: what was wrong with a ciphertext helps to forge another one.
        let done = match permission {
            NostrPermission::Nip04Encrypt => nip04::encrypt(own, &other, text).ok(),
            NostrPermission::Nip04Decrypt => nip04::decrypt(own, &other, text).ok(),
            NostrPermission::Nip44Encrypt => nip44::encrypt(own, &other, text, Version::V2).ok(),
            NostrPermission::Nip44Decrypt => nip44::decrypt(own, &other, text).ok(),
            NostrPermission::SignEvent(_) => None,
        };
        let done = done.ok_or_else(|| {
            ErrorName::Own("OperationError").error(if method.ends_with("encrypt") {
                "encryption failed: NIP-44 takes 1 to 65535 bytes, and a public key is a point of the curve"
            } else {
                "decryption failed"
            })
        })?;
        let mut reply = Reply::default();
        let done = reply.text(&done).into_owned();
        reply.finish(&done)
    }

    fn bounded<'a>(&self, text: &'a str, what: &str) -> Result<&'a str, GuestError> {
        if text.len() > self.max_content {
            return Err(ErrorName::Range.error(format!(
                "{what} has {} bytes, and at most {} are allowed",
                text.len(),
                self.max_content
            )));
        }
        Ok(text)
    }
}
