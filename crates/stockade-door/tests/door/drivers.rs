//! npm's drivers through doors. `STOCKADE_DRIVERS` names the folder with `node_modules`.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;

use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

/// Runs the drivers of a kind against `serve`, which gets each connection.
pub(crate) async fn run<F: Future<Output = ()> + Send + 'static>(
    kind: &str,
    serve: impl Fn(TcpStream) -> F,
) {
    let Ok(folder) = std::env::var("STOCKADE_DRIVERS") else {
        println!("skipped: STOCKADE_DRIVERS names no folder with npm's drivers");
        return;
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers/drivers.mjs");
    let mut command = Command::new("node");
    command.arg(script).args([kind, &port.to_string()]);
    command
        .env("STOCKADE_DRIVERS", folder)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let running = command.output();
    tokio::pin!(running);
    let output = loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.unwrap();
                stream.set_nodelay(true).unwrap();
                tokio::spawn(serve(stream));
            }
            output = &mut running => break output.unwrap(),
        }
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    println!("{text}");
    assert!(output.status.success(), "{text}");
}
