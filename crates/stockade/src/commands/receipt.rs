//! Signed receipts: `--receipt` of `exec` and `call`, `stockade verify`, and `stockade receipt key`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand, ValueEnum};
use parking_lot::Mutex;
use serde_json::{Value, json};
use stockade::{GrantedUse, Handle};
use stockade_audit::{PublicKey, SigningKey};
use stockade_protocol::harmless_line;
use stockade_usage::receipt::{
    self, Code, Outcome, Policy, Receipt, Refused, RequestReceipt, Runtime, Sha256, Statement,
    Used, VERSION, canonical,
};

use super::document::Done;
use super::failure::Failure;
use super::file::read_text_or_input;
use super::guest::{GuestArgs, Guests, Refusal};
use super::{exit, output};

/// The file of the signing key, where none is named.
const KEY: &str = "receipt.key";

/// Bytes of a receipt that are read.
const MAX_RECEIPT: u64 = 4 << 20;

/// How long the end of everything that ran in the guest is waited for.
const LEAVES: Duration = Duration::from_secs(5);

pub(crate) const VERIFY_EXAMPLES: &str = "\
Examples:
  stockade verify run.receipt                     by ./receipt.pub
  stockade verify run.receipt --key ops.pub       by a public key that was kept elsewhere
  stockade verify run.receipt --json | jq .usage
  stockade verify - < run.receipt

The public key is a file with 64 hexadecimal digits, a JSON Web Key, or PEM.

Exit codes: 0 the receipt is what the key signed, 1 it is not, or a file cannot be read, 2 bad usage.";

pub(crate) const RECEIPT_EXAMPLES: &str = "\
Examples:
  stockade receipt key                            the public half of ./receipt.key as a JSON Web Key
  stockade receipt key --form pem > receipt.pem
  stockade receipt key --key ops.key --form hex > ops.pub

The key is made if the file does not exist. Keep the file: who has it can sign.

Exit codes: 0 done, 1 the key cannot be read or made, 2 bad usage.";

/// What `exec` and `call` take for a receipt.
#[derive(Args)]
pub(crate) struct ReceiptArgs {
    /// Write a signed receipt of the run to a file: digests of code, policy and result, and what was used
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,

    /// The file with the Ed25519 key that signs the receipt; it is made if it does not exist
    #[arg(long, value_name = "FILE", default_value = KEY, requires = "receipt")]
    receipt_key: PathBuf,
}

#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// The receipt; `-` for standard input
    file: PathBuf,

    /// The public key of the signer
    #[arg(long, value_name = "FILE", default_value = "receipt.pub")]
    key: PathBuf,

    /// Print what the receipt states as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct ReceiptKeyArgs {
    #[command(subcommand)]
    command: ReceiptCommand,
}

#[derive(Subcommand)]
enum ReceiptCommand {
    /// Print the public half of the key that signs receipts
    #[command(after_help = "Example:\n  stockade receipt key --form pem > receipt.pem")]
    Key {
        /// The file with the key; it is made if it does not exist
        #[arg(long, value_name = "FILE", default_value = KEY)]
        key: PathBuf,

        /// The form in which it is printed
        #[arg(long, value_enum, default_value_t = Form::Jwk)]
        form: Form,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    /// A JSON Web Key (RFC 8037)
    Jwk,
    /// PEM
    Pem,
    /// 64 hexadecimal digits
    Hex,
}

fn failed(error: impl std::fmt::Display) -> Refusal {
    Refusal(error.to_string(), exit::FAILED)
}

/// What a run is asked to do.
pub(crate) struct Asked<'a> {
    pub(crate) command: &'static str,
    pub(crate) function: Option<&'a str>,
    /// A JSON array.
    pub(crate) arguments: &'a str,
    pub(crate) guests: &'a Guests,
    pub(crate) guest: &'a GuestArgs,
    /// The limits, as the document of `--json` has them.
    pub(crate) limits: Value,
}

/// A receipt that is to be written, as far as it is known before the run.
pub(crate) struct Pending {
    path: PathBuf,
    key: SigningKey,
    command: &'static str,
    function: Option<String>,
    code: Code,
    policy: Policy,
    arguments_sha256: String,
    pub(crate) console: ConsoleTally,
}

impl ReceiptArgs {
    /// Opens the key and states what is known before the run; nothing where no receipt is wanted.
    pub(crate) fn prepare(&self, asked: &Asked<'_>) -> Result<Option<Pending>, Refusal> {
        let Some(path) = &self.receipt else {
            return Ok(None);
        };
        let key = open_key(&self.receipt_key)?;
        let files = &asked.guests.files;
        let modules = files.modules.iter();
        let modules = modules.map(|(name, text)| (name.clone(), Sha256::of(text.as_bytes())));
        let (grants, fetch) = asked.guest.granted()?;
        let isolation = asked.guest.isolation.name();
        let policy = json!({
            "isolation": isolation, "limits": &asked.limits, "grants": &grants, "fetch": fetch,
        });
        let arguments: Value = serde_json::from_str(asked.arguments).map_err(failed)?;
        Ok(Some(Pending {
            path: path.clone(),
            key,
            command: asked.command,
            function: asked.function.map(str::to_owned),
            code: Code::new(&files.entry, modules),
            policy: Policy {
                sha256: Sha256::of(canonical(&policy).as_bytes()),
                isolation: isolation.to_owned(),
                limits: asked.limits.as_object().cloned().unwrap_or_default(),
                grants: asked.guests.grants.kinds(),
                fetch: fetch.len() as u64,
            },
            arguments_sha256: Sha256::of(canonical(&arguments).as_bytes()),
            console: ConsoleTally::default(),
        }))
    }
}

/// Opens the signing key, or makes it, with its public half next to it.
fn open_key(path: &Path) -> Result<SigningKey, Refusal> {
    let key = SigningKey::open(path).map_err(|error| {
        failed(format!(
            "the key of receipts can be neither read nor made: {error}"
        ))
    })?;
    let public = path.with_extension("pub");
    if !public.exists() {
        std::fs::write(&public, key.public().to_hex() + "\n")
            .map_err(|error| failed(format!("{}: {error}", public.display())))?;
    }
    Ok(key)
}

/// The digest of what a guest prints, and how much it is.
#[derive(Clone, Default)]
pub(crate) struct ConsoleTally(Arc<Mutex<(Sha256, u64)>>);

impl ConsoleTally {
    /// Adds a piece of the console.
    pub(crate) fn add(&self, text: &str) {
        let mut tally = self.0.lock();
        tally.0.add(text.as_bytes());
        tally.1 = tally.1.saturating_add(text.len() as u64);
    }
}

/// What a run was, once nothing of it runs any more.
pub(crate) struct Ran {
    started: SystemTime,
    ended: SystemTime,
    elapsed: Duration,
    cpu: Duration,
    peak_memory: u64,
}

impl Ran {
    /// Waits until nothing of the guest runs any more. An isolate that cannot be stopped is given up.
    pub(crate) async fn until_left(
        handle: &Handle,
        started: SystemTime,
        elapsed: Duration,
    ) -> Self {
        let began = std::time::Instant::now();
        let _ = tokio::time::timeout(LEAVES, handle.until_left()).await;
        Self {
            started,
            ended: SystemTime::now(),
            elapsed: elapsed + began.elapsed(),
            cpu: handle.cpu(),
            peak_memory: handle.peak_memory(),
        }
    }
}

impl Pending {
    /// Signs the receipt and writes it.
    pub(crate) fn write(
        &self,
        ran: &Ran,
        used: &GrantedUse,
        result: &Result<Done, Failure>,
    ) -> Result<(), Refusal> {
        let (console, console_bytes) = self.console.0.lock().clone();
        let milliseconds = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        let (reason, exit_code, value) = match result {
            Ok(done) => ("done", done.code, done.value.as_deref()),
            Err(failure) => (failure.reason, failure.code, None),
        };
        let receipt = Receipt {
            version: VERSION,
            jti: receipt::new_id().ok_or_else(|| failed("there are no random numbers"))?,
            command: self.command.to_owned(),
            function: self.function.clone(),
            code: self.code.clone(),
            policy: self.policy.clone(),
            arguments_sha256: self.arguments_sha256.clone(),
            runtime: Runtime {
                stockade: env!("CARGO_PKG_VERSION").to_owned(),
                v8: stockade::V8_VERSION.to_owned(),
            },
            started: humantime::format_rfc3339_millis(ran.started).to_string(),
            ended: humantime::format_rfc3339_millis(ran.ended).to_string(),
            usage: Used {
                cpu_ms: milliseconds(ran.cpu),
                elapsed_ms: milliseconds(ran.elapsed),
                peak_memory_bytes: ran.peak_memory,
                console_bytes,
                egress_requests: used.egress_requests,
                egress_sent_bytes: used.egress_sent,
                egress_received_bytes: used.egress_received,
                grant_calls: used.calls,
                grant_sent_bytes: used.sent,
                grant_received_bytes: used.received,
            },
            refused: Refused {
                egress: used.egress_refused,
                grants: used.refused,
            },
            result: Outcome {
                reason: reason.to_owned(),
                exit_code,
                value_sha256: value.map(|json| Sha256::of(json.as_bytes())),
                console_sha256: console.finish(),
            },
        };
        let signed = receipt::sign(&receipt, &self.key).map_err(failed)?;
        std::fs::write(&self.path, signed + "\n").map_err(|error| {
            failed(format!(
                "the receipt cannot be written to {}: {error}",
                self.path.display()
            ))
        })
    }
}

/// `stockade receipt key`: prints the public half of the key.
pub(crate) fn receipt_key(args: &ReceiptKeyArgs) -> Result<i32, Refusal> {
    let ReceiptCommand::Key { key, form } = &args.command;
    let public = open_key(key)?.public();
    let text = match form {
        Form::Jwk => receipt::jwk(&public),
        Form::Pem => receipt::pem(&public),
        Form::Hex => public.to_hex(),
    };
    output::print(&text)?;
    Ok(exit::DONE)
}

/// `stockade verify`: whether a receipt is what the key signed, and what it states.
pub(crate) fn verify(args: &VerifyArgs) -> Result<i32, Refusal> {
    let public = read_public(&args.key)?;
    let text = read(&args.file)?;
    let receipt = receipt::verify(&text, &public)
        .map_err(|error| failed(format!("{}: {error}", args.file.display())))?;
    let value = serde_json::to_value(&receipt).map_err(failed)?;
    if args.json {
        output::value(&value.to_string())?;
    } else {
        output::print(&match &receipt {
            Statement::Run(receipt) => stated(receipt, &public),
            Statement::Request(receipt) => stated_of_request(receipt, &public),
        })?;
    }
    Ok(exit::DONE)
}

fn read_public(path: &Path) -> Result<PublicKey, Refusal> {
    let shown = path.display();
    let text = read(path).map_err(|Refusal(why, _)| {
        failed(format!(
            "{why}\n  fix: name the signer's public key with --key; the signer prints it with `stockade receipt key`"
        ))
    })?;
    receipt::public_key(&text).ok_or_else(|| {
        failed(format!(
            "{shown} is not a public key\n  fix: 64 hexadecimal digits, a JSON Web Key with Ed25519, or PEM"
        ))
    })
}

fn read(path: &Path) -> Result<String, Refusal> {
    let read = read_text_or_input(path, MAX_RECEIPT);
    read.map_err(|error| failed(format!("{}: {error}", path.display())))
}

/// What a receipt states, for people. The signer's texts are those of a program, and may be of another one.
fn stated(receipt: &Receipt, key: &PublicKey) -> String {
    let shown = |text: &str| harmless_line(text, 200);
    let mut lines = vec![format!("valid: signed by the key {}", key.id())];
    let mut line = |name: &str, text: String| lines.push(format!("{name:10}{text}"));
    let function = receipt.function.as_deref();
    let function = function.map_or(String::new(), |name| format!(" {}", shown(name)));
    let (code, policy, usage) = (&receipt.code, &receipt.policy, &receipt.usage);
    line(
        "run",
        format!(
            "{} {}{function}",
            shown(&receipt.command),
            shown(&code.main)
        ),
    );
    line("code", shown(&code.sha256));
    line(
        "policy",
        format!("{} ({})", shown(&policy.sha256), shown(&policy.isolation)),
    );
    for (name, kind) in policy.grants.iter().take(100) {
        line("grant", format!("{}: {}", shown(name), shown(kind)));
    }
    line("arguments", shown(&receipt.arguments_sha256));
    let runtime = &receipt.runtime;
    line(
        "runtime",
        format!(
            "Stockade {}, V8 {}",
            shown(&runtime.stockade),
            shown(&runtime.v8)
        ),
    );
    line(
        "time",
        format!("{} to {}", shown(&receipt.started), shown(&receipt.ended)),
    );
    line(
        "used",
        format!(
            "CPU {} ms, elapsed {} ms, memory {} bytes at most, {} bytes printed",
            usage.cpu_ms, usage.elapsed_ms, usage.peak_memory_bytes, usage.console_bytes
        ),
    );
    line(
        "network",
        format!(
            "{} requests, {} bytes sent, {} received, {} refused",
            usage.egress_requests,
            usage.egress_sent_bytes,
            usage.egress_received_bytes,
            receipt.refused.egress
        ),
    );
    line(
        "grants",
        format!(
            "{} calls, {} bytes sent, {} received, {} refused",
            usage.grant_calls,
            usage.grant_sent_bytes,
            usage.grant_received_bytes,
            receipt.refused.grants
        ),
    );
    let result = &receipt.result;
    line(
        "result",
        format!("{}, exit code {}", shown(&result.reason), result.exit_code),
    );
    if let Some(value) = &result.value_sha256 {
        line("value", shown(value));
    }
    line("console", shown(&result.console_sha256));
    lines.join("\n")
}

/// What a receipt of a request states, for people.
fn stated_of_request(receipt: &RequestReceipt, key: &PublicKey) -> String {
    let shown = |text: &str| harmless_line(text, 200);
    let RequestReceipt {
        code,
        policy,
        runtime,
        request,
        usage,
        result,
        ..
    } = receipt;
    let cut = if result.complete { "" } else { ", cut off" };
    // What version 1 does not state is not shown as nothing.
    let received = (usage.received_bytes)
        .map_or_else(String::new, |bytes| format!("{bytes} bytes received, "));
    let egress = usage.egress.map_or_else(String::new, |egress| {
        format!(
            "{} requests, {} bytes sent, {} received, ",
            egress.egress_requests, egress.egress_sent_bytes, egress.egress_received_bytes
        )
    });
    let grants = receipt.refused_grants.map_or_else(
        || "not stated by this version of receipts".to_owned(),
        |refused| format!("{refused} calls refused"),
    );
    [
        format!("valid: signed by the key {}", key.id()),
        format!(
            "request   {} of {}, {}",
            shown(&request.method),
            shown(&receipt.instance),
            shown(&request.id)
        ),
        format!("url       {}", shown(&request.url_sha256)),
        format!("code      {} ({})", shown(&code.sha256), shown(&code.main)),
        format!(
            "policy    {} ({})",
            shown(&policy.sha256),
            shown(&policy.isolation)
        ),
        format!(
            "runtime   Stockade {}, V8 {}",
            shown(&runtime.stockade),
            shown(&runtime.v8)
        ),
        format!(
            "time      {} to {}",
            shown(&receipt.started),
            shown(&receipt.ended)
        ),
        format!(
            "used      CPU {} ms, elapsed {} ms, {received}{} bytes sent",
            usage.cpu_ms, usage.elapsed_ms, usage.sent_bytes
        ),
        format!("network   {egress}{} refused", receipt.refused),
        format!("grants    {grants}"),
        format!("result    status {}{cut}", result.status),
    ]
    .join("\n")
}
