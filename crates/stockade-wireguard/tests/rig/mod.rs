//! A private network behind wireguard-go: a network namespace that a pair of virtual cards joins to this machine.
//!
//! | address | |
//! |---|---|
//! | `10.199.N.1`, `10.199.N.2` | this machine and the namespace, outside the tunnel |
//! | `10.198.N.1`, `fd98:N::1` | the namespace within the tunnel, with the servers of `services.py` and a DNS server |
//! | `10.198.N.2`, `fd98:N::2` | the tunnel under test |

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use stockade_wireguard::Key;

/// What the tests need of the machine.
const PROGRAMS: [&str; 5] = ["ip", "wg", "wireguard-go", "dnsmasq", "python3"];

/// A private network. Dropping it removes it.
pub(crate) struct Rig {
    pub(crate) name: String,
    pub(crate) number: u32,
    pub(crate) key: Key,
    server: Key,
    children: Vec<Child>,
    _folder: tempfile::TempDir,
}

/// Runs a shell script that must succeed.
fn sh(script: &str) {
    let run = Command::new("sh").args(["-ec", script]).output().unwrap();
    let error = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{script}\n{error}");
}

/// Says why a test is skipped.
fn say(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

fn can_run() -> bool {
    let has = |program: &&str| {
        let found = Command::new("sh")
            .args(["-c", &format!("command -v {program}")])
            .output();
        found.is_ok_and(|found| found.status.success())
    };
    if let Some(missing) = PROGRAMS.iter().find(|program| !has(program)) {
        say(&format!("there is no program {missing}"));
        return false;
    }
    let trial = format!("stockade-wgt{}", std::process::id());
    let script = format!(
        "test \"$(id -u)\" = 0 && ip netns add {trial} && ip netns del {trial} && test -c /dev/net/tun"
    );
    let tried = Command::new("sh").args(["-ec", &script]).output().unwrap();
    if !tried.status.success() {
        say("it needs root, network namespaces and /dev/net/tun");
    }
    tried.status.success()
}

/// Waits for a line with this text, and lets the rest go on.
fn wait_for(output: impl Read + Send + 'static, text: &str) {
    let mut lines = BufReader::new(output).lines();
    let found = lines
        .by_ref()
        .map_while(Result::ok)
        .any(|line| line.contains(text));
    assert!(found, "no line with {text:?}");
    std::thread::spawn(move || lines.for_each(drop));
}

impl Rig {
    /// A network of its own; `None` where the machine cannot have one.
    pub(crate) fn start() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !can_run() {
            return None;
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let number = 1 + (std::process::id() * 7 + count) % 250;
        let name = format!("sgw{}-{count}", std::process::id());
        let folder = tempfile::tempdir().unwrap();
        let (key, server) = (Key::random().unwrap(), Key::random().unwrap());
        let mut rig = Self {
            name,
            number,
            key,
            server,
            children: Vec::new(),
            _folder: folder,
        };
        let (name, n) = (rig.name.clone(), number);
        sh(&format!(
            "ip netns add {name}; ip link add sa{n} type veth peer name sb{n}; ip link set sb{n} netns {name}
             ip addr add 10.199.{n}.1/24 dev sa{n}; ip link set sa{n} up
             ip netns exec {name} sh -ec 'ip link set lo up; ip addr add 10.199.{n}.2/24 dev sb{n}; ip link set sb{n} up'"
        ));
        rig.start_peer();
        let mut services = rig.command("python3");
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../stockade-wireguard/tests/rig/services.py"
        );
        services
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut services = services.spawn().unwrap();
        wait_for(services.stdout.take().unwrap(), "ready");
        rig.children.push(services);
        let mut names = rig.command("dnsmasq");
        names
            .args([
                "--keep-in-foreground",
                "--no-resolv",
                "--no-hosts",
                "--log-facility=-",
                "--conf-file=/dev/null",
            ])
            .args(["--user=root", "--pid-file=", "--bind-interfaces"])
            .arg(format!("--listen-address={}", rig.inside(4)))
            .arg(format!(
                "--host-record=web.office,{},{}",
                rig.inside(4),
                rig.inside(6)
            ))
            .args(["--host-record=out.office,192.0.2.7"])
            .stderr(Stdio::piped());
        let mut names = names.spawn().unwrap();
        wait_for(names.stderr.take().unwrap(), "started");
        rig.children.push(names);
        Some(rig)
    }

    /// Starts wireguard-go, with the same keys and addresses each time.
    pub(crate) fn start_peer(&mut self) {
        let (name, n) = (&self.name, self.number);
        let mut peer = self.command("wireguard-go");
        peer.args(["-f", &format!("wg{n}")])
            .env("LOG_LEVEL", "verbose")
            .stdout(Stdio::piped());
        let mut peer = peer.stderr(Stdio::null()).spawn().unwrap();
        wait_for(peer.stdout.take().unwrap(), "UAPI listener started");
        let keys = self._folder.path();
        std::fs::write(keys.join("key"), self.server.reveal()).unwrap();
        sh(&format!(
            "ip netns exec {name} sh -ec '
             wg set wg{n} private-key {keys}/key listen-port 51820 peer {public} allowed-ips 10.198.{n}.2/32,fd98:{n}::2/128
             ip addr add 10.198.{n}.1/24 dev wg{n}; ip addr add fd98:{n}::1/64 dev wg{n} nodad; ip link set wg{n} up'",
            keys = keys.display(),
            public = self.key.public().reveal(),
        ));
        self.children.insert(0, peer);
    }

    /// Ends wireguard-go, and with it its interface.
    pub(crate) fn stop_peer(&mut self) {
        let mut peer = self.children.remove(0);
        peer.kill().unwrap();
        peer.wait().unwrap();
    }

    /// A command within the namespace.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// The address of the namespace within the tunnel, of IPv4 or IPv6.
    pub(crate) fn inside(&self, version: u8) -> IpAddr {
        let n = self.number;
        let text = match version {
            4 => format!("10.198.{n}.1"),
            _ => format!("fd98:{n}::1"),
        };
        text.parse().unwrap()
    }

    /// The file of the tunnel under test.
    pub(crate) fn file(&self) -> String {
        let n = self.number;
        format!(
            "[Interface]\nPrivateKey = {}\nAddress = 10.198.{n}.2/24, fd98:{n}::2/64\nDNS = {}\n\
             [Peer]\nPublicKey = {}\nEndpoint = 10.199.{n}.2:51820\nAllowedIPs = 10.198.{n}.0/24, fd98:{n}::/64\n",
            self.key.reveal(),
            self.inside(4),
            self.server.public().reveal(),
        )
    }

    /// What `wg show` says about something.
    pub(crate) fn show(&self, what: &str) -> String {
        let interface = format!("wg{}", self.number);
        let shown = self.command("wg").args(["show", &interface, what]).output();
        String::from_utf8(shown.unwrap().stdout).unwrap()
    }

    /// Connections of the servers that are established.
    pub(crate) fn connections(&self) -> String {
        let listed = self
            .command("ss")
            .args(["-Htn", "state", "established"])
            .output();
        String::from_utf8(listed.unwrap().stdout).unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .output();
    }
}
