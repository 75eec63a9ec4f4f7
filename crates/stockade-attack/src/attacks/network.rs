//! Sockets.

use libc::{
    AF_ALG, AF_INET, AF_INET6, AF_KEY, AF_NETLINK, AF_PACKET, AF_TIPC, AF_UNIX, AF_VSOCK, AF_XDP,
    IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_RAW, MSG_FASTOPEN, MSG_NOSIGNAL, MSG_OOB, SO_PASSCRED,
    SO_PEERCRED, SO_RCVBUFFORCE, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_STREAM, SOL_SOCKET,
};
use syscalls::Sysno;

use crate::attack::{Attack, Expect, attack, denied};
use crate::controls::{MESSAGES, THREAD};
use crate::outcome::Outcome;
use crate::sys::{at, call, into};
use crate::targets::Targets;

/// `struct sockaddr_in` of a port of this machine.
fn loopback(port: u16) -> [u8; 16] {
    let family = u16::try_from(AF_INET).unwrap_or(2).to_ne_bytes();
    let port = port.to_be_bytes();
    [
        family[0], family[1], port[0], port[1], 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0,
    ]
}

/// `struct sockaddr_un` of an abstract name, and its length.
fn abstract_name(name: &str) -> (Vec<u8>, u64) {
    let mut address = u16::try_from(AF_UNIX).unwrap_or(1).to_ne_bytes().to_vec();
    address.push(0);
    address.extend_from_slice(name.as_bytes());
    let length = address.len() as u64;
    (address, length)
}

/// Connects its own socket to the supervisor's listener.
fn reconnect(targets: &Targets) -> Outcome {
    let (address, length) = abstract_name(&targets.socket);
    call(Sysno::connect, [3, at(address.as_slice()), length])
}

/// Binds its own socket to an abstract name that others can connect to.
fn rebind(_targets: &Targets) -> Outcome {
    let (address, length) = abstract_name("stockade-attack");
    call(Sysno::bind, [3, at(address.as_slice()), length])
}

/// `struct msghdr`, with a vector of one piece.
#[repr(C)]
#[derive(Default)]
struct Message {
    name: u64,
    name_bytes: u64,
    pieces: u64,
    count: u64,
    control: u64,
    control_bytes: u64,
    flags: u64,
}

/// `struct cmsghdr` with one descriptor in it.
#[repr(C)]
struct Rights {
    bytes: u64,
    level: i32,
    kind: i32,
    descriptor: i32,
    padding: i32,
}

/// Sends a descriptor over this socket.
fn send_rights(socket: u64, descriptor: i32) -> Outcome {
    let pieces = [at(b"x"), 1];
    let rights = Rights {
        bytes: 20,
        level: SOL_SOCKET,
        kind: 1,
        descriptor,
        padding: 0,
    };
    let message = Message {
        pieces: at(&pieces),
        count: 1,
        control: at(&rights),
        control_bytes: 24,
        ..Message::default()
    };
    call(Sysno::sendmsg, [socket, at(&message), 0])
}

/// Takes descriptors that come over this socket.
fn receive_rights(socket: u64) -> Outcome {
    let mut buffer = [0_u8; 16];
    let mut control = [0_u8; 64];
    let pieces = [into(&mut buffer), 16];
    let mut message = Message {
        pieces: at(&pieces),
        count: 1,
        control: into(&mut control),
        control_bytes: 64,
        ..Message::default()
    };
    call(
        Sysno::recvmsg,
        [socket, into(&mut message), libc::MSG_DONTWAIT as u64],
    )
}

pub(super) static ATTACKS: &[Attack] = &[
    denied!(19, "a TCP socket", MESSAGES, socket [AF_INET, SOCK_STREAM, 0]),
    denied!(19, "a TCP socket of version 6", MESSAGES, socket [AF_INET6, SOCK_STREAM, 0]),
    denied!(19, "a UDP socket", MESSAGES, socket [AF_INET, SOCK_DGRAM, 0]),
    denied!(19, "an MPTCP socket", MESSAGES, socket [AF_INET, SOCK_STREAM, 262]),
    denied!(19, "a raw socket", MESSAGES, socket [AF_INET, SOCK_RAW, IPPROTO_RAW]),
    denied!(19, "a raw ICMP socket", MESSAGES, socket [AF_INET, SOCK_RAW, IPPROTO_ICMP]),
    denied!(19, "a ping socket", MESSAGES, socket [AF_INET, SOCK_DGRAM, IPPROTO_ICMP]),
    denied!(
        19, "a ping socket of version 6", MESSAGES,
        socket [AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6]
    ),
    denied!(19, "a packet socket", MESSAGES, socket [AF_PACKET, SOCK_RAW, 0x300]),
    denied!(19, "a netlink socket", MESSAGES, socket [AF_NETLINK, SOCK_RAW, 0]),
    denied!(19, "a vsock socket", MESSAGES, socket [AF_VSOCK, SOCK_STREAM, 0]),
    denied!(19, "an AF_ALG socket", MESSAGES, socket [AF_ALG, SOCK_SEQPACKET, 0]),
    denied!(19, "an AF_XDP socket", MESSAGES, socket [AF_XDP, SOCK_RAW, 0]),
    denied!(19, "an AF_TIPC socket", MESSAGES, socket [AF_TIPC, SOCK_DGRAM, 0]),
    denied!(19, "an AF_KEY socket", MESSAGES, socket [AF_KEY, SOCK_RAW, 2]),
    denied!(19, "an AF_QIPCRTR socket", MESSAGES, socket [42, SOCK_DGRAM, 0]),
    denied!(19, "a Bluetooth socket", MESSAGES, socket [31, SOCK_RAW, 1]),
    denied!(19, "an SMC socket", MESSAGES, socket [43, SOCK_STREAM, 0]),
    denied!(
        19, "connect to a port of the supervisor", MESSAGES,
        |targets| connect [3, at(&loopback(targets.port)), 16]
    ),
    denied!(
        19, "sendto with an address", MESSAGES,
        |targets| sendto [3, at(b"x"), 1, 0, at(&loopback(targets.port)), 16]
    ),
    denied!(
        19, "sendto MSG_FASTOPEN", MESSAGES,
        |targets| sendto [3, at(b"x"), 1, MSG_FASTOPEN, at(&loopback(targets.port)), 16]
    ),
    denied!(19, "sendto MSG_OOB", MESSAGES, sendto [3, at(b"x"), 1, MSG_OOB | MSG_NOSIGNAL, 0, 0]),
    denied!(19, "recvfrom MSG_OOB", MESSAGES, recvfrom [3, into(&mut [0_u8; 4]), 4, MSG_OOB, 0, 0]),
    denied!(
        19, "recvfrom with an address", MESSAGES,
        recvfrom [3, into(&mut [0_u8; 4]), 4, 0, into(&mut [0_u8; 128]), into(&mut 128_u32)]
    ),
    denied!(19, "listen on the message socket", MESSAGES, listen [3, 1]),
    denied!(19, "accept4 on the message socket", MESSAGES, accept4 [3, 0, 0, 0]),
    denied!(19, "shutdown of the message socket", MESSAGES, shutdown [3, 2]),
    denied!(
        19, "setsockopt SO_RCVBUFFORCE", MESSAGES,
        setsockopt [3, SOL_SOCKET, SO_RCVBUFFORCE, at(&i32::MAX), 4]
    ),
    denied!(
        19, "getpeername of the message socket", MESSAGES,
        getpeername [3, into(&mut [0_u8; 128]), into(&mut 128_u32)]
    ),
    //
    denied!(20, "a Unix socket", THREAD, socket [AF_UNIX, SOCK_STREAM, 0]),
    denied!(20, "a Unix datagram socket", THREAD, socket [AF_UNIX, SOCK_DGRAM, 0]),
    denied!(
        20, "a pair of Unix sockets", THREAD,
        socketpair [AF_UNIX, SOCK_STREAM, 0, into(&mut [0_i32; 2])]
    ),
    attack(
        20,
        "connect to an abstract Unix socket of the supervisor",
        THREAD,
        Expect::Denied("connect"),
        reconnect,
    ),
    attack(
        20,
        "offer an abstract Unix socket",
        THREAD,
        Expect::Denied("bind"),
        rebind,
    ),
    attack(
        20,
        "send descriptor 0 to the supervisor",
        THREAD,
        Expect::Denied("sendmsg"),
        |_targets| send_rights(3, 0),
    ),
    attack(
        20,
        "send the message socket through itself",
        THREAD,
        Expect::Denied("sendmsg"),
        |_targets| send_rights(3, 3),
    ),
    attack(
        20,
        "send a descriptor over the setup socket",
        THREAD,
        Expect::Refused(&[libc::EBADF]),
        |_targets| send_rights(4, 3),
    ),
    attack(
        20,
        "receive descriptors from the message socket",
        THREAD,
        Expect::Denied("recvmsg"),
        |_targets| receive_rights(3),
    ),
    attack(
        20,
        "receive descriptors from the setup socket",
        THREAD,
        Expect::Denied("recvmsg"),
        |_targets| receive_rights(4),
    ),
    denied!(20, "sendmmsg", THREAD, sendmmsg [3, into(&mut [0_u64; 8]), 1, 0]),
    denied!(20, "recvmmsg", THREAD, recvmmsg [3, into(&mut [0_u64; 8]), 1, 0, 0]),
    denied!(
        20, "SO_PEERCRED of the message socket", THREAD,
        getsockopt [3, SOL_SOCKET, SO_PEERCRED, into(&mut [0_u32; 3]), into(&mut 12_u32)]
    ),
    denied!(
        20, "SO_PASSCRED for the message socket", THREAD,
        setsockopt [3, SOL_SOCKET, SO_PASSCRED, at(&1_i32), 4]
    ),
];
