//! Everything here that reads a client's bytes by itself, in one function for the fuzzer.

use stockade_http::{NormalPath, Slashes};

use crate::http::h1_framing::{H1Framing, Passage};
use crate::http::h2_frame_limiter::H2FrameLimiter;
use crate::listener::proxy_protocol;
use crate::route::authority::Authority;

const HEAD_LIMIT: usize = 8192;

/// Gives some bytes to every parser, whole and cut in two.
///
/// # Panics
///
/// If a parser panics, or finds something else in the halves than in the whole.
pub fn parse_everything(bytes: &[u8]) {
    let cut = bytes
        .first()
        .map_or(0, |first| usize::from(*first).min(bytes.len()));
    let (first, second) = bytes.split_at(cut);
    // A head beyond the limit is the library's to refuse, at whatever byte it notices.
    if bytes.len() <= HEAD_LIMIT {
        let whole = inspected(&[bytes]);
        assert_eq!(whole, inspected(&[first, second]), "cut at {cut}");
    }
    let mut frames = H2FrameLimiter::new(10);
    let _ = frames
        .inspect(first, 0)
        .and_then(|()| frames.inspect(second, 0));
    let _ = proxy_protocol::parse(bytes);
    stockade_trace::parse_context(bytes, b"a=1");
    stockade_trace::parse_context(first, second);
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(path) = NormalPath::parse(text, Slashes::Merge) {
            let again = NormalPath::parse(path.as_str(), Slashes::Merge);
            assert_eq!(again.as_ref().map(NormalPath::as_str), Ok(path.as_str()));
        }
        if let Ok(authority) = Authority::parse(text) {
            let again = Authority::parse(&authority.host).map(|again| again.host);
            assert_eq!(again, Ok(authority.host));
        }
    }
}

/// How many bytes pass.
fn inspected(parts: &[&[u8]]) -> usize {
    let mut framing = H1Framing::new(HEAD_LIMIT);
    let mut passed = 0;
    for part in parts {
        match framing.inspect(&mut part.to_vec()) {
            Passage::All => passed += part.len(),
            Passage::Until(length, _) => return passed + length,
        }
    }
    passed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces that mean something to one of the parsers.
    const PIECES: [&[u8]; 32] = [
        b"GET / HTTP/1.1\r\n",
        b"POST /a HTTP/1.1\r\n",
        b"host: a\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b":",
        b"content-length: 5\r\n",
        b"Content-Length: 0\r\n",
        b"transfer-encoding: chunked\r\n",
        b"upgrade: x\r\n",
        b"5\r\n",
        b"hello",
        b"0\r\n",
        b"\r\n\r\n",
        b";",
        b"a",
        b"/",
        b"..",
        b"%2e",
        b"%2F",
        b"%",
        b"\xc3\xa9",
        b"[::1]",
        b"127.0.0.1",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
        b"\0\0\x04\x08\0\0\0\0\0",
        b"\0",
        b"\xff",
        b"ffffffffffffffff",
    ];

    #[test]
    fn no_bytes_make_a_parser_panic_or_depend_on_where_they_were_cut() {
        let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random % below as u64).unwrap()
        };
        for _ in 0..200_000 {
            let mut bytes = vec![u8::try_from(next(120)).unwrap()];
            for _ in 0..next(14) {
                bytes.extend(PIECES[next(PIECES.len())]);
            }
            let skip = next(2);
            parse_everything(&bytes[skip..]);
            let at = next(bytes.len());
            bytes[at] = u8::try_from(next(256)).unwrap();
            parse_everything(&bytes);
        }
    }
}
