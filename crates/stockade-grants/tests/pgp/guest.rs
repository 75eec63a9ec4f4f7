//! A grant of `pgp` with its guest, and programs that are run.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use stockade_broker::{Broker, BrokerOptions};
use stockade_capability::{CallContext, CallNotes, CallPlace, Capability, Owner};
use stockade_grants::{CallAudit, CallRecord, Granting, Grants};
use stockade_protocol::{GuestError, Payload};

pub(crate) const TEXT: &[u8] = "Grüße\r\nfrom here\n".as_bytes();
pub(crate) const PASSPHRASE: &str = "correct horse";

struct NoAudit;

impl CallAudit for NoAudit {
    fn called(&self, _record: &CallRecord<'_>) {}
}

/// A grant with its guest.
pub(crate) struct Guest {
    granted: Arc<dyn Capability>,
    runtime: tokio::runtime::Runtime,
}

/// What `decrypt` and `verify` give.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) data: Option<Vec<u8>>,
    pub(crate) signatures: Vec<Value>,
}

impl Checked {
    pub(crate) fn valid(&self) -> Vec<bool> {
        let signatures = self.signatures.iter();
        signatures
            .map(|one| one["valid"].as_bool().unwrap())
            .collect()
    }
}

impl Guest {
    pub(crate) fn try_new(grant: &Value) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let inside = runtime.enter();
        let text = json!({ "PGP": { "pgp": grant } }).to_string();
        let grants = stockade_config::parse_grants(&text, Path::new("/"))
            .map_err(|wrong| format!("{:?}", wrong.list))?;
        let broker = Broker::new(BrokerOptions::default()).unwrap();
        let opened = Grants::new(Arc::new(NoAudit)).open(Granting {
            instance: "shop",
            binding: "PGP",
            grant: &grants["PGP"],
            broker: &broker,
            roots: &[],
            ways: &Default::default(),
            approval: None,
            data: None,
        });
        drop(inside);
        Ok(Self {
            granted: opened.map_err(|error| error.to_string())?,
            runtime,
        })
    }

    pub(crate) fn new(grant: &Value) -> Self {
        Self::try_new(grant).unwrap()
    }

    /// Calls a method. `parts` are the bytes that `arguments` names `\0b0`, `\0b1` and so on.
    pub(crate) fn call(
        &self,
        method: &str,
        arguments: &Value,
        parts: &[&[u8]],
    ) -> Result<Payload, GuestError> {
        let context = CallContext {
            owner: Owner {
                instance: "shop".into(),
                start: 1,
                mirror: 1,
            },
            notes: CallNotes::default(),
            place: CallPlace::default(),
        };
        let payload = Payload {
            json: json!([arguments]).to_string(),
            bytes: parts.iter().map(|part| part.to_vec()).collect(),
            marked: true,
        };
        let called = self.granted.call(context, method, payload.into());
        Ok(self.runtime.block_on(called)?.payload)
    }

    pub(crate) fn text(
        &self,
        method: &str,
        arguments: &Value,
        parts: &[&[u8]],
    ) -> Result<String, GuestError> {
        let payload = self.call(method, arguments, parts)?;
        Ok(serde_json::from_str(&payload.json).unwrap())
    }

    pub(crate) fn bytes(&self, method: &str, arguments: &Value, parts: &[&[u8]]) -> Vec<u8> {
        self.call(method, arguments, parts).unwrap().bytes.remove(0)
    }

    pub(crate) fn checked(
        &self,
        method: &str,
        arguments: &Value,
        parts: &[&[u8]],
    ) -> Result<Checked, GuestError> {
        let mut payload = self.call(method, arguments, parts)?;
        let value: Value = serde_json::from_str(&payload.json).unwrap();
        Ok(Checked {
            data: value["data"].is_string().then(|| payload.bytes.remove(0)),
            signatures: value["signatures"].as_array().unwrap().clone(),
        })
    }

    pub(crate) fn public_key(&self) -> Vec<u8> {
        self.text("publicKey", &json!({}), &[])
            .unwrap()
            .into_bytes()
    }

    pub(crate) fn decrypt(&self, message: &[u8]) -> Result<Checked, GuestError> {
        self.checked("decrypt", &json!({ "data": "\0b0" }), &[message])
    }

    pub(crate) fn verify(&self, message: &[u8]) -> Result<Checked, GuestError> {
        self.checked("verify", &json!({ "data": "\0b0" }), &[message])
    }
}

pub(crate) const ALL: [&str; 4] = ["sign", "decrypt", "encrypt", "verify"];

/// Everything, with a key.
pub(crate) fn everything(secret: &[u8]) -> Value {
    json!({ "secret": String::from_utf8(secret.to_vec()).unwrap(), "usages": ALL })
}

/// Runs a program with this input.
pub(crate) fn run(program: &str, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| {
        panic!("{program}: {error}; fix: apt-get install gpg gpg-agent sq")
    });
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // It may end before it has read everything.
    let writing = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
