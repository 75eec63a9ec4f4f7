//! `stockade call`: one function of a module, once.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::de::IgnoredAny;
use serde_json::Value;
use stockade::rpc::{ExportError, call_export, plain_json};
use stockade::{ConsoleMode, Payload};

use super::document::Done;
use super::failure::Failure;
use super::guest::{GuestArgs, Refusal};
use super::receipt::{Asked, ReceiptArgs};
use super::run_guest::{Job, limits_of};
use super::units::duration;
use super::{exit, meant};

pub(crate) fn examples() -> String {
    format!(
        "\
Examples:
  stockade call math.ts add 2 3                     prints 5
  stockade call shop.ts total '{{\"items\":[1,2]}}'     what is JSON is passed as JSON, the rest as text
  stockade call math.ts add 2 3 --json | jq .usage
  stockade call math.ts add 2 3 --receipt run.receipt
  echo 'export const f = () => 1' | stockade call - f

The guest's console goes to standard error.

Exit codes: 0 done, 1 the guest threw or its module cannot be read, 2 bad usage, 3 no such export, {}, 130 Ctrl-C, 143 SIGTERM.",
        exit::ENDS
    )
}

#[derive(Args)]
pub(crate) struct CallArgs {
    /// The module: TypeScript or JavaScript, `-` for standard input. It imports files of its own folder
    #[arg(value_parser = meant::code())]
    module: PathBuf,

    /// The name of an exported function; its promise is awaited
    function: String,

    /// Its arguments: JSON where they are JSON, text where not
    #[arg(allow_negative_numbers = true)]
    args: Vec<String>,

    /// Every argument must be JSON
    #[arg(long)]
    json_args: bool,

    /// Print one JSON document: the result, the console, how it ended and why, limits, and what was used
    #[arg(long)]
    json: bool,

    /// Elapsed time for all of it, as 500ms or 2s; a bare number is milliseconds, 0 is no limit
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "30s")]
    timeout: Duration,

    #[command(flatten)]
    receipt: ReceiptArgs,

    #[command(flatten)]
    pub(crate) guest: GuestArgs,
}

/// Runs the command and gives the exit code.
pub(crate) fn call(args: &CallArgs) -> Result<i32, Refusal> {
    let given = arguments(&args.args, args.json_args).and_then(|arguments| {
        let guests = args.guest.sandbox(&args.module, ConsoleMode::Whole)?;
        Ok((guests, arguments))
    });
    let (guests, arguments) = match given {
        Ok((guests, arguments)) => (Ok(guests), arguments),
        Err(refusal) => (Err(refusal), Payload::default()),
    };
    let function = args.function.as_str();
    let receipt = match &guests {
        Ok(guests) => args.receipt.prepare(&Asked {
            command: "call",
            function: Some(function),
            arguments: &arguments.json,
            guests,
            guest: &args.guest,
            limits: limits_of(guests, args.timeout),
        })?,
        Err(_) => None,
    };
    let job = Job {
        command: "stockade call",
        program: false,
        plain: false,
        json: args.json,
        timeout: args.timeout,
        receipt,
        output: None,
    };
    job.run(guests, async move |session| {
        session.ready().await?;
        let handle = session.handle();
        let called = call_export(&handle, function, arguments);
        match session.reply(called).await? {
            Ok(value) => {
                let json = plain_json(value).ok_or_else(|| {
                    let message = "the result holds bytes or streams, which JSON cannot hold";
                    Failure::new("not_json", message.to_owned(), exit::FAILED)
                })?;
                Ok(Done {
                    code: exit::DONE,
                    value: Some(json),
                })
            }
            Err(ExportError::NoExport) => {
                let message = format!("the module exports no function '{function}'");
                Err(Failure::new("no_export", message, exit::NO_EXPORT))
            }
            Err(ExportError::Call(error)) => Err(session.no_reply(&error)),
        }
    })
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
                let message = format!("argument {number} is not JSON: {error}");
                return Err(Refusal(message, exit::USAGE));
            }
            Err(_) => Value::from(text.as_str()).to_string(),
        });
    }
    Ok(Payload::from_json(format!("[{}]", list.join(","))))
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
