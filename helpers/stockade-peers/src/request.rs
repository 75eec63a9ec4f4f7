//! Requests, as far as the supervisor makes them. Everything else is refused.

use std::net::IpAddr;

/// The bytes of a key.
pub(crate) type Key = [u8; 32];

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// What the interface is.
    Get,
    /// Changes one peer.
    Set(Peer),
}

/// A peer that is to be added, changed or removed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) public_key: Key,
    /// Zeros remove one that is there.
    pub(crate) preshared_key: Option<Key>,
    /// In place of those that it has.
    pub(crate) allowed_ips: Vec<(IpAddr, u8)>,
    pub(crate) remove: bool,
}

impl Request {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix("\n\n")?.lines();
        match lines.next()? {
            "get=1" => lines.next().is_none().then_some(Self::Get),
            "set=1" => {
                let key = lines.next()?.strip_prefix("public_key=")?;
                let mut peer = Peer {
                    public_key: unhex(key)?,
                    preshared_key: None,
                    allowed_ips: Vec::new(),
                    remove: false,
                };
                for line in lines {
                    peer.line(line)?;
                }
                Some(Self::Set(peer))
            }
            _ => None,
        }
    }
}

impl Peer {
    fn line(&mut self, line: &str) -> Option<()> {
        match line.split_once('=')? {
            ("preshared_key", key) => self.preshared_key = Some(unhex(key)?),
            // They are always replaced.
            ("replace_allowed_ips", "true") => {}
            ("allowed_ip", net) => {
                let (address, length) = net.split_once('/')?;
                let (address, length): (IpAddr, u8) = (address.parse().ok()?, length.parse().ok()?);
                let most = if address.is_ipv4() { 32 } else { 128 };
                self.allowed_ips
                    .push((length <= most).then_some((address, length))?);
            }
            ("remove", "true") => self.remove = true,
            _ => return None,
        }
        Some(())
    }
}

pub(crate) fn hex(key: &Key) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Key> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let bytes: Vec<u8> = digits?
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
        .collect();
    (text.len() == 64).then(|| bytes.try_into().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_of_the_supervisor_is_read() {
        assert_eq!(Request::parse("get=1\n\n"), Some(Request::Get));
        let key = "ab".repeat(32);
        let text = format!(
            "set=1\npublic_key={key}\npreshared_key={}\nreplace_allowed_ips=true\nallowed_ip=10.0.0.0/24\n\
             allowed_ip=fd00::1/128\n\n",
            "01".repeat(32)
        );
        let peer = Peer {
            public_key: [0xab; 32],
            preshared_key: Some([1; 32]),
            allowed_ips: vec![
                ("10.0.0.0".parse().unwrap(), 24),
                ("fd00::1".parse().unwrap(), 128),
            ],
            remove: false,
        };
        assert_eq!(Request::parse(&text), Some(Request::Set(peer)));
        let text = format!("set=1\npublic_key={key}\nremove=true\n\n");
        assert!(matches!(
            Request::parse(&text),
            Some(Request::Set(Peer { remove: true, .. }))
        ));
        assert_eq!(hex(&[0xab; 32]), key);
    }

    #[test]
    fn request_for_anything_else_is_refused() {
        let key = "ab".repeat(32);
        for text in [
            "",
            "get=1\n",
            "get=1\nx=1\n\n",
            "get=2\n\n",
            "set=1\n\n",
            "set=1\nprivate_key=00\n\n",
            &format!("set=1\nlisten_port=1\npublic_key={key}\n\n"),
            &format!("set=1\npublic_key={key}\npublic_key={key}\n\n"),
            &format!("set=1\npublic_key={key}\nlisten_port=1\n\n"),
            &format!("set=1\npublic_key={key}\nreplace_peers=true\n\n"),
            &format!("set=1\npublic_key={key}\nendpoint=1.2.3.4:5\n\n"),
            &format!("set=1\npublic_key={key}\nallowed_ip=10.0.0.0/33\n\n"),
            &format!("set=1\npublic_key={key}\nallowed_ip=10.0.0.0\n\n"),
            &format!("set=1\npublic_key={}\n\n", &key[2..]),
            &format!("set=1\npublic_key={}\n\n", "é".repeat(32)),
        ] {
            assert_eq!(Request::parse(text), None, "{text:?}");
        }
    }
}
