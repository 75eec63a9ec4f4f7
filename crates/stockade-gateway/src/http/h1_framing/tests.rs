use super::*;

/// What becomes of `text`, whole and cut at every place.
fn check(text: &str, fine: bool) {
    for cut in 0..text.len() {
        let mut framing = H1Framing::new(8192);
        let (first, second) = text.as_bytes().split_at(cut);
        let (mut first, mut second) = (first.to_vec(), second.to_vec());
        let found = match framing.inspect(&mut first) {
            Passage::All => framing.inspect(&mut second),
            until => until,
        };
        assert_eq!(
            found == Passage::All,
            fine,
            "{text:?} cut at {cut}: {found:?}"
        );
        if !fine {
            assert!(
                first.contains(&0) || second.contains(&0),
                "{text:?} cut at {cut}"
            );
        }
    }
}

fn head(lines: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: a\r\n{lines}\r\n\r\n")
}

#[test]
fn requests_with_one_reading_pass() {
    let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    check(get, true);
    check(&get.repeat(3), true);
    check(&format!("{get}\r\n{get}"), true);
    check(&format!("{}hello{get}", head("content-length: 5")), true);
    check(&format!("{}hello{get}", head("Content-Length:\t5 ")), true);
    check(&format!("{}{get}", head("content-length: 0")), true);
    check(
        &format!(
            "{}5\r\nhello\r\n0\r\n\r\n{get}",
            head("transfer-encoding: chunked")
        ),
        true,
    );
    check(
        &format!(
            "{}A;x=\"y\"\r\n0123456789\r\n0\r\na: b\r\nc: d\r\n\r\n{get}",
            head("Transfer-Encoding: CHUNKED")
        ),
        true,
    );
    check("GET / HTTP/1.0\r\n\r\n", true);
}

#[test]
fn lengths_with_two_meanings_are_rejected() {
    for lines in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
        "content-length: 5\r\ncontent-length: 5",
        "content-length: 5\r\ncontent-length: 6",
        "content-length: 0\r\ncontent-length: 0",
        "content-length: 5, 5",
        "content-length: +5",
        "content-length: -1",
        "content-length: 5 5",
        "content-length: 0x5",
        "content-length: 5;",
        "content-length:",
        "content-length: 99999999999999999999",
        "transfer-encoding: xchunked",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: identity, chunked",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: \"chunked\"",
        "transfer-encoding: chunked;",
        "transfer-encoding: \u{b}chunked",
        "transfer-encoding:",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity",
        "no colon",
    ] {
        check(&head(lines), false);
    }
    check(
        "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n",
        false,
    );
    check("GET /#a HTTP/1.1\r\nhost: a\r\n\r\n", false);
}

#[test]
fn lines_with_other_ends_are_rejected() {
    check("GET / HTTP/1.1\nhost: a\n\n", false);
    check("GET / HTTP/1.1\r\nhost: a\n\r\n", false);
    check("GET / HTTP/1.1\r\nhost: a\r\n\n", false);
    check("GET / HTTP/1.1\nhost: a\r\n\r\n", false);
    check("GET / HTTP/1.1\r\nhost: a\rb: c\r\n\r\n", false);
    check("GET / HTTP/1.1\r\r\nhost: a\r\n\r\n", false);
    check("GET / HTTP/1.1\r\nhost: a\r\r\n\r\n", false);
    check("\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", false);
    check("\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", false);
}

#[test]
fn chunks_with_two_meanings_are_rejected() {
    let head = head("transfer-encoding: chunked");
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "-1\r\n",
        "\r\n",
        "g\r\n",
        "fffffffffffffffff\r\n",
        "1000000000000000\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\0\r\nhello\r\n0\r\n\r\n",
        "0\r\n\n",
        "0\r\na: b\n\r\n",
        "0\r\n a: b\r\n\r\n",
        "0\r\n: b\r\n\r\n",
    ] {
        check(&format!("{head}{body}"), false);
    }
    check(
        &format!("{head}5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(1025)),
        false,
    );
    let large = "a".repeat(8193);
    check_whole(&format!("{head}0\r\nx: {large}\r\n\r\n"), false);
}

fn check_whole(text: &str, fine: bool) {
    let found = H1Framing::new(8192).inspect(&mut text.as_bytes().to_vec());
    assert_eq!(found == Passage::All, fine, "{found:?}");
}

#[test]
fn upgrade_holds_back_what_follows_until_decided() {
    let upgrade = "GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
    check(&format!("{upgrade}x"), false);
    for upgraded in [true, false] {
        let mut framing = H1Framing::new(8192);
        assert_eq!(
            framing.inspect(&mut upgrade.as_bytes().to_vec()),
            Passage::All
        );
        assert!(framing.undecided());
        framing.decide(upgraded);
        let found = framing.inspect(&mut b"\x81\x85\n\n".to_vec());
        assert_eq!(found == Passage::All, upgraded);
    }
}

#[test]
fn head_that_never_ends_is_not_kept_beyond_the_limit() {
    let mut framing = H1Framing::new(8192);
    let mut passed = 0;
    for _ in 0..100 {
        match framing.inspect(&mut [b'a'; 1000]) {
            Passage::All => passed += 1,
            Passage::Until(..) => break,
        }
    }
    assert_eq!(passed, 9);
    assert!(framing.head.len() < 10_000);
}
