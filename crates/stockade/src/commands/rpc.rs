//! `stockade rpc`: the functions of a module by JSON-RPC.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use stockade::rpc::{
    Address, BoxError, Guest, KeyRules, RpcAudit, RpcLimits, RpcOptions, Server, Stopped,
};
use stockade::run::Refusals;
use stockade::{ConsoleMode, Grants, Sandbox};
use stockade_audit::{AuditLog, AuditOptions, Record};
use stockade_config::cpu_amount;
use stockade_limits::Amount;

use super::callers::CallerArgs;
use super::failure::Failure;
use super::guest::{GuestArgs, Refusal, interrupted};
use super::output::{self, Output};
use super::run_guest::block_on;
use super::session::Session;
use super::units::{bytes, duration};
use super::{exit, meant};

pub(crate) fn examples() -> String {
    format!(
        "\
Examples:
  stockade rpc math.ts --listen 127.0.0.1:7070
  stockade rpc math.ts --listen unix:/run/user/1000/math.sock --once
  stockade rpc math.ts --keys keys.db --scope add=read --rate 100/s --cpu-rate 30s/m
  stockade rpc math.ts --keys keys.db --audit ./audit
  curl -H 'content-type: application/json' http://127.0.0.1:7070 \\
    -d '{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"add\",\"params\":[2,3]}}'

Every function that the module exports is a method; nothing else is. HTTP POST and WebSocket share the port. When the isolate ends, the calls in it are rejected and another isolate is started. The guest's console goes to standard error, each line with its name in front.

Exit codes: 1 the module cannot be read or run, or the address is not available, 2 bad usage, 130 Ctrl-C, 143 SIGTERM, and with --once {}.",
        exit::ENDS
    )
}

#[derive(Args)]
pub(crate) struct RpcArgs {
    /// The module: TypeScript or JavaScript, `-` for standard input. It imports files of its own folder
    #[arg(value_parser = meant::code())]
    module: PathBuf,

    /// Where to listen: HOST:PORT or unix:PATH; may be given more than once
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7070")]
    listen: Vec<Address>,

    #[command(flatten)]
    callers: CallerArgs,

    /// How much CPU time the calls of each key may use in a second, a minute, an hour, a day or a month, as 500ms/s, 30s/m
    /// or 2h/day
    #[arg(long, value_name = "AMOUNT", value_parser = cpu_rate, requires = "keys")]
    cpu_rate: Option<Amount>,

    /// The folder of an audit log: start and stop, clients and hosts that were refused, and why isolates were ended. It is
    /// made if it does not exist; `stockade audit` verifies and searches it
    #[arg(long, value_name = "FOLDER")]
    audit: Option<PathBuf>,

    /// Listen on addresses that other machines reach: without --keys, everyone who reaches them may call the guest
    #[arg(long)]
    allow_remote: bool,

    /// A name, in addition to localhost, under which the server may be called and whose pages may call it; may be
    /// given more than once
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,

    /// Connections at the same time
    #[arg(long, value_name = "N", default_value_t = RpcLimits::default().connections)]
    max_connections: usize,

    /// Bytes of a request or a batch, as 65536 or 64kb
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value_t = RpcLimits::default().request_bytes)]
    max_request_bytes: u32,

    /// Bytes of a response or a batch's, as 65536 or 64kb
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value_t = RpcLimits::default().response_bytes)]
    max_response_bytes: u32,

    /// Calls in the guest at the same time
    #[arg(long, value_name = "N", default_value_t = RpcLimits::default().concurrent)]
    max_concurrent: usize,

    /// Calls in one batch
    #[arg(long, value_name = "N", default_value_t = RpcLimits::default().batch)]
    max_batch: u32,

    /// Wait for the reply to a request or a batch, as 500ms or 2s; a bare number is milliseconds, 0 is no limit
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    timeout: Duration,

    /// Exit when the isolate ends, instead of starting another
    #[arg(long)]
    once: bool,

    #[command(flatten)]
    pub(crate) guest: GuestArgs,
}

impl RpcArgs {
    fn options(
        &self,
        keys: Option<KeyRules>,
        audit: Option<AuditLog>,
        refused: Option<Arc<RefusedHosts>>,
    ) -> RpcOptions {
        RpcOptions {
            keys,
            audit: audit.map(|log| RpcAudit {
                log,
                name: scope_name(&self.module),
                rest: refused.map(|refused| Arc::new(move || refused.record()) as _),
            }),
            listen: self.listen.clone(),
            limits: RpcLimits {
                // More than the library can count is no limit either.
                connections: self.max_connections.clamp(1, 1 << 20),
                request_bytes: self.max_request_bytes,
                response_bytes: self.max_response_bytes,
                concurrent: self.max_concurrent.clamp(1, 1 << 20),
                batch: self.max_batch,
                timeout: Some(self.timeout).filter(|timeout| !timeout.is_zero()),
            },
            once: self.once,
            allow_remote: self.allow_remote,
            allowed_hosts: self.allow_host.clone(),
            ..RpcOptions::default()
        }
    }
}

/// How often refused hosts are recorded, and how many of them at a time.
const RECORD: Duration = Duration::from_secs(1);
const REFUSED_PER_RECORD: usize = 20;

fn cpu_rate(text: &str) -> Result<Amount, String> {
    cpu_amount(text).ok_or_else(|| {
        "expected a CPU time of at least 1ms in s, m, h, day or month, as 500ms/s, 30s/m or 2h/day".to_owned()
    })
}

/// The name of the server in scopes such as `math/read`: that of the file, with a dash for each other character.
fn scope_name(module: &Path) -> Arc<str> {
    let name = module.file_stem().unwrap_or_default().to_string_lossy();
    let name = name.to_ascii_lowercase();
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let name: String = name
        .chars()
        .map(|c| if known(c) { c } else { '-' })
        .collect();
    name.into()
}

/// Runs the command and gives the exit code.
pub(crate) fn rpc(args: &RpcArgs) -> Result<i32, Refusal> {
    let guests = args.guest.sandbox(&args.module, ConsoleMode::Event)?;
    let failed = |error: &dyn std::fmt::Display| Refusal(error.to_string(), exit::FAILED);
    let (mut keys, _quotas) = args.callers.open(scope_name(&args.module))?.unzip();
    if let Some(keys) = &mut keys {
        keys.cpu = args.cpu_rate.map(|rate| rate.allowance(None));
    }
    stockade::initialize();
    let audit = args.audit.clone().map(AuditOptions::new);
    let audit = audit.map(AuditLog::open).transpose();
    let audit = audit.map_err(|error| failed(&error))?;
    let sandbox = Sandbox::new(guests.sandbox);
    // What guests are refused is noted where it is recorded.
    let refusals = audit.is_some().then(Refusals::default);
    let grants = match &refusals {
        Some(refusals) => guests.grants.noting(refusals.clone()),
        None => guests.grants,
    };
    let start = Start {
        sandbox,
        grants: Arc::new(grants),
        name: guests.files.entry.into(),
        refusals: refusals.clone(),
    };
    let refused = audit.clone().zip(refusals).map(|(log, refusals)| {
        Arc::new(RefusedHosts {
            log,
            name: scope_name(&args.module),
            refusals,
            left_out: AtomicU64::new(0),
        })
    });
    block_on(async {
        let server = Server::bind(args.options(keys, audit, refused.clone()))
            .await
            .map_err(|error| failed(&error))?;
        let running = server
            .start(move || start.clone().guest())
            .await
            .map_err(|error| failed(&error))?;
        for address in running.addresses() {
            output::say(&format!("Listening on {address}"));
        }
        let mut code = exit::DONE;
        let asked = interrupted().map_err(|error| failed(&error))?;
        let stop = async {
            code = match refused {
                Some(refused) => refused.until(asked).await,
                None => asked.await,
            }
        };
        let stopped = running.until(stop).await;
        match stopped {
            Stopped::Asked => Ok(code),
            Stopped::IsolateEnded(end) => Err(Failure::ended(end).into()),
        }
    })?
}

/// How isolates are started.
#[derive(Clone)]
struct Start {
    sandbox: Sandbox,
    grants: Arc<Grants>,
    name: Arc<str>,
    refusals: Option<Refusals>,
}

impl Start {
    /// Starts an isolate and waits until its module has run.
    async fn guest(self) -> Result<Guest, BoxError> {
        let started = async {
            let output = Output::Named(self.name.to_string());
            let command = "stockade rpc";
            let mut session =
                Session::start(&self.sandbox, &self.grants, output, command, false).await?;
            if let Some(refusals) = self.refusals {
                session.note_refused(refusals);
            }
            session.ready().await?;
            Ok(session)
        };
        let session = started.await.map_err(|failure: Failure| failure.message)?;
        Ok(Guest::new(session.handle(), session.until_ended()))
    }
}

/// Records the hosts that guests were refused. A guest must not push other records out of the files that are kept.
struct RefusedHosts {
    log: AuditLog,
    name: Arc<str>,
    refusals: Refusals,
    /// How many were not recorded since the last record.
    left_out: AtomicU64,
}

impl RefusedHosts {
    /// Records them once a second until `stop` is done. Gives its outcome. The server has the rest recorded when it stops.
    async fn until<T>(&self, stop: impl Future<Output = T>) -> T {
        let mut stop = std::pin::pin!(stop);
        loop {
            if let Ok(outcome) = tokio::time::timeout(RECORD, stop.as_mut()).await {
                return outcome;
            }
            self.record();
        }
    }

    fn record(&self) {
        for (at, refused) in self.refusals.take().into_iter().enumerate() {
            if at >= REFUSED_PER_RECORD {
                self.left_out.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let mut record = Record::new("egress_refused")
                .text("instance", &self.name)
                .text("target", &format!("{}:{}", refused.host, refused.port))
                .text("reason", refused.reason);
            let left_out = self.left_out.swap(0, Ordering::Relaxed);
            if left_out > 0 {
                record = record.number("left_out_before", left_out);
            }
            self.log.record(record);
        }
    }
}
