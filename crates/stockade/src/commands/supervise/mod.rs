//! `stockade supervise`: runs code for programs in other languages. `docs/internals/supervise.md` is the protocol.
//!
//! Invariants:
//! 1. Everything that a client opened ends with its connection.
//! 2. What is held for a client has a bound, of which the client is informed. A client that does not read stalls itself
//!    alone.
//! 3. Text of a guest never begins a line of the protocol.

mod connection;
mod message;
mod outbox;
mod params;
mod socket;
mod tools;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::exit;
use super::guest::{Refusal, interrupted};
use super::output::print_diagnostics;
use super::run_guest::block_on;
use connection::serve;
use socket::Socket;

/// Clients at the same time.
const MAX_CLIENTS: usize = 256;

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
    let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
    match &args.socket {
        None => block_on(serve_standard(clients))?,
        Some(path) => {
            let socket = path.clone().map_or_else(socket::default_path, Ok);
            block_on(listen(socket?, clients))?
        }
    }
}

/// Serves the client that started this process.
async fn serve_standard(clients: Arc<Semaphore>) -> Result<i32, Refusal> {
    let interrupted = signals()?;
    let ending = CancellationToken::new();
    let (read, write) = (tokio::io::stdin(), tokio::io::stdout());
    let served = serve(read, write, clients, ending.clone());
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
async fn listen(path: PathBuf, clients: Arc<Semaphore>) -> Result<i32, Refusal> {
    let interrupted = signals()?;
    let socket = Socket::bind(path).map_err(|error| Refusal(error.to_string(), exit::FAILED))?;
    print_diagnostics(&format!("listening on {}", socket.path().display()));
    let ending = CancellationToken::new();
    let mut served = JoinSet::new();
    tokio::pin!(interrupted);
    loop {
        let client = tokio::select! {
            _ = &mut interrupted => break,
            client = socket.accept() => client,
        };
        while served.try_join_next().is_some() {}
        // With no place left the connection is closed.
        let (Some(client), Ok(place)) = (client, Arc::clone(&clients).try_acquire_owned()) else {
            continue;
        };
        let (clients, ending) = (Arc::clone(&clients), ending.clone());
        served.spawn(async move {
            let (read, write) = client.into_split();
            serve(read, write, clients, ending).await;
            drop(place);
        });
    }
    // Temporary folders of the clients are removed.
    ending.cancel();
    while served.join_next().await.is_some() {}
    Ok(exit::DONE)
}

fn signals() -> Result<impl Future<Output = i32>, Refusal> {
    interrupted().map_err(|error| {
        let message = format!("cannot listen to signals: {error}");
        Refusal(message, exit::FAILED)
    })
}
