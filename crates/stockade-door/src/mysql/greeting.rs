//! The first packets of a connection: the server's greeting and the client's answer, for both sides of the door.

use super::auth::Plugin;
use super::packet::{Parts, Refusal};

/// Capabilities, by the names of the protocol's documentation without `CLIENT_`.
const LONG_PASSWORD: u32 = 1;
const FOUND_ROWS: u32 = 1 << 1;
const LONG_FLAG: u32 = 1 << 2;
const CONNECT_WITH_DB: u32 = 1 << 3;
const NO_SCHEMA: u32 = 1 << 4;
const IGNORE_SPACE: u32 = 1 << 8;
const PROTOCOL_41: u32 = 1 << 9;
const SSL: u32 = 1 << 11;
const TRANSACTIONS: u32 = 1 << 13;
const SECURE_CONNECTION: u32 = 1 << 15;
const MULTI_STATEMENTS: u32 = 1 << 16;
const MULTI_RESULTS: u32 = 1 << 17;
const PS_MULTI_RESULTS: u32 = 1 << 18;
const PLUGIN_AUTH: u32 = 1 << 19;

/// What every connection to a server has.
const ALWAYS: u32 =
    LONG_PASSWORD | LONG_FLAG | PROTOCOL_41 | TRANSACTIONS | SECURE_CONNECTION | PLUGIN_AUTH;
/// What a guest may choose, which changes the answers of the server.
const CHOICE: u32 =
    FOUND_ROWS | NO_SCHEMA | IGNORE_SPACE | MULTI_STATEMENTS | MULTI_RESULTS | PS_MULTI_RESULTS;

/// `utf8mb4_general_ci`, which MySQL and MariaDB have.
const UTF8MB4: u8 = 45;
const AUTOCOMMIT: u16 = 2;

/// What a server says first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) version: Vec<u8>,
    pub(crate) thread: u32,
    pub(crate) salt: Vec<u8>,
    pub(crate) capabilities: u32,
    /// The name of the login that the server proposes.
    pub(crate) plugin: Vec<u8>,
}

impl Greeting {
    /// Reads a server's greeting. `None` if it is not one.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let mut parts = Parts(payload);
        if parts.u8()? != 10 {
            return None;
        }
        let version = parts.text()?.to_vec();
        let thread = parts.u32()?;
        let mut salt = parts.take(8)?.to_vec();
        parts.take(1)?;
        let low = parts.u16()?;
        // The character set and the status.
        parts.take(3)?;
        let capabilities = u32::from(low) | u32::from(parts.u16()?) << 16;
        let length = usize::from(parts.u8()?);
        // MariaDB has its own capabilities in the last four of them.
        parts.take(10)?;
        let rest = parts.take(length.saturating_sub(8).max(13))?;
        salt.extend(rest.strip_suffix(&[0]).unwrap_or(rest));
        let plugin = parts.text().unwrap_or(parts.0).to_vec();
        Some(Self {
            version,
            thread,
            salt,
            capabilities,
            plugin,
        })
    }

    /// The payload of a greeting for a guest. All of MariaDB's own capabilities are off.
    pub(crate) fn for_guest(&self, thread: u32, salt: &[u8; 20]) -> Vec<u8> {
        let offered = (ALWAYS | CHOICE) & self.capabilities | CONNECT_WITH_DB | LONG_PASSWORD;
        let [a, b, c, d] = offered.to_le_bytes();
        let mut payload = vec![10];
        payload.extend(&self.version);
        payload.push(0);
        payload.extend(thread.to_le_bytes());
        payload.extend(&salt[..8]);
        payload.extend([0, a, b, UTF8MB4]);
        payload.extend(AUTOCOMMIT.to_le_bytes());
        payload.extend([c, d, 21]);
        payload.extend([0; 10]);
        payload.extend(&salt[8..]);
        payload.push(0);
        payload.extend(Plugin::Native.name().as_bytes());
        payload.push(0);
        payload
    }

    /// Whether the server has all that a door needs.
    pub(crate) fn is_usable(&self) -> bool {
        let needed = PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH;
        self.capabilities & needed == needed
    }

    /// The beginning of the answer to a server, which is also the request for TLS.
    pub(crate) fn request(&self, choice: u32, has_database: bool, has_tls: bool) -> Vec<u8> {
        let mut flags = (ALWAYS | choice & CHOICE) & self.capabilities | LONG_PASSWORD;
        if has_database {
            flags |= CONNECT_WITH_DB;
        }
        if has_tls {
            flags |= SSL;
        }
        let mut payload = flags.to_le_bytes().to_vec();
        payload.extend(0xff_ffff_u32.to_le_bytes());
        payload.push(UTF8MB4);
        // Without connection attributes, and without any of MariaDB's capabilities.
        payload.extend([0; 23]);
        payload
    }

    pub(crate) fn has_tls(&self) -> bool {
        self.capabilities & SSL != 0
    }
}

/// What a guest chose, from its answer to the greeting. Its user, password, database and attributes mean nothing.
///
/// # Errors
/// What cannot be done here.
pub(crate) fn choice(payload: &[u8]) -> Result<u32, Refusal> {
    let handshake = |why: &str| Refusal::new(1043, "08S01", why);
    let mut parts = Parts(payload);
    let flags = parts.u32().unwrap_or(0);
    parts.take(4);
    let Some(charset) = parts.u8() else {
        return Err(handshake("the answer to the greeting is too short"));
    };
    if flags & PROTOCOL_41 == 0 || flags & SSL != 0 {
        return Err(handshake("the door speaks protocol 4.1, without TLS"));
    }
    // utf8mb3 and utf8mb4 of both servers; 0 is the server's own, which is utf8mb4 here.
    if !matches!(charset, 0 | 33 | 45 | 46 | 76 | 83 | 192..=215 | 223..=247 | 255) {
        let why =
            format!("the door speaks utf8mb4, and not the character set of collation {charset}");
        return Err(Refusal::new(1115, "42000", why));
    }
    Ok(flags & CHOICE)
}

/// The choice of connections that are made before a guest has chosen, as most drivers choose.
pub(crate) const USUAL: u32 = FOUND_ROWS | MULTI_RESULTS | PS_MULTI_RESULTS | IGNORE_SPACE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greeting_is_read_back_without_what_a_door_cannot_follow() {
        let server = Greeting {
            version: b"5.5.5-10.11.19-MariaDB".to_vec(),
            thread: 7,
            salt: vec![1; 20],
            capabilities: u32::MAX,
            plugin: b"caching_sha2_password".to_vec(),
        };
        let payload = server.for_guest(9, &[2; 20]);
        let seen = Greeting::parse(&payload).unwrap();
        assert_eq!((seen.thread, seen.salt), (9, vec![2; 20]));
        assert_eq!(seen.version, server.version);
        assert_eq!(seen.plugin, b"mysql_native_password");
        // No LOCAL INFILE, compression, TLS, attributes, session tracking or DEPRECATE_EOF.
        for bit in [5, 7, 11, 20, 23, 24, 25, 26, 27, 28] {
            assert_eq!(seen.capabilities & 1 << bit, 0, "{bit}");
        }
        let reserved = payload.len() - "mysql_native_password\0".len() - 13 - 10;
        assert_eq!(payload[reserved..reserved + 10], [0; 10]);
        for end in 0..payload.len() - 22 {
            assert_eq!(Greeting::parse(&payload[..end]), None, "{end}");
        }
    }

    #[test]
    fn choice_is_of_what_is_offered() {
        let answer = |flags: u32, charset: u8| {
            let mut payload = flags.to_le_bytes().to_vec();
            payload.extend([0, 0, 0, 1, charset]);
            choice(&payload)
        };
        assert_eq!(answer(!SSL, 45), Ok(CHOICE));
        assert_eq!(answer(PROTOCOL_41, 224), Ok(0));
        assert!(answer(PROTOCOL_41 | SSL, 45).is_err());
        assert!(answer(0, 45).is_err());
        assert_eq!(answer(PROTOCOL_41, 8).unwrap_err().code, 1115);
        assert!(choice(b"").is_err() && choice(&[0xff; 8]).is_err());
    }
}
