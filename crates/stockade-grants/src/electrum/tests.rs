//! The link against servers over loopback that follow a script, hostile ones among them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use parking_lot::Mutex;
use stockade_broker::{Broker, BrokerOptions};
use stockade_capability::HandleCount;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;

const GENESIS: &str = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206";

/// How long anything may take that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a server answers, by method; and what it has seen.
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
    /// When each connection was made.
    made: Arc<Mutex<Vec<Instant>>>,
    asked: Arc<Mutex<HashMap<String, usize>>>,
    /// Lines that it sends to all who are connected, besides answers. `close` closes them.
    sent: tokio::sync::broadcast::Sender<String>,
}

/// How a server differs from an honest one.
#[derive(Clone, Default)]
struct Script {
    height: u64,
    genesis: Option<String>,
    /// What distinguishes its chain from that of others.
    fork: String,
    /// Instead of an answer to `blockchain.relayfee`.
    hostile: Option<String>,
    /// Ends each connection after the answer to a subscription.
    ends: Arc<AtomicBool>,
    /// Refuses to end a subscription, as servers before version 1.4.2 of the protocol.
    keeps: bool,
}

impl Server {
    async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            connections: Arc::default(),
            made: Arc::default(),
            asked: Arc::default(),
            sent: tokio::sync::broadcast::channel(2000).0,
        };
        let (connections, made, asked, sent) = (
            Arc::clone(&server.connections),
            Arc::clone(&server.made),
            Arc::clone(&server.asked),
            server.sent.clone(),
        );
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                made.lock().push(Instant::now());
                let (script, asked, mut sent) =
                    (script.clone(), Arc::clone(&asked), sent.subscribe());
                tokio::spawn(async move {
                    let (read, mut write) = stream.into_split();
                    let mut lines = BufReader::new(read).lines();
                    loop {
                        let line = tokio::select! {
                            line = lines.next_line() => match line {
                                Ok(Some(line)) => answer(&script, &asked, &line),
                                _ => return,
                            },
                            Ok(line) = sent.recv() => line,
                        };
                        if line == "close"
                            || write
                                .write_all(format!("{line}\n").as_bytes())
                                .await
                                .is_err()
                            || (script.ends.load(Ordering::SeqCst) && line.contains("scripthash"))
                        {
                            return;
                        }
                    }
                });
            }
        });
        server
    }

    fn asked(&self, method: &str) -> usize {
        self.asked.lock().get(method).copied().unwrap_or_default()
    }
}

fn answer(script: &Script, asked: &Mutex<HashMap<String, usize>>, line: &str) -> String {
    let question: Value = serde_json::from_str(line).unwrap();
    let method = question["method"].as_str().unwrap();
    *asked.lock().entry(method.to_owned()).or_default() += 1;
    let result = match method {
        "server.version" => json!(["scripted", "1.4"]),
        "server.features" => {
            json!({ "genesis_hash": script.genesis.as_deref().unwrap_or(GENESIS) })
        }
        "blockchain.headers.subscribe" => json!({ "height": script.height, "hex": "00" }),
        "blockchain.block.header" => json!(format!("{}{}", script.fork, question["params"][0])),
        "blockchain.relayfee" if script.hostile.is_some() => {
            return script.hostile.clone().unwrap_or_default();
        }
        "blockchain.scripthash.unsubscribe" if script.keeps => {
            let error = json!({ "code": -32601, "message": "unknown method" });
            return json!({ "jsonrpc": "2.0", "id": question["id"], "error": error }).to_string();
        }
        "blockchain.transaction.get" => {
            let error = json!({ "code": -5, "message": "No such\u{7} transaction" });
            return json!({ "jsonrpc": "2.0", "id": question["id"], "error": error }).to_string();
        }
        "server.ping" => Value::Null,
        _ => json!(format!("{method}{}", question["params"])),
    };
    json!({ "jsonrpc": "2.0", "id": question["id"], "result": result }).to_string()
}

fn grant(servers: &[&Server], agree: usize) -> ElectrumGrant {
    let servers: Vec<String> = servers
        .iter()
        .map(|server| format!("tcp://127.0.0.1:{}", server.port))
        .collect();
    let json = json!({ "E": { "electrum": { "servers": servers, "network": "regtest", "agree": agree, "limits": { "handles": 2 } } } });
    let grants =
        stockade_config::parse_grants(&json.to_string(), std::path::Path::new("/")).unwrap();
    match grants.into_values().next().unwrap() {
        stockade_config::Grant::Electrum(grant) => grant,
        other => panic!("{other:?}"),
    }
}

fn link(grant: &ElectrumGrant) -> Arc<Link> {
    let broker = Broker::new(BrokerOptions::default()).unwrap();
    let ground = Ground {
        instance: "shop".into(),
        binding: "E".into(),
        network: broker.network(),
        ways: Default::default(),
        broker,
        handles: HandleCount::default(),
        data: None,
    };
    Arc::new(Link::new(grant, &ground).unwrap())
}

fn owner(mirror: u32) -> Owner {
    Owner {
        instance: "shop".into(),
        start: 1,
        mirror,
    }
}

async fn ask(link: &Link, method: &str) -> Result<String, GuestError> {
    let asking = link.request(method, json!([]));
    let answer = tokio::time::timeout(PATIENCE, asking)
        .await
        .expect("an answer");
    answer.map(|json| json.get().to_owned())
}

async fn next(subscription: &mut Subscription) -> Option<String> {
    let next = tokio::time::timeout(PATIENCE, subscription.next())
        .await
        .expect("a state");
    next.map(|frame| String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
}

/// Waits until something holds.
async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("it comes to hold");
}

const BLOCKS: &str = "blockchain.headers.subscribe";

#[tokio::test]
async fn connections_that_end_as_soon_as_they_are_made_are_made_more_seldom() {
    let ends = Arc::new(AtomicBool::new(false));
    let script = Script {
        ends: Arc::clone(&ends),
        ..Script::default()
    };
    let server = Server::start(script).await;
    let link = link(&grant(&[&server], 1));
    let method = "blockchain.scripthash.subscribe".to_owned();
    let subscribed = link.subscribe(&owner(1), method, json!(["00"])).await;
    let _subscription = subscribed.unwrap();
    ends.store(true, Ordering::SeqCst);
    server.sent.send("close".to_owned()).unwrap();
    until(|| server.connections.load(Ordering::SeqCst) >= 2).await;
    // Nothing is asked of the server meanwhile: the answer is there at once.
    let refused = loop {
        let asked = ask(&link, "blockchain.relayfee").await.unwrap_err();
        if !asked.message.contains("lost") {
            break asked;
        }
    };
    assert!(refused.message.contains("ends connections"), "{refused}");
    until(|| server.connections.load(Ordering::SeqCst) >= 3).await;
    let made = server.made.lock().clone();
    assert!(made[2] - made[1] >= super::link::BACKOFF, "{made:?}");
}

#[tokio::test]
async fn answers_reach_who_asked_over_one_connection() {
    let server = Server::start(Script::default()).await;
    let link = link(&grant(&[&server], 1));
    let asking = (0..200).map(|number| {
        let link = Arc::clone(&link);
        tokio::spawn(async move {
            let answer = link
                .request("mempool.get_info", json!([number]))
                .await
                .unwrap();
            assert_eq!(answer.get(), format!("\"mempool.get_info[{number}]\""));
        })
    });
    for asked in futures_util::future::join_all(asking).await {
        asked.unwrap();
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    let error = ask(&link, "blockchain.transaction.get").await.unwrap_err();
    assert_eq!(
        (error.name.as_str(), error.message.as_str()),
        ("ElectrumError", "No such  transaction")
    );
    assert_eq!(error.code.as_deref(), Some("-5"));
}

#[tokio::test]
async fn subscription_goes_on_over_a_new_connection_and_ends_with_its_owner() {
    let server = Server::start(Script {
        height: 7,
        ..Script::default()
    })
    .await;
    let link = link(&grant(&[&server], 1));
    let mut one = link
        .subscribe(&owner(1), BLOCKS.to_owned(), json!([]))
        .await
        .unwrap();
    let mut two = link
        .subscribe(&owner(2), BLOCKS.to_owned(), json!([]))
        .await
        .unwrap();
    for subscription in [&mut one, &mut two] {
        assert_eq!(
            next(subscription).await.unwrap(),
            "{\"height\":7,\"hex\":\"00\"}\n"
        );
    }
    let state = |height: u64| {
        json!({ "jsonrpc": "2.0", "method": BLOCKS, "params": [{ "height": height }] }).to_string()
    };
    server.sent.send(state(8)).unwrap();
    for subscription in [&mut one, &mut two] {
        assert_eq!(next(subscription).await.unwrap(), "{\"height\":8}\n");
    }
    // The connection breaks: the state is asked for again.
    server.sent.send("close".to_owned()).unwrap();
    assert_eq!(
        next(&mut one).await.unwrap(),
        "{\"height\":7,\"hex\":\"00\"}\n"
    );
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
    // An owner has two at most, and another owner's are its own.
    let more = link
        .subscribe(&owner(1), BLOCKS.to_owned(), json!([]))
        .await
        .unwrap();
    let error = link
        .subscribe(&owner(1), BLOCKS.to_owned(), json!([]))
        .await
        .err()
        .unwrap();
    assert_eq!(error.name, "QuotaExceededError");
    drop(more);
    let _again = link
        .subscribe(&owner(1), BLOCKS.to_owned(), json!([]))
        .await
        .unwrap();
    link.ended(&owner(1));
    assert!(next(&mut one).await.is_none());
    server.sent.send(state(9)).unwrap();
    assert_eq!(
        next(&mut two).await.unwrap(),
        "{\"height\":7,\"hex\":\"00\"}\n"
    );
    assert_eq!(next(&mut two).await.unwrap(), "{\"height\":9}\n");
}

#[tokio::test]
async fn subscription_that_nobody_reads_ends_with_the_server() {
    for keeps in [false, true] {
        let server = Server::start(Script {
            keeps,
            ..Script::default()
        })
        .await;
        let link = link(&grant(&[&server], 1));
        let mut subscriptions = Vec::new();
        for (mirror, script) in [(1, "00"), (2, "00"), (1, "11")] {
            let method = "blockchain.scripthash.subscribe".to_owned();
            let subscribed = link
                .subscribe(&owner(mirror), method, json!([script]))
                .await;
            subscriptions.push(subscribed.unwrap());
        }
        // The owner ends while its streams are still there: one script is left, which another owner reads.
        let ended = || server.asked("blockchain.scripthash.unsubscribe");
        link.ended(&owner(1));
        until(|| ended() == 1).await;
        assert!(ask(&link, "mempool.get_info").await.is_ok());
        assert_eq!((ended(), server.connections.load(Ordering::SeqCst)), (1, 1));
        drop(subscriptions.remove(1));
        if keeps {
            until(|| server.sent.receiver_count() == 0).await;
        } else {
            until(|| ended() == 2).await;
        }
        // A connection that is still good is used again.
        assert!(ask(&link, "mempool.get_info").await.is_ok());
        let expected = if keeps { 2 } else { 1 };
        assert_eq!(server.connections.load(Ordering::SeqCst), expected);
    }
}

#[tokio::test]
async fn reader_that_falls_behind_is_ended_with_an_error_and_holds_up_nobody() {
    let server = Server::start(Script::default()).await;
    let link = link(&grant(&[&server], 1));
    let mut slow = link
        .subscribe(&owner(1), BLOCKS.to_owned(), json!([]))
        .await
        .unwrap();
    for height in 0..500 {
        let state = json!({ "jsonrpc": "2.0", "method": BLOCKS, "params": [{ "height": height }] });
        server.sent.send(state.to_string()).unwrap();
    }
    // A question is answered meanwhile.
    assert!(ask(&link, "mempool.get_info").await.is_ok());
    let mut states = 0;
    let ended = loop {
        match tokio::time::timeout(PATIENCE, slow.next())
            .await
            .expect("an end")
        {
            Some(Ok(_)) => states += 1,
            end => break end,
        }
    };
    assert!(
        ended
            .unwrap()
            .unwrap_err()
            .to_string()
            .contains("fell behind")
    );
    assert_eq!(states, 64);
}

#[tokio::test]
async fn server_that_breaks_the_protocol_is_left() {
    let long = format!("{{\"id\":1,\"result\":\"{}\"}}", "x".repeat(wire::MAX_LINE));
    for hostile in [
        "not JSON",
        "[]",
        "{}",
        "{\"id\":123456,\"result\":1}",
        "{\"id\":null,\"result\":1}",
        "{\"id\":\"1\",\"result\":1}",
        long.as_str(),
    ] {
        let server = Server::start(Script {
            hostile: Some(hostile.to_owned()),
            ..Script::default()
        })
        .await;
        let link = link(&grant(&[&server], 1));
        let error = ask(&link, "blockchain.relayfee").await.unwrap_err();
        assert!(error.message.contains("lost"), "{hostile:.20}: {error}");
        // The next one gets a connection of its own.
        assert!(ask(&link, "mempool.get_info").await.is_ok());
        assert_eq!(server.connections.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test]
async fn notification_that_nobody_wants_is_nothing() {
    let server = Server::start(Script::default()).await;
    let link = link(&grant(&[&server], 1));
    assert!(ask(&link, "mempool.get_info").await.is_ok());
    for line in [
        json!({ "method": "blockchain.scripthash.subscribe", "params": ["00", "11"] }),
        json!({ "method": BLOCKS, "params": [] }),
        json!({ "method": BLOCKS, "params": { "a": 1 } }),
        json!({ "method": BLOCKS, "params": [1, 2, 3] }),
    ] {
        server.sent.send(line.to_string()).unwrap();
    }
    assert!(ask(&link, "mempool.get_info").await.is_ok());
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn servers_are_used_that_agree() {
    let honest = |height| Script {
        height,
        ..Script::default()
    };
    let fork = |height| Script {
        height,
        fork: "other".to_owned(),
        ..Script::default()
    };
    for (scripts, agree, expected) in [
        (vec![honest(100), honest(101)], 1, Some(0)),
        // One that is behind, or lies about its height, or is on another branch.
        (vec![honest(10), honest(100), honest(100)], 1, Some(1)),
        (
            vec![honest(1_000_000_000), honest(100), honest(100)],
            1,
            Some(1),
        ),
        (vec![fork(100), honest(100), honest(101)], 1, Some(1)),
        (
            vec![
                Script {
                    genesis: Some("00".repeat(32)),
                    ..honest(100)
                },
                honest(100),
            ],
            1,
            Some(1),
        ),
        // Nobody can say who is right.
        (vec![fork(100), honest(100)], 1, None),
        (vec![honest(10), honest(100)], 1, None),
        (vec![honest(100)], 2, None),
        (vec![fork(100), honest(100), honest(101)], 3, None),
    ] {
        let mut servers = Vec::new();
        for script in scripts {
            servers.push(Server::start(script).await);
        }
        let link = link(&grant(&servers.iter().collect::<Vec<_>>(), agree));
        let answered = ask(&link, "mempool.get_info").await;
        let used = servers
            .iter()
            .position(|server| server.asked("mempool.get_info") == 1);
        assert_eq!(used, expected, "{answered:?}");
        match answered {
            Ok(_) => assert!(expected.is_some()),
            Err(error) => assert!(error.message.contains("agree on the chain"), "{error}"),
        }
    }
}

#[tokio::test]
async fn server_that_is_not_there_is_named_in_no_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let gone = Server {
        port,
        connections: Arc::default(),
        made: Arc::default(),
        asked: Arc::default(),
        sent: tokio::sync::broadcast::channel(1).0,
    };
    let link = link(&grant(&[&gone], 1));
    let error = ask(&link, "mempool.get_info").await.unwrap_err();
    assert_eq!(error.name, "ElectrumError");
    assert!(
        !error.message.contains("127.0.0.1") && !error.message.contains(&port.to_string()),
        "{error}"
    );
}

#[tokio::test]
async fn connection_is_closed_with_the_grant() {
    let server = Server::start(Script::default()).await;
    let link = link(&grant(&[&server], 1));
    let (ended, mut end) = mpsc::channel::<()>(1);
    let mut subscription = link
        .subscribe(&owner(1), BLOCKS.to_owned(), json!([]))
        .await
        .unwrap();
    tokio::spawn(async move {
        while next(&mut subscription).await.is_some() {}
        drop(ended);
    });
    until(|| server.sent.receiver_count() == 1).await;
    drop(link);
    let closed = tokio::time::timeout(PATIENCE, end.recv()).await;
    assert!(closed.is_ok());
    until(|| server.sent.receiver_count() == 0).await;
}

#[test]
fn request_is_what_the_grant_allows() {
    let notes = CallNotes::default();
    for (method, broadcast, allowed) in [
        ("blockchain.estimatefee", false, true),
        ("blockchain.transaction.broadcast", false, false),
        ("blockchain.transaction.broadcast", true, true),
        ("server.banner", true, false),
        ("server.peers.subscribe", true, false),
        ("server.add_peer", true, false),
        ("blockchain.estimatefee\n", true, false),
        ("", true, false),
    ] {
        assert_eq!(
            permitted(method, broadcast, &notes).is_ok(),
            allowed,
            "{method}"
        );
    }
}

#[test]
fn script_hash_is_that_of_the_protocol() {
    // Of the protocol's documentation: the first address that ever received a block.
    let genesis = "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa";
    let expected = "8b01df4e368ea28f8dc0423bcf7a4923e3a12d307c875e47a0cfbf90b5c39161";
    assert_eq!(script_hash(genesis, Chain::Bitcoin).unwrap(), expected);
    assert!(
        script_hash(genesis, Chain::Regtest)
            .unwrap_err()
            .message
            .contains("another network")
    );
    for text in ["", "x", &"1".repeat(1000)] {
        assert!(
            script_hash(text, Chain::Bitcoin)
                .unwrap_err()
                .message
                .contains("not a Bitcoin address")
        );
    }
}
