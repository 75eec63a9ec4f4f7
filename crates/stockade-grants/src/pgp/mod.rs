//! `pgp`: OpenPGP with keys that the host holds.
//!
//! | method | argument | answer |
//! |---|---|---|
//! | `publicKey` | `{}` | text |
//! | `sign` | `{data, form, armor}` | text or bytes |
//! | `encrypt` | `{data, keys, sign, armor}` | text or bytes |
//! | `decrypt` | `{data, keys}` | `{data, signatures: [{valid, fingerprint, created}]}` |
//! | `verify` | `{data, signature?, keys}` | the same, with `null` for `data` where `signature` was given |
//!
//! `data` is bytes or a stream, `signature` and each of `keys` bytes; `form` is `inline`, `detached` or `cleartext`.
//!
//! Everything that reads OpenPGP is in the program `stockade-pgp` (`helpers/stockade-pgp`), of which each grant in use
//! has a sealed process (`link.rs`). The process gets the keys over its socket (`keyring.rs`), and whatever it answers
//! is bounded and checked as what it may have been made to say.
//!
//! Invariants:
//! 1. The supervisor reads no OpenPGP, and no process of a guest gets a secret key.
//! 2. A message that cannot be decrypted is refused with the same words whatever is wrong with it, and not at the time
//!    when that was found.

mod keyring;
mod link;
mod message;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};
use stockade_capability::{
    Attachments, CallContext, CallNotes, CallPayload, Capability, ErrorName, Reply,
};
use stockade_config::{CallLimits, PgpGrant, PgpIsolation, PgpUsage, SecretRef};
use stockade_http::Body;
use stockade_jail::Level;
use stockade_protocol::{Attachment, GuestError};
use tokio::time::{Instant, sleep_until};

use crate::{Finding, GrantError, GrantKind, Ground};
use keyring::{KeyError, Keyring, Material};
use link::Confinement;
use message::{MOST_KEY_BLOCKS, Request, Signature, SignatureForm};

pub(crate) const METHODS: &[&str] = &["publicKey", "sign", "encrypt", "decrypt", "verify"];
pub(crate) const EVERY_CALL: bool = true;

/// Bytes of JSON that are read for one call. The bytes of data and keys are not counted.
const MAX_ARGUMENTS: usize = 16 << 10;

/// Bytes of the keys of one call, of a signature, and of each file of `recipients`.
const MOST_KEYS: usize = 1 << 20;

/// The name of the helper.
const PROGRAM: &str = "stockade-pgp";

/// A message that cannot be decrypted is refused after a multiple of this time.
const REFUSAL: Duration = Duration::from_millis(250);

impl GrantKind for PgpGrant {
    fn limits(&self) -> &CallLimits {
        &self.limits
    }

    fn open(&self, ground: &Ground) -> Result<Arc<dyn Capability>, GrantError> {
        Ok(Arc::new(Pgp(Arc::new(Held::new(self, ground)?))))
    }

    /// Has a process read the keys.
    fn check<'a>(&'a self, ground: &'a Ground) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(async move {
            let request = if self.secret.is_some() {
                Request::PublicKey
            } else {
                // Opens the keys before it finds that there is no signature.
                Request::Verify {
                    signature: None,
                    keys: Vec::new(),
                }
            };
            let what = match Held::new(self, ground) {
                Ok(held) => match held.keyring.ask(request, Vec::new()).await {
                    Ok(_) | Err(KeyError::Input(_)) => return Vec::new(),
                    Err(error) => error.to_string(),
                },
                Err(error) => error.to_string(),
            };
            vec![Finding {
                is_error: true,
                what,
            }]
        })
    }
}

fn program() -> Result<PathBuf, GrantError> {
    let lost = |why| {
        GrantError::Invalid(format!(
            "grants of the kind pgp need the program {PROGRAM}: {why}"
        ))
    };
    crate::installed::program(PROGRAM).map_err(lost)
}

/// Reads a file of `recipients`.
fn certificates(path: &Path) -> Result<Vec<u8>, GrantError> {
    let invalid =
        |why: String| GrantError::Invalid(format!("recipients: {}: {why}", path.display()));
    let length = std::fs::metadata(path).map(|file| file.len());
    let length = length.map_err(|error| invalid(error.to_string()))?;
    if length > MOST_KEYS as u64 {
        return Err(invalid(format!(
            "it has {length} bytes, at most {MOST_KEYS} are read"
        )));
    }
    std::fs::read(path).map_err(|error| invalid(error.to_string()))
}

/// A grant's keys, and what may be done with them.
struct Held {
    keyring: Keyring,
    usages: Vec<PgpUsage>,
    guest_keys: bool,
    has_secret: bool,
    max_request: u64,
}

impl Held {
    fn new(grant: &PgpGrant, ground: &Ground) -> Result<Self, GrantError> {
        let needs_secret = |usage: &&PgpUsage| matches!(usage, PgpUsage::Sign | PgpUsage::Decrypt);
        if let (None, Some(usage)) = (&grant.secret, grant.usages.iter().find(needs_secret)) {
            return Err(GrantError::Invalid(format!(
                "usages has {}, which needs `secret`",
                usage.word()
            )));
        }
        if grant.passphrase.is_some() && grant.secret.is_none() {
            let why = "`passphrase` unlocks `secret`, and there is none";
            return Err(GrantError::Invalid(why.to_owned()));
        }
        let recipients = grant.recipients.iter().map(|path| certificates(path));
        let value = |secret: &Option<SecretRef>| secret.as_ref().and_then(|one| one.value.clone());
        let material = Material {
            secret: value(&grant.secret),
            passphrase: value(&grant.passphrase),
            recipients: recipients.collect::<Result<_, _>>()?,
            time: grant.time,
            idle: grant.idle,
            most_result: grant.limits.max_result,
            confinement: Confinement {
                program: program()?,
                memory: grant.memory,
                level: match grant.isolation {
                    PgpIsolation::Container => Level::Container,
                    PgpIsolation::Process => Level::Process,
                },
            },
        };
        let name = format!("{}: grant {}", ground.instance, ground.binding);
        Ok(Self {
            keyring: Keyring::new(name, material),
            usages: grant.usages.clone(),
            guest_keys: grant.guest_keys,
            has_secret: grant.secret.is_some(),
            max_request: grant.limits.max_request,
        })
    }

    fn allow(&self, usage: PgpUsage, notes: &CallNotes) -> Result<(), GuestError> {
        if self.usages.contains(&usage) {
            return Ok(());
        }
        notes.refused("usage");
        let words: Vec<&str> = self.usages.iter().map(|usage| usage.word()).collect();
        Err(invalid_access(format!(
            "the keys are granted for {}, not to {}",
            words.join(", "),
            usage.word()
        )))
    }

    async fn call(
        &self,
        notes: &CallNotes,
        method: &str,
        arguments: CallPayload,
    ) -> Result<CallPayload, GuestError> {
        let (call, mut attachments) = arguments.read::<Call>(MAX_ARGUMENTS)?;
        let armor = call.armor.unwrap_or(true);
        let keys = self.keys(&call.keys, &mut attachments, notes)?;
        let request = match method {
            "publicKey" if !self.has_secret => {
                return Err(invalid_access("the grant has no key of its own".to_owned()));
            }
            "publicKey" => Request::PublicKey,
            "sign" => {
                self.allow(PgpUsage::Sign, notes)?;
                let form = call.form.unwrap_or(Form::Inline).into();
                Request::Sign { form, armor }
            }
            "encrypt" => {
                self.allow(PgpUsage::Encrypt, notes)?;
                let sign = call.sign.unwrap_or(false);
                if sign {
                    self.allow(PgpUsage::Sign, notes)?;
                }
                Request::Encrypt {
                    recipients: keys,
                    sign,
                    armor,
                }
            }
            "decrypt" => {
                self.allow(PgpUsage::Decrypt, notes)?;
                Request::Decrypt { keys }
            }
            "verify" => {
                self.allow(PgpUsage::Verify, notes)?;
                let signature = call.signature.map(|mark| attachments.bytes(&mark));
                let signature = signature.transpose()?;
                if signature
                    .as_ref()
                    .is_some_and(|bytes| bytes.len() > MOST_KEYS)
                {
                    return Err(too_many_bytes("a signature"));
                }
                Request::Verify { signature, keys }
            }
            _ => return Err(ErrorName::Type.error(format!("OpenPGP has no method {method:?}"))),
        };
        let data = match call.data {
            Some(mark) => whole(attachments.body(&mark)?, self.max_request).await?,
            None => Vec::new(),
        };
        let is_text = match &request {
            Request::Sign { form, armor } => *armor || *form == SignatureForm::Cleartext,
            Request::Encrypt { armor, .. } => *armor,
            _ => true,
        };
        let shape = match &request {
            Request::Decrypt { .. } => Shape::Checked { has_data: true },
            Request::Verify { signature, .. } => Shape::Checked {
                has_data: signature.is_none(),
            },
            _ if is_text => Shape::Text,
            _ => Shape::Bytes,
        };
        let began = Instant::now();
        let is_decryption = matches!(request, Request::Decrypt { .. });
        let done = self.keyring.ask(request, data).await;
        let (signatures, data) = match done {
            Ok(done) => done,
            Err(error) => {
                if is_decryption {
                    let past = began.elapsed().as_millis() / REFUSAL.as_millis();
                    let steps = u32::try_from(past).unwrap_or(u32::MAX).saturating_add(1);
                    sleep_until(began + REFUSAL.saturating_mul(steps)).await;
                }
                return Err(refused(&error, is_decryption, notes));
            }
        };
        answer(shape, &signatures, data)
    }

    /// Keys that the guest adds to those of the grant.
    fn keys(
        &self,
        marks: &[String],
        attachments: &mut Attachments,
        notes: &CallNotes,
    ) -> Result<Vec<Vec<u8>>, GuestError> {
        if !marks.is_empty() && !self.guest_keys {
            notes.refused("guest_keys");
            return Err(invalid_access(
                "the grant names all keys: others cannot be added".to_owned(),
            ));
        }
        if marks.len() > MOST_KEY_BLOCKS {
            return Err(ErrorName::Range.error(format!(
                "{} keys were given, at most {MOST_KEY_BLOCKS} are allowed",
                marks.len()
            )));
        }
        let keys = marks.iter().map(|mark| attachments.bytes(mark));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        if keys.iter().map(Vec::len).sum::<usize>() > MOST_KEYS {
            return Err(too_many_bytes("the keys of a call"));
        }
        Ok(keys)
    }
}

struct Pgp(Arc<Held>);

impl Capability for Pgp {
    fn call(
        &self,
        context: CallContext,
        method: &str,
        arguments: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>> {
        let (held, method) = (Arc::clone(&self.0), method.to_owned());
        Box::pin(async move { held.call(&context.notes, &method, arguments).await })
    }
}

/// The argument of any method.
#[derive(Deserialize)]
struct Call {
    data: Option<String>,
    signature: Option<String>,
    #[serde(default)]
    keys: Vec<String>,
    form: Option<Form>,
    armor: Option<bool>,
    sign: Option<bool>,
}

/// Where a signature stands, in the words of the guest's script.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Form {
    Inline,
    Detached,
    Cleartext,
}

impl From<Form> for SignatureForm {
    fn from(form: Form) -> Self {
        match form {
            Form::Inline => Self::Inline,
            Form::Detached => Self::Detached,
            Form::Cleartext => Self::Cleartext,
        }
    }
}

/// What the guest gets of a result.
enum Shape {
    Text,
    Bytes,
    Checked { has_data: bool },
}

#[derive(Serialize)]
struct Checked<'a> {
    data: Option<Attachment>,
    signatures: Vec<CheckedSignature<'a>>,
}

#[derive(Serialize)]
struct CheckedSignature<'a> {
    valid: bool,
    fingerprint: Option<&'a str>,
    /// Seconds since 1970-01-01 UTC.
    created: Option<u64>,
}

fn answer(
    shape: Shape,
    signatures: &[Signature],
    data: Vec<u8>,
) -> Result<CallPayload, GuestError> {
    let mut reply = Reply::default();
    match shape {
        Shape::Text => {
            let text = String::from_utf8(data);
            let text = text.map_err(|_| operation_error("the operation failed"))?;
            let text: Cow<'_, str> = reply.text(&text);
            reply.finish(&text)
        }
        Shape::Bytes => {
            let bytes = reply.bytes(data);
            reply.finish(&bytes)
        }
        Shape::Checked { has_data } => {
            let data = has_data.then(|| reply.bytes(data));
            let signatures = signatures.iter().map(|signature| CheckedSignature {
                valid: signature.valid,
                fingerprint: Some(&*signature.fingerprint).filter(|text| !text.is_empty()),
                created: signature.created,
            });
            let signatures = signatures.collect();
            reply.finish(&Checked { data, signatures })
        }
    }
}

/// All bytes of a body.
async fn whole(mut body: Body, most: u64) -> Result<Vec<u8>, GuestError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| GuestError::new(error.to_string()))?;
        if let Ok(data) = frame.into_data() {
            if (bytes.len() + data.len()) as u64 > most {
                return Err(ErrorName::Range.error(format!(
                    "the data has more than {most} bytes, which is `limits.max_request`"
                )));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

/// The error for the guest.
fn refused(error: &KeyError, is_decryption: bool, notes: &CallNotes) -> GuestError {
    match error {
        // The guest learns nothing of what the keys are like.
        KeyError::Keys(why) => {
            notes.add("failure", why.as_str());
            operation_error("the keys of the grant cannot be used: the operator's log says why")
        }
        KeyError::Input(why) if !is_decryption => ErrorName::Own("DataError").error(why.as_str()),
        KeyError::Large(why) => ErrorName::Range.error(why.as_str()),
        KeyError::TimedOut(_) | KeyError::Ended(_) if !is_decryption => {
            notes.add("failure", error.to_string().as_str());
            match error {
                KeyError::TimedOut(_) => ErrorName::Timeout.error(error.to_string()),
                _ => operation_error("the operation failed: its process has ended"),
            }
        }
        _ => {
            notes.add("failure", error.to_string().as_str());
            operation_error(
                "the message cannot be decrypted: it is for another key, was changed, or is too much work",
            )
        }
    }
}

fn too_many_bytes(what: &str) -> GuestError {
    ErrorName::Range.error(format!(
        "{what} have more than {MOST_KEYS} bytes, which is the limit"
    ))
}

fn operation_error(message: &str) -> GuestError {
    ErrorName::Own("OperationError").error(message)
}

fn invalid_access(message: String) -> GuestError {
    ErrorName::Own("InvalidAccessError").error(message)
}
