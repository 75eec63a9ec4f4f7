//! Grants of `dns` against a name server on loopback.

#![cfg(test)]

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use hickory_resolver::Name;
use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, CNAME, MX, NS, PTR, SRV, TXT};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use parking_lot::Mutex;
use serde_json::{Value, json};
use stockade_broker::{Broker, BrokerOptions};
use stockade_capability::{CallContext, CallNotes, CallPlace, Capability, Owner};
use stockade_grants::{CallAudit, CallRecord, Granting, Grants};
use stockade_protocol::{GuestError, Payload};
use tokio::net::UdpSocket;

/// A name server, and the questions that it got.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

/// What the server has.
fn records(of: &str, kind: RecordType) -> Vec<RData> {
    let address = |text: &str| match text.parse::<IpAddr>().unwrap() {
        IpAddr::V4(address) => RData::A(address.into()),
        IpAddr::V6(address) => RData::AAAA(address.into()),
    };
    match (of, kind) {
        ("a.example.com.", RecordType::A) => {
            vec![address("93.184.216.34"), address("93.184.216.35")]
        }
        ("a.example.com.", RecordType::AAAA) => vec![address("2606:4700::1111")],
        ("inside.example.com.", RecordType::A) => {
            vec![address("93.184.216.34"), address("10.1.2.3")]
        }
        ("meta.example.com.", RecordType::A) => vec![address("169.254.169.254")],
        ("www.example.com.", RecordType::A) => {
            vec![
                RData::CNAME(CNAME(name("a.example.com."))),
                address("93.184.216.34"),
            ]
        }
        ("www.example.com.", RecordType::CNAME) => {
            vec![RData::CNAME(CNAME(name("a.example.com.")))]
        }
        ("example.com.", RecordType::MX) => vec![RData::MX(MX::new(10, name("mail.example.com.")))],
        ("example.com.", RecordType::NS) => vec![RData::NS(NS(name("ns.example.com.")))],
        ("example.com.", RecordType::TXT) => vec![
            RData::TXT(TXT::new(vec!["v=spf1".to_owned(), " -all".to_owned()])),
            RData::TXT(TXT::from_bytes(vec![b"\0b0", b"\xff\xfe"])),
        ],
        ("_sip._tcp.example.com.", RecordType::SRV) => {
            vec![RData::SRV(SRV::new(1, 2, 5060, name("sip.example.com.")))]
        }
        ("34.216.184.93.in-addr.arpa.", RecordType::PTR) => {
            vec![RData::PTR(PTR(name("a.example.com.")))]
        }
        ("flood.example.com.", RecordType::A) => (0..65)
            .map(|last| RData::A(A::new(93, 184, 216, last)))
            .collect(),
        _ => Vec::new(),
    }
}

impl Server {
    async fn start() -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let query = Message::from_vec(&buffer[..length]).unwrap();
                let question = query.queries().first().unwrap().clone();
                let (of, kind) = (question.name().to_ascii(), question.query_type());
                kept.lock().push(format!("{of} {kind}"));
                let mut reply = Message::new();
                reply
                    .set_id(query.id())
                    .set_message_type(MessageType::Response);
                reply
                    .set_recursion_desired(true)
                    .set_recursion_available(true);
                let found = records(&of.to_lowercase(), kind);
                if found.is_empty() {
                    reply.set_response_code(ResponseCode::NXDomain);
                }
                reply.add_query(question.clone());
                for data in found {
                    let owner = match &data {
                        RData::A(_) if of.starts_with("www.") => name("a.example.com."),
                        _ => question.name().clone(),
                    };
                    reply.add_answer(Record::from_rdata(owner, 60, data));
                }
                let _ = socket.send_to(&reply.to_vec().unwrap(), from).await;
            }
        });
        Self { address, asked }
    }
}

#[derive(Default)]
struct Records(Mutex<Vec<String>>);

impl CallAudit for Records {
    fn called(&self, record: &CallRecord<'_>) {
        let outcome = record.outcome.as_str();
        let words = format!(
            "{outcome} {} {:?}",
            record.reason.unwrap_or(""),
            record.notes
        );
        self.0.lock().push(words);
    }
}

struct Bench {
    server: Server,
    records: Arc<Records>,
    grants: Grants,
    broker: Broker,
}

impl Bench {
    async fn new() -> Self {
        let records = Arc::new(Records::default());
        Self {
            server: Server::start().await,
            grants: Grants::new(Arc::clone(&records) as Arc<dyn CallAudit>),
            records,
            broker: Broker::new(BrokerOptions::default()).unwrap(),
        }
    }

    /// A grant with this server and what else `grant` says.
    fn open(&self, mut grant: Value) -> Arc<dyn Capability> {
        grant["servers"] = json!([self.server.address.to_string()]);
        let text = json!({ "NAMES": { "dns": grant } }).to_string();
        let grants = stockade_config::parse_grants(&text, Path::new("/")).unwrap();
        let opened = self.grants.open(Granting {
            instance: "shop",
            binding: "NAMES",
            grant: &grants["NAMES"],
            broker: &self.broker,
            roots: &[],
            ways: &Default::default(),
            approval: None,
            data: None,
        });
        opened.unwrap()
    }
}

async fn resolve(
    granted: &Arc<dyn Capability>,
    name: &str,
    record: &str,
) -> Result<Value, GuestError> {
    let context = CallContext {
        owner: Owner {
            instance: "shop".into(),
            start: 1,
            mirror: 1,
        },
        notes: CallNotes::default(),
        place: CallPlace::default(),
    };
    let arguments = Payload::from_json(json!([{ "name": name, "type": record }]).to_string());
    let value = granted.call(context, "resolve", arguments.into()).await?;
    let json = value.payload.into_plain_json().unwrap();
    Ok(serde_json::from_str(&json).unwrap())
}

fn everything() -> Value {
    json!({
        "names": ["example.com", "*.example.com", "*.in-addr.arpa"],
        "records": ["A", "AAAA", "CNAME", "MX", "NS", "PTR", "SRV", "TXT"],
    })
}

#[tokio::test]
async fn resolve_gives_each_type_of_record_as_deno_does() {
    let bench = Bench::new().await;
    let granted = bench.open(everything());
    for (name, record, expected) in [
        (
            "a.example.com",
            "A",
            json!(["93.184.216.34", "93.184.216.35"]),
        ),
        ("A.Example.com.", "AAAA", json!(["2606:4700::1111"])),
        ("www.example.com", "A", json!(["93.184.216.34"])),
        ("www.example.com", "CNAME", json!(["a.example.com."])),
        (
            "example.com",
            "MX",
            json!([{ "preference": 10, "exchange": "mail.example.com." }]),
        ),
        ("example.com", "NS", json!(["ns.example.com."])),
        (
            "example.com",
            "TXT",
            json!([["v=spf1", " -all"], ["\0b0", "\u{fffd}\u{fffd}"]]),
        ),
        (
            "_sip._tcp.example.com",
            "SRV",
            json!([{ "priority": 1, "weight": 2, "port": 5060, "target": "sip.example.com." }]),
        ),
        ("93.184.216.34", "PTR", json!(["a.example.com."])),
        (
            "34.216.184.93.in-addr.arpa",
            "PTR",
            json!(["a.example.com."]),
        ),
    ] {
        let found = resolve(&granted, name, record).await;
        assert_eq!(found.unwrap(), expected, "{name} {record}");
    }
    let flood = resolve(&granted, "flood.example.com", "A")
        .await
        .unwrap_err();
    assert_eq!(flood.name, "RangeError", "{flood}");
    let missing = resolve(&granted, "none.example.com", "A")
        .await
        .unwrap_err();
    assert_eq!(missing.name, "NotFound", "{missing}");
}

#[tokio::test]
async fn name_or_record_that_is_not_listed_is_never_asked_for() {
    let bench = Bench::new().await;
    let granted = bench.open(json!({ "names": ["*.example.com"] }));
    assert!(resolve(&granted, "a.example.com", "A").await.is_ok());
    let asked = bench.server.asked.lock().len();
    for (name, record, reason) in [
        ("example.com", "A", "name"),
        ("data.evil.example", "A", "name"),
        ("a.example.com.evil.example", "A", "name"),
        ("a.example.com", "TXT", "record"),
        ("93.184.216.34", "A", ""),
        ("93.184.216.34", "PTR", "record"),
        ("a..example.com", "A", ""),
        ("a.example.com/..", "A", ""),
        ("a.example.com", "ANY", ""),
        ("", "A", ""),
    ] {
        let error = resolve(&granted, name, record).await.unwrap_err();
        assert_eq!(error.name, "TypeError", "{name} {record}: {error}");
        let last = bench.records.0.lock().last().cloned().unwrap();
        let refused = if reason.is_empty() {
            "error "
        } else {
            "refused "
        };
        assert!(last.starts_with(&format!("{refused}{reason} ")), "{last}");
    }
    assert_eq!(bench.server.asked.lock().len(), asked);
}

#[tokio::test]
async fn answer_with_an_address_that_is_not_public_is_refused() {
    let bench = Bench::new().await;
    let closed = bench.open(json!({ "names": ["*.example.com"] }));
    for name in ["inside.example.com", "meta.example.com"] {
        let error = resolve(&closed, name, "A").await.unwrap_err();
        assert_eq!(error.name, "TypeError", "{error}");
        assert!(
            !error.message.contains("10.1") && !error.message.contains("169.254"),
            "{error}"
        );
    }
    let open = bench.open(json!({ "names": ["*.example.com"], "allow_private": ["10.0.0.0/8"] }));
    let found = resolve(&open, "inside.example.com", "A").await.unwrap();
    assert_eq!(found, json!(["93.184.216.34", "10.1.2.3"]));
    assert!(resolve(&open, "meta.example.com", "A").await.is_err());
}

#[tokio::test]
async fn grant_that_did_not_change_is_the_same_and_a_changed_one_is_another() {
    let bench = Bench::new().await;
    let first = bench.open(json!({ "names": ["*.example.com"] }));
    let same = bench.open(json!({ "names": ["*.example.com"] }));
    assert!(Arc::ptr_eq(&first, &same));
    let changed = bench.open(json!({ "names": ["*.example.com"], "limits": { "rate": 1 } }));
    assert!(!Arc::ptr_eq(&first, &changed));
    // The old one goes on for those that hold it.
    assert!(resolve(&first, "a.example.com", "A").await.is_ok());
    assert_eq!(bench.grants.open_handles().len(), 1);
    drop((first, same, changed));
    assert!(bench.grants.open_handles().is_empty());
}

#[tokio::test]
async fn check_reports_servers_that_do_not_answer() {
    let bench = Bench::new().await;
    let closed = UdpSocket::bind(("127.0.0.1", 0))
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    for (server, errors) in [(bench.server.address, 0), (closed, 1)] {
        let text = json!({ "N": { "dns": {
            "names": ["example.com"], "servers": [server.to_string()],
        } } });
        let grants = stockade_config::parse_grants(&text.to_string(), Path::new("/")).unwrap();
        let granting = Granting {
            instance: "shop",
            binding: "N",
            grant: &grants["N"],
            broker: &bench.broker,
            roots: &[],
            ways: &Default::default(),
            approval: None,
            data: None,
        };
        let found = stockade_grants::check(granting).await;
        assert_eq!(
            found.iter().filter(|finding| finding.is_error).count(),
            errors
        );
    }
}
