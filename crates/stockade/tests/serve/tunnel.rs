//! Connections and requests of sites and of other guests through a WireGuard tunnel, to real servers behind a real peer.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::client::run;
use crate::database_servers::{self, PASSWORD, Running};
use crate::doors::shop;
use crate::private_network::Rig;
use crate::server::{PATIENCE, PLAIN, Server, folder, stockade};

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
        assert!(killed.elapsed() < PATIENCE);
    }
    println!("closed after {:?}", killed.elapsed());
}

#[test]
fn rule_for_a_tunnel_that_is_not_there_is_refused() {
    let config = config("process").replace("via: OFFICE", "via: HOME");
    let folder = folder(&config, &[("main.js", SITE), ("wg.conf", "")]);
    let checked = stockade()
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

/// Asks databases that it is granted.
const ASKS: &str = "
  const why = (error) => `${error.name}: ${error.message}`;
  async function ping(cache) {
    const socket = cache.connect();
    const writer = socket.writable.getWriter();
    await writer.write('*1\\r\\n$4\\r\\nPING\\r\\n');
    const { value } = await socket.readable.getReader().read();
    return new TextDecoder().decode(value);
  }
  const cases = {
    sql: async ({ DB }) => (await DB.sql`select current_user || '1' as a`)[0].a,
    hold: ({ DB }) => new Promise((resolve, reject) => {
      DB.sql.begin(async (sql) => {
        await sql`select 1`;
        resolve('held');
        await new Promise(() => {});
      }).catch(reject);
    }),
    cache: ({ CACHE }) => ping(CACHE),
    outside: ({ OUTSIDE }) => ping(OUTSIDE),
    direct: ({ DIRECT }) => ping(DIRECT),
  };
  export const ask = (what, env) => cases[what](env).catch(why);
  export default {
    fetch: async (request, env) => Response.json(await ask(new URL(request.url).pathname.slice(1), env)),
  };";

/// Connections to an address are passed on to a server on a Unix socket, which both sides of the tunnel can reach.
const RELAY: &str = "
import asyncio, sys
async def copy(source, sink):
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()
    sink.close()
async def relay(reader, writer):
    from_server, to_server = await asyncio.open_unix_connection(sys.argv[2])
    await asyncio.gather(copy(reader, to_server), copy(from_server, writer), return_exceptions=True)
async def main():
    server = await asyncio.start_server(relay, sys.argv[1], 5432)
    print('ready', flush=True)
    await server.serve_forever()
asyncio.run(main())";

/// Databases behind a tunnel.
struct Databases {
    rig: Rig,
    postgres: Running,
    _redis: Running,
    relay: Child,
}

impl Drop for Databases {
    fn drop(&mut self) {
        let _ = self.relay.kill();
        let _ = self.relay.wait();
    }
}

impl Databases {
    /// `None` where a program for it is not installed.
    fn start() -> Option<Self> {
        let rig = Rig::start()?;
        let (postgres, _) = shop()?;
        let redis = database_servers::program("redis-server")?;
        let inside = rig.inside(4).to_string();

        let mut relay = rig.command("python3");
        let socket = format!(".s.PGSQL.{}", postgres.port);
        relay
            .args(["-c", RELAY, &inside])
            .arg(postgres.folder.path().join("data").join(socket));
        let mut relay = relay.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(relay.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");

        // In the network itself, on both sides of the tunnel.
        let settings = format!(
            "bind {inside} 10.199.{}.2\nport 6379\nsave \"\"\nuser default off\nuser app on >{PASSWORD} ~shop:* +@all \
             -@admin -@dangerous\n",
            rig.number
        );
        let folder = database_servers::folder();
        std::fs::write(folder.path().join("redis.conf"), settings).unwrap();
        let mut command = rig.command(redis.to_str().unwrap());
        command.arg(folder.path().join("redis.conf"));
        let ready = "Ready to accept connections";
        let redis = database_servers::start(command, folder, 6379, ready);
        Some(Self {
            rig,
            postgres,
            _redis: redis,
            relay,
        })
    }

    fn url(&self, scheme: &str, host: &str, rest: &str) -> String {
        format!("{scheme}://app:{PASSWORD}@{host}:{rest}")
    }

    /// The grants and their files. `DIRECT` reaches what is outside the tunnel, and `OUTSIDE` is to do it through it.
    fn files(&self) -> Vec<(&'static str, String)> {
        let outside = format!("10.199.{}.2", self.rig.number);
        vec![
            ("main.js", ASKS.to_owned()),
            ("wg.conf", self.rig.file()),
            ("db.txt", self.url("postgres", "web.office", "5432/shop")),
            (
                "cache.txt",
                self.url("redis", &self.rig.inside(4).to_string(), "6379"),
            ),
            ("outside.txt", self.url("redis", &outside, "6379")),
        ]
    }

    fn serve(&self, level: &str) -> Server {
        let config = format!("{PLAIN}{}    isolation: {level}\n", databases("OFFICE"));
        let files = self.files();
        let files: Vec<_> = files.iter().map(|(name, text)| (*name, &**text)).collect();
        Server::start(&config, &files)
    }
}

/// The instance of a site with databases, which are reached through `via`.
fn databases(via: &str) -> String {
    format!(
        "instances:
  site:
    code: ./main.js
    urls: [a.example]
    grants:
      OFFICE: {{wireguard_tunnel: {{config: {{file: ./wg.conf}}}}}}
      DB: {{postgres: {{url: {{file: ./db.txt}}, tls: off, via: {via}}}}}
      CACHE: {{redis: {{url: {{file: ./cache.txt}}, tls: off, via: OFFICE}}}}
      OUTSIDE: {{redis: {{url: {{file: ./outside.txt}}, tls: off, via: OFFICE}}}}
      DIRECT: {{redis: {{url: {{file: ./outside.txt}}, tls: off}}}}
"
    )
}

#[test]
fn databases_behind_a_tunnel_are_reached_at_every_level_and_nothing_else_through_it() {
    let Some(databases) = Databases::start() else {
        return;
    };
    for level in ["thread", "process", "container"] {
        let server = databases.serve(level);
        run(async {
            assert_eq!(ask(&server, "sql", "").await, "app1", "{level}");
            assert_eq!(ask(&server, "cache", "").await, "+PONG\r\n", "{level}");
            // The control, and the same server through the tunnel, which does not have its address.
            assert_eq!(ask(&server, "direct", "").await, "+PONG\r\n", "{level}");
            let refused = ask(&server, "outside", "").await;
            let refused = refused.as_str().unwrap();
            assert!(
                !refused.contains("PONG") && !refused.contains("10.199"),
                "{refused}"
            );
        });
    }
}

#[test]
fn killed_mirror_leaves_no_transaction_behind_the_tunnel() {
    let Some(databases) = Databases::start() else {
        return;
    };
    let server = databases.serve("process");
    run(async { assert_eq!(ask(&server, "hold", "").await, "held") });
    let open = "select count(*) from pg_stat_activity where usename = 'app' and state <> 'idle'";
    assert_eq!(databases.postgres.psql(open), "1");
    let killed = Instant::now();
    for worker in server.processes().into_iter().skip(1) {
        let _ = kill_process(Pid::from_raw(worker as i32).unwrap(), Signal::KILL);
    }
    while databases.postgres.psql(open) != "0" {
        assert!(killed.elapsed() < PATIENCE, "{}", server.log_text());
    }
    println!("closed after {:?}", killed.elapsed());
}

#[test]
fn grant_of_a_database_with_a_tunnel_that_is_not_there_is_refused() {
    let config = format!("{PLAIN}{}", databases("HOME"));
    let files = ["main.js", "wg.conf", "db.txt", "cache.txt", "outside.txt"];
    let folder = folder(&config, &files.map(|name| (name, "x")));
    let mut check = stockade();
    check.arg("check").arg(folder.path().join("stockade.yaml"));
    let checked = check.output().unwrap();
    assert!(!checked.status.success());
    let text = String::from_utf8_lossy(&checked.stderr) + String::from_utf8_lossy(&checked.stdout);
    let why = "the server of DB is reached through HOME, which is not a tunnel of this instance";
    assert!(text.contains(why), "{text}");
}

/// What the program prints in a folder with these files, and whether it succeeded.
fn printed(arguments: &[&str], files: &[(&str, &str)]) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    crate::server::write(folder.path(), files);
    let mut command = stockade();
    command.args(arguments).current_dir(folder.path());
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text.into_owned())
}

#[test]
fn guest_of_a_host_script_reaches_a_database_through_a_tunnel_at_every_level() {
    const HOST: &str = "
      const read = (name) => Deno.readTextFileSync(name);
      const sandbox = new V8Sandbox();
      for (const isolation of ['thread', 'process', 'container']) {
        const cache = (url, more) => ({ redis: { url: read(url), tls: 'off', ...more } });
        const grants = {
          OFFICE: { wireguard_tunnel: { config: read('wg.conf') } },
          DB: { postgres: { url: read('db.txt'), tls: 'off', via: 'OFFICE' } },
          CACHE: cache('cache.txt', { via: 'OFFICE' }),
          OUTSIDE: cache('outside.txt', { via: 'OFFICE' }),
          DIRECT: cache('outside.txt', {}),
        };
        const isolate = await sandbox.createIsolate({ isolation, grants });
        await isolate.evaluate(read('main.js').replaceAll('export ', '').replace('default', 'globalThis.site ='));
        for (const what of ['sql', 'cache', 'direct', 'outside']) {
          console.log(JSON.stringify(await isolate.evaluate(`ask('${what}', NETWORK.env)`)));
        }
        isolate.destroy();
      }
      await sandbox.createIsolate({ grants: { DB: { postgres: { url: read('db.txt'), via: 'HOME' } } } })
        .catch((error) => console.log(error.message));";
    let Some(databases) = Databases::start() else {
        return;
    };
    let files = databases.files();
    let mut files: Vec<_> = files.iter().map(|(name, text)| (*name, &**text)).collect();
    files.push(("host.js", HOST));
    let (succeeded, text) = printed(&["run", "host.js"], &files);
    assert!(succeeded, "{text}");
    let lines: Vec<_> = text.lines().collect();
    for level in lines[..lines.len() - 1].chunks(4) {
        assert_eq!(
            level[..3],
            ["\"app1\"", "\"+PONG\\r\\n\"", "\"+PONG\\r\\n\""],
            "{text}"
        );
        assert!(
            !level[3].contains("PONG") && !level[3].contains("10.199"),
            "{text}"
        );
    }
    assert_eq!(lines.len(), 13, "{text}");
    assert!(
        lines[12].contains("grants.DB: via: HOME is not granted here"),
        "{text}"
    );
}

#[test]
fn command_fetches_through_a_tunnel_and_refuses_one_that_is_not_there() {
    let Some(rig) = Rig::start() else { return };
    let file = rig.file();
    let code = "try { console.log(await (await fetch('http://web.office/hello')).text()); }
      catch (error) { console.log(error.message); }";
    let files = [("main.js", code), ("wg.conf", &*file)];
    let tunnel = "OFFICE=wireguard_tunnel:{config: {file: wg.conf}}";
    let through = |name: &str| format!("{{hosts: [web.office], schemes: [http], via: {name}}}");
    for level in ["thread", "process", "container"] {
        let (office, isolation) = (through("OFFICE"), format!("--isolation={level}"));
        let arguments = [
            "exec",
            "main.js",
            &isolation,
            "--grant",
            tunnel,
            "--allow-fetch",
            &office,
        ];
        let (succeeded, text) = printed(&arguments, &files);
        assert!(
            succeeded && text.starts_with("web.office/hello for "),
            "{level}: {text}"
        );
    }
    let home = through("HOME");
    let arguments = ["exec", "main.js", "--grant", tunnel, "--allow-fetch", &home];
    let (succeeded, text) = printed(&arguments, &files);
    assert!(
        !succeeded && text.contains("leads through HOME, which is not granted"),
        "{text}"
    );
}
