//! `stockade call`: one function of a module, once.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::de::IgnoredAny;
use serde_json::Value;
use stockade::rpc::{ExportError, call_export, plain_json};
use stockade::{CallError, Event, Isolate, Next, Payload, Sandbox};

use super::exit;
use super::guest::{GuestArgs, Refusal, interrupted, milliseconds};
use super::output::{self, Console, complain};

pub(crate) const EXAMPLES: &str = "\
Examples:
  stockade call math.ts add 2 3                     prints 5
  stockade call shop.ts total '{\"items\":[1,2]}'     what is JSON is passed as JSON, the rest as text
  stockade call math.ts add 2 3 --isolation container

The guest's console goes to standard error. Exit codes: 0 done, 1 the guest threw or its module cannot
be read, 2 bad usage, 3 no such export, 124 a limit or the timeout, 125 the isolate crashed.";

#[derive(Args)]
pub(crate) struct CallArgs {
    /// The module: TypeScript or JavaScript. It imports files of its own folder
    module: PathBuf,

    /// The name of an exported function; its promise is awaited
    function: String,

    /// Its arguments: JSON where they are JSON, text where not
    #[arg(allow_negative_numbers = true)]
    args: Vec<String>,

    /// Every argument must be JSON
    #[arg(long)]
    json_args: bool,

    /// Elapsed time for all of it in milliseconds, 0 for no limit
    #[arg(long, value_name = "MS", value_parser = milliseconds, default_value = "30000")]
    timeout: Duration,

    #[command(flatten)]
    pub(crate) guest: GuestArgs,
}

/// Runs the command and gives the exit code.
pub(crate) fn call(args: &CallArgs) -> Result<i32, Refusal> {
    let arguments = arguments(&args.args, args.json_args)?;
    let (options, _) = args.guest.sandbox(&args.module)?;
    stockade::initialize();
    let sandbox = Sandbox::new(options);
    finish(bounded(
        args.timeout,
        run(&sandbox, &args.function, arguments),
    ))
}

/// Runs a command's work on a runtime of its own and gives the exit code.
pub(crate) fn finish(work: impl Future<Output = Result<i32, Refusal>>) -> Result<i32, Refusal> {
    let start = |error: std::io::Error| Refusal(format!("cannot start: {error}"), exit::FAILED);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(start)?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

/// Runs a guest for at most this long. Ctrl-C and SIGTERM end it where it stands.
pub(crate) async fn bounded(
    timeout: Duration,
    run: impl Future<Output = Result<i32, Refusal>>,
) -> Result<i32, Refusal> {
    let interrupted = interrupted()
        .map_err(|error| Refusal(format!("cannot listen to signals: {error}"), exit::FAILED))?;
    let over = async {
        if timeout.is_zero() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(timeout).await;
    };
    tokio::select! {
        result = run => result,
        code = interrupted => Ok(code),
        () = over => {
            let message = format!("the guest was not done within {} ms", timeout.as_millis());
            Err(Refusal(message, exit::LIMIT))
        }
    }
}

/// The arguments as one JSON array. What is JSON goes on as it is written: a number or a text that no type here
/// holds is the guest's to read.
fn arguments(given: &[String], all_json: bool) -> Result<Payload, Refusal> {
    let mut list = Vec::new();
    for (index, text) in given.iter().enumerate() {
        list.push(match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => text.clone(),
            Err(error) if all_json => {
                let number = index + 1;
                let message = format!("argument {number} is no JSON: {error}");
                return Err(Refusal(message, exit::USAGE));
            }
            Err(_) => Value::from(text.as_str()).to_string(),
        });
    }
    Ok(Payload::from_json(format!("[{}]", list.join(","))))
}

async fn run(sandbox: &Sandbox, function: &str, args: Payload) -> Result<i32, Refusal> {
    let mut isolate = start(sandbox).await?;
    ready(&mut isolate, Console::Error).await?;
    let handle = isolate.handle();
    let called = call_export(&handle, function, args);
    match while_hearing(&mut isolate, Console::Error, called).await? {
        Ok(value) => {
            let json = plain_json(value).ok_or_else(|| {
                let message = "the result holds bytes or streams, which JSON cannot hold";
                Refusal(message.to_owned(), exit::FAILED)
            })?;
            drain(&mut isolate, Console::Error);
            output::value(&json);
            Ok(exit::DONE)
        }
        Err(ExportError::NoExport) => Err(Refusal(
            format!("the module exports no function '{function}'"),
            exit::NO_EXPORT,
        )),
        Err(ExportError::Call(error)) => Err(failed(&mut isolate, Console::Error, &error)),
    }
}

pub(crate) async fn start(sandbox: &Sandbox) -> Result<Isolate, Refusal> {
    sandbox.create_default().await.map_err(|error| {
        let code = match error {
            stockade::CreateError::NoWall(_) => exit::USAGE,
            _ => exit::FAILED,
        };
        Refusal(error.to_string(), code)
    })
}

/// Waits until the module has run. What is uncaught before is told only if the module did run: what the
/// module throws comes as an event, too.
pub(crate) async fn ready(isolate: &mut Isolate, console: Console) -> Result<(), Refusal> {
    let handle = isolate.handle();
    let mut uncaught = Vec::new();
    let result = {
        let ready = handle.ready();
        tokio::pin!(ready);
        loop {
            tokio::select! {
                biased;
                result = &mut ready => break result,
                next = isolate.next_or_idle() => match next {
                    Next::Event(Event::Uncaught(error)) => uncaught.push(error),
                    Next::Event(event) => output::hear(event, &handle, console),
                    Next::Idle => return Err(Refusal(
                        "the module's top-level await never settles".to_owned(),
                        exit::FAILED,
                    )),
                    Next::Ended => break ready.await,
                },
            }
        }
    };
    match result {
        Ok(_) => uncaught
            .into_iter()
            .try_for_each(|error| hear(Event::Uncaught(error), isolate, console)),
        Err(error) => {
            while let Some(event) = isolate.try_next() {
                if !matches!(event, Event::Uncaught(_)) {
                    output::hear(event, &handle, console);
                }
            }
            Err(failed(isolate, console, &error))
        }
    }
}

/// Waits for a reply and tells meanwhile what happens. Refuses to wait for one that cannot come.
pub(crate) async fn while_hearing<T>(
    isolate: &mut Isolate,
    console: Console,
    reply: impl Future<Output = T>,
) -> Result<T, Refusal> {
    tokio::pin!(reply);
    loop {
        tokio::select! {
            biased;
            result = &mut reply => return Ok(result),
            next = isolate.next_or_idle() => match next {
                Next::Event(event) => hear(event, isolate, console)?,
                Next::Idle => return Err(Refusal(
                    "the guest has nothing left to do, and its promise is still open".to_owned(),
                    exit::FAILED,
                )),
                Next::Ended => return Ok(reply.await),
            },
        }
    }
}

/// Tells of an event. Where the guest is a program, an error that nothing caught is the end.
pub(crate) fn hear(event: Event, isolate: &mut Isolate, console: Console) -> Result<(), Refusal> {
    match event {
        Event::Uncaught(error) if console == Console::Both => {
            drain(isolate, console);
            Err(Refusal(
                format!("uncaught {}", output::describe(&error)),
                exit::FAILED,
            ))
        }
        event => {
            output::hear(event, &isolate.handle(), console);
            Ok(())
        }
    }
}

/// Tells what has happened by now, without waiting.
pub(crate) fn drain(isolate: &mut Isolate, console: Console) {
    let handle = isolate.handle();
    while let Some(event) = isolate.try_next() {
        output::hear(event, &handle, console);
    }
}

/// Why there is no reply, for the user.
pub(crate) fn failed(isolate: &mut Isolate, console: Console, error: &CallError) -> Refusal {
    drain(isolate, console);
    let end = isolate.handle().end();
    match error {
        CallError::Guest(error) => Refusal(output::describe(error), exit::FAILED),
        CallError::Ended { .. } | CallError::Send(_) if end.is_some() => {
            Refusal(output::ended(end.as_ref()), exit::code_of(end.as_ref()))
        }
        error => Refusal(error.to_string(), exit::FAILED),
    }
}

/// Prints the message and gives the code.
pub(crate) fn refuse(refusal: &Refusal) -> i32 {
    complain(&refusal.0);
    refusal.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_that_are_json_pass_as_they_are_written() {
        let given = [
            "2",
            "two",
            r#""\ud800""#,
            "12345678901234567890123",
            r#"{"b":1,"a":[]}"#,
        ];
        let list = arguments(&given.map(str::to_owned), false).ok().unwrap();
        let expected = r#"[2,"two","\ud800",12345678901234567890123,{"b":1,"a":[]}]"#;
        assert_eq!(list.json, expected);
        let refused = arguments(&["two".to_owned()], true).err().unwrap();
        assert_eq!(refused.1, exit::USAGE);
    }
}
