//! Which networks a peer may have: within those of the grant, and nobody else's.

use std::net::IpAddr;

use ipnet::IpNet;

/// Addresses of one network that are tried to find a free one.
const MOST_TRIED: usize = 1 << 17;

/// The networks of a grant, and the addresses in them that no peer gets.
pub(super) struct Space<'a> {
    pub(super) nets: &'a [IpNet],
    pub(super) reserved: &'a [IpAddr],
}

/// Why a peer cannot have a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error("it is not within allowed_ips of the grant")]
    Outside,
    #[error("it contains an address that no peer gets")]
    Reserved,
    #[error("another peer of the interface has it, or a part of it")]
    Taken,
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

impl Space<'_> {
    /// Whether a peer may have `net`, where others have `taken`.
    pub(super) fn check(&self, net: &IpNet, taken: &[IpNet]) -> Result<(), Unfit> {
        let home = self.nets.iter().find(|home| home.contains(net));
        let home = home.ok_or(Unfit::Outside)?;
        if taken.iter().any(|other| overlap(net, other)) {
            return Err(Unfit::Taken);
        }
        let is_ours = |address: &IpAddr| net.contains(address);
        if self.reserved.iter().any(is_ours) || left_out(home).iter().any(is_ours) {
            return Err(Unfit::Reserved);
        }
        Ok(())
    }

    /// The lowest free address; of several networks, of the first one that has one.
    pub(super) fn free(&self, taken: &[IpNet]) -> Option<IpNet> {
        let tries = self
            .nets
            .iter()
            .flat_map(|net| net.hosts().take(MOST_TRIED));
        let mut nets = tries.map(IpNet::from);
        nets.find(|net| self.check(net, taken).is_ok())
    }
}

/// The first and the last address of a network, and the one after the first. None of one or two addresses.
fn left_out(net: &IpNet) -> Vec<IpAddr> {
    if net.max_prefix_len() - net.prefix_len() < 2 {
        return Vec::new();
    }
    let second = match net.network() {
        IpAddr::V4(address) => IpAddr::V4((u32::from(address) + 1).into()),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) + 1).into()),
    };
    vec![net.network(), second, net.broadcast()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn networks_outside_reserved_or_taken_are_refused() {
        let (home, reserved) = (
            nets(&["10.8.0.0/24", "fd00::/64"]),
            ["10.8.0.9".parse().unwrap()],
        );
        let space = Space {
            nets: &home,
            reserved: &reserved,
        };
        let taken = nets(&["10.8.0.4/30"]);
        let cases = [
            ("10.8.0.2/32", Ok(())),
            ("10.8.0.64/26", Ok(())),
            ("fd00::7/128", Ok(())),
            ("10.8.1.2/32", Err(Unfit::Outside)),
            ("10.0.0.0/8", Err(Unfit::Outside)),
            ("0.0.0.0/0", Err(Unfit::Outside)),
            ("10.8.0.0/24", Err(Unfit::Taken)),
            ("10.8.0.5/32", Err(Unfit::Taken)),
            ("10.8.0.1/32", Err(Unfit::Reserved)),
            ("10.8.0.0/32", Err(Unfit::Reserved)),
            ("10.8.0.255/32", Err(Unfit::Reserved)),
            ("10.8.0.9/32", Err(Unfit::Reserved)),
        ];
        for (net, expected) in cases {
            assert_eq!(
                space.check(&net.parse().unwrap(), &taken),
                expected,
                "{net}"
            );
        }
    }

    #[test]
    fn free_address_is_the_lowest_until_there_is_none() {
        let home = nets(&["10.8.0.0/29"]);
        let space = Space {
            nets: &home,
            reserved: &[],
        };
        let mut taken = Vec::new();
        while let Some(net) = space.free(&taken) {
            taken.push(net);
        }
        assert_eq!(
            taken,
            nets(&[
                "10.8.0.2/32",
                "10.8.0.3/32",
                "10.8.0.4/32",
                "10.8.0.5/32",
                "10.8.0.6/32"
            ])
        );
    }
}
