//! `stockade exec`: one guest file by itself.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use stockade::rpc::{ExportError, call_export, plain_json};
use stockade::{Isolate, Next, Payload, Sandbox};

use super::call::{bounded, failed, finish, hear, ready, start, while_hearing};
use super::exit;
use super::guest::{GuestArgs, Refusal, milliseconds};
use super::output::{self, Console};

pub(crate) const EXAMPLES: &str = "\
Examples:
  stockade exec tool.ts                       runs the file until it has nothing left to do
  stockade exec tool.ts -- a b                NETWORK.env.args is [\"a\", \"b\"], and so are main's arguments
  stockade exec tool.ts --cpu-limit 10000 --timeout 60000

If the file exports a function `main`, it is called with the arguments; a whole number from 0 to 255 that
it gives, or its promise, is the exit code. Other exit codes: 0 done, 1 an error that nothing caught, or a
file that cannot be read, 2 bad usage, 124 a limit or the timeout, 125 the isolate crashed, 130 Ctrl-C,
143 SIGTERM.";

#[derive(Args)]
pub(crate) struct ExecArgs {
    /// The guest's file: TypeScript or JavaScript. It imports files of its own folder
    file: PathBuf,

    /// Elapsed time for all of it in milliseconds, 0 for no limit
    #[arg(long, value_name = "MS", value_parser = milliseconds, default_value = "0")]
    timeout: Duration,

    #[command(flatten)]
    pub(crate) guest: GuestArgs,

    /// Arguments for the guest
    #[arg(last = true)]
    args: Vec<String>,
}

/// Runs the command and gives the exit code.
pub(crate) fn exec(args: &ExecArgs) -> Result<i32, Refusal> {
    let (mut options, _) = args.guest.sandbox(&args.file)?;
    let list = Value::from(args.args.clone());
    let env = &mut options.defaults.env;
    env.insert("args".to_owned(), list.clone());
    stockade::initialize();
    let sandbox = Sandbox::new(options);
    let run = run(&sandbox, Payload::from_json(list.to_string()));
    finish(bounded(args.timeout, run))
}

async fn run(sandbox: &Sandbox, args: Payload) -> Result<i32, Refusal> {
    let mut isolate = start(sandbox).await?;
    ready(&mut isolate, Console::Both).await?;
    let handle = isolate.handle();
    let called = call_export(&handle, "main", args);
    let code = match while_hearing(&mut isolate, Console::Both, called).await? {
        Ok(value) => exit_code(value),
        Err(ExportError::NoExport) => exit::DONE,
        Err(ExportError::Call(error)) => {
            return Err(failed(&mut isolate, Console::Both, &error));
        }
    };
    rest(&mut isolate).await?;
    Ok(code)
}

/// What `main` gave, where that is an exit code.
fn exit_code(value: Payload) -> i32 {
    let json = plain_json(value).unwrap_or_default();
    json.parse::<u8>().map_or(exit::DONE, i32::from)
}

/// Lets the guest do what is left to do. An error that nothing caught ends it.
async fn rest(isolate: &mut Isolate) -> Result<(), Refusal> {
    let handle = isolate.handle();
    loop {
        match isolate.next_or_idle().await {
            Next::Event(event) => hear(event, isolate, Console::Both)?,
            Next::Idle => return Ok(()),
            Next::Ended => {
                let end = handle.end();
                let code = exit::code_of(end.as_ref());
                return Err(Refusal(output::ended(end.as_ref()), code));
            }
        }
    }
}
