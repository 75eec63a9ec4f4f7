//! Everything of TLS here that reads bytes that others made, in one function for the fuzzer. Handshakes
//! are rustls' to read.

use std::path::Path;

use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::names::{lookup_form, pattern_form};
use super::subject::{client_certificate, rfc4514};
use super::{leaf, ocsp, pem};

/// Gives some bytes to every parser.
///
/// # Panics
/// If a parser panics, or lets something through that must not be in a header or a log line.
pub fn parse_everything(bytes: &[u8]) {
    if let Some((facts, _)) = client_certificate(bytes) {
        let texts = [
            &facts.subject,
            &facts.issuer,
            &facts.serial,
            &facts.not_after,
        ];
        for text in texts.into_iter().chain(&facts.san) {
            assert!(!text.contains(char::is_control), "{text:?}");
        }
    }
    let _ = ocsp::good_until(bytes);
    if let Ok((_, list)) = CertificateRevocationList::from_der(bytes) {
        let _ = rfc4514(list.issuer());
    }
    let file = Path::new("x");
    if let Ok(blocks) = pem::blocks(file, bytes) {
        let _ = pem::found(bytes, &blocks);
    }
    let _ = leaf::certificates(file, bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let found = lookup_form(text);
        // A pattern that can be configured finds itself.
        if let Some(pattern) = pattern_form(text) {
            assert_eq!(pattern, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    /// Changes a few bytes of real certificates.
    #[test]
    fn no_bytes_make_a_parser_panic() {
        let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
        params
            .subject_alt_names
            .push(SanType::URI("spiffe://td/x".try_into().unwrap()));
        params
            .subject_alt_names
            .push(SanType::IpAddress("::1".parse().unwrap()));
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let (der, pem) = (certificate.der().to_vec(), certificate.pem().into_bytes());
        let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random % below as u64).unwrap()
        };
        for round in 0..40_000 {
            let mut bytes = if round % 4 == 0 {
                pem.clone()
            } else {
                der.clone()
            };
            for _ in 0..=next(4) {
                let at = next(bytes.len());
                bytes[at] = match next(3) {
                    0 => u8::try_from(next(256)).unwrap(),
                    1 => bytes[at].wrapping_add(1),
                    _ => [0, 10, 13, 0x7f, 0x80, 0xff][next(6)],
                };
            }
            bytes.truncate(bytes.len() - next(3));
            parse_everything(&bytes);
        }
    }
}
