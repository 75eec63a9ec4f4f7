//! Files of `wg-quick` (wg-quick(8), wg(8)), as far as a tunnel without an interface of the system can follow them.
//!
//! Keys that run commands are refused, because a guest's tunnel must not. Keys about the system's routes have no
//! meaning here and give a warning. Errors name the line and the key, and repeat nothing that could be a secret.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::key::Key;

/// Bytes of a file.
const MOST_CONFIG_BYTES: usize = 64 << 10;
/// Peers of a tunnel.
const MOST_PEERS: usize = 64;
/// Networks of all peers together.
const MOST_NETWORKS: usize = 1024;
/// Addresses of the interface: as many as the network stack has places for.
pub(crate) const MOST_ADDRESSES: usize = 8;
/// Servers of names.
const MOST_SERVERS: usize = 8;
/// The smallest packets that IPv4 and IPv6 need (RFC 791, RFC 8200), and the largest that are of use.
const MTU: std::ops::RangeInclusive<u16> = 576..=9000;
/// The MTU that `wg-quick` gives an interface on a usual network.
const DEFAULT_MTU: u16 = 1420;

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelConfig {
    /// The interface's private key.
    pub private_key: Key,
    /// The interface's addresses.
    pub addresses: Vec<IpAddr>,
    /// Servers of names, which are asked through the tunnel.
    pub dns: Vec<IpAddr>,
    /// Bytes of the largest packet in the tunnel.
    pub mtu: u16,
    /// The port on this machine; 0 for any.
    pub listen_port: u16,
    /// At least one.
    pub peers: Vec<PeerConfig>,
}

/// One `[Peer]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// Its key.
    pub public_key: Key,
    /// A key that both ends know besides.
    pub preshared_key: Option<Key>,
    /// Where it is. Without one, it is where its first valid packet comes from.
    pub endpoint: Option<Endpoint>,
    /// Networks behind it.
    pub allowed_ips: Vec<IpNet>,
    /// Seconds between two packets that keep the way open; `None` for none.
    pub keepalive: Option<u16>,
}

/// Where a peer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// An address, or a name that the machine's resolver looks up.
    pub host: EndpointHost,
    /// Its UDP port.
    pub port: u16,
}

/// The host of an [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointHost {
    /// An address.
    Address(IpAddr),
    /// A name.
    Name(String),
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// What it says.
    pub config: TunnelConfig,
    /// What it says and has no effect here, in words.
    pub warnings: Vec<String>,
}

/// Why a file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{what}", line.map_or_else(String::new, |line| format!("line {line}: ")))]
pub struct ConfigError {
    /// The line, from 1. `None` where the fault is of the whole file.
    pub line: Option<usize>,
    /// What is wrong and what is allowed.
    pub what: String,
}

/// Where a line belongs.
enum Section {
    None,
    Interface,
    Peer,
}

/// Reads a file.
///
/// # Errors
/// The first fault.
pub fn parse(text: &str) -> Result<Parsed, ConfigError> {
    if text.len() > MOST_CONFIG_BYTES {
        return Err(whole(format!(
            "the file has {} bytes, at most {MOST_CONFIG_BYTES} are allowed",
            text.len()
        )));
    }
    let mut reader = Reader::default();
    for (at, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let read = reader.line(line);
        read.map_err(|what| ConfigError {
            line: Some(at + 1),
            what,
        })?;
    }
    reader.finish()
}

fn whole(what: impl Into<String>) -> ConfigError {
    ConfigError {
        line: None,
        what: what.into(),
    }
}

#[derive(Default)]
struct Reader {
    section: Option<Section>,
    has_interface: bool,
    private_key: Option<Key>,
    addresses: Vec<IpAddr>,
    dns: Vec<IpAddr>,
    mtu: Option<u16>,
    listen_port: u16,
    peers: Vec<PartialPeer>,
    warnings: Vec<String>,
}

#[derive(Default)]
struct PartialPeer {
    public_key: Option<Key>,
    preshared_key: Option<Key>,
    endpoint: Option<Endpoint>,
    allowed_ips: Vec<IpNet>,
    keepalive: Option<u16>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if line.starts_with('[') {
            return self.begin(line);
        }
        let Some((key, value)) = line.split_once('=') else {
            return Err("it is neither a section nor KEY = VALUE".to_owned());
        };
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        match self.section {
            Some(Section::Interface) => self.interface(&key, value),
            Some(Section::Peer) => self.peer(&key, value),
            _ => Err("it is before the first section: [Interface] or [Peer]".to_owned()),
        }
    }

    fn begin(&mut self, line: &str) -> Result<(), String> {
        self.section = Some(Section::None);
        match line.to_ascii_lowercase().as_str() {
            "[interface]" if self.has_interface => {
                return Err("there is a second [Interface]".to_owned());
            }
            "[interface]" => {
                self.has_interface = true;
                self.section = Some(Section::Interface);
            }
            "[peer]" if self.peers.len() == MOST_PEERS => {
                return Err(format!("there are more than {MOST_PEERS} peers"));
            }
            "[peer]" => {
                self.peers.push(PartialPeer::default());
                self.section = Some(Section::Peer);
            }
            _ => return Err("a section is [Interface] or [Peer]".to_owned()),
        }
        Ok(())
    }

    fn interface(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "privatekey" => self.private_key = Some(secret("PrivateKey", value)?),
            "address" => {
                for net in items(value) {
                    let address = network("Address", net)?.addr();
                    if address.is_multicast() || address.is_unspecified() || is_broadcast(address) {
                        return Err("Address is not the address of one host".to_owned());
                    }
                    bounded(&self.addresses, MOST_ADDRESSES, "addresses")?;
                    self.addresses.push(address);
                }
            }
            "dns" => {
                for server in items(value) {
                    // wg-quick(8): what is not an address is a search domain.
                    let Ok(address) = server.parse() else {
                        let what = "DNS names search domains, which are not used: a guest names hosts in full";
                        self.warn(what);
                        continue;
                    };
                    bounded(&self.dns, MOST_SERVERS, "servers of names")?;
                    self.dns.push(address);
                }
            }
            "mtu" => {
                let mtu = value.parse().ok().filter(|mtu| MTU.contains(mtu));
                let range = format!("MTU is a number from {} to {}", MTU.start(), MTU.end());
                self.mtu = Some(mtu.ok_or(range)?);
            }
            "listenport" => {
                let port = value.parse();
                self.listen_port = port.map_err(|_| "ListenPort is a number from 0 to 65535")?;
            }
            "preup" | "postup" | "predown" | "postdown" => {
                return Err(format!(
                    "{} would run a command, which a tunnel of a guest never does: remove the line",
                    named(key)
                ));
            }
            "table" | "fwmark" | "saveconfig" => {
                let what = format!(
                    "{} has no effect: there is no interface of the system",
                    named(key)
                );
                self.warn(&what);
            }
            _ => {
                return Err(
                    "an unknown key of [Interface]: PrivateKey, Address, DNS, MTU and ListenPort are allowed"
                        .to_owned(),
                );
            }
        }
        Ok(())
    }

    fn peer(&mut self, key: &str, value: &str) -> Result<(), String> {
        let networks: usize = self.peers.iter().map(|peer| peer.allowed_ips.len()).sum();
        let Some(peer) = self.peers.last_mut() else {
            return Err("it is before the first [Peer]".to_owned());
        };
        match key {
            "publickey" => peer.public_key = Some(secret("PublicKey", value)?),
            "presharedkey" => peer.preshared_key = Some(secret("PresharedKey", value)?),
            "endpoint" => peer.endpoint = Some(endpoint(value)?),
            "allowedips" => {
                for net in items(value) {
                    if networks + peer.allowed_ips.len() >= MOST_NETWORKS {
                        return Err(format!("AllowedIPs has more than {MOST_NETWORKS} networks"));
                    }
                    peer.allowed_ips.push(network("AllowedIPs", net)?.trunc());
                }
            }
            "persistentkeepalive" => {
                peer.keepalive = match value {
                    "off" | "0" => None,
                    seconds => Some(seconds.parse().map_err(|_| {
                        "PersistentKeepalive is off, or seconds from 1 to 65535".to_owned()
                    })?),
                };
            }
            _ => {
                return Err(
                    "an unknown key of [Peer]: PublicKey, PresharedKey, Endpoint, AllowedIPs and \
                     PersistentKeepalive are allowed"
                        .to_owned(),
                );
            }
        }
        Ok(())
    }

    fn warn(&mut self, what: &str) {
        if !self.warnings.iter().any(|known| known == what) {
            self.warnings.push(what.to_owned());
        }
    }

    fn finish(self) -> Result<Parsed, ConfigError> {
        let private_key = self
            .private_key
            .ok_or_else(|| whole("[Interface] has no PrivateKey"))?;
        if self.addresses.is_empty() {
            return Err(whole("[Interface] has no Address"));
        }
        let own = private_key.public();
        let mut peers: Vec<PeerConfig> = Vec::new();
        for peer in self.peers {
            let public_key = peer
                .public_key
                .ok_or_else(|| whole("a [Peer] has no PublicKey"))?;
            if public_key == own || peers.iter().any(|known| known.public_key == public_key) {
                return Err(whole("two ends of the tunnel have the same key"));
            }
            peers.push(PeerConfig {
                public_key,
                preshared_key: peer.preshared_key,
                endpoint: peer.endpoint,
                allowed_ips: peer.allowed_ips,
                keepalive: peer.keepalive,
            });
        }
        if peers.is_empty() {
            return Err(whole("there is no [Peer]"));
        }
        let has_v6 = self.addresses.iter().any(IpAddr::is_ipv6);
        let mtu = self.mtu.unwrap_or(DEFAULT_MTU);
        if has_v6 && mtu < 1280 {
            return Err(whole("MTU is below 1280, which IPv6 needs (RFC 8200, 5)"));
        }
        Ok(Parsed {
            config: TunnelConfig {
                private_key,
                addresses: self.addresses,
                dns: self.dns,
                mtu,
                listen_port: self.listen_port,
                peers,
            },
            warnings: self.warnings,
        })
    }
}

fn bounded<T>(list: &[T], most: usize, what: &str) -> Result<(), String> {
    if list.len() < most {
        return Ok(());
    }
    Err(format!("there are more than {most} {what}"))
}

fn is_broadcast(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.is_broadcast())
}

/// The name of a key as wg-quick(8) writes it.
fn named(key: &str) -> &'static str {
    match key {
        "preup" => "PreUp",
        "postup" => "PostUp",
        "predown" => "PreDown",
        "postdown" => "PostDown",
        "table" => "Table",
        "fwmark" => "FwMark",
        _ => "SaveConfig",
    }
}

fn secret(key: &str, value: &str) -> Result<Key, String> {
    Key::parse(value).map_err(|error| format!("{key}: {error}"))
}

fn items(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

/// A network; an address without a length is a network of its own.
fn network(key: &str, text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let net = text.parse().ok().or_else(address);
    net.ok_or_else(|| format!("{key} has something that is not an address or a network"))
}

fn endpoint(text: &str) -> Result<Endpoint, String> {
    let wrong = || "Endpoint is HOST:PORT, with an IPv6 address in brackets".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().ok().filter(|&port| port != 0);
    let port = port.ok_or_else(wrong)?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_name = |host: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        !host.is_empty() && host.len() <= 253 && host.chars().all(fits)
    };
    let host = match (bare, host.parse::<IpAddr>()) {
        (Some(bare), _) => EndpointHost::Address(bare.parse().map_err(|_| wrong())?),
        (None, Ok(IpAddr::V4(address))) => EndpointHost::Address(address.into()),
        (None, Err(_)) if is_name(host) => EndpointHost::Name(host.to_owned()),
        _ => return Err(wrong()),
    };
    Ok(Endpoint { host, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
    const PEER: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";

    fn file(interface: &str, peer: &str) -> String {
        format!(
            "[Interface]\nPrivateKey = {KEY}\nAddress = 10.0.0.2/24\n{interface}\n[Peer]\nPublicKey = {PEER}\n{peer}\n"
        )
    }

    #[test]
    fn file_of_wg_quick_is_read() {
        let interface = "Address = fd00::2/64 # ours\nDNS = 10.0.0.1, fd00::1, corp.example\nMTU = 1400\nSaveConfig = true";
        let peer = format!(
            "PresharedKey={KEY}\nallowedips = 10.0.0.0/24,192.168.7.1\nAllowedIPs = ::/0\nEndpoint = [fd01::1]:51820\n\
             PersistentKeepalive = 25"
        );
        let Parsed { config, warnings } = parse(&file(interface, &peer)).unwrap();
        let texts: Vec<_> = config.addresses.iter().map(IpAddr::to_string).collect();
        assert_eq!(texts, ["10.0.0.2", "fd00::2"]);
        assert_eq!(config.dns.len(), 2);
        assert_eq!(config.mtu, 1400);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        let peer = &config.peers[0];
        assert_eq!(peer.allowed_ips.len(), 3);
        assert_eq!(peer.keepalive, Some(25));
        assert!(peer.preshared_key.is_some());
        assert_eq!(peer.endpoint.as_ref().unwrap().port, 51820);
    }

    #[test]
    fn file_that_would_run_commands_is_refused() {
        for key in ["PreUp", "PostUp", "PreDown", "PostDown"] {
            let error = parse(&file(&format!("{key} = iptables -A …"), "")).unwrap_err();
            assert_eq!(error.line, Some(4));
            assert!(error.what.starts_with(key), "{error}");
        }
        parse(&file("", "")).unwrap();
    }

    #[test]
    fn faults_are_named_without_the_text() {
        let cases = [
            ("Unknown = 1", "", "an unknown key of [Interface]"),
            ("", "Unknown = 1", "an unknown key of [Peer]"),
            ("MTU = 100", "", "MTU is a number"),
            ("Address = fd00::1\nMTU = 1000", "", "MTU is below 1280"),
            ("Address = 224.0.0.1", "", "not the address of one host"),
            ("", "Endpoint = host", "Endpoint is HOST:PORT"),
            ("", "Endpoint = fd01::1:51820", "Endpoint is HOST:PORT"),
            ("", "Endpoint = a b:1", "Endpoint is HOST:PORT"),
            ("", "AllowedIPs = 10.0.0.0/33", "AllowedIPs has something"),
            ("", "PersistentKeepalive = -1", "PersistentKeepalive is"),
            ("nonsense", "", "neither a section nor"),
            ("[Interface]", "", "a second [Interface]"),
        ];
        for (interface, peer, expected) in cases {
            let error = parse(&file(interface, peer)).unwrap_err();
            assert!(error.what.contains(expected), "{interface}{peer}: {error}");
        }
        let secret = "c2VjcmV0";
        let error = parse(&format!("[Interface]\nPrivateKey = {secret}")).unwrap_err();
        assert!(!error.to_string().contains(secret), "{error}");
        assert_eq!(error.line, Some(2));
        let twice = format!("{}[Peer]\nPublicKey = {PEER}\n", file("", ""));
        assert!(parse(&twice).unwrap_err().what.contains("same key"));
        assert!(parse("").unwrap_err().what.contains("PrivateKey"));
    }
}
