//! Rates, budgets, bandwidth and places.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use stockade_broker::{Budget, Reason};

use super::servers::{self, reply};
use super::setting::{Setting, bytes, get, own, text};

#[tokio::test]
async fn budget_of_requests_is_spent_across_reloads() {
    let (server, heads) = servers::recorder().await;
    let setting = Setting::new();
    let spent = Reason::Budget {
        of: "requests",
        limit: 3,
    };
    for _ in 0..2 {
        let egress = setting.open(|policy| policy.limits.budget.requests = Some(3));
        for _ in 0..2 {
            if let Ok(response) = get(&egress, &server.url("/")).await {
                assert_eq!(text(response).await, "ok");
            }
        }
    }
    assert_eq!(setting.reasons(), [spent]);
    assert_eq!(heads.lock().len(), 3);
    let other = setting
        .broker
        .egress("other", setting.policy(|_| ()), Default::default())
        .unwrap();
    assert_eq!(
        text(get(&other, &server.url("/")).await.unwrap()).await,
        "ok"
    );
}

#[tokio::test]
async fn budget_of_bytes_ends_a_response_and_what_follows() {
    let server = servers::http(|_| async { reply(vec![0; 10_000]) }).await;
    let setting = Setting::new();
    let egress = setting.open(|policy| {
        policy.limits.budget = Budget {
            bytes: Some(15_000),
            ..Budget::default()
        };
    });
    let first = get(&egress, &server.url("/")).await.unwrap();
    assert_eq!(bytes(first).await.unwrap().len(), 10_000);
    let second = get(&egress, &server.url("/")).await.unwrap();
    let expected = Reason::Budget {
        of: "bytes",
        limit: 15_000,
    };
    assert_eq!(
        own(bytes(second).await.unwrap_err())
            .refusal()
            .unwrap()
            .reason,
        expected
    );
    let third = get(&egress, &server.url("/")).await.unwrap_err();
    assert_eq!(third.refusal().unwrap().reason, expected);
}

#[tokio::test]
async fn rate_counts_refused_calls_too() {
    let setting = Setting::new();
    let egress = setting.open(|policy| {
        policy.rules.clear();
        policy.limits.requests_per_second = NonZeroU32::new(5);
    });
    for _ in 0..50 {
        assert!(get(&egress, "http://any.example/").await.is_err());
    }
    let reasons = setting.reasons();
    let by_rate = reasons
        .iter()
        .filter(|reason| **reason == Reason::Rate { limit: 5 })
        .count();
    assert!((40..=45).contains(&by_rate), "{by_rate}");
}

#[tokio::test]
async fn bandwidth_slows_a_response_down() {
    let server = servers::http(|_| async { reply(vec![0; 300_000]) }).await;
    let setting = Setting::new();
    let egress = setting.open(|policy| {
        policy.limits.bytes_per_second = NonZeroU32::new(200_000);
        // Waiting for one's own bandwidth is not the server's silence.
        policy.limits.idle_timeout = Duration::from_millis(100);
    });
    let begin = Instant::now();
    let response = get(&egress, &server.url("/")).await.unwrap();
    assert_eq!(bytes(response).await.unwrap().len(), 300_000);
    // A quarter second's worth may come at once, and after the last piece nothing is waited for.
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(700), "{took:?}");
}

#[tokio::test]
async fn fetch_beyond_the_places_waits_and_beyond_the_queue_is_refused() {
    let (server, _) = servers::recorder().await;
    let setting = Setting::new();
    let egress = setting.open(|policy| {
        policy.limits.concurrent = 2;
        policy.limits.queued = 1;
    });
    let one = get(&egress, &server.url("/")).await.unwrap();
    let two = get(&egress, &server.url("/")).await.unwrap();
    let url = server.url("/");
    let mut waiting = Box::pin(get(&egress, &url));
    let is_waiting = futures_util::poll!(&mut waiting).is_pending();
    assert!(is_waiting);
    tokio::task::yield_now().await;
    let refused = get(&egress, &server.url("/")).await.unwrap_err();
    assert_eq!(
        refused.refusal().unwrap().reason,
        Reason::Concurrency { limit: 3 }
    );
    drop(one);
    assert_eq!(text(waiting.await.unwrap()).await, "ok");
    drop(two);
}

#[tokio::test]
async fn budget_is_the_same_for_a_view_with_further_roots() {
    let (server, _) = servers::recorder().await;
    let setting = Setting::new();
    let authority = super::tls::Authority::new();
    let view = setting.broker.trusting(&[authority.root()]).unwrap();
    let limit = |policy: &mut stockade_broker::EgressPolicy| {
        policy.limits.budget.requests = Some(1);
    };
    let one = view
        .egress("acme", setting.policy(limit), Default::default())
        .unwrap();
    assert_eq!(text(get(&one, &server.url("/")).await.unwrap()).await, "ok");
    let two = setting.open(limit);
    assert!(get(&two, &server.url("/")).await.is_err());
    setting.broker.forget("acme");
    let three = setting.open(limit);
    assert_eq!(
        text(get(&three, &server.url("/")).await.unwrap()).await,
        "ok"
    );
}

#[tokio::test]
async fn limits_that_are_extreme_break_nothing() {
    let (server, _) = servers::recorder().await;
    let setting = Setting::new();
    let egress = setting.open(|policy| {
        policy.limits.connect_timeout = Duration::MAX;
        policy.limits.head_timeout = Duration::MAX;
        policy.limits.idle_timeout = Duration::MAX;
        policy.limits.request_timeout = Duration::MAX;
        policy.limits.max_response_bytes = u64::MAX;
        policy.limits.max_decoded_bytes = u64::MAX;
        policy.limits.max_ratio = u32::MAX;
        policy.limits.concurrent = usize::MAX;
        policy.limits.queued = usize::MAX;
        policy.limits.websockets = usize::MAX;
        policy.limits.budget.per = Some(Duration::MAX);
        policy.limits.budget.bytes = Some(u64::MAX);
    });
    assert_eq!(
        text(get(&egress, &server.url("/")).await.unwrap()).await,
        "ok"
    );
    let egress = setting.open(|policy| {
        policy.limits.connect_timeout = Duration::ZERO;
        policy.limits.head_timeout = Duration::ZERO;
        policy.limits.idle_timeout = Duration::ZERO;
        policy.limits.request_timeout = Duration::ZERO;
        policy.limits.concurrent = 0;
        policy.limits.queued = 0;
        policy.limits.websockets = 0;
        policy.limits.bytes_per_second = NonZeroU32::new(1);
    });
    assert!(get(&egress, &server.url("/")).await.is_err());
    let url = server.url("/").replace("http", "ws");
    assert!(egress.websocket(url, Vec::new()).await.is_err());
}
