//! The peers of a real interface, wireguard-go in a network namespace. `wg` reads back what was done.

#[path = "../../../stockade-wireguard/tests/rig/mod.rs"]
#[expect(dead_code, reason = "the tests of tunnels use more of it")]
mod rig;

use std::path::Path;
use std::sync::Arc;

use rig::Rig;
use serde_json::{Value, json};
use stockade_broker::{Broker, BrokerOptions};
use stockade_capability::{
    CallContext, CallNotes, CallPayload, CallPlace, Capability, HandleCount, Owner,
};
use stockade_config::Grant;
use stockade_protocol::Payload;
use stockade_wireguard::{Key, parse};

use crate::{Ground, of};

/// The grant of the rig's interface, whose own peer it did not make.
fn open(rig: &Rig, folder: &Path, keys: &str) -> Arc<dyn Capability> {
    let n = rig.number;
    let json = json!({ "VPN": { "wireguard": {
        "interface": format!("wg{n}"), "peers": 3, "allowed_ips": [format!("10.198.{n}.0/28")], "keys": keys,
        "endpoint": "vpn.example:51820", "dns": [format!("10.198.{n}.1")],
    } } });
    let grants = stockade_config::parse_grants(&json.to_string(), Path::new("/"));
    let grant: Grant = grants.unwrap().remove("VPN").unwrap();
    let broker = Broker::new(BrokerOptions::default()).unwrap();
    let ground = Ground {
        instance: "site".into(),
        binding: "VPN".into(),
        network: broker.network(),
        ways: Default::default(),
        broker,
        handles: HandleCount::default(),
        data: Some(folder.to_owned()),
    };
    of(&grant).open(&ground).unwrap()
}

async fn ask(grant: &Arc<dyn Capability>, method: &str, argument: Value) -> Result<Value, String> {
    let arguments = CallPayload::from(Payload {
        json: json!([argument]).to_string(),
        ..Payload::default()
    });
    let owner = Owner {
        instance: "site".into(),
        start: 1,
        mirror: 1,
    };
    let context = CallContext {
        owner,
        notes: CallNotes::default(),
        place: CallPlace::default(),
    };
    let answer = grant.call(context, method, arguments).await;
    let answer = answer.map_err(|error| format!("{}: {}", error.name, error.message))?;
    Ok(serde_json::from_str(&answer.payload.json).unwrap())
}

#[tokio::test]
async fn peers_are_added_listed_and_removed_and_those_of_others_are_not() {
    let Some(rig) = Rig::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let grant = open(&rig, folder.path(), "guest");
    let n = rig.number;
    let other = rig.key.public().reveal();
    let before = [
        rig.show("private-key"),
        rig.show("listen-port"),
        rig.show("allowed-ips"),
    ];

    // Nothing of others is seen or changed.
    assert_eq!(ask(&grant, "peers", json!({})).await, Ok(json!([])));
    assert_eq!(
        ask(&grant, "removePeer", json!({ "publicKey": other })).await,
        Ok(json!(false))
    );
    let taken = ask(&grant, "addPeer", json!({ "publicKey": other }))
        .await
        .unwrap_err();
    assert!(taken.contains("in use"), "{taken}");

    // The first free address: .1 is the interface's, .2 the other peer's.
    let free = json!(format!("10.198.{n}.3/32"));
    assert_eq!(ask(&grant, "newAddress", json!({})).await, Ok(free.clone()));
    let key = |byte| Key::from_bytes([byte; 32]).public().reveal();
    let preshared = Key::from_bytes([9; 32]).reveal();
    let added = ask(
        &grant,
        "addPeer",
        json!({ "publicKey": key(1), "presharedKey": preshared }),
    )
    .await;
    assert_eq!(
        added,
        Ok(json!({ "publicKey": key(1), "allowedIps": [free] }))
    );
    assert!(
        rig.show("allowed-ips")
            .contains(&format!("{}\t10.198.{n}.3/32", key(1)))
    );
    assert!(rig.show("preshared-keys").contains(&preshared));
    let listed = ask(&grant, "peers", json!({})).await.unwrap();
    assert_eq!(listed[0]["publicKey"], key(1));
    assert_eq!(
        (&listed[0]["rx"], &listed[0]["latestHandshake"]),
        (&json!(0), &Value::Null)
    );

    // Networks of others, and outside those of the grant.
    for (net, why) in [
        (format!("10.198.{n}.2"), "another peer"),
        (format!("10.198.{n}.3"), "another peer"),
        (format!("10.198.{n}.0/28"), "another peer"),
        (format!("10.198.{n}.1"), "no peer gets"),
        (format!("10.198.{n}.77"), "not within"),
        ("0.0.0.0/0".to_owned(), "not within"),
        ("nonsense".to_owned(), "not an address"),
    ] {
        let wanted = json!({ "publicKey": key(2), "allowedIps": [net] });
        let refused = ask(&grant, "addPeer", wanted).await.unwrap_err();
        assert!(refused.contains(why), "{net}: {refused}");
    }
    let wanted = json!({ "publicKey": key(2), "allowedIps": [format!("10.198.{n}.8/30")] });
    ask(&grant, "addPeer", wanted).await.unwrap();
    ask(&grant, "addPeer", json!({ "publicKey": key(3) }))
        .await
        .unwrap();
    let full = ask(&grant, "addPeer", json!({ "publicKey": key(4) }))
        .await
        .unwrap_err();
    assert!(full.starts_with("QuotaExceededError"), "{full}");

    // Another start of the server knows its peers, and sets one that the interface has lost.
    drop(grant);
    let grant = open(&rig, folder.path(), "guest");
    let interface = format!("wg{n}");
    let removed = rig
        .command("wg")
        .args(["set", &interface, "peer", &key(3), "remove"])
        .status();
    assert!(removed.unwrap().success());
    assert_eq!(
        ask(&grant, "peers", json!({}))
            .await
            .unwrap()
            .as_array()
            .unwrap()
            .len(),
        3
    );
    assert!(rig.show("peers").contains(&key(3)));
    for byte in 1..=3 {
        let removed = ask(&grant, "removePeer", json!({ "publicKey": key(byte) })).await;
        assert_eq!(removed, Ok(json!(true)));
    }
    let after = [
        rig.show("private-key"),
        rig.show("listen-port"),
        rig.show("allowed-ips"),
    ];
    assert_eq!(after, before);
}

#[tokio::test]
async fn client_with_keys_of_the_host_has_a_file_that_works() {
    let Some(rig) = Rig::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let grant = open(&rig, folder.path(), "host");
    let given = json!({ "publicKey": Key::from_bytes([1; 32]).public().reveal() });
    assert!(
        ask(&grant, "addPeer", given)
            .await
            .unwrap_err()
            .contains("must not be given")
    );
    let added = ask(&grant, "addPeer", json!({})).await.unwrap();
    let named = json!({ "publicKey": added["publicKey"] });
    let file = ask(&grant, "clientConfig", named.clone()).await.unwrap();
    let file = file.as_str().unwrap();
    let config = parse(file).unwrap().config;
    assert_eq!(
        json!(config.private_key.public().reveal()),
        added["publicKey"]
    );
    let server = rig.show("private-key");
    assert!(
        !file.contains(server.trim()),
        "the interface's key is in the file"
    );
    let svg = ask(&grant, "clientQr", named).await.unwrap();
    assert!(svg.as_str().unwrap().contains("<svg"), "{svg}");

    // The file makes a tunnel to a server behind the interface.
    let file = file.replace(
        "vpn.example:51820",
        &format!("10.199.{}.2:51820", rig.number),
    );
    let limits = stockade_wireguard::TunnelLimits {
        connections: 4,
        buffer: 16 << 10,
        handshakes: 10,
    };
    let resolve = Arc::new(|_| Box::pin(async { None }) as _);
    let config = parse(&file).unwrap().config;
    let tunnel = stockade_wireguard::Tunnel::new(config, limits, resolve).unwrap();
    tunnel.connect((rig.inside(4), 7).into()).await.unwrap();
    let listed = ask(&grant, "peers", json!({})).await.unwrap();
    assert!(listed[0]["rx"].as_u64().unwrap() > 0, "{listed}");
    assert!(listed[0]["latestHandshake"].is_number(), "{listed}");
}

#[tokio::test]
async fn interface_that_is_not_there_is_an_error_without_a_path() {
    let Some(rig) = Rig::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut gone = rig;
    let grant = open(&gone, folder.path(), "guest");
    ask(&grant, "peers", json!({})).await.unwrap();
    gone.stop_peer();
    let error = ask(&grant, "peers", json!({})).await.unwrap_err();
    assert!(
        error.starts_with("OperationError: no program offers the socket of this interface"),
        "{error}"
    );
}
