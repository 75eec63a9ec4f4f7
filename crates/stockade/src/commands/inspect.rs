//! `stockade inspect`: mirrors of a running server in Chrome's DevTools.
//!
//! Debuggers connect to an address of this machine that the command listens on, and the command reaches the mirrors by the
//! server's control socket. The server itself listens for no debugger.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt as _;
use http::Method;
use serde::Deserialize;
use stockade::{Inspector, Target};
use stockade_inspector::{Debuggable, Listed, Session};
use stockade_protocol::harmless_line;
use stockade_serve::AdminClient;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

use super::guest::Refusal;
use super::live::{ServerArgs, failed, run};
use super::units::address;
use super::{exit, output};

pub(crate) const INSPECT_EXAMPLES: &str = "\
Examples:
  stockade inspect                       all mirrors of instances with `inspect: true`
  stockade inspect shop                  those of one instance
  stockade inspect shop --listen 127.0.0.1:9333

Open chrome://inspect, or connect another debugger of Chrome's DevTools protocol, such as that of VS Code, to an address \
that is printed. The command goes on until it is interrupted. Everybody who reaches the address on this machine controls \
the mirrors meanwhile.

Exit codes: 0 interrupted, 1 no server answers, or it went away, 2 bad usage.";

/// Where debuggers look first.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9229);

/// How often the server is asked for its mirrors.
const REFRESH: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(crate) struct InspectArgs {
    /// The name of an instance in the configuration; all unless given
    instance: Option<String>,

    /// Where debuggers connect: an address of this machine, and a port or 0 for any
    #[arg(long, value_name = "HOST:PORT", value_parser = address, default_value_t = LISTEN)]
    listen: SocketAddr,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Deserialize)]
struct Instances {
    instances: Vec<Instance>,
}

#[derive(Deserialize)]
struct Instance {
    name: String,
    inspect: bool,
    mirrors: Vec<Mirror>,
}

#[derive(Deserialize)]
struct Mirror {
    mirror: u32,
    version: String,
    state: String,
}

/// A mirror of the server that debuggers can connect to.
struct InServer {
    client: AdminClient,
    path: String,
    runtime: Handle,
    gone: Arc<AtomicBool>,
}

impl Debuggable for InServer {
    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    fn connect(&self) -> Option<Session> {
        let (session, from_debugger, to_debugger) = Session::elsewhere();
        let (client, path) = (self.client.clone(), self.path.clone());
        // Ends with the debugger or the mirror.
        self.runtime.spawn(async move {
            let commands = from_debugger.filter_map(|text| std::future::ready(text.ok()));
            let to_debugger = Arc::new(to_debugger);
            let receive = |text: String| {
                let to_debugger = Arc::clone(&to_debugger);
                async move { to_debugger.send(text).await }
            };
            if let Err(error) = client.debug(&path, commands, receive).await {
                output::complain(&format!(
                    "a debugger was not attached, or is no longer: {error}"
                ));
            }
        });
        Some(session)
    }
}

/// A mirror that is listed until this is dropped.
struct Shown {
    gone: Arc<AtomicBool>,
    _listed: Listed,
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

/// Runs the command and gives the exit code.
pub(crate) fn inspect(args: &InspectArgs) -> Result<i32, Refusal> {
    if !args.listen.ip().is_loopback() {
        let message = format!(
            "{} is not an address of this machine alone, and a debugger needs no password\n  fix: leave --listen out, and \
             forward the port with `ssh -L 9229:127.0.0.1:9229`",
            args.listen
        );
        return Err(Refusal(message, exit::USAGE));
    }
    run(async {
        let client = args.server.client()?;
        let mut mirrors = wanted(&client, args).await?;
        let mut interrupted = signal(SignalKind::interrupt()).map_err(|error| failed(&error))?;
        let mut terminated = signal(SignalKind::terminate()).map_err(|error| failed(&error))?;
        let announce = |target: &Target, url: &str| {
            output::say(&format!("{}: {url}", harmless_line(&target.title, 200)));
        };
        let inspector = Inspector::listen(args.listen, announce).map_err(|error| failed(&error))?;
        let address = inspector.address();
        output::say(&format!(
            "Open chrome://inspect, or see http://{address}/json/list"
        ));
        let mut shown: BTreeMap<(String, u32), Shown> = BTreeMap::new();
        let mut interval = tokio::time::interval(REFRESH);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            shown.retain(|known, _| mirrors.contains_key(known));
            for (key, version) in &mirrors {
                if !shown.contains_key(key) {
                    shown.insert(key.clone(), show(&inspector, &client, key, version));
                }
            }
            tokio::select! {
                _ = interrupted.recv() => return Ok(exit::DONE),
                _ = terminated.recv() => return Ok(exit::DONE),
                _ = interval.tick() => mirrors = wanted(&client, args).await?,
            }
        }
    })
}

/// The mirrors that can be debugged now, by instance and number, with the version of their code.
async fn wanted(
    client: &AdminClient,
    args: &InspectArgs,
) -> Result<BTreeMap<(String, u32), String>, Refusal> {
    let all: Instances = client
        .json(Method::GET, "/v1/instances", None)
        .await
        .map_err(|error| failed(&error))?;
    let named =
        |instance: &&Instance| (args.instance.as_ref()).is_none_or(|name| instance.name == *name);
    let chosen: Vec<&Instance> = all.instances.iter().filter(named).collect();
    if !chosen.iter().any(|instance| instance.inspect) {
        let fix = "set `inspect: true` in the configuration of an instance";
        let what = match (&args.instance, chosen.is_empty()) {
            (Some(name), true) => {
                let names: Vec<&str> = all.instances.iter().map(|one| &*one.name).collect();
                let names = names.join(", ");
                format!("there is no instance {name:?}\n  fix: name one of {names}")
            }
            (Some(name), false) => {
                format!("the instance {name:?} cannot be debugged\n  fix: {fix}")
            }
            (None, _) => format!("no instance can be debugged\n  fix: {fix}"),
        };
        return Err(failed(&what));
    }
    let mut found = BTreeMap::new();
    for instance in chosen.into_iter().filter(|instance| instance.inspect) {
        for mirror in instance
            .mirrors
            .iter()
            .filter(|mirror| mirror.state == "ready")
        {
            found.insert(
                (instance.name.clone(), mirror.mirror),
                mirror.version.clone(),
            );
        }
    }
    Ok(found)
}

fn show(
    inspector: &Inspector,
    client: &AdminClient,
    (instance, mirror): &(String, u32),
    version: &str,
) -> Shown {
    let gone = Arc::new(AtomicBool::new(false));
    let target = Target {
        title: format!("{instance}, mirror {mirror}, version {version}"),
        url: format!("stockade:{instance}/{mirror}"),
    };
    let isolate = InServer {
        client: client.clone(),
        path: format!("/v1/instances/{instance}/mirrors/{mirror}/debug"),
        runtime: Handle::current(),
        gone: Arc::clone(&gone),
    };
    Shown {
        gone,
        _listed: inspector.list(target, Arc::new(isolate)),
    }
}
