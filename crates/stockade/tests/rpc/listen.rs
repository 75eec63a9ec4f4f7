//! Addresses, Unix sockets, and how many may connect.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::client::{Server, call_unix, guest};

/// A folder of its own for each test.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("stockade-rpc-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).unwrap();
    folder
}

fn refused(address: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_stockade"))
        .args(["rpc", &guest(), "--listen", address])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn listen_unix_socket_is_its_owners_and_goes_with_the_server() {
    let folder = folder("socket");
    let path = folder.join("a.sock");
    let address = format!("unix:{}", path.display());
    let mut server = Server::listen(&address, &[]);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(call_unix(&path, "add", json!([2, 3])), Ok(json!(5)));
    assert!(refused(&address).contains("another server listens there"));
    assert_eq!(call_unix(&path, "add", json!([2, 3])), Ok(json!(5)));
    server.signal(Signal::SIGTERM);
    assert_eq!(server.code(), Some(143));
    assert!(!path.exists());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn listen_unix_socket_takes_the_place_of_a_dead_one_and_of_nothing_else() {
    let folder = folder("stale");
    let path = folder.join("a.sock");
    let address = format!("unix:{}", path.display());
    // It dies without a chance to tidy up.
    drop(Server::listen(&address, &[]));
    assert!(path.exists());
    let server = Server::listen(&address, &[]);
    assert_eq!(call_unix(&path, "add", json!([2, 3])), Ok(json!(5)));
    drop(server);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    assert!(refused(&address).contains("not a socket"));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn listen_several_addresses_lead_to_one_guest() {
    let folder = folder("several");
    let path = folder.join("a.sock");
    let server = Server::listen(
        "127.0.0.1:0",
        &["--listen", &format!("unix:{}", path.display())],
    );
    assert_eq!(server.call("count", json!([])), Ok(json!(1)));
    assert_eq!(call_unix(&path, "count", json!([])), Ok(json!(2)));
    drop(server);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn listen_connections_beyond_the_limit_are_answered() {
    let server = Server::start(&["--max-connections", "2"]);
    let held: Vec<_> = (0..2).map(|_| server.connect()).collect();
    let mut answer = String::new();
    // It is accepted behind the other two.
    let _ = server.connect().read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    drop(held);
    // Their places are free once the server has noticed.
    while server.post("{}").0 != 200 {}
    assert_eq!(
        server.call("add", json!([1, 2])),
        Ok(json!(3)),
        "the control"
    );
}

#[test]
fn listen_addresses_that_others_reach_are_refused() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        assert!(refused(address).contains("--allow-remote"), "{address}");
    }
    let server = Server::listen("0.0.0.0:0", &["--allow-remote"]);
    let (_, port) = server.address.rsplit_once(':').unwrap();
    let near = std::net::TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"add","params":[1,2]}"#;
    let request = crate::client::request("192.168.0.1:7070", "", body);
    assert_eq!(crate::client::round_trip(near, &request).0, 200);
    let near = std::net::TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    let request = crate::client::request("evil.example", "", body);
    assert_eq!(crate::client::round_trip(near, &request).0, 403);
}
