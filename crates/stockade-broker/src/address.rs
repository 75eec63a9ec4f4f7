//! Which addresses are for everyone, and which lead somewhere that a guest has no business.
//!
//! From the IANA special-purpose address registries
//! (<https://www.iana.org/assignments/iana-ipv4-special-registry>,
//! <https://www.iana.org/assignments/iana-ipv6-special-registry>). IPv6 is closed by default: only
//! `2000::/3` is handed out, so an address outside it is never public.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressKind {
    /// Reachable by everyone on the internet.
    Public,
    /// `0.0.0.0/8`, `::`: reaches the own machine on Linux.
    Unspecified,
    /// The own machine.
    Loopback,
    /// A private network (RFC 1918, RFC 4193, deprecated site-local).
    Private,
    /// Between a carrier and its customers (RFC 6598).
    SharedCarrier,
    /// The own link (RFC 3927, RFC 4291).
    LinkLocal,
    /// A cloud's metadata or platform service, which hands out credentials.
    Metadata,
    /// Many receivers.
    Multicast,
    /// Everyone on the link.
    Broadcast,
    /// Examples in documents (RFC 5737, RFC 3849, RFC 9637).
    Documentation,
    /// Measurements inside a network (RFC 2544, RFC 5180).
    Benchmarking,
    /// An IPv4 address inside an IPv6 one: mapped, compatible, NAT64, 6to4 or Teredo.
    Embedded,
    /// Reserved, or handed out to nobody.
    Reserved,
}

impl AddressKind {
    /// Words for messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::SharedCarrier => "carrier-grade NAT",
            Self::LinkLocal => "link-local",
            Self::Metadata => "metadata service's",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::Documentation => "documentation",
            Self::Benchmarking => "benchmarking",
            Self::Embedded => "translated IPv4",
            Self::Reserved => "reserved",
        }
    }

    /// Whether listing such an address can allow it. A metadata address must be listed by itself,
    /// and nobody is served by requests to everyone or to nobody.
    fn can_be_listed(self) -> bool {
        !matches!(self, Self::Unspecified | Self::Multicast | Self::Broadcast)
    }
}

impl fmt::Display for AddressKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Addresses at which clouds hand out credentials or platform control: Amazon, Google, Azure and
/// others; Amazon's containers; Alibaba; Oracle; Azure's platform; Amazon over IPv6.
const METADATA: [IpAddr; 8] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// What `address` is for.
pub(crate) fn kind(address: IpAddr) -> AddressKind {
    if METADATA.contains(&address) {
        return AddressKind::Metadata;
    }
    match address {
        IpAddr::V4(address) => kind_v4(address),
        IpAddr::V6(address) => kind_v6(address),
    }
}

fn kind_v4(address: Ipv4Addr) -> AddressKind {
    match address.octets() {
        [0, ..] => AddressKind::Unspecified,
        [10, ..] | [192, 168, ..] => AddressKind::Private,
        [172, b, ..] if b & 0xf0 == 16 => AddressKind::Private,
        [100, b, ..] if b & 0xc0 == 64 => AddressKind::SharedCarrier,
        [127, ..] => AddressKind::Loopback,
        [169, 254, ..] => AddressKind::LinkLocal,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => AddressKind::Documentation,
        [198, 18 | 19, ..] => AddressKind::Benchmarking,
        // IETF protocols, AS112, AMT, the retired 6to4 relays.
        [192, 0, 0, _] | [192, 31, 196, _] | [192, 52, 193, _] => AddressKind::Reserved,
        [192, 88, 99, _] | [192, 175, 48, _] => AddressKind::Reserved,
        [224..=239, ..] => AddressKind::Multicast,
        [255, 255, 255, 255] => AddressKind::Broadcast,
        [240..=255, ..] => AddressKind::Reserved,
        _ => AddressKind::Public,
    }
}

fn kind_v6(address: Ipv6Addr) -> AddressKind {
    if address.is_unspecified() {
        return AddressKind::Unspecified;
    }
    if address.is_loopback() {
        return AddressKind::Loopback;
    }
    if embedded(address).is_some() {
        return AddressKind::Embedded;
    }
    match address.segments() {
        [0xff00..=0xffff, ..] => AddressKind::Multicast,
        [a, ..] if a & 0xfe00 == 0xfc00 => AddressKind::Private,
        [a, ..] if a & 0xffc0 == 0xfe80 => AddressKind::LinkLocal,
        [a, ..] if a & 0xffc0 == 0xfec0 => AddressKind::Private,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => AddressKind::Documentation,
        [0x2001, 2, 0, ..] => AddressKind::Benchmarking,
        // IETF protocols (RFC 2928) and AS112 (RFC 7534).
        [0x2001, 0..=0x01ff, ..] | [0x2620, 0x4f, 0x8000, ..] => AddressKind::Reserved,
        [a, ..] if a & 0xe000 == 0x2000 => AddressKind::Public,
        _ => AddressKind::Reserved,
    }
}

/// The IPv4 address that a translator or the kernel would reach for an IPv6 address.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = address.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match [a, b, c, d, e, f] {
        // Compatible (RFC 4291, 2.5.5.1) and mapped (2.5.5.2); IPv4-translated (RFC 2765).
        [0, 0, 0, 0, 0, 0 | 0xffff] | [0, 0, 0, 0, 0xffff, 0] => Some(join(high, low)),
        // NAT64 (RFC 6052; RFC 8215 for local use).
        [0x64, 0xff9b, 0, 0, 0, 0] | [0x64, 0xff9b, 1, ..] => Some(join(high, low)),
        // 6to4 (RFC 3056).
        [0x2002, v4_high, v4_low, ..] => Some(join(v4_high, v4_low)),
        // Teredo (RFC 4380): the client's address, inverted.
        [0x2001, 0, ..] => Some(join(!high, !low)),
        _ => None,
    }
}

/// The addresses beyond the public ones that one instance may reach, and those it never may.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AddressRules<'a> {
    pub(crate) listed: &'a [IpNet],
    pub(crate) refused: &'a [IpNet],
}

impl AddressRules<'_> {
    /// Whether a connection to `address` may be made; if not, what kind of address it is.
    ///
    /// An address with another inside needs leave for both.
    pub(crate) fn check(&self, address: IpAddr) -> Result<(), AddressKind> {
        let kind = kind(address);
        if self.refuses(address) || !self.allows(address, kind) {
            return Err(kind);
        }
        match address {
            IpAddr::V6(v6) => match embedded(v6) {
                Some(inner) => self.check(IpAddr::V4(inner)),
                None => Ok(()),
            },
            IpAddr::V4(_) => Ok(()),
        }
    }

    /// Whether the address is one that is never reached.
    pub(crate) fn refuses(&self, address: IpAddr) -> bool {
        self.refused.iter().any(|net| net.contains(&address))
    }

    fn allows(&self, address: IpAddr, kind: AddressKind) -> bool {
        let whole = if address.is_ipv4() { 32 } else { 128 };
        match kind {
            AddressKind::Public => true,
            AddressKind::Metadata => self
                .listed
                .iter()
                .any(|net| net.prefix_len() == whole && net.contains(&address)),
            kind => kind.can_be_listed() && self.listed.iter().any(|net| net.contains(&address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(text: &str) -> AddressKind {
        kind(text.parse().unwrap())
    }

    #[test]
    fn kind_of_everyday_addresses_is_public() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "93.184.216.34",
            "172.15.255.255",
            "172.32.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "169.253.1.1",
            "2606:4700::1111",
            "2a00:1450:4001::1",
            "2001:200::1",
            "2003::1",
        ] {
            assert_eq!(kind_of(text), AddressKind::Public, "{text}");
        }
    }

    #[test]
    fn kind_of_special_addresses_is_never_public() {
        use AddressKind::*;
        for (text, expected) in [
            ("0.0.0.0", Unspecified),
            ("0.1.2.3", Unspecified),
            ("10.0.0.1", Private),
            ("172.16.0.1", Private),
            ("172.31.255.255", Private),
            ("192.168.1.1", Private),
            ("100.64.0.1", SharedCarrier),
            ("100.127.255.255", SharedCarrier),
            ("127.0.0.1", Loopback),
            ("127.255.255.254", Loopback),
            ("169.254.1.1", LinkLocal),
            ("169.254.169.254", Metadata),
            ("169.254.170.2", Metadata),
            ("100.100.100.200", Metadata),
            ("168.63.129.16", Metadata),
            ("192.0.0.192", Metadata),
            ("192.0.0.8", Reserved),
            ("192.0.2.1", Documentation),
            ("198.51.100.1", Documentation),
            ("203.0.113.9", Documentation),
            ("198.18.0.1", Benchmarking),
            ("198.19.255.255", Benchmarking),
            ("192.88.99.1", Reserved),
            ("224.0.0.1", Multicast),
            ("239.255.255.255", Multicast),
            ("240.0.0.1", Reserved),
            ("255.255.255.255", Broadcast),
            ("::", Unspecified),
            ("::1", Loopback),
            ("::7f00:1", Embedded),
            ("::ffff:127.0.0.1", Embedded),
            ("::ffff:8.8.8.8", Embedded),
            ("::ffff:0:127.0.0.1", Embedded),
            ("64:ff9b::7f00:1", Embedded),
            ("64:ff9b:1::a00:1", Embedded),
            ("2002:7f00:1::1", Embedded),
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", Embedded),
            ("2001:2::1", Benchmarking),
            ("2001:10::1", Reserved),
            ("2001:db8::1", Documentation),
            ("3fff::1", Documentation),
            ("fc00::1", Private),
            ("fdff::1", Private),
            ("fd00:ec2::254", Metadata),
            ("fe80::1", LinkLocal),
            ("fec0::1", Private),
            ("ff02::1", Multicast),
            ("100::1", Reserved),
            ("5f00::1", Reserved),
            ("4000::1", Reserved),
        ] {
            assert_eq!(kind_of(text), expected, "{text}");
        }
    }

    fn check(listed: &[&str], address: &str) -> bool {
        let listed: Vec<IpNet> = listed.iter().map(|net| net.parse().unwrap()).collect();
        let rules = AddressRules {
            listed: &listed,
            refused: &[],
        };
        rules.check(address.parse().unwrap()).is_ok()
    }

    #[test]
    fn address_that_is_listed_passes_and_its_neighbour_does_not() {
        assert!(check(&["127.0.0.0/8"], "127.0.0.1"));
        assert!(!check(&["127.0.0.1/32"], "127.0.0.2"));
        assert!(check(&["fd00::/8"], "fd00::1"));
        assert!(!check(&["10.0.0.0/8"], "192.168.0.1"));
    }

    #[test]
    fn metadata_address_in_a_listed_range_stays_refused_until_listed_by_itself() {
        assert!(!check(&["169.254.0.0/16"], "169.254.169.254"));
        assert!(!check(&["0.0.0.0/0"], "168.63.129.16"));
        assert!(check(&["169.254.169.254/32"], "169.254.169.254"));
        assert!(!check(&["fd00::/8"], "fd00:ec2::254"));
    }

    #[test]
    fn embedded_address_needs_leave_for_both() {
        assert!(!check(&["127.0.0.0/8"], "::ffff:127.0.0.1"));
        assert!(!check(&["::ffff:0:0/96"], "::ffff:127.0.0.1"));
        assert!(check(&["::ffff:0:0/96", "127.0.0.0/8"], "::ffff:127.0.0.1"));
        assert!(check(&["64:ff9b::/96"], "64:ff9b::808:808"));
        assert!(!check(&["64:ff9b::/96"], "64:ff9b::a00:1"));
        assert!(!check(&["64:ff9b::/96"], "64:ff9b::a9fe:a9fe"));
    }

    #[test]
    fn unspecified_and_multicast_stay_refused_though_listed() {
        for address in ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1"] {
            assert!(!check(&["0.0.0.0/0", "::/0"], address), "{address}");
        }
    }

    #[test]
    fn public_address_in_a_refused_range_is_refused() {
        let refused = ["93.184.0.0/16".parse().unwrap()];
        let rules = AddressRules {
            listed: &[],
            refused: &refused,
        };
        assert_eq!(
            rules.check("93.184.216.34".parse().unwrap()),
            Err(AddressKind::Public)
        );
        assert_eq!(rules.check("1.1.1.1".parse().unwrap()), Ok(()));
    }
}
