//! `stockade logs`: the log of a running server, for people or as JSON.

use std::io::IsTerminal as _;

use clap::Args;
use http::{Method, StatusCode};
use stockade_serve::{AdminClient, AdminResponse, AskError, show_line};

use super::guest::Refusal;
use super::live::{ServerArgs, failed, run};
use super::{exit, output, style};

pub(crate) const LOGS_EXAMPLES: &str = "\
Examples:
  stockade logs                          the last lines, of all instances
  stockade logs -f shop                  those of one instance, and on as they come
  stockade logs --level warn -n 1000
  stockade logs -f --json | jq 'select(.event == \"mirror_ended\")'

On a terminal lines are for people, elsewhere each is a JSON object. The server keeps the last 4096 lines, also where its log \
goes to a file. Exit codes: 0 done, 1 no server answers, or it went away, 2 bad usage.";

/// Bytes of a line of the server.
const MOST_LINE: usize = 4 << 20;

#[derive(Args)]
pub(crate) struct LogsArgs {
    /// Only lines of this instance
    instance: Option<String>,

    /// Go on with lines as they come
    #[arg(short, long)]
    follow: bool,

    /// How many of the last lines come first
    #[arg(short = 'n', long, default_value_t = 100, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(0..=4096))]
    last: u32,

    /// Only lines of this level and of more serious ones
    #[arg(long, value_parser = ["error", "warn", "info", "debug", "trace"])]
    level: Option<String>,

    /// Print JSON also on a terminal
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    server: ServerArgs,
}

/// Runs `logs` and gives the exit code.
pub(crate) fn logs(args: &LogsArgs) -> Result<i32, Refusal> {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("last", &args.last.to_string());
    query.append_pair("follow", if args.follow { "true" } else { "false" });
    for (name, value) in [("instance", &args.instance), ("level", &args.level)] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let path = format!("/v1/logs?{}", query.finish());
    let out = std::io::stdout();
    let colours = (!args.json && out.is_terminal()).then(|| style::wanted(&out));
    let client = args.server.client()?;
    run(async {
        if let Some(name) = &args.instance {
            warn_of_unknown(&client, name).await;
        }
        let response = client.send(Method::GET, &path, None).await;
        let mut events = Events::new(response.map_err(|error| failed(&error))?);
        while let Some((event, data)) = events.next().await? {
            let text = match (&*event, colours) {
                ("missed", _) => {
                    output::print_diagnostics(&format!("warning: lines were missed: {data}"));
                    continue;
                }
                (_, Some(colours)) => show_line(&data, colours).unwrap_or(data),
                (_, None) => data,
            };
            // Nobody reads any more: that is how `logs | head` ends.
            if output::print(text.trim_end_matches('\n')).is_err() {
                break;
            }
        }
        Ok(exit::DONE)
    })
}

/// An instance that is not there may have lines of the time when it was, or may come.
async fn warn_of_unknown(client: &AdminClient, name: &str) {
    let name: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
    let path = format!("/v1/instances/{name}");
    let asked = client.json::<serde::de::IgnoredAny>(Method::GET, &path, None);
    if let Err(AskError::Refused { status, detail }) = asked.await
        && status == StatusCode::NOT_FOUND
    {
        output::print_diagnostics(&format!("warning: {detail}"));
    }
}

/// Server-sent events (<https://html.spec.whatwg.org/#parsing-an-event-stream>), as the admin API writes them.
struct Events {
    response: AdminResponse,
    read: Vec<u8>,
}

impl Events {
    fn new(response: AdminResponse) -> Self {
        Self {
            response,
            read: Vec::new(),
        }
    }

    /// The name and the data of the next event; none at the end.
    async fn next(&mut self) -> Result<Option<(String, String)>, Refusal> {
        let (mut event, mut data) = (String::new(), String::new());
        loop {
            let Some(line) = self.line().await? else {
                return Ok(None);
            };
            match line.split_once(": ") {
                Some(("event", value)) => value.clone_into(&mut event),
                Some(("data", value)) => data.push_str(value),
                // Ids and comments.
                Some(_) => {}
                None if line.is_empty() && !data.is_empty() => return Ok(Some((event, data))),
                None => {}
            }
        }
    }

    async fn line(&mut self) -> Result<Option<String>, Refusal> {
        let mut searched = 0;
        loop {
            let unseen = &self.read[searched..];
            if let Some(at) = unseen.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=searched + at).collect();
                let line = String::from_utf8_lossy(&line);
                return Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned()));
            }
            searched = self.read.len();
            if searched > MOST_LINE {
                return Err(failed(&"the server sent a line that is too long"));
            }
            let chunk = self.response.chunk().await;
            match chunk.map_err(|error| failed(&error))? {
                Some(chunk) => self.read.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}
