//! `connect()` of sites from end to end: a real server over TCP, at every level of isolation.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::client::run;
use crate::server::{PATIENCE, Server};

const SITE: &str = "
  import { connect } from 'cloudflare:sockets';
  import { connect as same, datagram } from 'stockade:sockets';
  import dgram from 'node:dgram';
  import net from 'node:net';

  const text = async (readable) => await new Response(readable).text();
  const cases = {
    async echo(address) {
      const socket = connect(address);
      const { remoteAddress } = await socket.opened;
      const writer = socket.writable.getWriter();
      await writer.write('hello ');
      await writer.write(new TextEncoder().encode('there'));
      await writer.close();
      const answer = await text(socket.readable);
      await socket.closed;
      return [remoteAddress === address, answer, connect === same, socket.secureTransport];
    },
    // More than may be under way in either direction.
    async much(address) {
      const socket = connect(address);
      const size = 5_000_000;
      const write = async () => {
        const writer = socket.writable.getWriter();
        for (let left = size; left > 0; left -= 100_000) await writer.write(new Uint8Array(100_000).fill(left));
        await writer.close();
      };
      const read = async () => {
        let total = 0;
        for await (const chunk of socket.readable) total += chunk.length;
        return total;
      };
      const [total] = await Promise.all([read(), write()]);
      return total === size;
    },
    async node(address) {
      const [host, port] = address.split(':');
      return await new Promise((resolve, reject) => {
        const socket = net.connect(Number(port), host, () => socket.end('over node'));
        const parts = [];
        socket.on('data', (part) => parts.push(part));
        socket.on('error', reject);
        socket.on('close', () => resolve([Buffer.concat(parts).toString(), socket.bytesRead]));
      });
    },
    async refused() {
      const socket = connect('other.example:80');
      const why = async (promise) => await promise.then(() => 'no error', (error) => String(error));
      return [await why(socket.opened), await why(socket.closed), await why(socket.writable.getWriter().closed)];
    },
    async tls(address) {
      const socket = connect(address, { secureTransport: 'on' });
      return await socket.opened.then(() => 'opened', (error) => error.message);
    },
    wrong() {
      const why = (work) => { try { work(); return 'no error'; } catch (error) { return error.name; } };
      return [why(() => connect('nothing')), why(() => connect('a:70000')), why(() => connect()),
        why(() => connect('a:1', { secureTransport: 'maybe' })), why(() => connect('a:1').startTls())];
    },
    async hold(address) {
      globalThis.held = Array.from({ length: 20 }, () => connect(address));
      await Promise.all(held.map((socket) => socket.opened));
      return held.length;
    },
    async udp(address) {
      const socket = datagram(address);
      await socket.opened;
      await socket.send('first');
      await socket.send(new Uint8Array(30_000));
      const sizes = [(await socket.next()).value.length, (await socket.next()).value.length];
      await socket.close();
      const [host, port] = address.split(':');
      const other = dgram.createSocket('udp4');
      const received = new Promise((resolve, reject) => {
        other.on('message', (message, { port }) => resolve([message.toString(), port]));
        other.on('error', reject);
      });
      other.send('over node', Number(port), host);
      const message = await received;
      other.close();
      return [...sizes, message[0], message[1] === Number(port)];
    },
    // Opens as many as there can be, and more.
    async flood(address) {
      const tries = Array.from({ length: 10_000 }, () => connect(address).opened.then(() => 'open', (error) => error.name));
      const seen = {};
      for (const name of await Promise.all(tries)) seen[name] = (seen[name] ?? 0) + 1;
      return seen;
    },
  };
  export default {
    async fetch(request) {
      const { pathname, searchParams } = new URL(request.url);
      try {
        return Response.json(await cases[pathname.slice(1)](searchParams.get('to')));
      } catch (error) {
        return Response.json({ thrown: String(error?.stack ?? error) });
      }
    },
  };";

/// Echoes; says when each connection is over.
fn echo() -> (SocketAddr, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, over) = mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..read]).is_err() {
                        break;
                    }
                }
                let _ = stream.shutdown(Shutdown::Write);
                let _ = sender.send(());
            });
        }
    });
    (address, over)
}

fn site(level: &str, address: SocketAddr) -> Server {
    let port = address.port();
    let options = format!(
        "    isolation: {level}\n    limits: {{cpu: 30s, timeout: 60s}}\n    sockets:\n      connect: [{{addresses: [127.0.0.1], ports: [{port}], tls: \
         allowed}}]\n      allow_private: [127.0.0.1]\n      rate: 1000000\n"
    );
    Server::site(SITE, &options)
}

async fn ask(server: &Server, what: &str, to: SocketAddr) -> Value {
    let answer = server.get("a.example", &format!("/{what}?to={to}")).await;
    assert_eq!(answer.status, 200, "{}", server.log_text());
    answer.json()
}

#[test]
fn site_connects_to_what_its_rules_allow_at_every_level() {
    for level in ["thread", "process", "container"] {
        let (address, _over) = echo();
        let server = site(level, address);
        run(async {
            let echoed = ask(&server, "echo", address).await;
            assert_eq!(echoed, json!([true, "hello there", true, "off"]), "{level}");
            assert_eq!(ask(&server, "much", address).await, json!(true), "{level}");
            assert_eq!(ask(&server, "node", address).await, json!(["over node", 9]));
        });
    }
}

#[test]
fn site_sends_and_receives_datagrams_by_a_rule_of_their_own() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 70_000];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
    let port = address.port();
    let rule = |protocol| {
        format!(
            "    sockets:\n      connect: [{{addresses: [127.0.0.1], ports: [{port}]{protocol}}}]\n      allow_private: \
             [127.0.0.1]\n"
        )
    };
    let server = Server::site(SITE, &rule(", protocol: udp"));
    let other = Server::site(SITE, &rule(", tls: off"));
    run(async {
        let answered = ask(&server, "udp", address).await;
        assert_eq!(answered, json!([5, 30_000, "over node", true]));
        let refused = ask(&other, "udp", address).await;
        assert!(
            refused["thrown"]
                .as_str()
                .unwrap()
                .contains("not with this protocol"),
            "{refused}"
        );
    });
}

#[test]
fn connection_that_fails_rejects_with_its_reason_and_no_address() {
    let (address, _over) = echo();
    let server = site("container", address);
    run(async {
        let refused = ask(&server, "refused", address).await;
        for why in refused.as_array().unwrap() {
            let why = why.as_str().unwrap();
            assert!(why.contains("no rule of sockets allows this host"), "{why}");
        }
        // The server speaks no TLS: it echoes the handshake.
        let why = ask(&server, "tls", address).await;
        assert!(why.as_str().unwrap().contains("TLS failed"), "{why}");
        let wrong = ask(&server, "wrong", address).await;
        assert!(
            wrong
                .as_array()
                .unwrap()
                .iter()
                .all(|name| name == "TypeError"),
            "{wrong}"
        );
        server.logged(|line| {
            line["action"] == "socket" && line["target"] == "tcp://other.example:80"
        });
    });
}

#[test]
fn ten_thousand_connects_open_no_more_than_the_bound() {
    let (address, _over) = echo();
    let server = site("container", address);
    run(async {
        let seen = ask(&server, "flood", address).await;
        assert!(seen["open"].as_u64().unwrap() <= 64, "{seen}");
        // The control: the site goes on, once its connections are closed with its mirror.
        assert_eq!(seen["thrown"], Value::Null, "{seen}");
    });
}

#[test]
fn connections_of_a_mirror_that_is_killed_close() {
    let (address, over) = echo();
    let server = site("process", address);
    run(async {
        assert_eq!(ask(&server, "hold", address).await, json!(20));
    });
    for worker in server.processes().into_iter().skip(1) {
        let _ = kill_process(Pid::from_raw(worker as i32).unwrap(), Signal::KILL);
    }
    for _ in 0..20 {
        over.recv_timeout(Duration::from_secs(60)).unwrap();
    }
}

#[test]
fn site_without_sockets_connects_to_nothing() {
    let (address, _over) = echo();
    let server = Server::site(SITE, "");
    run(async {
        let why = ask(&server, "tls", address).await;
        assert!(
            why.as_str().unwrap().contains("no rule of sockets"),
            "{why}"
        );
    });
    drop(TcpStream::connect(address));
}

const TAKES: &str = "
  let n = 0;
  export default {
    async connect(socket, env, ctx) {
      const { remoteAddress } = await socket.opened;
      const writer = socket.writable.getWriter();
      await writer.write(`hello ${remoteAddress} ${socket.secureTransport} ${typeof ctx.waitUntil} ${env.NAME}\\n`);
      for await (const chunk of socket.readable) {
        if (new TextDecoder().decode(chunk).startsWith('fail')) throw new Error('asked to');
        await writer.write(chunk);
      }
      await writer.close();
      n++;
    },
    fetch: () => Response.json(n),
  };";

/// A site with a listener of its own, of which at most two connections may be open.
fn taking(options: &str) -> Server {
    let config = format!(
        "listeners: [{{address: \"127.0.0.1:0\"}}, {{address: \"127.0.0.1:0\", connect: site, connections: 2{options}}}]\n\
         trusted_proxies: [127.0.0.1]\ninstances:\n  site:\n    code: ./site/main.ts\n    urls: [\"/*\"]\n    env: {{NAME: \
         taker}}\n"
    );
    Server::start(&config, &[("site/main.ts", TAKES)])
}

fn line(stream: &TcpStream) -> String {
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::with_capacity(1, stream), &mut line)
        .unwrap();
    line
}

#[test]
fn site_takes_connections_of_a_listener() {
    let server = taking("");
    let to = server.addresses[1];
    let mut stream = TcpStream::connect(to).unwrap();
    let own = stream.local_addr().unwrap();
    assert_eq!(line(&stream), format!("hello {own} off function taker\n"));
    stream.write_all(b"echo").unwrap();
    let mut word = [0; 4];
    stream.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"echo");
    // As many as may be open; a further one is closed without a word.
    let second = TcpStream::connect(to).unwrap();
    assert!(line(&second).starts_with("hello"));
    assert_eq!(line(&TcpStream::connect(to).unwrap()), "");
    // The other half ends when the client's does.
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut word).unwrap(), 0);
    drop((stream, second));
    run(async {
        server
            .until("stockade_requests_in_flight{instance=\"site\"}", |now| {
                now == 0.0
            })
            .await;
        assert!(server.get("a.example", "/").await.json().as_u64() >= Some(1));
    });
    // Their places are free again, and a handler that throws closes its connection.
    let mut third = TcpStream::connect(to).unwrap();
    assert!(line(&third).starts_with("hello"));
    third.write_all(b"fail").unwrap();
    let mut rest = Vec::new();
    let _ = third.read_to_end(&mut rest);
    assert!(rest.is_empty());
}

/// `openssl s_client` with a certificate that openssl made.
#[test]
fn site_takes_connections_with_tls_of_a_listener() {
    let config = "listeners: [{address: \"127.0.0.1:0\", tls: false}, {address: \"127.0.0.1:0\", connect: site}]\n\
         tls: {certificates: [{cert: ./site.crt, key: ./site.key}]}\ninstances:\n  site:\n    code: ./main.ts\n    urls: \
         [\"/*\"]\n    env: {NAME: taker}\n";
    let folder = crate::server::folder(config, &[("main.ts", TAKES)]);
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ])
        .args([
            "-nodes", "-keyout", "site.key", "-out", "site.crt", "-days", "2",
        ])
        .args([
            "-subj",
            "/CN=a.example",
            "-addext",
            "subjectAltName=DNS:a.example",
        ])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let server = Server::start_in(folder, &std::collections::BTreeMap::new());
    let to = server.addresses[1].to_string();
    let mut client = Command::new("openssl")
        .args([
            "s_client",
            "-quiet",
            "-verify_return_error",
            "-servername",
            "a.example",
        ])
        .args([
            "-verify_hostname",
            "a.example",
            "-CAfile",
            "site.crt",
            "-connect",
            &to,
        ])
        .current_dir(server.folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    let hello = lines.next().unwrap().unwrap();
    assert!(
        hello.starts_with("hello 127.0.0.1:") && hello.ends_with(" on function taker"),
        "{hello}"
    );
    client
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"through TLS\n")
        .unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "through TLS");
    let _ = client.kill();
    let _ = client.wait();
    // The hostile case: plain text, and so no handler.
    let mut plain = TcpStream::connect(&*to).unwrap();
    plain.write_all(b"EHLO there\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    let _ = plain.read_to_end(&mut rest);
    assert!(
        !String::from_utf8_lossy(&rest).contains("hello"),
        "{rest:?}"
    );
}

#[test]
fn listener_of_a_site_knows_the_client_behind_a_proxy() {
    let server = taking(", proxy_protocol: required");
    let mut stream = TcpStream::connect(server.addresses[1]).unwrap();
    stream
        .write_all(b"PROXY TCP4 192.0.2.9 192.0.2.1 4711 25\r\n")
        .unwrap();
    assert_eq!(line(&stream), "hello 192.0.2.9:4711 off function taker\n");
    // The hostile case: no header, and so no connection.
    let mut stranger = TcpStream::connect(server.addresses[1]).unwrap();
    stranger.write_all(b"EHLO there\r\n").unwrap();
    let mut rest = Vec::new();
    let _ = stranger.read_to_end(&mut rest);
    assert!(rest.is_empty());
}

#[test]
fn client_that_is_silent_is_closed_and_so_is_one_of_a_killed_mirror() {
    let server = taking(", idle_timeout: 1s");
    let mut stream = TcpStream::connect(server.addresses[1]).unwrap();
    assert!(line(&stream).starts_with("hello"));
    assert_eq!(stream.read(&mut [0; 8]).unwrap_or(0), 0);
    let server = taking("");
    let mut stream = TcpStream::connect(server.addresses[1]).unwrap();
    assert!(line(&stream).starts_with("hello"));
    for worker in server.processes().into_iter().skip(1) {
        let _ = kill_process(Pid::from_raw(worker as i32).unwrap(), Signal::KILL);
    }
    assert_eq!(stream.read(&mut [0; 8]).unwrap_or(0), 0);
}

const TAKES_DATAGRAMS: &str = "
  const text = new TextDecoder();
  export default {
    async connect(socket, env, ctx) {
      const { remoteAddress } = await socket.opened;
      const writer = socket.writable.getWriter();
      for await (const data of socket.readable) {
        switch (text.decode(data)) {
          case 'who': await writer.write(`${remoteAddress} ${socket.protocol} ${socket.secureTransport}`); break;
          case 'flood': for (let i = 0; i < 1000; i++) await writer.write(new Uint8Array(100)); break;
          case 'close': await socket.close(); return;
          case 'fail': throw new Error('asked to');
          default: await writer.write(data);
        }
      }
    },
    fetch: () => new Response('harmless'),
  };";

/// A site with a listener for datagrams.
fn taking_datagrams(options: &str, of_site: &str) -> Server {
    let config = format!(
        "listeners: [{{address: \"127.0.0.1:0\"}}, {{address: \"127.0.0.1:0\", connect: site, protocol: udp{options}}}]\n\
         instances:\n  site:\n    code: ./site/main.ts\n    urls: [\"/*\"]\n{of_site}"
    );
    Server::start(&config, &[("site/main.ts", TAKES_DATAGRAMS)])
}

/// A client at an address of its own; all of 127.0.0.0/8 are this machine's.
fn sender(from: &str, to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((from, 0)).unwrap();
    socket.connect(to).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    socket
}

fn ask_over_udp(client: &UdpSocket, data: &[u8]) -> Vec<u8> {
    client.send(data).unwrap();
    let mut answer = vec![0; 70_000];
    let length = client.recv(&mut answer).unwrap();
    answer.truncate(length);
    answer
}

/// Asks again until an answer comes, which must be what was asked: a datagram is lost where others fill the queue of its
/// socket.
fn echoed_over_udp(client: &UdpSocket, data: &[u8]) {
    client
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let begun = Instant::now();
    let mut answer = [0; 100];
    loop {
        client.send(data).unwrap();
        match client.recv(&mut answer) {
            Ok(length) => return assert_eq!(&answer[..length], data),
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
    }
}

#[test]
fn site_takes_datagrams_of_a_listener_at_every_level() {
    for level in ["thread", "process", "container"] {
        let server = taking_datagrams("", &format!("    isolation: {level}\n"));
        let to = server.addresses[1];
        let (first, second) = (sender("127.0.0.1", to), sender("127.0.0.2", to));
        for client in [&first, &second] {
            let who = String::from_utf8(ask_over_udp(client, b"who")).unwrap();
            let own = client.local_addr().unwrap();
            assert_eq!(who, format!("{own} udp off"), "{level}");
        }
        for data in [&b"one"[..], b"", &[7; 60_000]] {
            assert_eq!(ask_over_udp(&first, data), data, "{level}");
        }
        // A datagram stays one, however many come at once.
        for length in 1..=20 {
            first.send(&vec![1; length]).unwrap();
        }
        let mut answer = [0; 100];
        for length in 1..=20 {
            assert_eq!(first.recv(&mut answer).unwrap(), length, "{level}");
        }
        // A handler that ends or throws: the next datagram begins another connection.
        for last in [&b"close"[..], b"fail"] {
            first.send(last).unwrap();
            first
                .set_read_timeout(Some(Duration::from_millis(50)))
                .unwrap();
            let answered = |_: &u32| {
                first.send(b"again").unwrap();
                first.recv(&mut [0; 100]).is_ok_and(|length| length == 5)
            };
            assert!((0..600).any(|turn| answered(&turn)), "{level}");
            while first.recv(&mut [0; 100]).is_ok() {}
        }
    }
}

#[test]
fn site_sends_little_to_an_address_that_sent_little_and_floods_reach_no_other() {
    let server = taking_datagrams(", connections: 2", "");
    let to = server.addresses[1];
    let (flooded, other, third) = (
        sender("127.0.0.1", to),
        sender("127.0.0.2", to),
        sender("127.0.0.3", to),
    );
    // 3 * (5 + 28) = 99 bytes are less than one of 128.
    flooded.send(b"flood").unwrap();
    run(async {
        let reason = "stockade_gateway_refused_total{reason=\"amplification\"}";
        server.until(reason, |now| now == 1000.0).await;
        flooded.set_nonblocking(true).unwrap();
        assert!(flooded.recv(&mut [0; 200]).is_err());
        // A third address has no place, and the others are served as before.
        echoed_over_udp(&other, b"still");
        third.send(b"in").unwrap();
        let reason = "stockade_gateway_refused_total{reason=\"connections\"}";
        server.until(reason, |now| now == 1.0).await;
        echoed_over_udp(&other, b"still");
        // Far more than a second's worth of one address.
        for _ in 0..20_000 {
            let _ = flooded.send(&[0; 8]);
        }
        let reason = "stockade_gateway_refused_total{reason=\"datagram_rate\"}";
        server.until(reason, |now| now >= 1.0).await;
        echoed_over_udp(&other, b"still");
        assert_eq!(server.get("a.example", "/").await.text(), "harmless");
    });
}

#[test]
fn flow_that_is_silent_ends_and_so_does_one_of_a_killed_mirror() {
    let server = taking_datagrams(", idle_timeout: 1s", "");
    let client = sender("127.0.0.1", server.addresses[1]);
    assert_eq!(ask_over_udp(&client, b"here"), b"here");
    run(async {
        let in_flight = "stockade_requests_in_flight{instance=\"site\"}";
        server.until(in_flight, |now| now == 0.0).await;
    });
    assert_eq!(ask_over_udp(&client, b"again"), b"again");
    let server = taking_datagrams("", "");
    let client = sender("127.0.0.1", server.addresses[1]);
    assert_eq!(ask_over_udp(&client, b"here"), b"here");
    for worker in server.processes().into_iter().skip(1) {
        let _ = kill_process(Pid::from_raw(worker as i32).unwrap(), Signal::KILL);
    }
    // The flow ended with its mirror; the next one is served by another.
    client
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let answered = |_: &u32| {
        client.send(b"next").unwrap();
        client.recv(&mut [0; 100]).is_ok()
    };
    assert!((0..300).any(|turn| answered(&turn)));
}
