//! The first messages of a guest: encryption, cancellation, or the parameters of a session.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::error_response::ErrorResponse;
use crate::pool::within;
use crate::server::Socket;

/// PostgreSQL's `MAX_STARTUP_PACKET_LENGTH`.
const MAX_STARTUP: u32 = 10_000;
/// Requests for encryption before the startup: TLS and GSSAPI, each once.
const MAX_REQUESTS: usize = 2;
/// Most settings that a startup may have.
const MAX_SETTINGS: usize = 32;
/// Longest time from the opening of the stream to the end of the startup.
const PATIENCE: Duration = Duration::from_secs(10);

const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

/// What a guest wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Startup {
    /// To cancel a session's statement, by the key of that session.
    Cancel([u8; 8]),
    /// A session with these settings. Whether it asked for a newer protocol than 3.0, or for extensions of it.
    Session {
        settings: Vec<(String, String)>,
        negotiate: Option<Vec<String>>,
    },
}

/// Reads until the guest has said what it wants. `None` if it goes away, or says nothing for too long.
///
/// # Errors
/// What cannot be read or is not possible here.
pub(crate) async fn startup(guest: &mut impl Socket) -> Result<Option<Startup>, ErrorResponse> {
    within(PATIENCE, read(guest)).await.unwrap_or(Ok(None))
}

async fn read(guest: &mut impl Socket) -> Result<Option<Startup>, ErrorResponse> {
    for _ in 0..=MAX_REQUESTS {
        let Ok(length) = guest.read_u32().await else {
            return Ok(None);
        };
        if !(8..=MAX_STARTUP).contains(&length) {
            return Err(invalid("the length of the startup packet is not possible"));
        }
        let mut body = vec![0; length as usize - 4];
        if guest.read_exact(&mut body).await.is_err() {
            return Ok(None);
        }
        match parse(&body)? {
            Some(startup) => return Ok(Some(startup)),
            None if guest.write_all(b"N").await.is_err() => return Ok(None),
            None => {}
        }
    }
    Err(invalid("too many requests for encryption: a door has none"))
}

/// Reads one packet after its length. `None` for a request for encryption.
pub(super) fn parse(body: &[u8]) -> Result<Option<Startup>, ErrorResponse> {
    let Some((code, rest)) = body.split_first_chunk() else {
        return Err(invalid("the startup packet is too short"));
    };
    match u32::from_be_bytes(*code) {
        SSL | GSS => Ok(None),
        CANCEL => {
            let key = rest.try_into();
            let key = key.map_err(|_| invalid("the key of a cancellation has 8 bytes"))?;
            Ok(Some(Startup::Cancel(key)))
        }
        version if version >> 16 == 3 => settings(rest, version & 0xffff != 0).map(Some),
        _ => Err(ErrorResponse::fatal(
            "0A000",
            "the door speaks version 3.0 of the protocol",
        )),
    }
}

/// Reads names and values. The user and the database are those of the grant, whatever the guest says.
fn settings(mut rest: &[u8], is_newer: bool) -> Result<Startup, ErrorResponse> {
    let (mut settings, mut extensions) = (Vec::new(), Vec::new());
    loop {
        let (name, after) = text(rest)?;
        if name.is_empty() {
            break;
        }
        let (value, after) = text(after)?;
        rest = after;
        match name {
            "user" | "database" => {}
            "replication" if ["false", "off", "no", "0"].contains(&value) => {}
            "replication" => return Err(invalid_for("0A000", "a door has no replication")),
            "options" => options(value, &mut settings)?,
            _ if name.starts_with("_pq_.") => extensions.push(name.to_owned()),
            _ => settings.push((name.to_owned(), value.to_owned())),
        }
        if settings.len() + extensions.len() > MAX_SETTINGS {
            return Err(invalid("too many settings in the startup packet"));
        }
    }
    let negotiate = (is_newer || !extensions.is_empty()).then_some(extensions);
    Ok(Startup::Session {
        settings,
        negotiate,
    })
}

/// Reads the settings of `options`, which are arguments of the server's program: `-c name=value` and `--name=value`,
/// with a backslash before spaces of a value.
fn options(options: &str, settings: &mut Vec<(String, String)>) -> Result<(), ErrorResponse> {
    let mut words = vec![String::new()];
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match (character, words.last_mut()) {
            ('\\', Some(word)) => word.extend(characters.next()),
            (' ' | '\t' | '\n', _) => words.push(String::new()),
            (_, Some(word)) => word.push(character),
            (_, None) => {}
        }
    }
    let mut words = words.iter().filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("-c") {
            Some("") => words.next().map(String::as_str),
            Some(setting) => Some(setting),
            None => word.strip_prefix("--"),
        };
        let Some((name, value)) = setting.and_then(|setting| setting.split_once('=')) else {
            let why = "options may hold -c name=value and --name=value, and nothing else";
            return Err(invalid(why));
        };
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Result<(&str, &[u8]), ErrorResponse> {
    let end = bytes.iter().position(|byte| *byte == 0);
    let end = end.ok_or_else(|| invalid("the startup packet does not end"))?;
    let text = str::from_utf8(&bytes[..end]);
    let text = text.map_err(|_| invalid("the startup packet is not UTF-8"))?;
    Ok((text, &bytes[end + 1..]))
}

fn invalid(message: &str) -> ErrorResponse {
    invalid_for("08P01", message)
}

fn invalid_for(code: &'static str, message: &str) -> ErrorResponse {
    ErrorResponse::fatal(code, message)
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    fn packet(code: u32, rest: &[u8]) -> Vec<u8> {
        let length = u32::try_from(rest.len() + 8).unwrap();
        [&length.to_be_bytes()[..], &code.to_be_bytes(), rest].concat()
    }

    /// What the door makes of `bytes`, and what it answers.
    async fn check(bytes: &[u8]) -> (Result<Option<Startup>, &'static str>, Vec<u8>) {
        let (mut guest, mut door) = duplex(1 << 20);
        guest.write_all(bytes).await.unwrap();
        guest.shutdown().await.unwrap();
        let started = startup(&mut door).await.map_err(|error| error.code);
        drop(door);
        let mut answer = Vec::new();
        guest.read_to_end(&mut answer).await.unwrap();
        (started, answer)
    }

    fn session(settings: &[(&str, &str)], negotiate: Option<&[&str]>) -> Startup {
        let owned = |text: &&str| (*text).to_owned();
        Startup::Session {
            settings: settings.iter().map(|(a, b)| (owned(a), owned(b))).collect(),
            negotiate: negotiate.map(|names| names.iter().map(owned).collect()),
        }
    }

    #[tokio::test]
    async fn startup_refuses_encryption_and_reads_the_settings() {
        let settings =
            b"user\0guest\0database\0any\0client_encoding\0UTF8\0options\0-c a-b=1 --c=x\\ y\0\0";
        let bytes = [
            packet(SSL, b""),
            packet(GSS, b""),
            packet(3 << 16, settings),
        ]
        .concat();
        let (started, answer) = check(&bytes).await;
        let expected = [("client_encoding", "UTF8"), ("a_b", "1"), ("c", "x y")];
        assert_eq!(started, Ok(Some(session(&expected, None))));
        assert_eq!(answer, b"NN");
    }

    #[tokio::test]
    async fn startup_of_a_newer_protocol_is_negotiated() {
        let bytes = packet((3 << 16) | 2, b"_pq_.new\x001\0a\0b\0\0");
        let (started, _) = check(&bytes).await;
        assert_eq!(
            started,
            Ok(Some(session(&[("a", "b")], Some(&["_pq_.new"]))))
        );
    }

    #[tokio::test]
    async fn startup_reads_a_cancellation() {
        let (started, _) = check(&packet(CANCEL, b"12345678")).await;
        assert_eq!(started, Ok(Some(Startup::Cancel(*b"12345678"))));
    }

    #[tokio::test]
    async fn startup_that_is_forged_is_refused() {
        let forged = [
            vec![0, 0, 0, 0],
            vec![0xff, 0xff, 0xff, 0xff],
            vec![0, 0, 0, 7, 0, 0, 0],
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            packet(2 << 16, b"\0"),
            packet(3 << 16, b""),
            packet(3 << 16, b"user\0guest"),
            packet(3 << 16, b"user\0\xff\0\0"),
            packet(3 << 16, b"replication\0database\0\0"),
            packet(3 << 16, b"options\0-d 5\0\0"),
            packet(CANCEL, b"1234"),
            packet(SSL, b"").repeat(4),
            packet(3 << 16, &[b"a\0b\0".repeat(40), vec![0]].concat()),
        ];
        for bytes in forged {
            let (started, _) = check(&bytes).await;
            assert!(started.is_err(), "{bytes:?}: {started:?}");
        }
        // One that only goes away is no error.
        for bytes in [&b""[..], b"\0\0", &packet(3 << 16, b"user\0guest\0\0")[..9]] {
            assert_eq!(check(bytes).await.0, Ok(None));
        }
    }
}
