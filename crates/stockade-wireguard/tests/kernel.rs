//! The peers of an interface of the Linux kernel. This machine's kernel may have no WireGuard, so a test runs this program
//! again on another kernel, in a virtual machine (`machine/run.sh`). `wg` reads back what was done.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ipnet::IpNet;
use stockade_wireguard::Key;
use stockade_wireguard::uapi::{Uapi, UapiError};

/// Set within the virtual machine.
const INSIDE: &str = "STOCKADE_TEST_MACHINE";

/// For one request, on a processor that is emulated.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where `scripts/build-helpers.sh` puts the program.
fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("stockade-peers")
}

/// Runs a shell script that must succeed; what it prints.
fn sh(script: &str) -> String {
    let run = Command::new("sh").args(["-ec", script]).output().unwrap();
    let error = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{script}\n{error}");
    String::from_utf8(run.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn peers_of_an_interface_of_the_kernel_are_managed() {
    if std::env::var_os(INSIDE).is_some() {
        return;
    }
    let mut err = std::io::stderr();
    if !program().is_file() {
        let _ = writeln!(err, "skipped: there is no {}", program().display());
        return;
    }
    let own = std::env::current_exe().unwrap();
    let script = format!(
        "{INSIDE}=1 exec {} --ignored --test-threads=1 --nocapture 2>&1",
        own.display()
    );
    let machine = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machine/run.sh");
    let run = Command::new(machine).arg(script).output().unwrap();
    let text = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
    if run.status.code() == Some(77) {
        let _ = writeln!(err, "{text}");
        return;
    }
    let passed = text.contains("exit status 0") && text.contains(" 3 passed; 0 failed");
    assert!(passed, "{text}");
}

/// An interface with a key, within the machine.
fn interface(name: &str) -> Uapi {
    assert!(
        std::env::var_os(INSIDE).is_some(),
        "this test runs in a machine of its own"
    );
    sh(&format!(
        "ip link add {name} type wireguard; umask 77; wg genkey >/run/{name}.key
         wg set {name} private-key /run/{name}.key listen-port 0; ip link set {name} up"
    ));
    Uapi::new(name, PATIENCE).unwrap().or_by(Some(program()))
}

fn public(byte: u8) -> Key {
    Key::from_bytes([byte; 32]).public()
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[tokio::test]
#[ignore = "it runs in a virtual machine, started by the test of the kernel"]
async fn inside_peers_are_as_wg_shows_them() {
    let uapi = interface("wga");
    let other = public(9).reveal();
    sh(&format!(
        "wg set wga peer {other} allowed-ips 10.1.0.0/16 endpoint 192.0.2.1:7"
    ));
    let own = || sh("wg show wga private-key; wg show wga listen-port; wg show wga fwmark");
    let before = own();

    // What is there.
    let found = uapi.interface().await.unwrap();
    let key = found.public_key.unwrap().reveal();
    assert_eq!(key, sh("wg show wga public-key"));
    assert_eq!(found.peers.len(), 1);
    assert_eq!(found.peers[0].public_key.reveal(), other);
    assert_eq!(found.peers[0].allowed_ips, nets(&["10.1.0.0/16"]));
    assert_eq!(
        found.peers[0].endpoint,
        Some("192.0.2.1:7".parse().unwrap())
    );

    // A peer is added, changed, and removed.
    let shared = Key::from_bytes([5; 32]);
    let one = public(1).reveal();
    let row = |key: &str| sh(&format!("wg show wga dump | grep ^{key} | cut -f2,4"));
    let wide = nets(&["10.2.0.3/32", "fd00::3/128"]);
    uapi.set(&public(1), Some(&shared), &wide).await.unwrap();
    assert_eq!(
        row(&one),
        format!("{}\t10.2.0.3/32,fd00::3/128", shared.reveal())
    );
    let none = Key::from_bytes([0; 32]);
    uapi.set(&public(1), Some(&none), &nets(&["10.2.0.4/32"]))
        .await
        .unwrap();
    assert_eq!(row(&one), "(none)\t10.2.0.4/32");
    uapi.remove(&public(1)).await.unwrap();
    uapi.remove(&public(2)).await.unwrap();
    assert_eq!(sh("wg show wga peers"), other);
    assert_eq!(own(), before);

    // More than fits into one message of the kernel's, of peers and of the networks of one.
    let many: String = (0..40).map(|at| format!("10.3.{at}.0/24,")).collect();
    let peers: String = (0..=199)
        .map(|at| {
            format!("[Peer]\nPublicKey = {}\nAllowedIPs = fd01::{at:x}/128\n", {
                let mut bytes = [7; 32];
                bytes[1] = at;
                Key::from_bytes(bytes).public().reveal()
            })
        })
        .collect();
    std::fs::write("/run/many", peers).unwrap();
    let many = many.trim_end_matches(',');
    sh(&format!(
        "wg addconf wga /run/many; wg set wga peer {other} allowed-ips {many}"
    ));
    let found = uapi.interface().await.unwrap();
    assert_eq!(found.peers.len(), 201);
    let listed: usize = found.peers.iter().map(|peer| peer.allowed_ips.len()).sum();
    assert_eq!(listed, 240);
}

#[tokio::test]
#[ignore = "it runs in a virtual machine, started by the test of the kernel"]
async fn inside_what_is_no_interface_and_who_may_not_is_refused() {
    let _wgb = interface("wgb");
    for name in ["none", "lo"] {
        let uapi = Uapi::new(name, PATIENCE).unwrap().or_by(Some(program()));
        assert_eq!(uapi.interface().await, Err(UapiError::Unknown), "{name}");
    }
    // The program of a user without the capability, and with it.
    let ask = |program: &str| {
        format!(
            "printf 'get=1\\n\\n' | setpriv --reuid 1000 --clear-groups {program} wgb 2>&1 | tail -2"
        )
    };
    let path = program().display().to_string();
    assert!(
        sh(&ask(&path)).contains("CAP_NET_ADMIN is missing"),
        "{}",
        sh(&ask(&path))
    );
    sh(&format!(
        "cp {path} /run/peers; chmod 755 /run/peers; setcap cap_net_admin=ep /run/peers"
    ));
    assert_eq!(sh(&ask("/run/peers")), "errno=0");
    // Requests that would change something else.
    for request in [
        "set=1\\nlisten_port=1\\n\\n",
        "set=1\\nprivate_key=00\\n\\n",
        "set=1\\nreplace_peers=true\\n\\n",
    ] {
        let answer = sh(&format!("printf '{request}' | {path} wgb"));
        assert_eq!(answer, "errno=-22", "{request}");
    }
}

#[test]
#[ignore = "it runs in a virtual machine, started by the test of the kernel"]
fn inside_process_has_one_capability_and_nothing_else() {
    let _wgc = interface("wgc");
    let mut process = Command::new(program());
    process
        .arg("wgc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut process = process.stderr(Stdio::piped()).spawn().unwrap();
    // It waits for its request when it has given up everything.
    let status = loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
        if status.contains("Seccomp:\t2") {
            break status;
        }
        assert!(process.try_wait().unwrap().is_none(), "it ended");
    };
    let line = |name: &str| {
        let lines = status.lines().find_map(|line| line.strip_prefix(name));
        lines
            .unwrap_or_else(|| panic!("{name}: {status}"))
            .trim()
            .to_owned()
    };
    let admin = "0000000000001000";
    for (name, expected) in [
        ("CapPrm:", admin),
        ("CapEff:", admin),
        ("CapBnd:", admin),
        ("CapInh:", "0000000000000000"),
        ("CapAmb:", "0000000000000000"),
        ("NoNewPrivs:", "1"),
        ("Uid:", "65534\t65534\t65534\t65534"),
        ("Gid:", "65534\t65534\t65534\t65534"),
        ("Groups:", ""),
    ] {
        assert_eq!(line(name), expected, "{name}");
    }
    let open = std::fs::read_dir(format!("/proc/{}/fd", process.id())).unwrap();
    assert_eq!(open.count(), 4);
    process
        .stdin
        .take()
        .unwrap()
        .write_all(b"get=1\n\n")
        .unwrap();
    let output = process.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.ends_with("errno=0\n\n"), "{text}");
    let private = sh("wg show wgc private-key | base64 -d | od -An -v -tx1 | tr -d ' \\n'");
    assert_eq!(private.len(), 64);
    assert!(!text.contains(&private), "{text}");
}
