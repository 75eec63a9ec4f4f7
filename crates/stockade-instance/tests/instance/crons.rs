//! Scheduled runs.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use stockade_instance::{Autoscale, Cron, CronOutcome, Scaling};

use crate::guest;
use crate::site::Site;

/// Every second.
const OFTEN: &str = "* * * * * *";

#[tokio::test]
async fn cron_runs_on_one_mirror_at_its_time() {
    let site = Site::with(
        guest::scripted(|guest, message| {
            if let Some(run) = message.control("cron.run") {
                assert_eq!(run[1], OFTEN);
                assert_eq!(run[2].as_i64().unwrap() % 1000, 0);
                guest.control("cron.done", Value::from(vec![run[0].clone(), Value::Null]));
            }
        }),
        |options| {
            options.crons = vec![Cron::new(OFTEN, OFTEN.parse().unwrap())];
            options.scaling = Scaling::Auto(Autoscale {
                min: 0,
                ..Autoscale::default()
            });
        },
    );
    site.observed.wait_for("cron * * * * * * done", 2).await;
    assert_eq!(site.observed.count("started"), 1);
    assert_eq!(site.instance.stats().in_flight, 0);
}

#[tokio::test]
async fn cron_that_still_runs_is_left_out_and_one_that_throws_is_reported() {
    let first: Arc<Mutex<Option<Value>>> = Arc::default();
    let site = Site::with(
        guest::scripted(move |guest, message| {
            let Some(run) = message.control("cron.run") else {
                return;
            };
            let mut first = first.lock();
            if first.is_none() {
                *first = Some(run[0].clone());
            } else {
                guest.control(
                    "cron.done",
                    Value::from(vec![run[0].clone(), "boom".into()]),
                );
            }
        }),
        |options| {
            options.crons = vec![Cron::new(OFTEN, OFTEN.parse().unwrap())];
            options.limits.scheduled = std::time::Duration::from_millis(1500);
        },
    );
    site.observed.wait("cron * * * * * * skipped").await;
    site.observed.wait("failed it took longer than 1 s").await;
    site.observed.wait("failed boom").await;
}

#[tokio::test]
async fn run_that_the_host_asks_for_has_its_entry_and_time_and_gives_its_outcome() {
    let site = Site::new(guest::scripted(|guest, message| {
        if let Some(run) = message.control("cron.run") {
            let failure = match run[2].as_i64() {
                Some(5) => Value::Null,
                other => Value::from(format!("{} at {other:?}", run[1])),
            };
            guest.control("cron.done", Value::from(vec![run[0].clone(), failure]));
        }
    }));
    let done = site.instance.run_scheduled("0 0 * * *", 5).await;
    assert!(matches!(done, CronOutcome::Done { .. }), "{done:?}");
    match site.instance.run_scheduled("0 0 * * *", -1).await {
        CronOutcome::Failed { why } => assert_eq!(why, "\"0 0 * * *\" at Some(-1)"),
        other => panic!("{other:?}"),
    }
    site.observed.wait("cron 0 0 * * * done").await;
    site.observed.wait("cron 0 0 * * * failed").await;
    assert_eq!(site.instance.stats().in_flight, 0);
}
