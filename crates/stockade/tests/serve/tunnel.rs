//! Connections and requests of sites through a WireGuard tunnel, to real servers behind a real peer.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::client::run;
use crate::private_network::Rig;
use crate::server::{PLAIN, Server};

const SITE: &str = "
  import { connect } from 'cloudflare:sockets';
  const why = (error) => `${error.name}: ${error.message}`;
  const cases = {
    page: async (url) => await (await fetch(url)).text(),
    async echo(address) {
      const socket = connect(address);
      const writer = socket.writable.getWriter();
      await writer.write('through the tunnel');
      await writer.close();
      return await new Response(socket.readable).text();
    },
    async hold(address) {
      globalThis.held = Array.from({ length: 5 }, () => connect(address));
      await Promise.all(held.map((socket) => socket.opened));
      return held.length;
    },
    status: async (_, env) => await env.OFFICE.status(),
  };
  export default {
    async fetch(request, env) {
      const { pathname, searchParams } = new URL(request.url);
      try {
        return Response.json(await cases[pathname.slice(1)](searchParams.get('to'), env));
      } catch (error) {
        return Response.json({ thrown: why(error) });
      }
    },
  };";

fn config(level: &str) -> String {
    format!(
        "{PLAIN}instances:
  site:
    code: ./main.js
    urls: [a.example]
    isolation: {level}
    grants:
      OFFICE: {{wireguard_tunnel: {{config: {{file: ./wg.conf}}}}}}
    sockets:
      connect:
        - {{hosts: [\"*.office\"], ports: [7], tls: off, via: OFFICE}}
        - {{addresses: [10.0.0.0/8, \"fd00::/8\"], ports: [7], tls: off, via: OFFICE}}
    data_guard:
      rules:
        - {{hosts: [\"*.office\"], schemes: [http], via: OFFICE}}
        - {{addresses: [10.0.0.0/8, \"fd00::/8\"], schemes: [http], via: OFFICE}}
"
    )
}

fn start(rig: &Rig, level: &str) -> Server {
    let file = rig.file();
    Server::start(&config(level), &[("main.js", SITE), ("wg.conf", &file)])
}

async fn ask(server: &Server, what: &str, to: &str) -> Value {
    let answer = server.get("a.example", &format!("/{what}?to={to}")).await;
    assert_eq!(answer.status, 200, "{}", server.log_text());
    answer.json()
}

#[test]
fn site_reaches_servers_behind_a_tunnel_at_every_level() {
    let Some(rig) = Rig::start() else { return };
    for level in ["thread", "process", "container"] {
        let server = start(&rig, level);
        let (v4, v6) = (rig.inside(4), rig.inside(6));
        run(async {
            // A name that the tunnel's own server knows, over both kinds of addresses.
            let page = ask(&server, "page", "http://web.office/hello").await;
            let page = page.as_str().unwrap_or_else(|| panic!("{level}: {page}"));
            assert!(page.starts_with("web.office/hello for "), "{page}");
            for host in [v4.to_string(), format!("[{v6}]")] {
                let page = ask(&server, "page", &format!("http://{host}/")).await;
                assert!(page.as_str().unwrap().contains("/ for "), "{page}");
                let echoed = ask(&server, "echo", &format!("{host}:7")).await;
                assert_eq!(echoed, "through the tunnel", "{level} {host}");
            }
            assert_eq!(
                ask(&server, "echo", "web.office:7").await,
                "through the tunnel"
            );
            let status = ask(&server, "status", "").await;
            assert!(status[0]["received"].as_u64().unwrap() > 100, "{status}");
            assert!(status[0]["sinceHandshake"].is_number(), "{status}");
        });
        let text = server.log_text();
        assert!(
            !text.contains(&rig.key.reveal()),
            "the private key is in the log"
        );
    }
}

#[test]
fn site_reaches_nothing_outside_the_networks_of_a_tunnel() {
    let Some(rig) = Rig::start() else { return };
    let server = start(&rig, "container");
    let outside = format!("10.199.{}.2", rig.number);
    run(async {
        // The rule allows the address, and the tunnel does not have it. Without a tunnel it is reachable.
        for (what, to) in [
            ("page", format!("http://{outside}/")),
            ("echo", format!("{outside}:7")),
            ("page", "http://out.office/".to_owned()),
            ("page", "http://no-such-name.office/".to_owned()),
        ] {
            let refused = ask(&server, what, &to).await;
            assert!(refused["thrown"].is_string(), "{to}: {refused}");
        }
        // The control.
        assert_eq!(
            ask(&server, "echo", "web.office:7").await,
            "through the tunnel"
        );
    });
    assert!(std::net::TcpStream::connect((&*outside, 7)).is_ok());
}

#[test]
fn connections_of_a_killed_mirror_end_behind_the_tunnel() {
    let Some(rig) = Rig::start() else { return };
    let server = start(&rig, "process");
    run(async {
        assert_eq!(ask(&server, "hold", "web.office:7").await, json!(5));
    });
    assert_eq!(rig.connections().lines().count(), 5);
    let killed = Instant::now();
    for worker in server.processes().into_iter().skip(1) {
        let _ = kill_process(Pid::from_raw(worker as i32).unwrap(), Signal::KILL);
    }
    while !rig.connections().is_empty() {
        assert!(killed.elapsed() < Duration::from_secs(30));
    }
    println!("closed after {:?}", killed.elapsed());
}

#[test]
fn rule_for_a_tunnel_that_is_not_there_is_refused() {
    let config = config("process").replace("via: OFFICE", "via: HOME");
    let folder = crate::server::folder(&config, &[("main.js", SITE), ("wg.conf", "")]);
    let checked = crate::server::stockade()
        .arg("check")
        .arg(folder.path().join("stockade.yaml"))
        .output()
        .unwrap();
    assert!(!checked.status.success());
    let text = String::from_utf8_lossy(&checked.stderr) + String::from_utf8_lossy(&checked.stdout);
    assert!(
        text.contains("leads through HOME, which is not a tunnel of this instance"),
        "{text}"
    );
}
