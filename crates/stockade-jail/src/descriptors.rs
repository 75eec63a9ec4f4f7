//! The descriptors of a worker: which there are while it starts, and the exact set once it is sealed.
//!
//! Invariant: after [`check`] passed, 0, 1 and 2 lead nowhere, 3 is the message socket, 4 the setup socket,
//! 5 to 10 are either closed or parts of an event loop that lead nowhere, a worker of the role
//! [`Database`](crate::Role::Database) has its files at 13 to 15, and nothing else is open.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::process::{Resource, getrlimit};

use crate::spec::FILES;
use crate::{JailError, Role, sys};

const LAYER: &str = "descriptors";

/// The connection to the supervisor that stays.
pub(crate) const MESSAGE: RawFd = 3;
/// Reports how the layers were applied, until the worker is sealed.
pub(crate) const SETUP: RawFd = 4;
/// What a worker makes for itself before it is sealed gets these numbers.
const EVENT_LOOP: std::ops::RangeInclusive<RawFd> = 5..=10;
/// The files of a database, in their order.
pub(crate) const DATABASE: [RawFd; FILES] = [13, 14, 15];
/// `/proc/self/maps`, opened while there still is a /proc. It and those below are out of the way of the
/// event loop's numbers.
const MAPS: RawFd = 16;
/// The launcher's pidfd.
const LAUNCHER: RawFd = 17;
/// Becomes readable when the launcher has mapped the ids.
const GO: RawFd = 18;

/// Above every number that is assigned here.
const ABOVE: RawFd = 24;

/// Descriptors that are scanned whatever the limit says.
const LEAST_SCANNED: u64 = 64;

/// The descriptors that a clone of the launcher goes on with.
pub(crate) struct Handed<'a> {
    pub(crate) message: &'a OwnedFd,
    pub(crate) setup: &'a OwnedFd,
    pub(crate) launcher: &'a OwnedFd,
    pub(crate) go: &'a OwnedFd,
    /// The files of [`DATABASE`], or none.
    pub(crate) files: &'a [OwnedFd],
}

/// The descriptors of [`Handed`] in their places.
pub(crate) struct Placed {
    pub(crate) message: OwnedFd,
    pub(crate) setup: OwnedFd,
    pub(crate) maps: File,
    pub(crate) launcher: OwnedFd,
    pub(crate) go: OwnedFd,
}

/// Puts what was handed over in its places and closes everything else, in a fresh clone. The owners of what
/// was closed must never be dropped.
pub(crate) fn arrange(handed: &Handed<'_>) -> Result<Placed, JailError> {
    let failed = |error: io::Error| {
        JailError::new(
            LAYER,
            format!("arranging the worker's descriptors failed: {error}"),
            "dup2, open of /proc/self/maps, close_range",
            "mount /proc; raise the limit of open files (ulimit -n) to 64 or more; Linux 5.9 or newer is \
             needed",
        )
    };
    let maps = File::open("/proc/self/maps").map_err(failed)?;
    // An epoll instance without members: reading and writing it fail, and it leads nowhere.
    let inert = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    // First out of the way of the numbers to be given, so that none is overwritten.
    let high = |from: &dyn AsFdDyn| rustix::io::fcntl_dupfd_cloexec(from.fd(), ABOVE);
    let mut moved = vec![
        (0, high(&inert)),
        (1, high(&inert)),
        (2, high(&inert)),
        (MESSAGE, high(handed.message)),
        (SETUP, high(handed.setup)),
        (MAPS, high(&maps)),
        (LAUNCHER, high(handed.launcher)),
        (GO, high(handed.go)),
    ];
    for (number, file) in DATABASE.into_iter().zip(handed.files) {
        moved.push((number, high(file)));
    }
    // All of these are closed below by number.
    std::mem::forget((maps, inert));
    for (number, from) in moved {
        let from = from.map_err(|error| failed(error.into()))?;
        sys::descriptor::place(&from, number).map_err(failed)?;
        std::mem::forget(from);
    }
    let first_file = if handed.files.is_empty() {
        MAPS
    } else {
        DATABASE[0]
    };
    sys::descriptor::close_range(SETUP + 1, first_file - 1)
        .and_then(|()| sys::descriptor::close_from(GO + 1))
        .map_err(failed)?;
    Ok(Placed {
        message: sys::descriptor::take(MESSAGE),
        setup: sys::descriptor::take(SETUP),
        maps: File::from(sys::descriptor::take(MAPS)),
        launcher: sys::descriptor::take(LAUNCHER),
        go: sys::descriptor::take(GO),
    })
}

/// Lets descriptors of several types stand in one list.
trait AsFdDyn {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_>;
}

impl<T: AsFd> AsFdDyn for T {
    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.as_fd()
    }
}

/// Sees that exactly 0 to 4, an event loop's and a database's files are open. Above the limit of open files nothing can have
/// been opened since [`arrange`] closed all of it.
pub(crate) fn check(role: Role) -> Result<(), JailError> {
    let files = matches!(role, Role::Database { .. });
    let limit = getrlimit(Resource::Nofile)
        .maximum
        .unwrap_or(LEAST_SCANNED)
        .clamp(LEAST_SCANNED, 1 << 20);
    let wrong: Vec<String> = (0..RawFd::try_from(limit).unwrap_or(RawFd::MAX))
        .filter_map(|number| match sys::descriptor::borrow(number) {
            None if number <= SETUP => Some(format!("{number} is closed")),
            None if files && DATABASE.contains(&number) => Some(format!("{number} is closed")),
            Some(fd) if files && DATABASE.contains(&number) => {
                (!is_file(fd)).then(|| format!("{number} is open and not a regular file"))
            }
            Some(fd) if EVENT_LOOP.contains(&number) && !leads_nowhere(fd) => {
                Some(format!("{number} is open and not of an event loop"))
            }
            Some(_) if number > *EVENT_LOOP.end() => Some(format!("{number} is open")),
            _ => None,
        })
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(JailError::new(
        LAYER,
        "the worker's descriptors are not what they should be",
        wrong.join(", "),
        "this is a fault of Stockade or of a library it is linked with: report it",
    ))
}

fn is_file(fd: BorrowedFd<'_>) -> bool {
    matches!(rustix::fs::fstat(fd), Ok(stat) if stat.st_mode & libc::S_IFMT == libc::S_IFREG)
}

/// Whether this is an epoll instance, an eventfd, or one end of a pair of sockets that this process made.
fn leads_nowhere(fd: BorrowedFd<'_>) -> bool {
    if let Ok(peer) = sockopt::socket_peercred(fd) {
        return peer.pid == rustix::process::getpid();
    }
    // Descriptor 0 is in no event loop, which only an epoll instance reports.
    let stdin = io::stdin();
    if epoll::delete(fd, stdin.as_fd()) == Err(Errno::NOENT) {
        return true;
    }
    // Only an eventfd takes this: it adds 0.
    matches!(rustix::fs::fstat(fd), Ok(stat) if stat.st_mode & libc::S_IFMT == 0)
        && rustix::io::write(fd, &0_u64.to_ne_bytes()) == Ok(8)
}
