//! What clients may use over time: 429 with its headers, bytes as they are used, WebSockets, keys with limits of their
//! own, and reloads.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, Response};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use stockade_auth::KeyLimits;
use stockade_gateway::{LimitBy, Limits, Pattern, RateRule, Refusal, Route, RouteLimits, Unit};
use stockade_http::{Body, Client, GuestSocket, PathPattern, Upgrade};
use stockade_limits::{Allowance, Counters, Period, ShownLimits};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::harness::*;
use crate::keys::{KeyStore, with};

fn amount(units: u64, period: Period) -> Allowance {
    Allowance::new(NonZeroU64::new(units).unwrap(), period, None)
}

fn rule(by: LimitBy, unit: Unit, allowance: Allowance) -> RateRule {
    RateRule {
        by: vec![by],
        methods: Vec::new(),
        paths: Vec::new(),
        allowances: vec![(unit, allowance)],
    }
}

fn limits(counters: &Arc<Counters>, rules: Vec<RateRule>) -> Option<Arc<RouteLimits>> {
    let rules = rules.into_iter().map(|rule| ("shop".to_owned(), rule));
    Some(Arc::new(RouteLimits::new(Arc::clone(counters), 64, rules)))
}

fn counters() -> Arc<Counters> {
    Arc::new(Counters::new(4096, [7; 16]))
}

fn route(target: impl stockade_gateway::Target) -> Route {
    Route::new("shop", vec![Pattern::any()], Arc::new(target))
}

async fn serve(route: Route) -> Server {
    Server::start(listener(), table(vec![route]), Limits::default()).await
}

#[tokio::test]
async fn client_beyond_its_limit_gets_429_with_the_time_to_wait_also_after_a_reload() {
    let counters = counters();
    let tenant = LimitBy::Header("x-tenant".parse().unwrap());
    let limited = || {
        let mut route = route(hello);
        let rule = rule(tenant.clone(), Unit::Requests, amount(2, Period::Hour));
        route.limits = limits(&counters, vec![rule]);
        route
    };
    let server = serve(limited()).await;
    let mut client = server.connect().await;
    let of = |tenant: &str| {
        with(
            "GET",
            "/",
            &format!("accept: application/json\r\nx-tenant: {tenant}\r\n"),
        )
    };
    for left in [1, 0] {
        let answer = client.ask(of("a")).await;
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.header("ratelimit-policy"),
            Some("\"x-tenant-requests\";q=2;w=3600")
        );
        let state = answer.header("ratelimit").unwrap();
        assert!(
            state.starts_with(&format!("\"x-tenant-requests\";r={left};t=")),
            "{state}"
        );
    }
    let table = table(vec![limited()]);
    server
        .gateway
        .reload(vec![listener()], table, Limits::default())
        .await
        .unwrap();
    let server = Server {
        address: match server.gateway.addresses().remove(0).1 {
            stockade_gateway::Address::Tcp(address) => address,
            other => panic!("{other}"),
        },
        ..server
    };
    let mut client = server.connect().await;
    let answer = client.ask(of("a")).await;
    assert_eq!(answer.status, 429);
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1790..=1800).contains(&wait), "{wait}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    assert!(
        answer
            .text()
            .contains("The limit x-tenant-requests is used up: 2 requests in an hour."),
        "{}",
        answer.text()
    );
    assert!(answer.header("ratelimit").unwrap().contains(";r=0;"));
    // The connection goes on, and other tenants are not affected.
    assert_eq!(client.ask(of("b")).await.status, 200);
    let recorded = server.log.until(|log| log.requests.len() == 4).await;
    assert!(recorded.refusals.contains(&Refusal::RateLimit));
}

#[tokio::test]
async fn response_states_the_limit_that_is_closest_or_all_or_none() {
    let tenant = LimitBy::Header("x-tenant".parse().unwrap());
    let of_tenant = "\"x-tenant-requests\";q=4;w=3600";
    let of_address = "\"address-requests\";q=10;w=2592000";
    let all = format!("{of_tenant}, {of_address}");
    for (shown, stated) in [
        (ShownLimits::Closest, [Some(of_tenant), Some(of_address)]),
        (ShownLimits::All, [Some(&*all); 2]),
        (ShownLimits::None, [None; 2]),
    ] {
        let rules = [
            rule(tenant.clone(), Unit::Requests, amount(4, Period::Hour)),
            rule(LimitBy::Address, Unit::Requests, amount(10, Period::Month)),
        ];
        let rules = rules.map(|rule| ("shop".to_owned(), rule));
        let limits = RouteLimits::new(counters(), 64, rules).showing(shown);
        let mut route = route(hello);
        route.limits = Some(Arc::new(limits));
        let server = serve(route).await;
        let mut client = server.connect().await;
        // When b comes, a larger share of its own hour is left than of the month of the address.
        for (tenant, status, stated, left) in [
            ("a", 200, stated[0], (3, 9)),
            ("a", 200, stated[0], (2, 8)),
            ("a", 200, stated[0], (1, 7)),
            ("b", 200, stated[1], (3, 6)),
            ("a", 200, stated[0], (0, 5)),
            ("a", 429, stated[0], (0, 5)),
        ] {
            let headers = format!("x-tenant: {tenant}\r\n");
            let answer = client.ask(with("GET", "/", &headers)).await;
            let policy = answer.header("ratelimit-policy").map(any_month);
            assert_eq!((answer.status, policy.as_deref()), (status, stated));
            assert_eq!(answer.header("retry-after").is_some(), status == 429);
            let state = answer.header("ratelimit").unwrap_or_default();
            for (name, left) in [("x-tenant", left.0), ("address", left.1)] {
                let member = format!("\"{name}-requests\";r={left};t=");
                let is_stated = stated.is_some_and(|stated| stated.contains(name));
                assert_eq!(state.contains(&member), is_stated, "{state}");
            }
            assert_eq!(
                state.matches(";r=").count(),
                policy.map_or(0, |policy| policy.matches(";q=").count())
            );
        }
    }
}

/// A policy with 30 days for the month of the test.
fn any_month(policy: &str) -> String {
    let months = [28, 29, 31].map(|days| format!(";w={}", days * 86_400));
    months.iter().fold(policy.to_owned(), |policy, month| {
        policy.replace(month, ";w=2592000")
    })
}

#[tokio::test]
async fn bytes_of_bodies_are_counted_as_they_are_sent_and_received() {
    let sent = "x".repeat(3000);
    for (unit, passes) in [
        (Unit::BytesIn, false),
        (Unit::BytesOut, false),
        (Unit::Requests, true),
    ] {
        let mut route = route(echo);
        let allowance = amount(2000, Period::Hour);
        route.limits = limits(&counters(), vec![rule(LimitBy::Address, unit, allowance)]);
        let server = serve(route).await;
        let mut client = server.connect().await;
        // No length is declared: it is known when the bytes are there.
        let first = format!(
            "POST / HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\n\r\nbb8\r\n{sent}\r\n0\r\n\r\n"
        );
        assert_eq!(client.ask(first).await.status, 200, "{unit:?}");
        server.log.until(|log| log.requests.len() == 1).await;
        let second = client.ask(get("/")).await.status;
        assert_eq!(second == 200, passes, "{unit:?}: {second}");
    }
}

#[tokio::test]
async fn websocket_beyond_its_bytes_is_closed_and_another_one_within_them_goes_on() {
    let echoes = |_: Request<Body>| {
        let (to_guest, mut received) = mpsc::channel(1);
        let (says, from_guest) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(message) = received.recv().await {
                if says.send(message).await.is_err() {
                    return;
                }
            }
        });
        let mut response = text("");
        *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
        let socket = GuestSocket {
            to_guest,
            from_guest,
        };
        response.extensions_mut().insert(Upgrade::new(socket));
        async move { response }
    };
    for unit in [Unit::BytesIn, Unit::BytesOut] {
        let mut route = route(echoes);
        let key = LimitBy::Header("x-client".parse().unwrap());
        route.limits = limits(
            &counters(),
            vec![rule(key, unit, amount(1000, Period::Day))],
        );
        let server = serve(route).await;
        let mut greedy = open(&server, "greedy").await;
        let mut modest = open(&server, "modest").await;
        let frame = loop {
            // The gateway may have closed it already.
            let _ = greedy.send(Message::text("x".repeat(400))).await;
            match soon(greedy.next()).await {
                Some(Ok(Message::Text(_))) => {}
                Some(Ok(Message::Close(Some(frame)))) => break frame,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(u16::from(frame.code), 1008, "{unit:?}");
        modest.send(Message::text("still here")).await.unwrap();
        let message = soon(modest.next()).await.unwrap().unwrap();
        assert_eq!(message, Message::text("still here"));
    }
}

async fn open(server: &Server, client: &str) -> WebSocketStream<TokioIo<hyper::upgrade::Upgraded>> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::get("/")
        .header("host", "a.example")
        .header("x-client", client)
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response: Response<_> = soon(sender.send_request(request)).await.unwrap();
    assert_eq!(response.status(), 101);
    let upgraded = hyper::upgrade::on(response).await.unwrap();
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await
}

#[tokio::test]
async fn key_with_limits_of_its_own_is_limited_also_under_its_next_text() {
    let mut store = KeyStore::new();
    let quota = KeyLimits::parse(None, None, Some("3/month")).unwrap();
    let (limited, free) = (store.limited(quota).await, store.key(&["read"]).await);
    let mut route = route(hello);
    route.api_key = Some(Arc::new(store.rule()));
    route.limits = limits(&counters(), Vec::new());
    let server = serve(route).await;
    let mut client = server.connect().await;
    let of = |key: &stockade_auth::NewKey| {
        with(
            "GET",
            "/",
            &format!("authorization: Bearer {}\r\n", key.key.reveal()),
        )
    };
    for left in [2, 1] {
        let answer = client.ask(of(&limited)).await;
        assert_eq!(answer.status, 200);
        let state = answer.header("ratelimit").unwrap();
        assert!(
            state.starts_with(&format!("\"key-quota\";r={left};t=")),
            "{state}"
        );
    }
    let rotated = store.rotate(&limited).await;
    assert_eq!(client.ask(of(&rotated)).await.status, 200);
    for key in [&rotated, &limited] {
        let answer = client.ask(of(key)).await;
        assert_eq!(answer.status, 429);
        assert!(answer.header("retry-after").is_some());
    }
    for _ in 0..10 {
        let answer = client.ask(of(&free)).await;
        assert_eq!((answer.status, answer.header("ratelimit")), (200, None));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn limit_holds_exactly_for_connections_that_ask_at_once_and_change_their_keys() {
    let mut store = KeyStore::new();
    let keys = [store.key(&["read"]).await, store.key(&["read"]).await];
    let mut route = route(hello);
    route.api_key = Some(Arc::new(store.rule()));
    let rules = vec![
        rule(LimitBy::Key, Unit::Requests, amount(100, Period::Hour)),
        rule(LimitBy::Key, Unit::Requests, amount(50, Period::Month)),
    ];
    route.limits = limits(&counters(), rules);
    let server = Arc::new(serve(route).await);
    let asks: Vec<String> = keys
        .iter()
        .map(|key| format!("authorization: Bearer {}\r\n", key.key.reveal()))
        .map(|header| with("GET", "/", &header))
        .collect();
    let clients = (0..8).map(|number: usize| {
        let (server, asks) = (Arc::clone(&server), asks.clone());
        tokio::spawn(async move {
            let mut client = server.connect().await;
            let mut admitted = [0; 2];
            for turn in 0..40 {
                // Some change the key with each request, some never do.
                let at = (number + turn * (number % 3)) % 2;
                let answer = client.ask(&asks[at]).await;
                assert!(matches!(answer.status, 200 | 429), "{answer:?}");
                assert!(answer.header("ratelimit-policy").unwrap().contains("q=50"));
                admitted[at] += u32::from(answer.status == 200);
            }
            admitted
        })
    });
    let mut admitted = [0; 2];
    for client in clients.collect::<Vec<_>>() {
        for (sum, more) in admitted.iter_mut().zip(client.await.unwrap()) {
            *sum += more;
        }
    }
    assert_eq!(admitted, [50, 50]);
}

#[tokio::test]
async fn connection_counts_each_request_by_the_rules_that_are_for_it() {
    let mut narrow = rule(LimitBy::Address, Unit::Requests, amount(2, Period::Hour));
    narrow.paths = vec![PathPattern::Under("/a".to_owned())];
    let mut posts = rule(LimitBy::Address, Unit::Requests, amount(1, Period::Hour));
    posts.methods = vec![Method::POST];
    let mut route = route(hello);
    route.limits = limits(&counters(), vec![narrow, posts]);
    let server = serve(route).await;
    let mut client = server.connect().await;
    for (method, path, status) in [
        ("GET", "/a", 200),
        ("GET", "/b", 200),
        ("POST", "/b", 200),
        ("GET", "/b", 200),
        ("POST", "/b", 429),
        ("GET", "/a/x", 200),
        ("GET", "/a", 429),
        ("GET", "/b", 200),
        // One rule is used up: nothing is taken from the other.
        ("POST", "/a", 429),
    ] {
        let answer = client.ask(with(method, path, "")).await;
        assert_eq!(answer.status, status, "{method} {path}");
    }
}

#[tokio::test]
async fn clients_that_make_up_headers_without_end_neither_fill_memory_nor_affect_others() {
    let counters = counters();
    let mut route = route(hello);
    let tenant = LimitBy::Header("x-tenant".parse().unwrap());
    let rule = rule(tenant, Unit::Requests, amount(5, Period::Hour));
    route.limits = limits(&counters, vec![rule]);
    // Each client is what a proxy says.
    let options = stockade_gateway::TableOptions {
        trusted_proxies: vec!["127.0.0.1/32".parse().unwrap()],
        ..Default::default()
    };
    let table = stockade_gateway::RouteTable::new(vec![route], options).unwrap();
    let server = Server::start(listener(), table, Limits::default()).await;
    let mut client = server.connect().await;
    let of = |address: &str, tenant: &str| {
        with(
            "GET",
            "/",
            &format!("x-forwarded-for: {address}\r\nx-tenant: {tenant}\r\n"),
        )
    };
    for _ in 0..5 {
        assert_eq!(client.ask(of("192.0.2.1", "honest")).await.status, 200);
    }
    let mut passed = 0;
    for number in 0..3000 {
        let answer = client.ask(of("198.51.100.1", &format!("t{number}"))).await;
        passed += u32::from(answer.status == 200);
    }
    // A sixteenth of the counters, and one that is shared.
    assert!(passed <= 256 + 5, "{passed}");
    assert!(counters.count() <= 257);
    // The counter of the first one is still there, and others have one of their own.
    assert_eq!(client.ask(of("192.0.2.1", "honest")).await.status, 429);
    for _ in 0..5 {
        assert_eq!(client.ask(of("203.0.113.1", "new")).await.status, 200);
    }
    assert_eq!(client.ask(of("203.0.113.1", "new")).await.status, 429);
}

/// A site that uses as many milliseconds of CPU time for a request, and for none, as the request's query says.
async fn computes(request: Request<Body>) -> Response<Body> {
    let client = request.extensions().get::<Client>().unwrap();
    let query = request.uri().query().unwrap_or("0,0");
    let (used, idle) = query.split_once(',').unwrap();
    if let Some(account) = &client.account {
        account.used(Duration::from_millis(used.parse().unwrap()));
        account.idle(Duration::from_millis(idle.parse().unwrap()));
    }
    hello(request).await
}

#[tokio::test]
async fn cpu_time_that_was_used_is_refused_to_the_next_request() {
    let tenant = || LimitBy::Header("x-tenant".parse().unwrap());
    let mut route = route(computes);
    let hour = amount(50_000, Period::Hour);
    route.limits = limits(&counters(), vec![rule(tenant(), Unit::Cpu, hour)]);
    let server = serve(route).await;
    let mut client = server.connect().await;
    let of = |tenant: &str, query: &str| {
        let headers = format!("accept: application/json\r\nx-tenant: {tenant}\r\n");
        with("GET", &format!("/?{query}"), &headers)
    };
    // Idle time of the site is nobody's.
    for query in ["10,1000", "10,1000", "200,0"] {
        let answer = client.ask(of("hostile", query)).await;
        assert_eq!(answer.status, 200, "{query}");
        let policy = answer.header("ratelimit-policy");
        let shown = "\"x-tenant-cpu\";q=50;qu=\"cpu-milliseconds\";w=3600";
        assert_eq!(policy, Some(shown));
    }
    let answer = client.ask(of("hostile", "0,0")).await;
    assert_eq!(answer.status, 429);
    let why = "The limit x-tenant-cpu is used up: 50ms of CPU time in an hour.";
    assert!(answer.text().contains(why), "{}", answer.text());
    // 170 ms beyond the burst, at 50 ms an hour.
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((12_000..=12_240).contains(&wait), "{wait}");
    for _ in 0..3 {
        assert_eq!(client.ask(of("harmless", "10,0")).await.status, 200);
    }
}

#[tokio::test]
async fn limit_of_an_instance_counts_what_it_computes_besides_and_shows_nothing() {
    let mut route = route(computes);
    let day = amount(1_000_000, Period::Day);
    route.limits = limits(&counters(), vec![rule(LimitBy::Instance, Unit::Cpu, day)]);
    let server = serve(route).await;
    let mut client = server.connect().await;
    for (query, status) in [("1,900", 200), ("1,200", 200), ("0,0", 429)] {
        let answer = client.ask(with("GET", &format!("/?{query}"), "")).await;
        assert_eq!((answer.status, answer.header("ratelimit")), (status, None));
    }
}
