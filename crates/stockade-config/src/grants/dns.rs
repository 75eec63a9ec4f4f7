//! `dns`: looks names up.

use std::net::SocketAddr;

use ipnet::IpNet;
use stockade_http::HostPattern;

use super::GrantSection;
use super::limits::{self, CallLimits, call_limits};
use crate::fields::Fields;
use crate::keys::{ADDRESS, HOST, Kind, NETWORK, list};
use crate::section::{Words, section, words};

call_limits! {
    "dns_limits",
    rate: "100",
    concurrent: "32",
    queue: "256",
    timeout: "10s",
    max_request: "1kb",
    max_result: "64kb",
    handles: None,
}

section! {
    /// Looks names up in the DNS, as `env.NAME.resolve(name, type)`. A name that `names` does
    /// not list is refused. The servers of a name see each question for it: a rule for
    /// all names below one is a way to send data there.
    pub struct DnsGrant "dns" {
        /// The names that may be looked up: a name, or `*.` and a name for all names
        /// below it. `"*"` is every name.
        pub names: Vec<HostPattern> = list(&Kind::Text(HOST))
            .required()
            .nonempty()
            .like(&["[example.com, \"*.example.org\"]"]) => names,
        /// The types of records.
        pub records: Vec<DnsRecord> = list(&DnsRecord::KIND)
            .derived("`[A, AAAA]`")
            .nonempty()
            .like(&["[A, AAAA, MX]"]) => records,
        /// The servers that are asked. Each is an address with a port.
        pub servers: Vec<SocketAddr> = list(&Kind::Text(ADDRESS))
            .derived("those of the machine")
            .nonempty()
            .like(&["[\"192.0.2.53:53\"]"]),
        /// Non-public networks whose addresses an answer may hold. Without them, an answer
        /// with such an address is refused: it would show what is inside the operator's
        /// network.
        pub allow_private: Vec<IpNet> = list(&Kind::Text(NETWORK)).like(&["[\"10.0.0.0/8\"]"]),
        /// Bounds of the calls.
        pub limits: CallLimits = LIMITS_KEY => limits::read,
    }
}

impl GrantSection for DnsGrant {}

words! {
    /// A type of DNS records.
    pub enum DnsRecord {
        /// IPv4 addresses.
        A = "A",
        /// IPv6 addresses.
        Aaaa = "AAAA",
        /// The name that another name stands for.
        Cname = "CNAME",
        /// Mail servers.
        Mx = "MX",
        /// Name servers.
        Ns = "NS",
        /// The name of an address.
        Ptr = "PTR",
        /// Where a service is.
        Srv = "SRV",
        /// Texts.
        Txt = "TXT",
    }
}

fn names(grant: &Fields<'_>) -> Vec<HostPattern> {
    if !grant.has("names") {
        grant.missing("names");
    }
    let names: Vec<HostPattern> = grant.get("names");
    if names.contains(&HostPattern::Any) {
        let what = "guests may look up every name, and so send data to any name server";
        grant.warn("names", what.to_owned());
    }
    names
}

fn records(grant: &Fields<'_>) -> Vec<DnsRecord> {
    if grant.has("records") {
        grant.get("records")
    } else {
        vec![DnsRecord::A, DnsRecord::Aaaa]
    }
}
