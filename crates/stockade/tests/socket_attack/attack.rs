//! The attacks, by name.

use stockade_jail::Inside;

use crate::worker::Forger;
use crate::{frames, messages};

/// Megabytes of the memory limit that names the first attack.
const FIRST: u64 = 2000;

/// Something that a worker does instead of running a guest.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// What it does before it is sealed.
    pub(crate) before: fn(&mut Forger),
    /// What it does once it receives the order to start an isolate. Afterwards it keeps still.
    pub(crate) run: fn(&mut Forger),
    /// Whether it says that the isolate was started.
    pub(crate) says_started: bool,
    pub(crate) host: Host,
    pub(crate) end: End,
}

/// What the host does meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    /// Waits for an answer, and receives events.
    Listens,
    /// Sends a megabyte at a time until that is refused.
    Floods,
    /// Receives nothing until its neighbour has answered often.
    IsBusy,
    /// Only waits for the start.
    Starts,
}

/// How it must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Terminated for this reason, with a detail that contains this text.
    Terminated(&'static str, &'static str),
    /// Not at all: the event `done` is received, and at most this number of others.
    Harmless(usize),
    /// By the host, which could always do so.
    Destroyed,
    /// It never starts, for a reason that holds this text.
    NoStart(&'static str),
}

impl Attack {
    /// An attack on a host that listens.
    pub(crate) const fn new(name: &'static str, run: fn(&mut Forger), end: End) -> Self {
        Self {
            name,
            before: |_| {},
            run,
            says_started: true,
            host: Host::Listens,
            end,
        }
    }

    /// Whether two hundred of it are over soon.
    pub(crate) fn is_quick(&self) -> bool {
        matches!(self.end, End::Terminated("policy_violation" | "crashed", _))
            && self.host == Host::Listens
    }
}

/// All of them; the index is the attack's number.
pub(crate) fn all() -> impl Iterator<Item = &'static Attack> {
    frames::ATTACKS.iter().chain(messages::ATTACKS)
}

/// The memory limit that has a worker make the attack of this number.
pub(crate) fn limit(index: usize) -> u64 {
    (FIRST + index as u64) << 20
}

/// The attack that this worker is to make.
pub(crate) fn of(inside: &Inside) -> Option<&'static Attack> {
    let number = (inside.spec().memory? >> 20).checked_sub(FIRST)?;
    all().nth(usize::try_from(number).ok()?)
}
