//! `stockade-peers`: the peers of a WireGuard interface of the Linux kernel, for grants of the kind `wireguard`.
//!
//! A process answers one request, in the format that other WireGuard programs offer on their sockets
//! (<https://www.wireguard.com/xplatform/>): it reads the request from its standard input and writes the answer to its
//! standard output. Its argument is the name of the interface. The answer to `get=1` has the line
//! `interface_public_key` in place of the private key.
//!
//! Invariants:
//! 1. Before the request is read, the process has the capability `CAP_NET_ADMIN` and no other, three pipes and a netlink
//!    socket, and can open and start nothing (`confine.rs`).
//! 2. Neither the private key nor a preshared key of the interface is in an answer.
//! 3. Of an interface nothing is set but the one peer that a request names.

mod confine;
mod kernel;
mod request;

use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use kernel::Kernel;
use request::Request;

/// Bytes of a request: a peer with its networks.
const MOST_BYTES: u64 = 64 << 10;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), None) = (arguments.next(), arguments.next()) else {
        eprintln!(
            "stockade-peers {}: this program is started by Stockade for grants of the kind `wireguard`, and does nothing \
             by itself",
            env!("CARGO_PKG_VERSION")
        );
        return ExitCode::from(2);
    };
    match run(&name) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str) -> Result<(), String> {
    confine::close_inherited()?;
    let mut kernel = Kernel::open(name).map_err(|error| format!("netlink: {error}"))?;
    confine::apply()?;
    let mut text = String::new();
    let read = std::io::stdin().take(MOST_BYTES).read_to_string(&mut text);
    read.map_err(|error| format!("reading the request failed: {error}"))?;
    let answered = match Request::parse(&text) {
        Some(Request::Get) => kernel.interface(),
        Some(Request::Set(peer)) => kernel.set(peer).map(|()| String::new()),
        None => Err(libc::EINVAL),
    };
    let (mut answer, errno) = match answered {
        Ok(answer) => (answer, 0),
        Err(errno) => (String::new(), -errno),
    };
    answer.push_str(&format!("errno={errno}\n\n"));
    let written = std::io::stdout().write_all(answer.as_bytes());
    written.map_err(|error| format!("writing the answer failed: {error}"))
}
