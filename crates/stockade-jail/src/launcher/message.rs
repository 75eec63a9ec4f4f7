//! What supervisor, launcher and a starting worker say to each other: one postcard value in each packet.
//!
//! The launcher and a worker before it is sealed run our code only, yet every packet is bounded
//! and one that cannot be read ends the connection.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{ExitStatus, JailError, JailSpec, Layer};

/// Largest packet in bytes.
pub(crate) const MOST_PACKET_BYTES: usize = 32 << 10;

/// Most descriptors in a packet: what a template hands to its clone, more than the sockets and files of a launch.
const MOST_DESCRIPTORS: usize = 3 + crate::cgroup::MOST_DOORS;

/// From the supervisor to the launcher.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Start a worker. With it come the worker's ends of its message socket and its setup socket, and its files.
    Launch { id: u64, spec: JailSpec },
    /// Set what the kernel lets a worker use.
    SetMemory { id: u64, memory: Option<u64> },
    /// Try each layer.
    Layers,
}

/// From the launcher to the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum LauncherReply {
    /// The worker exists. With it comes its pidfd.
    Started { id: u64, pid: i32 },
    /// There is no such worker.
    Refused { id: u64, error: JailError },
    /// The worker has been reaped, and its cgroup is gone.
    Exited {
        id: u64,
        status: ExitStatus,
        max_rss: u64,
        cpu: Duration,
        oom_killed: bool,
    },
    /// The answer to `SetMemory`.
    MemorySet { id: u64, error: Option<JailError> },
    /// The answer to `Layers`.
    Layers(Vec<Layer>),
    /// It cannot work here, and ends.
    Unable(JailError),
}

/// From a starting worker to the supervisor; one of them, once.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The worker is sealed. With it comes the listener of the seccomp filter.
    Closed,
    /// They are not, and the worker ends.
    Failed(JailError),
}

/// Sends one packet.
pub(crate) fn send(
    socket: impl AsFd,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = postcard::to_allocvec(message).map_err(io::Error::other)?;
    if bytes.len() > MOST_PACKET_BYTES {
        return Err(io::Error::other(format!(
            "a packet of {} bytes is over {MOST_PACKET_BYTES}",
            bytes.len()
        )));
    }
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one packet"));
    }
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(
            socket.as_fd(),
            &[IoSlice::new(&bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
    })?;
    Ok(())
}

/// A packet and the descriptors that came with it.
pub(crate) type Packet<T> = (T, Vec<OwnedFd>);

/// Receives one packet without waiting; `None` when the other end is closed. Where this process may not open as many
/// descriptors as came with the packet, it has none of them.
pub(crate) fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<Packet<T>>> {
    let mut bytes = vec![0; MOST_PACKET_BYTES];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(
            socket.as_fd(),
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
        )
    })?;
    let mut descriptors: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    // Nobody sends an empty packet.
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::Error::other("a packet over its bounds"));
    }
    // No number was left for some of them.
    if received.flags.contains(ReturnFlags::CTRUNC) {
        descriptors.clear();
    }
    let message = postcard::from_bytes(&bytes[..received.bytes]).map_err(io::Error::other)?;
    Ok(Some((message, descriptors)))
}
