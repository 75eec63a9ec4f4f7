//! The peers of an interface that another program runs, through the socket that this program offers
//! (<https://www.wireguard.com/xplatform/>): wireguard-go, and wireguard on other systems than Linux. Interfaces of the
//! Linux kernel have no socket. The program `stockade-peers` answers for them in the same format, a process for each
//! request, which alone has the privilege that the kernel demands (`helpers/stockade-peers`).
//!
//! Invariants:
//! 1. Of an interface nothing is set but peers, and no peer but the one that is named.
//! 2. The interface's private key and the preshared keys that an answer contains are dropped as it is read.
//! 3. An answer has at most [`MOST_ANSWER_BYTES`], and a request ends at the caller's deadline.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::key::Key;

/// Where programs put their sockets.
const FOLDER: &str = "/var/run/wireguard";
/// Bytes of an answer: some ten thousand peers.
const MOST_ANSWER_BYTES: usize = 4 << 20;
/// Bytes of an interface's name (`IFNAMSIZ`, without its end).
const MOST_INTERFACE_BYTES: usize = 15;
/// Bytes that are logged of what the program for the kernel's interfaces complains of.
const MOST_COMPLAINT: u64 = 1 << 10;

/// What the kernel answers where this user lacks a privilege.
const EPERM: i32 = -1;
/// What it answers where there is no interface, none of WireGuard, and no WireGuard.
const ABSENT: [i32; 3] = [-19, -95, -2];

/// What is known of an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its own key; `None` where it has none yet.
    pub public_key: Option<Key>,
    /// All of its peers.
    pub peers: Vec<Peer>,
}

/// A peer of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its key.
    pub public_key: Key,
    /// Where its last message came from.
    pub endpoint: Option<SocketAddr>,
    /// Networks behind it.
    pub allowed_ips: Vec<IpNet>,
    /// When the last handshake was, since 1970-01-01 UTC.
    pub last_handshake: Option<Duration>,
    /// Bytes from it.
    pub received: u64,
    /// Bytes to it.
    pub sent: u64,
}

/// Why an interface was not asked or changed. No text of the other program is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UapiError {
    /// The text is not the name of an interface.
    #[error(
        "it is not the name of an interface: at most {MOST_INTERFACE_BYTES} letters, digits and -_=+."
    )]
    Name,
    /// No program offers a socket for it.
    #[error("no program offers the socket of this interface")]
    Absent,
    /// No program offers a socket for it, and the kernel does not have it.
    #[error(
        "no program offers the socket of this interface, and the kernel has none of WireGuard with its name"
    )]
    Unknown,
    /// The program for the kernel's interfaces did not answer.
    #[error("the program for interfaces of the kernel failed, and the operator's log says why")]
    Program,
    /// The socket is not for this user.
    #[error("this user may not use the socket of this interface")]
    Denied,
    /// The program does not do it, with the system's number of the error.
    #[error("the interface refused the change (errno {0})")]
    Refused(i32),
    /// The answer is not one.
    #[error("the answer of the interface is not in the format of the protocol")]
    Format,
    /// The answer is too long.
    #[error("the answer of the interface has more than {MOST_ANSWER_BYTES} bytes")]
    TooLong,
    /// The deadline was reached.
    #[error("the interface did not answer in time")]
    TimedOut,
    /// The connection failed.
    #[error("the socket of the interface failed: {0}")]
    Failed(io::ErrorKind),
}

impl From<io::Error> for UapiError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Self::Absent,
            io::ErrorKind::PermissionDenied => Self::Denied,
            kind => Self::Failed(kind),
        }
    }
}

/// An interface, by its name.
#[derive(Debug, Clone)]
pub struct Uapi {
    name: String,
    timeout: Duration,
    program: Option<PathBuf>,
}

impl Uapi {
    /// The interface of this name. Nothing is asked yet.
    ///
    /// # Errors
    /// It is not the name of an interface.
    pub fn new(name: &str, timeout: Duration) -> Result<Self, UapiError> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '=' | '+' | '.');
        let is_path = matches!(name, "." | "..");
        if name.is_empty()
            || name.len() > MOST_INTERFACE_BYTES
            || is_path
            || !name.chars().all(fits)
        {
            return Err(UapiError::Name);
        }
        Ok(Self {
            name: name.to_owned(),
            timeout,
            program: None,
        })
    }

    /// Where no program offers the interface's socket, the interface is the kernel's, and this program is started for each
    /// request: `stockade-peers`.
    #[must_use]
    pub fn or_by(mut self, program: Option<PathBuf>) -> Self {
        self.program = program;
        self
    }

    /// Asks what the interface is.
    ///
    /// # Errors
    /// See [`UapiError`].
    pub async fn interface(&self) -> Result<Interface, UapiError> {
        read(&self.request("get=1\n\n").await?)
    }

    /// Adds a peer, or replaces the networks and the preshared key of one.
    ///
    /// # Errors
    /// See [`UapiError`].
    pub async fn set(
        &self,
        public_key: &Key,
        preshared_key: Option<&Key>,
        allowed_ips: &[IpNet],
    ) -> Result<(), UapiError> {
        let mut text = format!("set=1\npublic_key={}\n", hex(public_key));
        if let Some(key) = preshared_key {
            let _ = writeln!(text, "preshared_key={}", hex(key));
        }
        text.push_str("replace_allowed_ips=true\n");
        for net in allowed_ips {
            let _ = writeln!(text, "allowed_ip={net}");
        }
        text.push('\n');
        read(&self.request(&text).await?).map(|_| ())
    }

    /// Removes a peer.
    ///
    /// # Errors
    /// See [`UapiError`].
    pub async fn remove(&self, public_key: &Key) -> Result<(), UapiError> {
        let text = format!("set=1\npublic_key={}\nremove=true\n\n", hex(public_key));
        read(&self.request(&text).await?).map(|_| ())
    }

    /// Sends a request and returns the answer, up to its empty line.
    async fn request(&self, text: &str) -> Result<String, UapiError> {
        let asking = async {
            let path = Path::new(FOLDER).join(format!("{}.sock", self.name));
            let mut socket = match UnixStream::connect(path).await.map_err(UapiError::from) {
                Ok(socket) => socket,
                Err(UapiError::Absent) if let Some(program) = &self.program => {
                    return self.ask_kernel(program, text).await;
                }
                Err(error) => return Err(error),
            };
            socket.write_all(text.as_bytes()).await?;
            whole(&mut socket).await
        };
        let answered = tokio::time::timeout(self.timeout, asking).await;
        answered.unwrap_or(Err(UapiError::TimedOut))
    }

    /// Has a process of the program send the request to the kernel. It is killed when this is dropped.
    async fn ask_kernel(&self, program: &Path, text: &str) -> Result<String, UapiError> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            tracing::error!("{}: {what}: {error}", program.display());
            UapiError::Program
        };
        let mut command = Command::new(program);
        command.arg(&self.name).env_clear().kill_on_drop(true);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = command
            .spawn()
            .map_err(|error| failed("it cannot be started", &error))?;
        let (stdin, stdout) = (process.stdin.take(), process.stdout.take());
        let talk = async {
            // Its end is the end of the request.
            let mut stdin = stdin.ok_or(UapiError::Program)?;
            stdin.write_all(text.as_bytes()).await?;
            drop(stdin);
            whole(&mut stdout.ok_or(UapiError::Program)?).await
        };
        match talk.await {
            Ok(answer) => Ok(answer),
            Err(error @ UapiError::TooLong) => Err(error),
            Err(error) => {
                let mut complaint = Vec::new();
                if let Some(stderr) = process.stderr.take() {
                    let _ = stderr
                        .take(MOST_COMPLAINT)
                        .read_to_end(&mut complaint)
                        .await;
                }
                Err(failed(
                    &error.to_string(),
                    &String::from_utf8_lossy(&complaint)
                        .trim_end()
                        .escape_debug(),
                ))
            }
        }
    }
}

/// An answer, up to its empty line.
async fn whole(source: &mut (impl AsyncRead + Unpin)) -> Result<String, UapiError> {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\n\n") {
        if answer.len() >= MOST_ANSWER_BYTES {
            return Err(UapiError::TooLong);
        }
        if source.read_buf(&mut answer).await? == 0 {
            return Err(UapiError::Format);
        }
    }
    String::from_utf8(answer).map_err(|_| UapiError::Format)
}

/// Reads an answer. Keys that are not known are left out, as the protocol wants it.
pub(crate) fn read(text: &str) -> Result<Interface, UapiError> {
    let mut interface = Interface::default();
    let mut errno = None;
    for line in text.lines().take_while(|line| !line.is_empty()) {
        let (key, value) = line.split_once('=').ok_or(UapiError::Format)?;
        let number = || value.parse::<u64>().map_err(|_| UapiError::Format);
        match (key, interface.peers.last_mut()) {
            ("errno", _) => errno = Some(value.parse().map_err(|_| UapiError::Format)?),
            ("private_key", None) => {
                let key = unhex(value)?;
                // An interface without a key has one of zeros.
                interface.public_key = (*key.bytes() != [0; 32]).then(|| key.public());
            }
            // Of an interface of the kernel, in place of the private key.
            ("interface_public_key", None) => interface.public_key = Some(unhex(value)?),
            ("public_key", _) => interface.peers.push(Peer {
                public_key: unhex(value)?,
                endpoint: None,
                allowed_ips: Vec::new(),
                last_handshake: None,
                received: 0,
                sent: 0,
            }),
            ("endpoint", Some(peer)) => peer.endpoint = value.parse().ok(),
            ("allowed_ip", Some(peer)) => {
                let net = value.parse().map_err(|_| UapiError::Format)?;
                peer.allowed_ips.push(net);
            }
            ("last_handshake_time_sec", Some(peer)) => {
                peer.last_handshake =
                    Some(Duration::from_secs(number()?)).filter(|at| !at.is_zero());
            }
            ("rx_bytes", Some(peer)) => peer.received = number()?,
            ("tx_bytes", Some(peer)) => peer.sent = number()?,
            _ => {}
        }
    }
    match errno {
        Some(0) => Ok(interface),
        Some(EPERM) => Err(UapiError::Denied),
        Some(errno) if ABSENT.contains(&errno) => Err(UapiError::Unknown),
        Some(errno) => Err(UapiError::Refused(errno)),
        None => Err(UapiError::Format),
    }
}

fn hex(key: &Key) -> String {
    key.bytes().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Result<Key, UapiError> {
    let bytes = text.as_bytes();
    if bytes.len() != 64 {
        return Err(UapiError::Format);
    }
    let mut key = [0; 32];
    for (byte, digits) in key.iter_mut().zip(bytes.chunks_exact(2)) {
        let digit = |at: usize| digits.get(at).and_then(|d| char::from(*d).to_digit(16));
        let (high, low) = digit(0).zip(digit(1)).ok_or(UapiError::Format)?;
        *byte = u8::try_from(high << 4 | low).map_err(|_| UapiError::Format)?;
    }
    Ok(Key::from_bytes(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_read_without_its_secrets() {
        let private = Key::random().unwrap();
        let (one, two) = (Key::from_bytes([1; 32]), Key::from_bytes([0xab; 32]));
        let text = format!(
            "private_key={}\nlisten_port=51820\nfwmark=0\npublic_key={}\npreshared_key={}\nprotocol_version=1\n\
             endpoint=[fe80::1%3]:5\nallowed_ip=10.0.0.0/24\nallowed_ip=fd00::1/128\nlast_handshake_time_sec=12\n\
             last_handshake_time_nsec=5\ntx_bytes=7\nrx_bytes=8\npersistent_keepalive_interval=0\nfuture_key=x\n\
             public_key={}\nlast_handshake_time_sec=0\nerrno=0\n\n",
            hex(&private),
            hex(&one),
            hex(&two),
            hex(&two)
        );
        let read = read(&text).unwrap();
        assert_eq!(read.public_key, Some(private.public()));
        assert_eq!(read.peers.len(), 2);
        let peer = &read.peers[0];
        assert_eq!(
            (peer.received, peer.sent, peer.allowed_ips.len()),
            (8, 7, 2)
        );
        assert_eq!(peer.last_handshake, Some(Duration::from_secs(12)));
        assert_eq!(read.peers[1].last_handshake, None);
    }

    #[test]
    fn answer_that_is_none_is_refused() {
        for text in [
            "",
            "\n\n",
            "nonsense\n\n",
            "public_key=12\nerrno=0\n\n",
            "errno=x\n\n",
            "allowed_ip=1",
        ] {
            assert_eq!(read(text), Err(UapiError::Format), "{text:?}");
        }
        assert_eq!(read("errno=-22\n\n"), Err(UapiError::Refused(-22)));
        assert_eq!(read("errno=0\n\n"), Ok(Interface::default()));
    }

    #[test]
    fn name_that_leads_elsewhere_is_refused() {
        for name in [
            "",
            ".",
            "..",
            "../a",
            "a/b",
            "a b",
            "sixteen-letters-x",
            "a\n",
        ] {
            assert!(Uapi::new(name, Duration::ZERO).is_err(), "{name:?}");
        }
        assert!(Uapi::new("wg0", Duration::ZERO).is_ok());
    }
}
