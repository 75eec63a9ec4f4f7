//! OCSP responses to staple (RFC 6960). They come from a file that something else keeps fresh; here
//! they are only kept from being used when they are no longer, or say something bad.

use std::path::Path;
use std::time::{Duration, SystemTime};

use x509_parser::asn1_rs::{Any, Class, Enumerated, FromDer, GeneralizedTime, Oid, Tag};

use super::pem;
use super::problem::{TlsProblem, Wrong};

const LIMIT: u64 = 64 * 1024;

/// A response that says "good", and until when.
#[derive(Debug)]
pub(crate) struct Staple {
    pub(crate) der: Vec<u8>,
    pub(crate) next_update: Option<SystemTime>,
}

impl Staple {
    pub(crate) fn load(file: &Path, now: SystemTime) -> Result<Self, TlsProblem> {
        let der = pem::read(file, LIMIT, "OCSP response")?;
        let wrong = |why: &str| TlsProblem::of(file, Wrong::Ocsp(why.to_owned()));
        let next_update = good_until(&der).map_err(wrong)?;
        if next_update.is_some_and(|end| end < now) {
            return Err(wrong("its nextUpdate has passed\n  fix: fetch a new one"));
        }
        Ok(Self { der, next_update })
    }

    pub(crate) fn is_usable(&self, now: SystemTime) -> bool {
        self.next_update.is_none_or(|end| now <= end)
    }
}

/// The contents of a constructed value, where its tag is as expected.
fn inside(input: &[u8], class: Class, tag: u32) -> Result<(&[u8], &[u8]), &'static str> {
    let (rest, any) = Any::from_der(input).map_err(|_| "it is not DER")?;
    if any.header.class() != class || any.header.tag().0 != tag {
        return Err("it is not an OCSP response as in RFC 6960");
    }
    Ok((rest, any.data))
}

fn skip(input: &[u8]) -> Result<&[u8], &'static str> {
    Ok(Any::from_der(input).map_err(|_| "it is not DER")?.0)
}

/// Checks the form and the status (RFC 6960, section 4.2.1); returns the `nextUpdate`.
pub(super) fn good_until(der: &[u8]) -> Result<Option<SystemTime>, &'static str> {
    const BROKEN: &str = "it is not an OCSP response as in RFC 6960";
    let sequence = Tag::Sequence.0;
    let (_, response) = inside(der, Class::Universal, sequence)?;
    let (rest, status) = Enumerated::from_der(response).map_err(|_| BROKEN)?;
    if status.0 != 0 {
        return Err("it says that the responder failed (responseStatus is not successful)");
    }
    let (_, bytes) = inside(rest, Class::ContextSpecific, 0)?;
    let (_, bytes) = inside(bytes, Class::Universal, sequence)?;
    let (rest, kind) = Oid::from_der(bytes).map_err(|_| BROKEN)?;
    if kind.to_id_string() != "1.3.6.1.5.5.7.48.1.1" {
        return Err("it is not a basic OCSP response");
    }
    let (_, basic) = inside(rest, Class::Universal, Tag::OctetString.0)?;
    let (_, basic) = inside(basic, Class::Universal, sequence)?;
    let (_, mut data) = inside(basic, Class::Universal, sequence)?;
    // version is explicit and may be absent, then responderID and producedAt.
    if inside(data, Class::ContextSpecific, 0).is_ok() {
        data = skip(data)?;
    }
    data = skip(skip(data)?)?;
    let (_, responses) = inside(data, Class::Universal, sequence)?;
    let (_, single) = inside(responses, Class::Universal, sequence)?;
    let rest = skip(single)?;
    let (rest, status) = Any::from_der(rest).map_err(|_| BROKEN)?;
    match status.header.tag().0 {
        0 => {}
        1 => return Err("it says that the certificate is revoked\n  fix: replace the certificate"),
        _ => return Err("it says that the authority does not know the certificate"),
    }
    let rest = skip(rest)?;
    let Ok((_, next)) = inside(rest, Class::ContextSpecific, 0) else {
        return Ok(None);
    };
    let (_, next) = GeneralizedTime::from_der(next).map_err(|_| BROKEN)?;
    let at = next.utc_datetime().map_err(|_| BROKEN)?.unix_timestamp();
    let after = u64::try_from(at).map_err(|_| BROKEN)?;
    Ok(Some(SystemTime::UNIX_EPOCH + Duration::from_secs(after)))
}
