//! Calls `scheduled` when it is time, or when the host asks for it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, Utc};
use stockade_http::OnBehalf;
use stockade_protocol::{Payload, push_string};
use stockade_trace::{RootSpan, Span, SpanKind, Trace};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::fetch;
use crate::mirror::{Mirror, Slot};
use crate::observer::CronOutcome;
use crate::options::Cron;
use crate::pool::Pool;

/// The clock may be set: it is read at least this often.
const LOOK: Duration = Duration::from_secs(60);

/// Runs the crons of an instance until `stop`.
pub(crate) async fn run_crons(pool: Arc<Pool>, stop: CancellationToken) {
    let mut all = JoinSet::new();
    for index in 0..pool.options.crons.len() {
        all.spawn(run_cron(Arc::clone(&pool), index));
    }
    tokio::select! {
        () = stop.cancelled() => {}
        () = async { while all.join_next().await.is_some() {} } => {}
    }
}

async fn run_cron(pool: Arc<Pool>, index: usize) {
    let Some(cron) = pool.options.crons.get(index).cloned() else {
        return;
    };
    let mut running = JoinSet::new();
    let mut after = Utc::now();
    while let Some(due) = next_after(&cron, after) {
        wait_until(due).await;
        after = due.max(Utc::now() - chrono::Duration::seconds(1));
        while running.try_join_next().is_some() {}
        if pool.is_draining() {
            return;
        }
        if running.is_empty() {
            let time = due.timestamp_millis();
            running.spawn(run_once(Arc::clone(&pool), Arc::clone(&cron.text), time));
        } else {
            pool.observer.cron(cron.text(), &CronOutcome::Skipped);
        }
    }
}

/// The next time after `after`; `None` for a time that never comes.
pub(crate) fn next_after(cron: &Cron, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    cron.times.find_next_occurrence(&after, false).ok()
}

async fn wait_until(due: DateTime<Utc>) {
    loop {
        let left = (due - Utc::now()).to_std().unwrap_or(Duration::ZERO);
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LOOK)).await;
    }
}

/// Runs the handler once, for this entry and this time in milliseconds since 1970. The outcome goes to the observer, too.
pub(crate) async fn run_once(pool: Arc<Pool>, cron: Arc<str>, due: i64) -> CronOutcome {
    let (began, start) = (Instant::now(), SystemTime::now());
    let trace = pool.services.begin_trace();
    let outcome = match attempt(&pool, &cron, due, trace.as_ref()).await {
        Ok(()) => CronOutcome::Done {
            took: began.elapsed(),
        },
        Err(why) => CronOutcome::Failed { why },
    };
    if let Some(trace) = trace {
        trace.end(RootSpan {
            name: format!("scheduled {}", pool.options.name),
            kind: SpanKind::Internal,
            start,
            duration: began.elapsed(),
            failed: !matches!(outcome, CronOutcome::Done { .. }),
            attributes: vec![
                ("stockade.instance", Arc::clone(&pool.options.name).into()),
                ("stockade.cron", Arc::clone(&cron).into()),
            ],
        });
    }
    pool.observer.cron(&cron, &outcome);
    outcome
}

async fn attempt(
    pool: &Arc<Pool>,
    cron: &str,
    due: i64,
    trace: Option<&Trace>,
) -> Result<(), String> {
    let found = fetch::place(pool, trace).await;
    let mut found = found.map_err(|error| error.to_string())?;
    found.slot.charge_to(OnBehalf::default());
    let mirror = Arc::clone(&found.slot.mirror);
    // The span of the guest's work. What the guest asks for meanwhile continues from it.
    let mut span = fetch::guest_span(trace, pool, mirror.number, false);
    let done = run_in(pool, &mirror, found.slot, cron, due, span.as_ref()).await;
    if let (Some(span), Err(_)) = (&mut span, &done) {
        // Why is the guest's word, and in the log.
        span.fail("failed");
    }
    done
}

async fn run_in(
    pool: &Pool,
    mirror: &Arc<Mirror>,
    slot: Slot,
    cron: &str,
    due: i64,
    span: Option<&Span>,
) -> Result<(), String> {
    let id = mirror.number_request();
    let trace = span.map(|span| span.trace().clone());
    let done = mirror
        .await_run(id, slot, trace)
        .map_err(|end| end.to_string())?;
    let mut json = format!("[{id},");
    push_string(&mut json, cron);
    let traced = if span.is_some() { ",true" } else { "" };
    json.push_str(&format!(",{due}{traced}]"));
    if let Err(error) = mirror.handle.control("cron.run", Payload::from_json(json)) {
        mirror.withdraw(id);
        return Err(error.to_string());
    }
    let limit = pool.options.limits.scheduled;
    match tokio::time::timeout(limit, done).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err("its mirror ended".to_owned()),
        Err(_) => {
            mirror.abort(id);
            Err(format!("it took longer than {} s", limit.as_secs()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cron(text: &str) -> Cron {
        Cron::new(text, text.parse().unwrap())
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn cron_next_time_is_after_the_last() {
        let every = cron("*/15 * * * *");
        let next = next_after(&every, at("2026-11-21T10:15:00Z"));
        assert_eq!(next, Some(at("2026-11-21T10:30:00Z")));
        let leap = cron("0 0 29 2 *");
        assert_eq!(
            next_after(&leap, at("2026-11-21T10:15:00Z")),
            Some(at("2028-02-29T00:00:00Z"))
        );
    }

    #[test]
    fn cron_has_the_rules_that_are_documented() {
        // 2026-11-21 is a Saturday.
        let check = |text: &str, from: &str, next: &str| {
            let found = next_after(&cron(text), at(from));
            assert_eq!(found, Some(at(next)), "{text}");
        };
        let from = "2026-11-21T10:15:00Z";
        check("0,30 9-17 * * *", from, "2026-11-21T10:30:00Z");
        check("0-30/10 * * * *", from, "2026-11-21T10:20:00Z");
        check("0 0 * * 0", from, "2026-11-22T00:00:00Z");
        check("0 0 * * 7", from, "2026-11-22T00:00:00Z");
        check("0 0 * JAN Mon", from, "2027-01-04T00:00:00Z");
        check("0 0 L * *", from, "2026-11-30T00:00:00Z");
        check("0 0 * * 5L", from, "2026-11-27T00:00:00Z");
        check("0 0 * * 1#2", from, "2026-12-14T00:00:00Z");
        // The 15th of November 2026 was a Sunday.
        check(
            "0 0 15W * *",
            "2026-11-01T00:00:00Z",
            "2026-11-16T00:00:00Z",
        );
        // Either day is enough.
        check("0 0 24 * 1", from, "2026-11-23T00:00:00Z");
        check("0 0 24 * 1", "2026-11-23T10:00:00Z", "2026-11-24T00:00:00Z");
    }
}
