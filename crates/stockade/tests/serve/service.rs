//! As a service of systemd: sockets that listen before the server starts, and reports of its state.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Signal;

use crate::client::{get, run, send};
use crate::server::{PATIENCE, PLAIN, Server, folder, stockade};

const SITE: &str = "export default { fetch: () => new Response('served') };";

/// The server, with this socket as its first and only inherited one. Not every sh knows numbers of two digits.
fn with_socket(socket: &TcpListener) -> Command {
    fcntl_setfd(socket, FdFlags::empty()).unwrap();
    let mut command = Command::new("bash");
    let script = format!(
        "exec 3<&{}; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\"",
        socket.as_raw_fd()
    );
    command
        .args(["-c", &script, "sh"])
        .arg(stockade().get_program());
    command
}

#[test]
fn client_that_connects_between_two_servers_is_answered_by_the_second() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let config = format!(
        "listeners: [{{address: \"{address}\"}}]\ninstances:\n  site:\n    code: ./site.ts\n    urls: [\"/*\"]\n"
    );
    let start =
        || Server::start_program(with_socket(&socket), folder(&config, &[("site.ts", SITE)]));
    let mut first = start();
    run(async {
        assert_eq!(send(address, get("a", "/")).await.text(), "served");
    });
    first.signal(Signal::TERM);
    assert!(first.ended().success());
    // No server is there, and the socket's queue takes the client.
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .unwrap();
    let _second = start();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("served"), "{answer}");
}

#[test]
fn listener_that_a_reload_removed_and_brought_back_has_its_inherited_socket() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let site = "instances:\n  site:\n    code: ./site.ts\n    urls: [\"/*\"]\n";
    let with_it = format!("listeners: [{{address: \"{address}\"}}]\n{site}");
    let server =
        Server::start_program(with_socket(&socket), folder(&with_it, &[("site.ts", SITE)]));
    server.configure(&format!("{PLAIN}{site}"));
    server.reloaded();
    server.configure(&with_it);
    server.reloaded();
    run(async {
        assert_eq!(send(address, get("a", "/")).await.text(), "served");
    });
}

#[test]
fn service_manager_receives_start_life_reload_and_stop() {
    let folder_of_socket = tempfile::tempdir().unwrap();
    let path = folder_of_socket.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    // The first message with this state, after those before it.
    let receive = |state: &str| {
        let mut message = [0; 1024];
        loop {
            let length = manager.recv(&mut message).unwrap();
            let text = String::from_utf8_lossy(&message[..length]);
            if text.lines().any(|line| line == state) {
                return text.into_owned();
            }
        }
    };
    let mut command = stockade();
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "100000");
    let config = format!("{PLAIN}instances:\n  site:\n    code: ./site.ts\n    urls: [\"/*\"]\n");
    let mut server = Server::start_program(command, folder(&config, &[("site.ts", SITE)]));
    assert!(receive("READY=1").contains("STATUS=serving"));
    receive("WATCHDOG=1");
    server.reload();
    assert!(receive("RELOADING=1").contains("MONOTONIC_USEC="));
    receive("READY=1");
    server.configure("instances: 3\n");
    server.reload();
    receive("RELOADING=1");
    assert!(receive("READY=1").contains("refused"));
    server.signal(Signal::TERM);
    receive("STOPPING=1");
    assert!(server.ended().success());
}

#[test]
fn log_in_the_journal_has_the_level_in_front_of_each_line() {
    let config = format!("{PLAIN}instances:\n  site:\n    code: ./site.ts\n    urls: [\"/*\"]\n");
    // As systemd names the standard error that it gives.
    let start = |number_of: &str| {
        let mut command = Command::new("sh");
        let script = format!("export JOURNAL_STREAM=$(stat -L -c %d:%i {number_of}); exec \"$@\"");
        command
            .args(["-c", &script, "sh"])
            .arg(stockade().get_program());
        let mut server = Server::start_program(command, folder(&config, &[("site.ts", SITE)]));
        server.configure("instances: 3\n");
        server.reload();
        server.signal(Signal::TERM);
        assert!(server.ended().success());
        server.log_text()
    };
    let journal = start("/proc/self/fd/2");
    assert!(journal.contains("\n<6>{\"time\":"), "{journal}");
    assert!(journal.contains("\n<3>{\"time\":"), "{journal}");
    // Standard error was redirected after that.
    let other = start("/dev/null");
    assert!(other.contains("\n{\"time\":"), "{other}");
    assert!(!other.contains(">{"), "{other}");
}
