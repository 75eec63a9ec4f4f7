//! `stockade supervise`: runs code for programs in other languages. `docs/internals/supervise.md` is the protocol.
//!
//! Invariants:
//! 1. Everything that a client opened ends with its connection.
//! 2. What is held for a client has a bound, of which the client is informed, and so has what is held for all clients of
//!    a process, of a user, and of the supervisor. A client that does not read stalls itself alone.
//! 3. Text of a guest never begins a line of the protocol.

mod connection;
mod lines;
mod message;
mod outbox;
mod params;
mod shares;
mod socket;
mod tools;

use std::path::PathBuf;

use clap::Args;
use rustix::process::geteuid;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::exit;
use super::guest::{Refusal, interrupted};
use super::output::print_diagnostics;
use super::run_guest::block_on;
use connection::serve;
use shares::{Exhausted, Peer, Shares};
use socket::Socket;

pub(crate) const EXAMPLES: &str = "\
Examples:
  stockade supervise                          for one client, which starts this and writes to its standard input
  stockade supervise --socket                 for many, at $XDG_RUNTIME_DIR/stockade/supervise.sock
  stockade supervise --socket /run/user/1000/code.sock

The clients for Node and Python use it, and docs/internals/supervise.md describes the protocol: one JSON object of JSON-RPC 2.0 on each line.

Exit codes: 0 the client or a signal ended it, 1 the socket cannot be opened, 2 bad usage.";

#[derive(Args)]
pub(crate) struct SuperviseArgs {
    /// Listen on a Unix socket for many clients of this user [default: $XDG_RUNTIME_DIR/stockade/supervise.sock]
    #[arg(long, value_name = "PATH", num_args = 0..=1)]
    socket: Option<Option<PathBuf>>,

    /// Log what the runtime does
    #[arg(long, short)]
    pub(crate) verbose: bool,
}

/// Runs the command and gives the exit code.
pub(crate) fn supervise(args: &SuperviseArgs) -> Result<i32, Refusal> {
    stockade::initialize();
    match &args.socket {
        None => block_on(serve_standard())?,
        Some(path) => {
            let socket = path.clone().map_or_else(socket::default_path, Ok);
            block_on(listen(socket?))?
        }
    }
}

/// Serves the client that started this process.
async fn serve_standard() -> Result<i32, Refusal> {
    let interrupted = signals()?;
    let ending = CancellationToken::new();
    let (read, write) = (tokio::io::stdin(), tokio::io::stdout());
    let peer = Peer {
        user: geteuid().as_raw(),
        process: 0,
    };
    let shares = Shares::new();
    // There is one client.
    let _place = shares.clients.take(peer, 1);
    let served = serve(read, write, peer, shares.clone(), ending.clone());
    tokio::pin!(served);
    tokio::select! {
        () = &mut served => {}
        _ = interrupted => {
            ending.cancel();
            served.await;
        }
    }
    Ok(exit::DONE)
}

/// Serves the clients of a socket.
async fn listen(path: PathBuf) -> Result<i32, Refusal> {
    let interrupted = signals()?;
    let socket = Socket::bind(path).map_err(|error| Refusal(error.to_string(), exit::FAILED))?;
    print_diagnostics(&format!("listening on {}", socket.path().display()));
    let ending = CancellationToken::new();
    let shares = Shares::new();
    let mut served = JoinSet::new();
    tokio::pin!(interrupted);
    loop {
        let client = tokio::select! {
            _ = &mut interrupted => break,
            client = socket.accept() => client,
        };
        while served.try_join_next().is_some() {}
        let Some((client, peer)) = client else {
            continue;
        };
        let place = match shares.clients.take(peer, 1) {
            Ok(place) => place,
            Err(exhausted) => {
                refuse(&client, &exhausted);
                continue;
            }
        };
        let (shares, ending) = (shares.clone(), ending.clone());
        served.spawn(async move {
            let (read, write) = client.into_split();
            serve(read, write, peer, shares, ending).await;
            drop(place);
        });
    }
    // Temporary folders of the clients are removed.
    ending.cancel();
    while served.join_next().await.is_some() {}
    Ok(exit::DONE)
}

/// Says why a connection is closed.
fn refuse(client: &UnixStream, exhausted: &Exhausted) {
    let mut line = exhausted.fault("connections").answer(None);
    line.push('\n');
    // There is room for one line: nothing was written before.
    if let Err(error) = client.try_write(line.as_bytes()) {
        tracing::debug!("a client is not informed why it is refused: {error}");
    }
}

fn signals() -> Result<impl Future<Output = i32>, Refusal> {
    interrupted().map_err(|error| {
        let message = format!("cannot listen to signals: {error}");
        Refusal(message, exit::FAILED)
    })
}
