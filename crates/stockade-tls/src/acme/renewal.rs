//! Keeps all certificates renewed, one after the other.
//!
//! A certificate is renewed when a third of its life is left, a little earlier by chance so that many
//! servers do not come at once. After a failure the time to the next try doubles, up to a day.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::Acme;
use super::order::{OrderClient, order};
use crate::event::{TlsEvent, TlsObserver, emit};
use crate::expiry::{End, Notified};
use crate::index::Index;
use crate::leaf::{self, Leaf};

/// Most time between two looks: clocks are set and machines sleep.
const LOOK: Duration = Duration::from_secs(3600);
/// Most time for one order.
const ORDER: Duration = Duration::from_secs(600);
const LONGEST_RETRY: Duration = Duration::from_secs(24 * 3600);

/// One certificate to keep.
pub(crate) struct Kept {
    pub(crate) names: Vec<String>,
    pub(crate) leaf: Option<Arc<Leaf>>,
    due: SystemTime,
    failures: u32,
}

impl Kept {
    /// Starts with what the cache holds.
    pub(crate) fn from_cache(
        order_client: &OrderClient,
        names: Vec<String>,
        now: SystemTime,
    ) -> Self {
        let mut kept = Self {
            leaf: None,
            due: now,
            failures: 0,
            names,
        };
        if let Some(pem) = order_client.cache.certificate(&kept.names) {
            match checked(order_client, &kept.names, &pem, now) {
                Ok(leaf) => kept.hold(leaf),
                Err(why) => tracing::warn!("cached certificate by ACME not used: {why}"),
            }
        }
        kept
    }

    fn hold(&mut self, leaf: Leaf) {
        self.due = due(&leaf, chance());
        self.leaf = Some(Arc::new(leaf));
        self.failures = 0;
    }
}

/// A number from 0 to 1.
fn chance() -> f64 {
    let random = RandomState::new().hash_one(0) >> 11;
    random as f64 / (1_u64 << 53) as f64
}

/// When to renew: a third of the life before its end, and up to a thirtieth earlier.
fn due(leaf: &Leaf, chance: f64) -> SystemTime {
    let facts = &leaf.facts;
    let life = facts
        .not_after
        .duration_since(facts.not_before)
        .unwrap_or_default();
    facts.not_after - life / 3 - (life / 30).mul_f64(chance)
}

/// Time to wait after a number of failures, with up to a quarter more at random.
fn wait(first: Duration, failures: u32, chance: f64) -> Duration {
    let doubled = first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
    let wait = doubled.min(LONGEST_RETRY);
    wait + (wait / 4).mul_f64(chance)
}

/// Checks key, chain, dates and names of a PEM text.
fn checked(
    order_client: &OrderClient,
    names: &[String],
    pem: &[u8],
    now: SystemTime,
) -> Result<Leaf, String> {
    let file = order_client.cache.certificate_file(names);
    let file: &Path = &file;
    let checked =
        leaf::from_pem(file, pem, file, pem, &order_client.provider, now).map_err(|problems| {
            let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
            texts.join("; ")
        })?;
    if let Some(problem) = checked.dates {
        return Err(problem.to_string());
    }
    let mut missing = names
        .iter()
        .filter(|name| !checked.leaf.hosts.contains(name));
    match missing.next() {
        Some(name) => Err(format!("it is not for {name}")),
        None => Ok(checked.leaf),
    }
}

/// Runs until nobody uses `acme` any more.
pub(crate) async fn keep(
    acme: Weak<Acme>,
    order_client: OrderClient,
    mut all: Vec<Kept>,
    observer: Arc<dyn TlsObserver>,
) {
    let mut notified = Notified::default();
    sleep(order_client.options.wait).await;
    loop {
        for i in 0..all.len() {
            if all[i].due <= SystemTime::now() {
                let domains = all[i].names.clone();
                emit(&*observer, TlsEvent::AcmeOrdered { domains });
                let events = renew(&order_client, &mut all[i]).await;
                match acme.upgrade() {
                    Some(acme) => acme.index.store(Arc::new(index(&all))),
                    None => return,
                }
                for event in events {
                    emit(&*observer, event);
                }
            }
        }
        let now = SystemTime::now();
        let ends: Vec<_> = all
            .iter()
            .filter_map(|kept| Some(End::of(kept.leaf.as_ref()?)))
            .collect();
        for event in notified.events(&ends, now) {
            emit(&*observer, event);
        }
        let due = all.iter().map(|kept| kept.due).min();
        let pause = due.map_or(LOOK, |due| due.duration_since(now).unwrap_or_default());
        sleep(pause.min(LOOK)).await;
    }
}

pub(crate) fn index(all: &[Kept]) -> Index {
    Index::new(all.iter().filter_map(|kept| kept.leaf.clone()).collect())
}

/// Tries once; returns the events to report.
async fn renew(order_client: &OrderClient, kept: &mut Kept) -> Vec<TlsEvent> {
    let domains = kept.names.clone();
    let ordered = match timeout(ORDER, order(order_client, &kept.names)).await {
        Ok(ordered) => ordered.map_err(|e| e.to_string()),
        Err(_) => Err(format!("the server needed more than {} s", ORDER.as_secs())),
    };
    let new = match ordered {
        Ok(pem) => match checked(order_client, &kept.names, &pem, SystemTime::now()) {
            Ok(leaf) => {
                let (cache, names) = (order_client.cache.clone(), kept.names.clone());
                let keeping = spawn_blocking(move || cache.keep_certificate(&names, &pem));
                Ok((leaf, keeping.await.unwrap_or(Ok(()))))
            }
            Err(why) => Err(why),
        },
        Err(why) => Err(why),
    };
    match new {
        Ok((leaf, cached)) => {
            let facts = leaf.facts.clone();
            let not_after = facts.not_after;
            kept.hold(leaf);
            let mut events = vec![
                TlsEvent::AcmeIssued { domains, not_after },
                TlsEvent::Loaded(facts),
            ];
            if let Err(e) = cached {
                // It works until the next start, which would ask for another one.
                let text = format!("a certificate by ACME cannot be kept in the cache: {e}");
                events.push(TlsEvent::Warning(text));
            }
            events
        }
        Err(why) => {
            kept.failures = kept.failures.saturating_add(1);
            let retry_in = wait(order_client.options.retry, kept.failures, chance());
            kept.due = SystemTime::now() + retry_in;
            vec![TlsEvent::AcmeFailed {
                domains,
                why,
                retry_in,
            }]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_doubles_up_to_a_day() {
        let minutes = |n: u32| wait(Duration::from_secs(300), n, 0.0).as_secs() / 60;
        assert_eq!(
            [1, 2, 3, 4, 9, 10, 99].map(minutes),
            [5, 10, 20, 40, 1280, 1440, 1440]
        );
        assert_eq!(wait(Duration::from_secs(400), 1, 1.0).as_secs(), 500);
    }

    #[test]
    fn chance_is_within_its_range() {
        for _ in 0..1000 {
            assert!((0.0..1.0).contains(&chance()));
        }
    }
}
