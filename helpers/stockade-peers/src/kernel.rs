//! The kernel's side: messages of generic netlink (`linux/wireguard.h`).
//!
//! Invariant: an answer has a bound, and belongs to the request that was sent just before.

use std::fmt::Write as _;
use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_generic::{GenlFamily, GenlMessage};
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr, WireguardAttribute,
    WireguardCmd, WireguardMessage, WireguardPeer, WireguardPeerAttribute, WireguardPeerFlags,
};
use rustix::fd::OwnedFd;
use rustix::net::netlink::{GENERIC, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, recv, send,
    socket_with,
};

use crate::request::{Key, Peer, hex};

/// Bytes of one datagram of the kernel's, which has at most 32 KiB.
const DATAGRAM: usize = 64 << 10;

/// Bytes of all text about an interface: some ten thousand peers.
const MOST_TEXT: usize = 4 << 20;

/// An interface, with a socket to ask about it.
pub(crate) struct Kernel {
    socket: OwnedFd,
    name: String,
    /// The kernel's number for WireGuard; 0 before it was asked.
    family: u16,
    sequence: u32,
}

impl Kernel {
    /// Opens the socket.
    pub(crate) fn open(name: &str) -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(GENERIC),
        )?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        // What comes from elsewhere than the kernel is not received.
        connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self {
            socket,
            name: name.to_owned(),
            family: 0,
            sequence: 0,
        })
    }

    /// Has the kernel say under which number it knows WireGuard.
    fn find_family(&mut self) -> Result<(), i32> {
        let wanted = GenlCtrl {
            cmd: GenlCtrlCmd::GetFamily,
            nlas: vec![GenlCtrlAttrs::FamilyName(
                WireguardMessage::family_name().to_owned(),
            )],
        };
        let mut family = None;
        self.ask(GenlMessage::from_payload(wanted), 0, |answer: GenlCtrl| {
            family = family.or(answer.nlas.iter().find_map(|attribute| match attribute {
                GenlCtrlAttrs::FamilyId(id) => Some(*id),
                _ => None,
            }));
            Ok(())
        })?;
        self.family = family.ok_or(libc::ENOENT)?;
        Ok(())
    }

    /// What the interface is, as lines.
    pub(crate) fn interface(&mut self) -> Result<String, i32> {
        let mut text = String::new();
        // A peer with many networks comes in several parts, one after the other.
        let mut last = None;
        let request = self.message(WireguardCmd::GetDevice, Vec::new())?;
        self.ask(request, NLM_F_DUMP, |answer: WireguardMessage| {
            for attribute in &answer.attributes {
                match attribute {
                    WireguardAttribute::PublicKey(key) if text.is_empty() => {
                        let _ = writeln!(text, "interface_public_key={}", hex(key));
                    }
                    WireguardAttribute::Peers(peers) => {
                        for peer in peers {
                            write_peer(&mut text, peer, &mut last);
                        }
                    }
                    _ => {}
                }
            }
            if text.len() > MOST_TEXT {
                Err(libc::EMSGSIZE)
            } else {
                Ok(())
            }
        })?;
        Ok(text)
    }

    /// Adds, changes or removes a peer.
    pub(crate) fn set(&mut self, peer: Peer) -> Result<(), i32> {
        let mut attributes = vec![WireguardPeerAttribute::PublicKey(peer.public_key)];
        if peer.remove {
            attributes.push(WireguardPeerAttribute::Flags(WireguardPeerFlags::RemoveMe));
        } else {
            let flags = WireguardPeerFlags::ReplaceAllowedIps;
            attributes.push(WireguardPeerAttribute::Flags(flags));
            attributes.extend(peer.preshared_key.map(WireguardPeerAttribute::PresharedKey));
            let nets = peer.allowed_ips.iter().map(|(address, length)| {
                let family = match address.is_ipv4() {
                    true => WireguardAddressFamily::Ipv4,
                    false => WireguardAddressFamily::Ipv6,
                };
                WireguardAllowedIp(vec![
                    WireguardAllowedIpAttr::Family(family),
                    WireguardAllowedIpAttr::IpAddr(*address),
                    WireguardAllowedIpAttr::Cidr(*length),
                ])
            });
            attributes.push(WireguardPeerAttribute::AllowedIps(nets.collect()));
        }
        let peers = WireguardAttribute::Peers(vec![WireguardPeer(attributes)]);
        let request = self.message(WireguardCmd::SetDevice, vec![peers])?;
        self.ask(request, 0, |_: WireguardMessage| Ok(()))
    }

    fn message(
        &mut self,
        cmd: WireguardCmd,
        mut attributes: Vec<WireguardAttribute>,
    ) -> Result<GenlMessage<WireguardMessage>, i32> {
        if self.family == 0 {
            self.find_family()?;
        }
        attributes.insert(0, WireguardAttribute::IfName(self.name.clone()));
        let mut message = GenlMessage::from_payload(WireguardMessage { cmd, attributes });
        message.set_resolved_family_id(self.family);
        Ok(message)
    }

    /// Sends a request and takes its answers, up to the kernel's word that it is done.
    fn ask<F>(
        &mut self,
        request: GenlMessage<F>,
        flags: u16,
        mut take: impl FnMut(F) -> Result<(), i32>,
    ) -> Result<(), i32>
    where
        F: GenlFamily + Clone + std::fmt::Debug + Eq,
        GenlMessage<F>: NetlinkSerializable + NetlinkDeserializable,
    {
        self.sequence += 1;
        let mut request = NetlinkMessage::from(request);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        let failed = |error: rustix::io::Errno| error.raw_os_error();
        send(&self.socket, &bytes, SendFlags::empty()).map_err(failed)?;
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let (_, length) =
                recv(&self.socket, buffer.as_mut_slice(), RecvFlags::TRUNC).map_err(failed)?;
            let mut rest = buffer.get(..length).ok_or(libc::EMSGSIZE)?;
            while !rest.is_empty() {
                let answer = NetlinkMessage::<GenlMessage<F>>::deserialize(rest);
                let answer = answer.map_err(|_| libc::EBADMSG)?;
                let length = usize::try_from(answer.header.length).unwrap_or(usize::MAX);
                // Messages begin at multiples of 4.
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => take(message.into_parts().1)?,
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            None => Ok(()),
                            Some(code) => Err(code.get().saturating_neg()),
                        };
                    }
                    _ => {}
                }
            }
        }
    }
}

fn write_peer(text: &mut String, peer: &WireguardPeer, last: &mut Option<Key>) {
    let key = peer.iter().find_map(|attribute| match attribute {
        WireguardPeerAttribute::PublicKey(key) => Some(*key),
        _ => None,
    });
    let Some(key) = key else { return };
    if *last != Some(key) {
        let _ = writeln!(text, "public_key={}", hex(&key));
        *last = Some(key);
    }
    for attribute in peer.iter() {
        let _ = match attribute {
            WireguardPeerAttribute::Endpoint(at) => writeln!(text, "endpoint={at}"),
            WireguardPeerAttribute::LastHandshake(at) => {
                writeln!(text, "last_handshake_time_sec={}", at.seconds)
            }
            WireguardPeerAttribute::RxBytes(bytes) => writeln!(text, "rx_bytes={bytes}"),
            WireguardPeerAttribute::TxBytes(bytes) => writeln!(text, "tx_bytes={bytes}"),
            WireguardPeerAttribute::AllowedIps(nets) => {
                for net in nets {
                    write_net(text, net);
                }
                Ok(())
            }
            _ => Ok(()),
        };
    }
}

fn write_net(text: &mut String, net: &WireguardAllowedIp) {
    let address = net.iter().find_map(|attribute| match attribute {
        WireguardAllowedIpAttr::IpAddr(address) => Some(address),
        _ => None,
    });
    let length = net.iter().find_map(|attribute| match attribute {
        WireguardAllowedIpAttr::Cidr(length) => Some(length),
        _ => None,
    });
    if let (Some(address), Some(length)) = (address, length) {
        let _ = writeln!(text, "allowed_ip={address}/{length}");
    }
}
