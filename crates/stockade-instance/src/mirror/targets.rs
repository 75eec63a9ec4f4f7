//! Functions and objects that guests pass to each other: those of this guest that others hold, and those of others that
//! this guest holds.
//!
//! Invariants:
//! 1. A guest names what it holds by numbers of its own table. There is no number that leads to what another guest holds.
//! 2. What a guest holds ends with the guest, and what it has passed on then fails.
//! 3. Both are bounded, and so are the calls of a guest's targets that are under way.
//! 4. What a guest holds, it holds for a request. The guest's runtime drops it with the request; the host drops it when the
//!    guest has nothing to do for anyone, whatever the runtime says.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use stockade_capability::{CallPayload, ErrorName, Part, Target};
use stockade_protocol::bounds::MAX_NAME_BYTES;
use stockade_protocol::{GuestError, Payload};

use super::Mirror;
use crate::error::FetchError;
use crate::fetch::{call_guest, ends_with_number};
use crate::wire::{AskError, Fields};

/// Targets of one guest that others may hold.
const MOST_LENT: usize = 10_000;

/// Targets of others that one guest may hold: fewer, so that one of several holders does not take all there may be.
const MOST_HELD: usize = 1000;

/// Calls of one guest's targets that may be under way.
const MOST_CALLS: usize = 100;

#[derive(Default)]
pub(super) struct Targets {
    /// Targets of this guest that others hold.
    lent: Arc<AtomicUsize>,
    /// Results of calls among them, which keep the guest at work.
    kept: AtomicUsize,
    /// Calls of them that are under way.
    calls: Arc<AtomicUsize>,
    held: Mutex<Held>,
}

/// What the guest holds of others.
#[derive(Default)]
struct Held {
    entries: HashMap<u64, Arc<dyn Target>>,
    last: u64,
    closed: bool,
}

/// A place among a bounded number, until it is dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(of: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let more = |taken| (taken < most).then_some(taken + 1);
        of.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more)
            .ok()?;
        Some(Self(Arc::clone(of)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Targets {
    /// Everything ends that the guest holds.
    pub(super) fn close(&self) {
        let mut held = self.held.lock();
        held.closed = true;
        let entries = std::mem::take(&mut held.entries);
        // Other guests are notified without the lock.
        drop(held);
        drop(entries);
    }
}

impl Mirror {
    /// A target of this guest, by the number that the guest has given it.
    pub(super) fn lend_target(self: &Arc<Self>, id: u64) -> Result<Box<dyn Target>, AskError> {
        let place = Place::take(&self.targets.lent, MOST_LENT);
        let place = place.ok_or_else(|| {
            AskError::Refused(format!(
                "others hold {MOST_LENT} functions and objects of this site, and cannot hold more: dispose of stubs"
            ))
        })?;
        Ok(Box::new(GuestTarget {
            mirror: Arc::downgrade(self),
            id,
            _place: place,
        }))
    }

    /// Targets that a call of this guest gave: until they are dropped, the guest is not at rest, and a mirror that is being
    /// replaced or is for one call waits for them as for a request.
    pub(crate) fn keep_for(
        self: &Arc<Self>,
        targets: Vec<Box<dyn Target>>,
    ) -> Vec<Box<dyn Target>> {
        let keep = |target| {
            self.targets.kept.fetch_add(1, Ordering::SeqCst);
            let mirror = Arc::downgrade(self);
            Box::new(KeptTarget { mirror, target }) as Box<dyn Target>
        };
        targets.into_iter().map(keep).collect()
    }

    /// Whether anyone holds what calls of this guest gave.
    pub(super) fn is_kept(&self) -> bool {
        self.targets.kept.load(Ordering::SeqCst) > 0
    }

    /// Gives a target to the guest; the number by which the guest names it.
    pub(super) fn hold_target(&self, target: Box<dyn Target>) -> Result<u64, String> {
        let mut held = self.targets.held.lock();
        if held.entries.len() >= MOST_HELD {
            return Err(format!(
                "this site holds {MOST_HELD} functions and objects of others, and cannot hold more: dispose of stubs"
            ));
        }
        held.last += 1;
        let id = held.last;
        if !held.closed {
            held.entries.insert(id, Arc::from(target));
        }
        Ok(id)
    }

    /// What the guest holds under this number.
    pub(super) fn held_target(&self, id: u64) -> Result<Arc<dyn Target>, GuestError> {
        let found = self.targets.held.lock().entries.get(&id).cloned();
        found.ok_or_else(|| ErrorName::Type.error("the stub has been disposed of"))
    }

    /// Takes `target.dispose`: the guest holds it no more.
    pub(super) fn target_disposed(&self, message: &Fields) {
        let gone = self.targets.held.lock().entries.remove(&message.id);
        // Its guest is notified without the lock.
        drop(gone);
    }

    /// Drops what the guest holds if it has nothing to do: the requests that it got it for are over.
    pub(super) fn drop_targets_at_rest(&self) {
        // Whatever it gets from here on may be for a request that comes from here on.
        let last = self.targets.held.lock().last;
        if !self.is_at_rest() {
            return;
        }
        let mut held = self.targets.held.lock();
        let gone: Vec<_> = held.entries.extract_if(|id, _| *id <= last).collect();
        // Their guests are notified without the lock.
        drop(held);
        drop(gone);
    }

    /// Takes back targets that no message has named: the guest never has them.
    pub(super) fn forget_targets(&self, ids: &[u64]) {
        let mut held = self.targets.held.lock();
        let gone: Vec<_> = ids.iter().map(|id| held.entries.remove(id)).collect();
        drop(held);
        drop(gone);
    }
}

/// A function or an object of a guest. The guest is not kept alive by it.
struct GuestTarget {
    mirror: Weak<Mirror>,
    id: u64,
    _place: Place,
}

/// A target that keeps its guest at work.
struct KeptTarget {
    mirror: Weak<Mirror>,
    target: Box<dyn Target>,
}

impl Target for KeptTarget {
    fn call(
        &self,
        part: &Part,
        arguments: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>> {
        self.target.call(part, arguments)
    }
}

impl Drop for KeptTarget {
    fn drop(&mut self) {
        if let Some(mirror) = self.mirror.upgrade() {
            let before = mirror.targets.kept.fetch_sub(1, Ordering::SeqCst);
            if before == 1 {
                mirror.pool.room_in(&mirror);
            }
        }
    }
}

fn gone() -> GuestError {
    GuestError::new("the site that the stub belongs to has ended there, or was replaced")
}

impl Target for GuestTarget {
    fn call(
        &self,
        part: &Part,
        arguments: CallPayload,
    ) -> BoxFuture<'static, Result<CallPayload, GuestError>> {
        let mirror = self.mirror.upgrade();
        let name = match part {
            Part::Itself => format!("\0{}", self.id),
            Part::Method(name) => format!("\0{}:{name}", self.id),
            Part::Property(name) => format!("\0{}.{name}", self.id),
        };
        if part.name().is_some_and(ends_with_number) {
            let error = ErrorName::Type.error("the stub has nothing with a name like that");
            return Box::pin(std::future::ready(Err(error)));
        }
        // With the U+0000 that marks an export's name.
        if name.len() >= MAX_NAME_BYTES {
            let beginning: String = part.name().unwrap_or_default().chars().take(40).collect();
            let error = ErrorName::Type.error(format!(
                "the stub has nothing with a name as long as '{beginning}…'"
            ));
            return Box::pin(std::future::ready(Err(error)));
        }
        Box::pin(async move {
            let mirror = mirror.ok_or_else(gone)?;
            if mirror.handle.end().is_some() {
                return Err(gone());
            }
            let _place = Place::take(&mirror.targets.calls, MOST_CALLS).ok_or_else(|| {
                GuestError::new(format!(
                    "{MOST_CALLS} calls of functions and objects of that site are under way already"
                ))
            })?;
            let trace = stockade_trace::current();
            let called = call_guest(&mirror, &name, arguments, trace.as_ref()).await;
            called.map_err(|error| match error {
                FetchError::Threw(error) => error,
                other => GuestError::new(other.to_string()),
            })
        })
    }
}

impl Drop for GuestTarget {
    fn drop(&mut self) {
        if let Some(mirror) = self.mirror.upgrade() {
            let message = Payload::from_json(format!("{{\"id\":{}}}", self.id));
            mirror.notify("target.release", message);
        }
    }
}
