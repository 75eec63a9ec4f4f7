//! `dns`: looks names up for guests that may not connect anywhere by themselves.
//!
//! | method | argument | answer |
//! |---|---|---|
//! | `resolve` | `{name, type}` | a list, of what the type of record has |
//!
//! `A`, `AAAA`, `CNAME`, `NS` and `PTR` give texts, `MX` gives `{preference, exchange}`, `SRV` gives
//! `{priority, weight, port, target}`, and `TXT` gives a list of texts for each record, as `Deno.resolveDns` does.
//!
//! Invariants:
//! 1. A name that no entry of `names` lists is never asked for, whatever the type of record.
//! 2. An answer with an address that is not public, and not listed, is refused as a whole: names of other people's
//!    zones reveal nothing about the operator's network, and a guest cannot take such an address for one that it may
//!    reach. Connecting to an address is another grant, which checks it again.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use stockade_broker::{LookupError, Network, RecordData, RecordKind, host_matches, reverse_name};
use stockade_capability::{CallContext, CallNotes, CallPayload, Capability, ErrorName, Reply};
use stockade_config::{CallLimits, DnsGrant, DnsRecord};
use stockade_http::Host;
use stockade_protocol::GuestError;

use crate::{Finding, GrantError, GrantKind, Ground};

pub(crate) const METHODS: &[&str] = &["resolve"];
pub(crate) const EVERY_CALL: bool = false;

/// Bytes of JSON that are read for one call.
const MAX_ARGUMENTS: usize = 1 << 10;

/// How long a check waits for the servers.
const CHECK: Duration = Duration::from_secs(5);

impl GrantKind for DnsGrant {
    fn limits(&self) -> &CallLimits {
        &self.limits
    }

    fn open(&self, ground: &Ground) -> Result<Arc<dyn Capability>, GrantError> {
        Ok(Arc::new(Dns {
            network: network(self, ground),
            grant: Arc::new(self.clone()),
        }))
    }

    fn check<'a>(&'a self, ground: &'a Ground) -> BoxFuture<'a, Vec<Finding>> {
        Box::pin(async move {
            let answers = network(self, ground).resolver_answers(CHECK).await;
            let found = answers.err().map(|_| Finding {
                is_error: true,
                what: format!("no name server answered within {CHECK:?}"),
            });
            found.into_iter().collect()
        })
    }
}

fn network(grant: &DnsGrant, ground: &Ground) -> Network {
    match grant.servers.as_slice() {
        [] => ground.network.clone(),
        servers => ground.network.asking(servers.to_vec()),
    }
}

struct Dns {
    network: Network,
    grant: Arc<DnsGrant>,
}

#[derive(Deserialize)]
struct Resolve {
    name: String,
    #[serde(rename = "type")]
    record: String,
}

/// One record, as the guest gets it.
#[derive(Serialize)]
#[serde(untagged)]
enum Record<'a> {
    Text(Cow<'a, str>),
    Mx {
        preference: u16,
        exchange: Cow<'a, str>,
    },
    Srv {
        priority: u16,
        weight: u16,
        port: u16,
        target: Cow<'a, str>,
    },
    Texts(Vec<Cow<'a, str>>),
}

impl Capability for Dns {
    fn call(
        &self,
        context: CallContext,
        _method: &str,
        arguments: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>> {
        let (network, grant) = (self.network.clone(), Arc::clone(&self.grant));
        Box::pin(async move { resolve(&network, &grant, &context.notes, arguments).await })
    }
}

async fn resolve(
    network: &Network,
    grant: &DnsGrant,
    notes: &CallNotes,
    arguments: CallPayload,
) -> Result<CallPayload, GuestError> {
    let (asked, attachments) = arguments.read::<Resolve>(MAX_ARGUMENTS)?;
    let (written, record) = (
        attachments.text(&asked.name)?,
        attachments.text(&asked.record)?,
    );
    let record = record_of(record)?;
    let name = name_of(written, record)?;
    notes.add("name", name.as_str());
    notes.add("type", record.word());

    // What the grant lists.
    if !grant.records.contains(&record) {
        notes.refused("record");
        let listed: Vec<_> = grant.records.iter().map(|record| record.word()).collect();
        return Err(ErrorName::Type.error(format!(
            "the grant does not list records of the type {}: it lists {}",
            record.word(),
            listed.join(", ")
        )));
    }
    let host = Host::Name(name);
    if !grant
        .names
        .iter()
        .any(|pattern| host_matches(pattern, &host))
    {
        notes.refused("name");
        return Err(ErrorName::Type.error(format!("the grant does not list the name {host}")));
    }

    // The answer.
    let asked = host.to_string();
    let found = network.lookup(&asked, kind(record), &grant.allow_private);
    let found = found.await.map_err(|error| {
        let name = match error {
            LookupError::NotFound => ErrorName::Own("NotFound"),
            LookupError::Failed => ErrorName::Own("OperationError"),
            LookupError::Private(_) => {
                notes.refused("address");
                ErrorName::Type
            }
            LookupError::TooMany => ErrorName::Range,
            LookupError::Name => ErrorName::Type,
        };
        name.error(format!("{} of {host}: {error}", record.word()))
    })?;
    notes.add("records", found.len() as u64);
    let texts: Vec<_> = found.into_iter().map(Texts::of).collect();
    let mut reply = Reply::default();
    let records: Vec<_> = texts.iter().map(|texts| texts.record(&mut reply)).collect();
    reply.finish(&records)
}

fn record_of(text: &str) -> Result<DnsRecord, GuestError> {
    let all = [
        DnsRecord::A,
        DnsRecord::Aaaa,
        DnsRecord::Cname,
        DnsRecord::Mx,
        DnsRecord::Ns,
        DnsRecord::Ptr,
        DnsRecord::Srv,
        DnsRecord::Txt,
    ];
    let found = all.into_iter().find(|record| record.word() == text);
    found.ok_or_else(|| {
        let words: Vec<_> = all.iter().map(|record| record.word()).collect();
        ErrorName::Type.error(format!(
            "the type of a record is one of {}",
            words.join(", ")
        ))
    })
}

/// The name to ask for. For `PTR` an address stands for its name in `in-addr.arpa` or `ip6.arpa`.
fn name_of(text: &str, record: DnsRecord) -> Result<String, GuestError> {
    if let (DnsRecord::Ptr, Ok(address)) = (record, text.parse()) {
        return Ok(reverse_name(address));
    }
    match Host::parse(text) {
        Ok(Host::Name(name)) => Ok(name),
        Ok(Host::Address(_)) => {
            Err(ErrorName::Type.error("an address is not a name: only PTR takes one"))
        }
        Err(error) => Err(ErrorName::Type.error(format!("it is not a DNS name: {error}"))),
    }
}

fn kind(record: DnsRecord) -> RecordKind {
    match record {
        DnsRecord::A => RecordKind::A,
        DnsRecord::Aaaa => RecordKind::Aaaa,
        DnsRecord::Cname => RecordKind::Cname,
        DnsRecord::Mx => RecordKind::Mx,
        DnsRecord::Ns => RecordKind::Ns,
        DnsRecord::Ptr => RecordKind::Ptr,
        DnsRecord::Srv => RecordKind::Srv,
        DnsRecord::Txt => RecordKind::Txt,
    }
}

/// A record with the texts that a server chose, before they are made fit for a value.
struct Texts {
    data: RecordData,
    texts: Vec<String>,
}

impl Texts {
    fn of(data: RecordData) -> Self {
        let texts = match &data {
            RecordData::Address(address) => vec![address.to_string()],
            RecordData::Name(name) => vec![name.clone()],
            RecordData::Mx { exchange, .. } => vec![exchange.clone()],
            RecordData::Srv { target, .. } => vec![target.clone()],
            RecordData::Txt(parts) => parts
                .iter()
                .map(|part| String::from_utf8_lossy(part).into_owned())
                .collect(),
        };
        Self { data, texts }
    }

    fn record(&self, reply: &mut Reply) -> Record<'_> {
        let mut texts = self.texts.iter().map(|text| reply.text(text));
        match &self.data {
            RecordData::Txt(_) => Record::Texts(texts.collect()),
            data => {
                let text = texts.next().unwrap_or_default();
                match *data {
                    RecordData::Mx { preference, .. } => Record::Mx {
                        preference,
                        exchange: text,
                    },
                    RecordData::Srv {
                        priority,
                        weight,
                        port,
                        ..
                    } => Record::Srv {
                        priority,
                        weight,
                        port,
                        target: text,
                    },
                    _ => Record::Text(text),
                }
            }
        }
    }
}
