//! Peers of a real WireGuard interface, wireguard-go in a network namespace, as a guest manages them.

use serde_json::{Value, json};
use stockade_wireguard::Key;

use crate::bindings::{EVALUATES, evaluate};
use crate::client::run;
use crate::private_network::Rig;
use crate::server::{PLAIN, Server};

const LEVELS: [&str; 3] = ["thread", "process", "container"];

fn serve(rig: &Rig, level: &str) -> Server {
    let n = rig.number;
    let config = format!(
        "{PLAIN}instances:
  site:
    code: ./main.js
    urls: [\"/*\"]
    isolation: {level}
    grants:
      VPN:
        wireguard: {{interface: wg{n}, peers: 2, allowed_ips: [10.198.{n}.0/28], keys: guest, endpoint: \"vpn.example:51820\",
          dns: [10.198.{n}.1], limits: {{rate: 60}}}}
      CLIENTS:
        wireguard: {{interface: wg{n}, peers: 1, allowed_ips: [\"fd98:{n}::/112\"], keys: host, endpoint: \"vpn.example:51820\"}}
"
    );
    Server::start(&config, &[("main.js", EVALUATES)])
}

fn public(byte: u8) -> String {
    Key::from_bytes([byte; 32]).public().reveal()
}

/// What of the interface a guest must not change.
fn own(rig: &Rig) -> [String; 3] {
    ["private-key", "listen-port", "allowed-ips"].map(|what| rig.show(what))
}

#[test]
fn guest_manages_the_peers_that_it_made_at_every_level() {
    let Some(rig) = Rig::start() else { return };
    let (n, before) = (rig.number, own(&rig));
    for level in LEVELS {
        let server = serve(&rig, level);
        run(async {
            let code = format!(
                "const publicKey = '{}', presharedKey = '{}';
                 const added = await env.VPN.addPeer({{ publicKey, presharedKey }});
                 return [added, await env.VPN.peers(), await env.VPN.newAddress(), await env.VPN.clientConfig(publicKey)]",
                public(1),
                Key::from_bytes([9; 32]).reveal(),
            );
            let made = evaluate(&server, &code).await;
            let address = format!("10.198.{n}.3/32");
            let added = json!({ "publicKey": public(1), "allowedIps": [address] });
            assert_eq!(made[0], added, "{level}: {made}");
            let listed = json!([{
                "publicKey": public(1), "allowedIps": [address], "endpoint": null, "latestHandshake": null, "rx": 0, "tx": 0,
            }]);
            assert_eq!(made[1], listed, "{level}");
            assert_eq!(made[2], format!("10.198.{n}.4/32"), "{level}");
            let file = made[3].as_str().unwrap();
            assert!(
                file.contains("Endpoint = vpn.example:51820") && file.contains(&address),
                "{file}"
            );
            // As `wg` shows it.
            let shown = format!("{}\t{address}", public(1));
            assert!(rig.show("allowed-ips").contains(&shown), "{level}");
            assert!(
                rig.show("preshared-keys")
                    .contains(&Key::from_bytes([9; 32]).reveal())
            );
            // A client whose keys the host makes.
            let code = "const { publicKey } = await env.CLIENTS.addPeer();
                const file = await env.CLIENTS.clientConfig(publicKey);
                const svg = await env.CLIENTS.clientQr(publicKey);
                return [file.includes('PrivateKey = '), svg.includes('<svg'), await env.CLIENTS.removePeer(publicKey)]";
            assert_eq!(evaluate(&server, code).await, json!([true, true, true]));
            let code = format!(
                "return [await env.VPN.removePeer('{0}'), await env.VPN.removePeer('{0}'), await env.VPN.peers()]",
                public(1)
            );
            assert_eq!(
                evaluate(&server, &code).await,
                json!([true, false, []]),
                "{level}"
            );
        });
        assert_eq!(own(&rig), before, "{level}");
    }
}

#[test]
fn guest_reaches_no_peer_of_others_and_nothing_else_of_the_interface_at_every_level() {
    let Some(rig) = Rig::start() else { return };
    let (n, before) = (rig.number, own(&rig));
    let other = rig.key.public().reveal();
    for level in LEVELS {
        let server = serve(&rig, level);
        run(async {
            let code = format!(
                "const {{ VPN, CLIENTS }} = env;
                 const messages = [];
                 const failed = (promise) => promise.then((value) => JSON.stringify(value), (error) => (messages.push(error.message), error.name));
                 const add = (peer) => failed(VPN.addPeer(peer));
                 const publicKey = '{one}';
                 const tried = {{
                   control: await add({{ publicKey }}),
                   others: await failed(VPN.peers()),
                   taken: await add({{ publicKey: '{other}' }}),
                   remove: await failed(VPN.removePeer('{other}')),
                   file: await failed(VPN.clientConfig('{other}')),
                   theirs: await add({{ publicKey: '{two}', allowedIps: ['10.198.{n}.2'] }}),
                   outside: await add({{ publicKey: '{two}', allowedIps: ['0.0.0.0/0'] }}),
                   both: await add({{ publicKey: '{two}', allowedIps: ['10.198.{n}.9', '10.199.{n}.2'] }}),
                   lines: await add({{ publicKey: '{two}\\nprivate_key=00' }}),
                   net: await add({{ publicKey: '{two}', allowedIps: ['10.198.{n}.9\\nlisten_port=1'] }}),
                   number: await add({{ publicKey: 7 }}),
                   preshared: await add({{ publicKey: '{two}', presharedKey: 'x' }}),
                   chosen: await failed(CLIENTS.addPeer({{ publicKey }})),
                   second: JSON.parse(await add({{ publicKey: '{two}' }})).allowedIps,
                   third: await add({{ publicKey: '{three}' }}),
                   own: await failed(Promise.resolve().then(() => new VPN.constructor('VPN'))),
                 }};
                 const flood = await Promise.all(Array.from({{ length: 300 }}, () => failed(VPN.newAddress())));
                 tried.flood = flood.includes('BusyError');
                 tried.named = messages.some((message) => /var.run|wg{n}/.test(message));
                 return tried",
                one = public(1),
                two = public(2),
                three = public(3),
            );
            let tried = evaluate(&server, &code).await;
            let control =
                json!({ "publicKey": public(1), "allowedIps": [format!("10.198.{n}.3/32")] });
            let tried: Value = tried;
            assert_eq!(
                tried["control"]
                    .as_str()
                    .map(|text| serde_json::from_str(text).unwrap()),
                Some(control)
            );
            for (what, expected) in [
                ("taken", "TypeError"),
                ("remove", "false"),
                ("file", "NotFound"),
                ("theirs", "TypeError"),
                ("outside", "TypeError"),
                ("both", "TypeError"),
                ("lines", "TypeError"),
                ("net", "TypeError"),
                ("number", "TypeError"),
                ("preshared", "TypeError"),
                ("chosen", "TypeError"),
                ("third", "QuotaExceededError"),
                ("own", "TypeError"),
            ] {
                assert_eq!(tried[what], expected, "{level}: {what} of {tried}");
            }
            assert!(
                !tried["others"].as_str().unwrap().contains(&other),
                "{tried}"
            );
            assert_eq!(
                tried["second"],
                json!([format!("10.198.{n}.4/32")]),
                "{level}"
            );
            assert_eq!(
                (&tried["flood"], &tried["named"]),
                (&json!(true), &json!(false)),
                "{level}"
            );
        });
        // Another guest of another start finds what this one made, and takes it away.
        let server = server.again();
        run(async {
            let code = "for (const { publicKey } of await env.VPN.peers()) await env.VPN.removePeer(publicKey);
                return (await env.VPN.peers()).length";
            assert_eq!(evaluate(&server, code).await, 0, "{level}");
        });
        assert_eq!(own(&rig), before, "{level}");
    }
}
