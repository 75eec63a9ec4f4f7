//! `stockade exec`: one guest file by itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use stockade::rpc::{ExportError, call_export, plain_json};
use stockade::run::{MAX_PRELUDE_BYTES, NOT_JSON, Prelude, set_running};
use stockade::{ConsoleMode, ModuleFiles, Payload};

use super::document::Done;
use super::failure::Failure;
use super::file::read_text;
use super::guest::{GuestArgs, Guests, Refusal, read};
use super::receipt::{Asked, ReceiptArgs};
use super::recorded::RecordedArgs;
use super::run_guest::{Job, limits_of};
use super::session::Session;
use super::units::{bytes, duration};
use super::{exit, meant};

pub(crate) fn examples() -> String {
    format!(
        "\
Examples:
  stockade exec tool.ts                       runs the file until it has nothing left to do
  stockade exec tool.ts -- a b                NETWORK.env.args is [\"a\", \"b\"], and so are main's arguments
  stockade exec tool.ts --cpu-limit 10s --memory-limit 512mb --timeout 1m
  stockade exec tool.ts --cpu-profile tool.cpuprofile --flame-graph tool.svg
  stockade exec tool.ts --json | jq '.reason, .usage'
  stockade exec tool.ts --allow-fetch api.example.com --allow-read ./data --env TOKEN=abc
  stockade exec tool.ts --receipt run.receipt && stockade verify run.receipt
  echo 'console.log(6 * 7)' | stockade exec -
  stockade exec -e 'const a: number = 6; a * 7'      prints 42, the value of the last expression
  stockade exec -e 'import rows from \"./rows.json\" with {{ type: \"json\" }}; rows.length' --file rows.json=/tmp/rows.json
  stockade exec --prelude helpers.ts -e 'twice(21)'   where helpers.ts sets globalThis.twice

All that the guest prints is printed: where nothing takes it, the guest waits, and neither its clocks nor the timeout run.

If the file exports a function `main`, it is called with the arguments; a whole number from 0 to 255 that it gives, or its promise, is the exit code.

Other exit codes: 0 done, 1 an error that nothing caught, or a file that cannot be read, 2 bad usage, {}, 130 Ctrl-C, 141 the reader of standard output is gone, 143 SIGTERM.",
        exit::ENDS
    )
}

/// What the code of `-e` is called.
const EVALUATED: &str = "main.ts";

#[derive(Args)]
pub(crate) struct ExecArgs {
    /// The guest's file: TypeScript or JavaScript, `-` for standard input. It imports files of its own folder
    #[arg(value_name = "FILE", value_parser = meant::code(), required_unless_present_any = ["eval", "prelude"])]
    module: Option<PathBuf>,

    /// Run this code and print its result: what a top-level return, the default export or the last expression gives
    #[arg(long, short, value_name = "CODE", conflicts_with = "module")]
    eval: Option<String>,

    /// Run this file before the code of -e, in the same isolate: what it sets as a property of globalThis is there for the code
    #[arg(long, value_name = "FILE")]
    prelude: Option<PathBuf>,

    /// Give the guest a file, as data/rows.json=/tmp/rows.json. It imports modules and JSON, and reads the others as
    /// NETWORK.env.FILES
    #[arg(long, value_name = "NAME=PATH")]
    file: Vec<String>,

    /// Bytes of the console that are printed, as 64kb or 1mb; what follows is left out [default: all, with --json 16mb]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    output_limit: Option<u32>,

    /// Print one JSON document: what main gave, the console, how it ended and why, limits, and what was used
    #[arg(long)]
    json: bool,

    /// Elapsed time for all of it, as 500ms or 2s; a bare number is milliseconds, 0 is no limit
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    timeout: Duration,

    #[command(flatten)]
    recorded: RecordedArgs,

    #[command(flatten)]
    receipt: ReceiptArgs,

    #[command(flatten)]
    pub(crate) guest: GuestArgs,

    /// Arguments for the guest
    #[arg(last = true)]
    args: Vec<String>,
}

/// Runs the command and gives the exit code.
pub(crate) fn exec(args: &ExecArgs) -> Result<i32, Refusal> {
    let list = Value::from(args.args.clone());
    let guests = guests(args, &list);
    let list = list.to_string();
    let receipt = match &guests {
        Ok(guests) => args.receipt.prepare(&Asked {
            command: "exec",
            function: None,
            arguments: &list,
            guests,
            guest: &args.guest,
            limits: limits_of(guests, args.timeout),
        })?,
        Err(_) => None,
    };
    let job = Job {
        command: "stockade exec",
        program: true,
        plain: args.eval.is_some(),
        json: args.json,
        timeout: args.timeout,
        receipt,
        output: args.output_limit,
    };
    let arguments = Payload::from_json(list);
    let shown = args
        .module
        .as_ref()
        .map(|module| module.display().to_string());
    let title = format!("stockade exec {}", shown.as_deref().unwrap_or("-e"));
    job.run(guests, async move |session| {
        let done = match &args.eval {
            Some(code) => evaluate(session, args.prelude.is_some(), code).await,
            None => run_program(session, arguments).await,
        };
        // Also of one that failed: where its time went may be why.
        match args.recorded.write(&session.handle(), &title).await {
            Err(failure) if done.is_ok() => Err(failure),
            _ => done,
        }
    })
}

/// What is wrong with a prelude that runs before no code of `-e`.
fn lonely_prelude(args: &ExecArgs) -> Option<Refusal> {
    let prelude = args.prelude.as_ref().filter(|_| args.eval.is_none())?;
    let shown = prelude.display();
    let message = match &args.module {
        Some(module) => format!(
            "--prelude runs before the code of -e, and not before a file\n  \
             fix: import {shown} in {module}, or give the code: stockade exec --prelude {shown} -e \"$(cat {module})\"",
            module = module.display()
        ),
        None => format!(
            "--prelude runs before the code of -e, which is missing\n  \
             fix: give the code: stockade exec --prelude {shown} -e '6 * 7'\n  \
             or run the file by itself: stockade exec {shown}"
        ),
    };
    Some(Refusal(message, exit::USAGE))
}

/// The guest of the command line, with these arguments.
fn guests(args: &ExecArgs, list: &Value) -> Result<Guests, Refusal> {
    if let Some(refusal) = lonely_prelude(args) {
        return Err(refusal);
    }
    let modules = || match (&args.module, &args.eval) {
        (Some(module), _) => read(module),
        (None, code) => Ok(ModuleFiles {
            modules: code
                .iter()
                .map(|code| (EVALUATED.to_owned(), code.clone()))
                .collect(),
            entry: EVALUATED.to_owned(),
            folder: PathBuf::new(),
        }),
    };
    let guests = args
        .guest
        .sandbox_with(modules, &args.file, ConsoleMode::Whole);
    let mut guests = guests?;
    if args.eval.is_some() {
        let prelude = match &args.prelude {
            Some(path) => Some(read_prelude(path, &mut guests)?),
            None => None,
        };
        // The code is evaluated: it is not a module that runs by itself, or is imported.
        let defaults = &mut guests.sandbox.defaults;
        defaults.modules.remove(EVALUATED);
        defaults.main = Some(String::new());
        set_running(defaults, false, [], prelude.as_ref());
    }
    let defaults = &mut guests.sandbox.defaults;
    defaults.env.insert("args".to_owned(), list.clone());
    defaults.record_cpu = args.recorded.records_cpu();
    Ok(guests)
}

/// Reads and compiles what runs before the code. It is a part of the code that a receipt names.
fn read_prelude(path: &Path, guests: &mut Guests) -> Result<Prelude, Refusal> {
    let text = read_text(path, MAX_PRELUDE_BYTES as u64).map_err(|error| {
        let message = format!("--prelude: {} cannot be read: {error}", path.display());
        Refusal(message, exit::FAILED)
    })?;
    let prelude = Prelude::compile(&text)
        .map_err(|what| Refusal(format!("--prelude: {what}"), exit::FAILED))?;
    let modules = &mut guests.files.modules;
    let name = Prelude::NAME;
    if modules.insert(name.to_owned(), text).is_some() {
        let message = format!("--file {name}: the code of --prelude has this name");
        return Err(Refusal(message, exit::USAGE));
    }
    Ok(prelude)
}

/// Runs the module, its function `main` if it has one, and what is left to do then.
async fn run_program(session: &mut Session, arguments: Payload) -> Result<Done, Failure> {
    session.ready().await?;
    let handle = session.handle();
    let called = call_export(&handle, "main", arguments);
    let done = match session.reply(called).await? {
        Ok(value) => {
            let value = plain_json(value);
            Done {
                code: exit_code(value.as_deref()),
                value,
            }
        }
        Err(ExportError::NoExport) => Done {
            code: exit::DONE,
            value: None,
        },
        Err(ExportError::Call(error)) => return Err(session.no_reply(&error)),
    };
    session.rest().await?;
    Ok(done)
}

/// Runs code for its result, after the prelude if there is one.
async fn evaluate(session: &mut Session, has_prelude: bool, code: &str) -> Result<Done, Failure> {
    let handle = session.handle();
    // The first evaluation runs the prelude, whatever text it has.
    if has_prelude && let Err(error) = session.reply(handle.evaluate(String::new())).await? {
        let failure = session.no_reply(&error);
        return Err(match failure.error.is_some() {
            true => Failure {
                reason: "prelude_failed",
                ..failure
            },
            false => failure,
        });
    }
    match session.reply(handle.evaluate(code)).await? {
        // Nothing is printed of `undefined`.
        Ok(value) if value.json.is_empty() => Ok(Done {
            code: exit::DONE,
            value: None,
        }),
        Ok(value) => {
            let value = plain_json(value).ok_or_else(|| {
                let message = "the result contains bytes or streams, which JSON cannot hold";
                Failure::new("not_json", message.to_owned(), exit::FAILED)
            })?;
            Ok(Done {
                code: exit::DONE,
                value: Some(value),
            })
        }
        Err(error) => {
            let failure = session.no_reply(&error);
            let thrown = failure.error.as_ref();
            if thrown.is_none_or(|error| error.code() != NOT_JSON) {
                return Err(failure);
            }
            Err(Failure {
                reason: "not_json",
                ..failure
            })
        }
    }
}

/// What `main` gave, where that is an exit code.
fn exit_code(json: Option<&str>) -> i32 {
    let code = json.and_then(|json| json.parse::<u8>().ok());
    code.map_or(exit::DONE, i32::from)
}
