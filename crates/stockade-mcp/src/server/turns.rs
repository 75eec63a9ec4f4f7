//! Whose run is next. Runs that wait take turns: of the tenants one after the other, and of a tenant's clients one after
//! the other. A client with many runs therefore delays its own, and not those of others.
//!
//! Invariants:
//! 1. A run has a [`Place`] from its request to its end, of which there are a bounded number in all and for each tenant.
//! 2. It has a [`Turn`] while its code runs. A turn goes to a run that waits as soon as there is one for it.
//! 3. A run that no longer waits leaves nothing in the queue.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::tenant::{Client, Share};

/// How many runs there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Runs at the same time, and runs that wait.
    pub(super) all: (usize, usize),
    /// The same for one tenant.
    pub(super) each: (usize, usize),
}

impl Bounds {
    pub(super) fn new(runs: usize, waiting: usize, share: Option<Share>) -> Self {
        let each = share.map_or((runs, waiting), |share| (share.runs, share.waiting));
        Self {
            all: (runs, waiting),
            each: (each.0.min(runs), each.1.min(waiting)),
        }
    }
}

/// The turns of all runs.
#[derive(Clone)]
pub(super) struct Turns(Arc<Shared>);

struct Shared {
    bounds: Bounds,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    places: usize,
    running: usize,
    tenants: HashMap<Arc<str>, TenantRuns>,
    /// Tenants with runs that wait, the next one first.
    order: VecDeque<Arc<str>>,
    next: u64,
}

#[derive(Default)]
struct TenantRuns {
    places: usize,
    running: usize,
    waiting: HashMap<Arc<str>, VecDeque<Waiter>>,
    /// Clients with runs that wait, the next one first.
    order: VecDeque<Arc<str>>,
    /// What ends each run, by the number of its place, with its client.
    ends: HashMap<u64, (Arc<str>, CancellationToken)>,
}

struct Waiter {
    number: u64,
    granted: oneshot::Sender<Turn>,
}

/// A run that waits or has its turn.
pub(super) struct Place {
    turns: Turns,
    client: Client,
    number: u64,
    /// Cancelled when the run is to end, because its client or its tenant has.
    pub(super) ended: CancellationToken,
}

/// The permit of a run whose code runs.
pub(super) struct Turn {
    /// `None` in a turn that was never counted.
    of: Option<(Turns, Arc<str>)>,
}

/// Takes a run out of the queue when it is dropped.
struct Waiting<'a> {
    place: &'a Place,
    number: u64,
}

impl Turns {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self(Arc::new(Shared {
            bounds,
            state: Mutex::default(),
        }))
    }

    /// Takes a place for a run.
    ///
    /// # Errors
    ///
    /// The reason for the client, if there is none.
    pub(super) fn enter(&self, client: Client) -> Result<Place, String> {
        let Bounds { all, each } = self.0.bounds;
        let full = |(runs, waiting): (usize, usize), whose: &str| {
            Err(format!(
                "{runs} runs{whose} are under way and {waiting} wait, which is the limit; try again later"
            ))
        };
        let mut state = self.0.state.lock();
        let own = state
            .tenants
            .get(&client.tenant.name)
            .map_or(0, |tenant| tenant.places);
        if own >= each.0 + each.1 {
            return full(
                each,
                if each == all {
                    ""
                } else {
                    " of this API key or token"
                },
            );
        }
        if state.places >= all.0 + all.1 {
            return full(all, "");
        }
        state.places += 1;
        let number = state.next;
        state.next += 1;
        let ended = client.tenant.ended.child_token();
        let name = Arc::clone(&client.tenant.name);
        let tenant = state.tenants.entry(name).or_default();
        tenant.places += 1;
        let end = (Arc::clone(&client.name), ended.clone());
        tenant.ends.insert(number, end);
        drop(state);
        Ok(Place {
            turns: self.clone(),
            client,
            number,
            ended,
        })
    }

    /// Ends the runs of a client.
    pub(super) fn end(&self, client: &Client) {
        let state = self.0.state.lock();
        let Some(tenant) = state.tenants.get(&client.tenant.name) else {
            return;
        };
        let of_client = |(of, _): &&(Arc<str>, _)| *of == client.name;
        let ends: Vec<_> = tenant.ends.values().filter(of_client).cloned().collect();
        drop(state);
        for (_, end) in ends {
            end.cancel();
        }
    }

    /// Gives turns to runs that wait, as long as there are any for them.
    fn grant(&self, state: &mut State) {
        while state.running < self.0.bounds.all.0 {
            // The next tenant that may have one more, and of its clients the next.
            let may = |name: &Arc<str>| {
                let tenant = state.tenants.get(name);
                tenant.is_some_and(|tenant| tenant.running < self.0.bounds.each.0)
            };
            let Some(at) = state.order.iter().position(may) else {
                return;
            };
            let Some(name) = state.order.remove(at) else {
                return;
            };
            let Some(tenant) = state.tenants.get_mut(&name) else {
                continue;
            };
            let waiter = tenant.next();
            if !tenant.order.is_empty() {
                state.order.push_back(Arc::clone(&name));
            }
            // The turn itself, unless its run has gone meanwhile.
            let Some(waiter) = waiter else { continue };
            let turn = Turn {
                of: Some((self.clone(), Arc::clone(&name))),
            };
            match waiter.granted.send(turn) {
                Ok(()) => {
                    tenant.running += 1;
                    state.running += 1;
                }
                Err(mut turn) => turn.of = None,
            }
        }
    }
}

impl TenantRuns {
    /// Takes the run that is next.
    fn next(&mut self) -> Option<Waiter> {
        let client = self.order.pop_front()?;
        let waiting = self.waiting.get_mut(&client)?;
        let waiter = waiting.pop_front();
        if waiting.is_empty() {
            self.waiting.remove(&client);
        } else {
            self.order.push_back(client);
        }
        waiter
    }
}

impl Place {
    /// Waits for the turn.
    pub(super) async fn turn(&self) -> Option<Turn> {
        let (granted, turn) = oneshot::channel();
        let waiting = {
            let mut state = self.turns.0.state.lock();
            let number = state.next;
            state.next += 1;
            let name = &self.client.tenant.name;
            let tenant = state.tenants.entry(Arc::clone(name)).or_default();
            let is_first = tenant.order.is_empty();
            let client = &self.client.name;
            let of_client = tenant.waiting.entry(Arc::clone(client)).or_default();
            if of_client.is_empty() {
                tenant.order.push_back(Arc::clone(client));
            }
            of_client.push_back(Waiter { number, granted });
            if is_first {
                state.order.push_back(Arc::clone(name));
            }
            self.turns.grant(&mut state);
            Waiting {
                place: self,
                number,
            }
        };
        let turn = turn.await.ok();
        drop(waiting);
        turn
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let client = &self.place.client;
        let mut state = self.place.turns.0.state.lock();
        let Some(tenant) = state.tenants.get_mut(&client.tenant.name) else {
            return;
        };
        let Some(waiting) = tenant.waiting.get_mut(&client.name) else {
            return;
        };
        waiting.retain(|waiter| waiter.number != self.number);
        if waiting.is_empty() {
            tenant.waiting.remove(&client.name);
            tenant.order.retain(|name| *name != client.name);
        }
        if tenant.order.is_empty() {
            state.order.retain(|name| *name != client.tenant.name);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let name = &self.client.tenant.name;
        let mut state = self.turns.0.state.lock();
        state.places = state.places.saturating_sub(1);
        if let Some(tenant) = state.tenants.get_mut(name) {
            tenant.places = tenant.places.saturating_sub(1);
            tenant.ends.remove(&self.number);
        }
        state.forget(name);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some((turns, name)) = self.of.take() else {
            return;
        };
        let mut state = turns.0.state.lock();
        state.running = state.running.saturating_sub(1);
        if let Some(tenant) = state.tenants.get_mut(&name) {
            tenant.running = tenant.running.saturating_sub(1);
        }
        state.forget(&name);
        turns.grant(&mut state);
    }
}

impl State {
    /// Removes a tenant without runs.
    fn forget(&mut self, name: &Arc<str>) {
        let is_idle = |tenant: &TenantRuns| tenant.places == 0 && tenant.running == 0;
        if self.tenants.get(name).is_some_and(is_idle) {
            self.tenants.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::server::tenant::Tenant;

    fn client(tenant: &str, name: &str) -> Client {
        Client {
            tenant: Tenant::new(tenant, 1, None),
            name: format!("{tenant} {name}").into(),
        }
    }

    fn turns(runs: usize, share: Option<Share>) -> Turns {
        Turns::new(Bounds::new(runs, 100, share))
    }

    /// Runs all that wait one after the other, and gives whose they were.
    async fn order(turns: &Turns, clients: &[(&str, &str)]) -> Vec<String> {
        let first = turns.enter(client("first", "")).unwrap();
        let begun = first.turn().await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for (tenant, name) in clients {
            let place = turns.enter(client(tenant, name)).unwrap();
            let order = Arc::clone(&order);
            let run = async move {
                let _turn = place.turn().await.unwrap();
                order.lock().push(place.client.name.to_string());
            };
            let mut run = Box::pin(run);
            // It is in the queue.
            assert!((&mut run).now_or_never().is_none());
            tasks.push(tokio::spawn(run));
        }
        drop(begun);
        for task in tasks {
            task.await.unwrap();
        }
        order.lock().clone()
    }

    #[tokio::test]
    async fn run_of_another_tenant_does_not_wait_for_those_of_a_flood() {
        let turns = turns(1, None);
        let mut clients = vec![("flood", "a"); 50];
        clients.push(("other", "x"));
        let order = order(&turns, &clients).await;
        assert!(order[..2].contains(&"other x".to_owned()), "{order:?}");
        assert_eq!(order.len(), 51);
    }

    #[tokio::test]
    async fn clients_of_a_tenant_take_turns() {
        let turns = turns(1, None);
        let order = order(
            &turns,
            &[("t", "a"), ("t", "a"), ("t", "a"), ("t", "b"), ("t", "b")],
        );
        assert_eq!(order.await, ["t a", "t b", "t a", "t b", "t a"]);
        let state = turns.0.state.lock();
        assert!(state.tenants.is_empty() && state.order.is_empty() && state.places == 0);
    }

    #[tokio::test]
    async fn client_that_ends_has_its_runs_ended_and_no_others() {
        let turns = turns(1, None);
        let [ends, stays, other] = [("t", "a"), ("t", "b"), ("u", "a")].map(|(tenant, name)| {
            let client = client(tenant, name);
            turns.enter(client).unwrap()
        });
        turns.end(&client("t", "a"));
        let ended = [&ends, &stays, &other].map(|place| place.ended.is_cancelled());
        assert_eq!(ended, [true, false, false]);
        drop((ends, stays, other));
        assert!(turns.0.state.lock().tenants.is_empty());
    }

    #[tokio::test]
    async fn tenant_has_its_share_and_no_more() {
        let share = Share {
            runs: 2,
            waiting: 1,
            sessions: 1,
        };
        let turns = turns(4, Some(share));
        let flood: Vec<_> = (0..3)
            .map(|_| turns.enter(client("flood", "a")).unwrap())
            .collect();
        let refused = turns.enter(client("flood", "b")).map(drop).unwrap_err();
        assert!(refused.contains("of this API key"), "{refused}");
        let first = flood[0].turn().await;
        let _second = flood[1].turn().await;
        // Two turns are free, and none of them is for this tenant.
        assert!(flood[2].turn().now_or_never().is_none());
        let other = turns.enter(client("other", "a")).unwrap();
        assert!(other.turn().now_or_never().flatten().is_some());
        drop(first);
        assert!(flood[2].turn().now_or_never().flatten().is_some());
    }

    #[tokio::test]
    async fn run_that_is_cancelled_leaves_nothing() {
        let turns = turns(1, None);
        let place = turns.enter(client("a", "a")).unwrap();
        let turn = place.turn().await.unwrap();
        for _ in 0..1000 {
            assert!(
                turns
                    .enter(client("b", "b"))
                    .unwrap()
                    .turn()
                    .now_or_never()
                    .is_none()
            );
        }
        {
            let state = turns.0.state.lock();
            assert_eq!(
                (state.places, state.order.len(), state.tenants.len()),
                (1, 0, 1)
            );
        }
        // A turn that was granted to a run that is dropped before it notices goes to the next.
        let (one, two) = (
            turns.enter(client("b", "b")).unwrap(),
            turns.enter(client("b", "b")).unwrap(),
        );
        let mut waits = Box::pin(one.turn());
        assert!((&mut waits).now_or_never().is_none());
        drop(turn);
        drop(waits);
        assert!(two.turn().now_or_never().flatten().is_some());
    }
}
