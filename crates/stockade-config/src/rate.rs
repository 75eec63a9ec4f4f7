//! What clients may use over time: `rate_limits`.

use std::num::NonZeroU64;

use http::Method;
use stockade_http::PathPattern;
use stockade_limits::{Amount, Period};

use crate::auth::{PATH, method};
use crate::fields::Fields;
use crate::keys::{Format, Kind, METHOD, either, integer, list, text};
use crate::reader::Located;
use crate::section::{Record, section};
use crate::tree::Message;
use crate::units::{size, time};
use crate::url::path_pattern;
use crate::value::header_name;

/// Whose requests are counted together.
const BY: Format = Format {
    what: "address, key, instance, header: and the name of a header, as \"header:x-tenant\", or claim: and the name of a claim, as \"claim:sub\"",
    pattern: Some(
        r"^(address|key|instance|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+|claim:[0-9A-Za-z_.:/-]{1,64})$",
    ),
    expect: None,
};

/// Requests over time.
const REQUESTS: Format = Format {
    what: "a whole number of requests and s, m, h, day or month, as 100/s or 10000/day",
    pattern: Some(r"^[0-9]+ ?/ ?(s|m|h|day|month)$"),
    expect: None,
};

/// Bytes over time.
const BYTES: Format = Format {
    what: "a size with its unit and s, m, h, day or month, as 10mb/s or 5gb/month",
    pattern: Some(
        r"^[0-9]+(\.[0-9]+)? ?([bB]|[kKmMgGtT]([iI]?[bB])?|[bB][yY][tT][eE][sS]) ?/ ?(s|m|h|day|month)$",
    ),
    expect: None,
};

/// CPU time over time.
const CPU: Format = Format {
    what: "a time of at least 1ms, in ms, s, m or h, and s, m, h, day or month, as 500ms/s, 30s/m or 2h/day",
    pattern: Some(r"^[0-9]+ ?(ms|s|m|h) ?/ ?(s|m|h|day|month)$"),
    expect: None,
};

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitBy {
    /// Those of one client address.
    Address,
    /// Those of one API key.
    Key,
    /// All.
    Instance,
    /// Those whose header has one value.
    Header(http::HeaderName),
    /// Those whose token has one value of a claim.
    Claim(String),
}

section! {
    /// A limit of what clients may use over time. A request beyond it gets 429 with `retry-after`. Amounts of a second,
    /// a minute or an hour are rates, of which a burst may be used at once; amounts of a day or a month are quotas of
    /// the calendar in UTC, which a restart does not reset. At the top of the file, the requests of all instances count
    /// together.
    pub struct RateLimit "rate_limit" {
        /// Whose requests are counted together: those of one client address (`address`), of one API key (`key`), with
        /// one value of a header (`header:x-tenant`), with one value of a claim of the token (`claim:sub`), or all
        /// (`instance`). With several, those that are equal in all of them. A request without the key, the header or
        /// the claim counts for its address.
        pub by: Vec<LimitBy> = either(&[Kind::Text(BY), Kind::List(&Kind::Text(BY))])
            .derived("`address`")
            .like(&["key", "[key, \"header:x-tenant\"]"]) => by,
        /// Requests.
        pub requests: Option<Amount> = text(REQUESTS).like(&["100/s", "10000/day"]) => requests,
        /// Requests that may come at once, with `requests` in a second, a minute or an hour.
        pub burst: Option<NonZeroU64> = integer(1, 1_000_000_000).derived("those of one period"),
        /// Bytes of the bodies of requests, and of messages of WebSockets from clients. What exceeds the limit is
        /// received, and later requests wait for it.
        pub bytes_in: Option<Amount> = text(BYTES).like(&["10mb/m"]) => |fields| bytes(fields, "bytes_in"),
        /// Bytes of the bodies of responses, and of messages of WebSockets to clients, in the same way.
        pub bytes_out: Option<Amount> = text(BYTES).like(&["5gb/month"]) => |fields| bytes(fields, "bytes_out"),
        /// CPU time that the instance uses for requests, as the kernel counts it. What exceeds the limit is used, and
        /// later requests wait for it. Where `by` is `instance`, what the instance computes between requests counts too.
        pub cpu: Option<Amount> = text(CPU).like(&["30s/m", "2h/day"]) => cpu,
        /// Limits only requests with these methods.
        pub methods: Vec<Method> = list(&Kind::Text(METHOD)).nonempty().like(&["[POST]"]) => methods,
        /// Limits only requests for these paths.
        pub paths: Vec<PathPattern> = list(&Kind::Text(PATH)).nonempty().like(&["[/login, /api/*]"]) => paths,
    }
}

/// Reads `rate_limits`.
pub(crate) fn rate_limits(fields: &Fields<'_>) -> Vec<RateLimit> {
    let items = fields.list("rate_limits").into_iter();
    let read = items.filter_map(|item| {
        let own = Fields::new(fields.reader(), RateLimit::SECTION, &item)?;
        let limit = RateLimit::read(&own);
        check(&own, &limit);
        Some(limit)
    });
    read.collect()
}

fn check(fields: &Fields<'_>, limit: &RateLimit) {
    if !["requests", "bytes_in", "bytes_out", "cpu"]
        .iter()
        .any(|key| fields.has(key))
    {
        let what = "the limit limits nothing".to_owned();
        let message = Message::allowed(what, "`requests`, `bytes_in`, `bytes_out` or `cpu`");
        fields
            .reader()
            .source
            .error(fields.at, &fields.path, message);
    }
    let is_rate = |amount: Amount| !matches!(amount.period, Period::Day | Period::Month);
    if fields.has("burst") && !limit.requests.is_some_and(is_rate) {
        let what = "a burst is of requests in a second, a minute or an hour";
        let allowed = "`requests` with s, m or h, or no `burst`";
        fields.refuse("burst", Message::allowed(what, allowed));
    }
}

fn by(fields: &Fields<'_>) -> Vec<LimitBy> {
    let Some(found) = fields.find("by") else {
        return vec![LimitBy::Address];
    };
    let reader = fields.reader();
    let one = |item: &Located<'_>| {
        reader.parsed(item, &Kind::Text(BY), |text| {
            Ok(match text.split_once(':') {
                None if text == "key" => LimitBy::Key,
                None if text == "instance" => LimitBy::Instance,
                None => LimitBy::Address,
                Some(("claim", name)) => LimitBy::Claim(name.to_owned()),
                Some((_, name)) => LimitBy::Header(header_name(name)?),
            })
        })
    };
    match found.node.list() {
        None => one(&found).into_iter().collect(),
        Some([]) => {
            fields.refuse(
                "by",
                Message::allowed("an empty list counts nothing", BY.what),
            );
            Vec::new()
        }
        Some(_) => fields.list("by").iter().filter_map(one).collect(),
    }
}

fn amount(
    fields: &Fields<'_>,
    name: &str,
    format: Format,
    units: fn(&str) -> Option<u64>,
) -> Option<Amount> {
    let found = fields.find(name)?;
    fields.reader().parsed(&found, &Kind::Text(format), |text| {
        Amount::parse_with(text, units)
            .ok_or_else(|| Message::allowed("the amount is 0 or too large", format.what))
    })
}

fn requests(fields: &Fields<'_>) -> Option<Amount> {
    amount(fields, "requests", REQUESTS, |text| text.parse().ok())
}

fn bytes(fields: &Fields<'_>, name: &str) -> Option<Amount> {
    amount(fields, name, BYTES, size)
}

/// Microseconds of a time.
fn microseconds(text: &str) -> Option<u64> {
    u64::try_from(time(text)?.as_micros()).ok()
}

fn cpu(fields: &Fields<'_>) -> Option<Amount> {
    amount(fields, "cpu", CPU, microseconds)
}

/// Reads an amount of CPU time as `cpu` of a limit has it, as `30s/m` or `2h/day`, in microseconds. `None`: it is none, or less
/// than a millisecond.
#[must_use]
pub fn cpu_amount(text: &str) -> Option<Amount> {
    let amount = Amount::parse_with(text, microseconds);
    amount.filter(|amount| amount.units.get() >= 1000)
}

fn methods(fields: &Fields<'_>) -> Vec<Method> {
    fields.texts("methods", method)
}

fn paths(fields: &Fields<'_>) -> Vec<PathPattern> {
    fields.texts("paths", path_pattern)
}
