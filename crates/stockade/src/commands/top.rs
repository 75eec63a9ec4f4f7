//! `stockade top`: the instances of a running server, second by second.
//!
//! Invariant: however the command ends, the terminal is as it was.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use clap::{Args, ValueEnum};
use rustix::termios::{self, OptionalActions, Termios};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::guest::Refusal;
use super::live::{Overview, Sample, ServerArgs, columns, failed, run};
use super::status::{COLUMNS, cells, head};
use super::{exit, style};

pub(crate) const TOP_EXAMPLES: &str = "\
Examples:
  stockade top
  stockade top --sort memory

Keys: r, c, m and n sort by requests, CPU, memory and name; q ends. Exit codes: 0 done, 1 no server answers, or it went away, \
2 bad usage.";

/// How often the screen is drawn.
const REFRESH: Duration = Duration::from_secs(1);

/// The size of a terminal that does not say it.
const SIZE: (usize, usize) = (80, 24);

/// Samples of the small chart.
const CHART: usize = 12;

#[derive(Args)]
pub(crate) struct TopArgs {
    /// What the instances are sorted by
    #[arg(long, value_enum, default_value_t = Sort::Requests)]
    sort: Sort,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sort {
    Requests,
    Cpu,
    Memory,
    Name,
}

/// The terminal without echo and lines, on another screen, until it is dropped.
struct Screen {
    before: Termios,
}

impl Screen {
    fn enter() -> rustix::io::Result<Self> {
        let input = std::io::stdin();
        let before = termios::tcgetattr(input.as_fd())?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(input.as_fd(), OptionalActions::Flush, &raw)?;
        put("\x1b[?1049h\x1b[?25l");
        Ok(Self { before })
    }

    /// Columns and rows.
    fn size() -> (usize, usize) {
        match termios::tcgetwinsize(std::io::stdout().as_fd()) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                (usize::from(size.ws_col), usize::from(size.ws_row))
            }
            _ => SIZE,
        }
    }

    fn draw(lines: &[String]) {
        let mut text = String::from("\x1b[H");
        for line in lines {
            text.push_str(line);
            text.push_str("\x1b[K\r\n");
        }
        text.push_str("\x1b[J");
        put(&text);
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        put("\x1b[?25h\x1b[?1049l");
        let input = std::io::stdin();
        // There is no other way to restore it.
        let _ = termios::tcsetattr(input.as_fd(), OptionalActions::Flush, &self.before);
    }
}

fn put(text: &str) {
    let mut out = std::io::stdout();
    // A terminal that is gone needs no picture; the end of the input ends the command.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Runs `top` and gives the exit code.
pub(crate) fn top(args: &TopArgs) -> Result<i32, Refusal> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        let why = "top needs a terminal\n  fix: `stockade status` prints the same once";
        return Err(Refusal(why.to_owned(), exit::USAGE));
    }
    if std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb") {
        let why = "top needs a terminal whose cursor moves, and TERM names none\n  fix: `stockade status` prints the same once";
        return Err(Refusal(why.to_owned(), exit::USAGE));
    }
    let colours = style::wanted(&std::io::stdout());
    run(async {
        let client = args.server.client()?;
        // What is wrong with the server is said before the screen is taken.
        let ask = async || {
            Overview::ask(&client, 1)
                .await
                .map_err(|error| failed(&error))
        };
        let mut overview = ask().await?;
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| failed(&error))?;
        let screen = Screen::enter().map_err(|error| failed(&error))?;
        let mut keys = keys();
        let mut sort = args.sort;
        let mut interval = tokio::time::interval(REFRESH);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let ended = loop {
            Screen::draw(&lines(&mut overview, sort, Screen::size(), colours));
            tokio::select! {
                _ = interval.tick() => match ask().await {
                    Ok(next) => overview = next,
                    Err(error) => break Err(error),
                },
                _ = terminate.recv() => break Ok(exit::DONE),
                key = keys.recv() => match key {
                    // Also Ctrl-C, Ctrl-D and Escape.
                    None | Some(b'q' | b'Q' | 3 | 4 | 27) => break Ok(exit::DONE),
                    Some(b'r') => sort = Sort::Requests,
                    Some(b'c') => sort = Sort::Cpu,
                    Some(b'm') => sort = Sort::Memory,
                    Some(b'n') => sort = Sort::Name,
                    Some(_) => {}
                },
            }
        };
        drop(screen);
        ended
    })
}

/// Keys that are pressed. A thread of its own reads them; the process does not wait for it.
fn keys() -> mpsc::Receiver<u8> {
    let (sender, keys) = mpsc::channel(16);
    std::thread::spawn(move || {
        for key in std::io::stdin().lock().bytes().map_while(Result::ok) {
            if sender.blocking_send(key).is_err() {
                return;
            }
        }
    });
    keys
}

fn lines(
    overview: &mut Overview,
    sort: Sort,
    (width, height): (usize, usize),
    colours: bool,
) -> Vec<String> {
    let mut instances = std::mem::take(&mut overview.instances);
    let busy = |name: &str| overview.last(name);
    instances.sort_by_cached_key(|instance| {
        let sample = busy(&instance.name);
        let most = match sort {
            Sort::Requests => sample.requests,
            Sort::Cpu => sample.cpu_ms,
            Sort::Memory => instance.memory(),
            Sort::Name => 0,
        };
        (std::cmp::Reverse(most), instance.name.clone())
    });
    let fit = |text: &str| -> String {
        let line = stockade_protocol::harmless_line(text, 1024);
        line.chars().take(width.saturating_sub(1)).collect()
    };
    let mut out: Vec<String> = head(overview).lines().map(fit).collect();
    out.push(String::new());
    let names = COLUMNS.iter().map(|name| (*name).to_owned());
    let mut rows: Vec<Vec<String>> = vec![names.chain(["LAST SECONDS".to_owned()]).collect()];
    for instance in &instances {
        let mut row = cells(overview, instance);
        row.push(chart(overview.samples.get(&instance.name)));
        rows.push(row);
    }
    let room = height.saturating_sub(out.len() + 4);
    let all = columns(&rows, width.saturating_sub(1));
    for (at, line) in all.iter().take(room).enumerate() {
        out.push(match (at, colours) {
            (0, true) => format!("\x1b[7m{line}\x1b[0m"),
            _ => line.clone(),
        });
    }
    if all.len() > room {
        out.push(fit(&format!("and {} more", all.len() - room)));
    }
    out.push(String::new());
    let kills = kills(overview);
    if !kills.is_empty() {
        out.push(fit(&format!("ended in the last two minutes: {kills}")));
    }
    out.push(fit("r requests  c CPU  m memory  n name  q quit"));
    out.truncate(height.saturating_sub(1));
    overview.instances = instances;
    out
}

/// Requests of the last seconds, as bars.
fn chart(samples: Option<&Vec<Sample>>) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let samples = samples.map_or(&[][..], |samples| {
        &samples[samples.len().saturating_sub(CHART)..]
    });
    let most = samples.iter().map(|sample| sample.requests).max();
    let most = most.unwrap_or(0).max(1);
    let bars = samples.iter().map(|sample| {
        let eighths = (sample.requests * 8).div_ceil(most);
        BARS[(eighths as usize).min(8)]
    });
    let bars: String = bars.collect();
    format!("{bars:>CHART$}")
}

/// Why mirrors were ended, and how many.
fn kills(overview: &Overview) -> String {
    let mut all: std::collections::BTreeMap<(&str, &str), u64> = Default::default();
    for (name, samples) in &overview.samples {
        for (reason, count) in samples.iter().flat_map(|sample| &sample.kills) {
            *all.entry((name, reason)).or_default() += count;
        }
    }
    let shown = all
        .iter()
        .map(|((name, reason), count)| format!("{name} {reason} {count}"));
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chart_shows_the_last_samples() {
        let of = |requests: &[u64]| {
            let sample = |requests: &u64| Sample {
                requests: *requests,
                ..Sample::default()
            };
            chart(Some(&requests.iter().map(sample).collect()))
        };
        assert_eq!(chart(None), " ".repeat(CHART));
        assert_eq!(of(&[0, 4, 8]), format!("{} ▄█", " ".repeat(CHART - 3)));
        assert_eq!(of(&[1; 20]), "█".repeat(CHART));
    }
}
