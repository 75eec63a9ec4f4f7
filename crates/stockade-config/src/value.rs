//! The types that single values become.

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use ipnet::IpNet;

use crate::diagnostic::shown;
use crate::fields::Fields;
use crate::keys::{HEADER, Kind, NETWORK, TEXT};
use crate::reader::{Located, Reader};
use crate::section::{Parse, Setting};
use crate::tree::{Message, Node, Value};
use crate::units::{size, time};

/// Implements [`Parse`] for types that a text becomes.
macro_rules! from_text {
    ($($Type:ty = $read:expr,)+) => { $(
        impl $crate::section::Parse for $Type {
            fn parse<'a>(
                reader: $crate::reader::Reader<'a>,
                value: &$crate::reader::Located<'a>,
                kind: &$crate::keys::Kind,
            ) -> Option<Self> {
                reader.parsed(value, kind, $read)
            }
        }
    )+ };
}

pub(crate) use from_text;

/// Implements [`Parse`] for types that a scalar becomes: each with how it is read by its kind.
macro_rules! from_scalar {
    ($($Type:ty = $read:expr,)+) => { $(
        impl Parse for $Type {
            fn parse<'a>(reader: Reader<'a>, value: &Located<'a>, kind: &Kind) -> Option<Self> {
                reader.scalar(value, kind, |node| $read(node, kind))
            }
        }
    )+ };
}

from_scalar! {
    bool = flag,
    f64 = decimal,
    Duration = duration,
    u8 = whole,
    u16 = whole,
    u32 = whole,
    u64 = whole,
    usize = whole,
    NonZeroU32 = not_zero,
    NonZeroU64 = whole,
}

from_text! {
    String = |text| Ok(text.to_owned()),
    IpNet = network,
    HeaderName = header_name,
    HeaderValue = header_value,
}

impl Parse for PathBuf {
    fn parse<'a>(reader: Reader<'a>, value: &Located<'a>, kind: &Kind) -> Option<Self> {
        let Kind::Text(format) = kind else {
            debug_assert!(false, "{} is not a path", value.path);
            return None;
        };
        reader.path(value, *format)
    }
}

impl Parse for SocketAddr {
    fn parse<'a>(reader: Reader<'a>, value: &Located<'a>, kind: &Kind) -> Option<Self> {
        let text = value.node.text().unwrap_or_default();
        if let Ok(address) = text.parse() {
            return Some(address);
        }
        let message = Message {
            what: format!("{:?} is not an address", shown(text)),
            allowed: Some(kind.allowed()),
            nearest: nearest_address(text),
        };
        reader.refuse(value, message);
        None
    }
}

/// The address that was probably meant by a text that is none.
fn nearest_address(text: &str) -> Option<String> {
    let port = text.rsplit(':').next().unwrap_or_default();
    if text.starts_with("localhost:") {
        Some(format!("127.0.0.1:{port}"))
    } else if text.starts_with(':') || text.starts_with("*:") {
        Some(format!("0.0.0.0:{port}"))
    } else if text.parse::<u16>().is_ok() {
        Some(format!("127.0.0.1:{text}"))
    } else if text.parse::<std::net::Ipv6Addr>().is_ok() {
        Some(format!("[{text}]:8080"))
    } else if text.parse::<IpAddr>().is_ok() {
        Some(format!("{text}:8080"))
    } else {
        None
    }
}

/// Reads one network; a bare address is a network of one.
pub(crate) fn network(text: &str) -> Result<IpNet, Message> {
    let found: Option<IpNet> = text
        .parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let Some(net) = found else {
        let what = format!("{:?} is not a network", shown(text));
        return Err(Message::allowed(what, NETWORK.what));
    };
    if net.trunc() != net {
        let mut message = Message::allowed(
            format!("{text} has bits beyond its prefix"),
            "a network whose address ends with its prefix, or a single address without one",
        );
        message.nearest = Some(net.trunc().to_string());
        return Err(message);
    }
    Ok(net)
}

/// The name of a header, in lower case.
pub(crate) fn header_name(text: &str) -> Result<HeaderName, Message> {
    text.parse().map_err(|_| {
        let what = format!("{:?} is not the name of a header", shown(text));
        Message::allowed(what, HEADER.what)
    })
}

fn header_value(text: &str) -> Result<HeaderValue, Message> {
    let printable = text.bytes().all(|b| (b' '..=b'~').contains(&b));
    match HeaderValue::from_str(text) {
        Ok(value) if printable => Ok(value),
        _ => {
            let what = "a header's value is printable ASCII";
            Err(Message::allowed(what, TEXT.what))
        }
    }
}

/// Implements [`Setting`] for types whose key has a default or must be there. What stands behind the type takes the
/// place of a value that is wrong and has no default, so that reading goes on.
macro_rules! never_absent {
    ($($Type:ty = $otherwise:expr,)+) => { $(
        impl Setting for $Type {
            fn setting(fields: &Fields<'_>, name: &str) -> Self {
                fields.value(name, <$Type as Parse>::parse).unwrap_or($otherwise)
            }
        }
    )+ };
}

never_absent! {
    bool = false,
    f64 = 0.0,
    Duration = Duration::ZERO,
    u8 = 0,
    u16 = 0,
    u32 = 0,
    u64 = 0,
    usize = 0,
    String = String::new(),
    PathBuf = PathBuf::new(),
    SocketAddr = SocketAddr::from(([127, 0, 0, 1], 0)),
}

fn plain(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar {
            text,
            quoted: false,
        } => Some(text),
        _ => None,
    }
}

fn flag(node: &Node, _: &Kind) -> Option<bool> {
    node.flag()
}

fn not_zero(node: &Node, kind: &Kind) -> Option<NonZeroU32> {
    NonZeroU32::new(whole(node, kind)?)
}

/// A whole number, or bytes, within their range.
fn whole<T: TryFrom<u64>>(node: &Node, kind: &Kind) -> Option<T> {
    whole64(node, kind)?.try_into().ok()
}

fn whole64(node: &Node, kind: &Kind) -> Option<u64> {
    let (number, min, max) = match kind {
        Kind::Either(kinds) => return kinds.iter().find_map(|kind| whole64(node, kind)),
        Kind::Size(min, max) => (size(node.text()?)?, min, max),
        Kind::Integer(min, max) => {
            let text = plain(node)?.replace('_', "");
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            (digits.then(|| text.parse().ok()).flatten()?, min, max)
        }
        _ => return None,
    };
    (*min..=*max).contains(&number).then_some(number)
}

fn decimal(node: &Node, kind: &Kind) -> Option<f64> {
    let Kind::Number(min, max) = kind else {
        return None;
    };
    let text = plain(node)?;
    let decimal = text
        .bytes()
        .all(|b| b.is_ascii_digit() || b == b'.' || b == b'-');
    let number: f64 = decimal.then(|| text.parse().ok()).flatten()?;
    (*min..=*max).contains(&number).then_some(number)
}

fn duration(node: &Node, kind: &Kind) -> Option<Duration> {
    let Kind::Time(min, max) = kind else {
        return None;
    };
    let found = time(node.text()?)?;
    let range = Duration::from_millis(*min)..=Duration::from_millis(*max);
    range.contains(&found).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_of_text_is_strict() {
        assert_eq!(network("10.0.0.0/8").ok(), "10.0.0.0/8".parse().ok());
        assert_eq!(network("192.0.2.7").ok(), "192.0.2.7/32".parse().ok());
        assert_eq!(
            network("10.1.2.3/8")
                .err()
                .and_then(|message| message.nearest)
                .as_deref(),
            Some("10.0.0.0/8")
        );
        assert!(network("10.0.0.0/33").is_err() && network("x").is_err());
    }
}
