//! What a certificate says about whose it is, as text that cannot be misread.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};
use stockade_http::ClientCertificate;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Most alternative names that are reported of a client's certificate.
const NAMES_LIMIT: usize = 100;

/// Short names of attribute types: those of RFC 4514, section 3, and others that IANA registers for
/// LDAP, which that section allows.
const SHORT_NAMES: [(&str, &str); 16] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.42", "givenName"),
    ("2.5.4.43", "initials"),
    ("2.5.4.46", "dnQualifier"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// The string form of RFC 4514, section 2: the last relative name first, special characters escaped,
/// and values that are not text as hexadecimal. Control characters are escaped as well, so that the
/// text fits in a header and a log line.
pub(crate) fn rfc4514(name: &X509Name<'_>) -> String {
    let mut out = String::new();
    let relative: Vec<_> = name.iter_rdn().collect();
    for (i, rdn) in relative.iter().rev().enumerate() {
        if i > 0 {
            out.push(',');
        }
        for (j, attribute) in rdn.iter().enumerate() {
            if j > 0 {
                out.push('+');
            }
            push_attribute(&mut out, attribute);
        }
    }
    out
}

fn push_attribute(out: &mut String, attribute: &AttributeTypeAndValue<'_>) {
    let oid = attribute.attr_type().to_id_string();
    let short = SHORT_NAMES.iter().find(|(known, _)| *known == oid);
    match (short, attribute.as_str()) {
        (Some((_, short)), Ok(value)) => {
            out.push_str(short);
            out.push('=');
            push_escaped(out, value);
        }
        _ => {
            out.push_str(&oid);
            out.push_str("=#");
            let any = attribute.attr_value();
            // Values in a name are short, but their length decides the form of the DER header.
            let mut der = vec![u8::try_from(any.tag().0).unwrap_or(0)];
            let length = any.data.len();
            if length < 0x80 {
                der.push(length as u8);
            } else {
                let bytes = length.to_be_bytes();
                let significant = &bytes[bytes.iter().take_while(|b| **b == 0).count()..];
                der.push(0x80 | significant.len() as u8);
                der.extend_from_slice(significant);
            }
            der.extend_from_slice(any.data);
            out.push_str(&hex(&der));
        }
    }
}

fn push_escaped(out: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (i, c) in value.chars().enumerate() {
        match c {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=' => {
                out.push('\\');
                out.push(c);
            }
            '#' if i == 0 => out.push_str("\\#"),
            ' ' if i == 0 || i == last => out.push_str("\\ "),
            c if c.is_control() => {
                let mut buffer = [0; 4];
                for byte in c.encode_utf8(&mut buffer).bytes() {
                    let _ = write!(out, "\\{byte:02x}");
                }
            }
            c => out.push(c),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// SHA-256 of the DER form, as every tool shows it.
pub(crate) fn fingerprint(der: &[u8]) -> String {
    hex(&Sha256::digest(der))
}

/// Without a zero that only says that the number is positive.
fn serial(raw: &[u8]) -> String {
    let raw = match raw {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    hex(raw)
}

/// Such as `2026-11-21T10:00:00Z` (RFC 3339).
pub(crate) fn rfc3339(time: &ASN1Time) -> String {
    let at = time.to_datetime();
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

pub(crate) fn system_time(time: &ASN1Time) -> SystemTime {
    match u64::try_from(time.timestamp()) {
        Ok(after) => UNIX_EPOCH + Duration::from_secs(after),
        Err(_) => UNIX_EPOCH,
    }
}

/// The alternative names, each with its kind as OpenSSL writes it. Kinds that hold no text are left out.
pub(crate) fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = extension.value.general_names.iter();
    names
        .filter_map(alternative_name)
        .take(NAMES_LIMIT)
        .collect()
}

fn alternative_name(name: &GeneralName<'_>) -> Option<String> {
    let (kind, text) = match name {
        GeneralName::DNSName(text) => ("DNS", (*text).to_owned()),
        GeneralName::RFC822Name(text) => ("email", (*text).to_owned()),
        GeneralName::URI(text) => ("URI", (*text).to_owned()),
        GeneralName::IPAddress(bytes) => ("IP", address(bytes)?),
        GeneralName::DirectoryName(name) => ("dirName", rfc4514(name)),
        _ => return None,
    };
    // These kinds are ASCII (RFC 5280, section 4.2.1.6). What is not could pass for something else.
    let clean = text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') || kind == "dirName";
    clean.then(|| format!("{kind}:{text}"))
}

pub(crate) fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).to_string());
    }
    let v6 = <[u8; 16]>::try_from(bytes).ok()?;
    Some(Ipv6Addr::from(v6).to_string())
}

/// Describes a client's certificate. `None` where it cannot be decoded, although it was verified.
pub(crate) fn client_certificate(der: &[u8]) -> Option<(ClientCertificate, SystemTime)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let validity = certificate.validity();
    let facts = ClientCertificate {
        subject: rfc4514(certificate.subject()),
        issuer: rfc4514(certificate.issuer()),
        serial: serial(certificate.raw_serial()),
        fingerprint_sha256: fingerprint(der),
        san: alternative_names(&certificate),
        not_before: rfc3339(&validity.not_before),
        not_after: rfc3339(&validity.not_after),
    };
    Some((facts, system_time(&validity.not_after)))
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, SanType, SerialNumber,
    };

    use super::*;

    fn facts(change: impl FnOnce(&mut CertificateParams)) -> ClientCertificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        change(&mut params);
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        client_certificate(der.der()).unwrap().0
    }

    #[test]
    fn subject_is_reversed_and_escaped() {
        let facts = facts(|params| {
            let name = &mut params.distinguished_name;
            name.push(DnType::CountryName, "DE");
            name.push(DnType::OrganizationName, " A, \"B\" & C+D ");
            name.push(DnType::CommonName, "#x\0=\n");
            name.push(
                DnType::CustomDnType(vec![1, 2, 3]),
                DnValue::Utf8String("v".into()),
            );
        });
        assert_eq!(
            facts.subject,
            "1.2.3=#0c0176,CN=\\#x\\00\\=\\0a,O=\\ A\\, \\\"B\\\" & C\\+D\\ ,C=DE"
        );
        assert_eq!(facts.issuer, facts.subject);
    }

    #[test]
    fn facts_hold_serial_dates_and_names() {
        let facts = facts(|params| {
            params.serial_number = Some(SerialNumber::from(vec![0x93, 0x6e]));
            params.not_before = rcgen::date_time_ymd(2026, 2, 3);
            params.not_after = rcgen::date_time_ymd(2036, 12, 31);
            params.subject_alt_names = vec![
                SanType::DnsName("a.example".try_into().unwrap()),
                SanType::IpAddress("::1".parse().unwrap()),
                SanType::URI("spiffe://td/ns/x".try_into().unwrap()),
                SanType::Rfc822Name("a@b.example".try_into().unwrap()),
            ];
        });
        assert_eq!(facts.serial, "936e");
        assert_eq!(facts.not_before, "2026-02-03T00:00:00Z");
        assert_eq!(facts.not_after, "2036-12-31T00:00:00Z");
        assert_eq!(
            facts.san,
            [
                "DNS:a.example",
                "IP:::1",
                "URI:spiffe://td/ns/x",
                "email:a@b.example"
            ]
        );
        assert_eq!(facts.fingerprint_sha256.len(), 64);
    }
}
