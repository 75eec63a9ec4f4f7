//! As many mirrors as load demands, none where there is none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stockade_http::ServedBy;
use stockade_instance::{Autoscale, FetchError, Scaling};

use crate::guest::{serving, supervisor};
use crate::site::{Site, get};

fn quick(min: usize, max: usize) -> Autoscale {
    Autoscale {
        min,
        max,
        requests_per_mirror: 2.0,
        stable_window: Duration::from_millis(400),
        panic_window: Duration::from_millis(60),
        idle: Duration::from_secs(1),
        tick: Duration::from_millis(20),
        ..Autoscale::default()
    }
}

#[tokio::test]
async fn instance_that_is_idle_has_no_mirror_and_a_request_starts_one() {
    let site = Site::with(
        serving(|guest, request| guest.respond(request.id, 200, "here")),
        |options| options.scaling = Scaling::Auto(quick(0, 2)),
    );
    site.instance.ready().await.unwrap();
    assert!(site.instance.stats().mirrors.is_empty());
    let response = site.get("/").await.unwrap();
    assert!(response.extensions().get::<ServedBy>().unwrap().cold);
    assert_eq!(site.observed.wait("started 0").await, "started 0 cold=true");
    let response = site.get("/").await.unwrap();
    assert!(!response.extensions().get::<ServedBy>().unwrap().cold);
    site.observed.wait("ended 0 scaled_down").await;
    assert_eq!(site.observed.count("scaled 1->0 idle"), 1);
    assert!(
        site.get("/")
            .await
            .unwrap()
            .extensions()
            .get::<ServedBy>()
            .unwrap()
            .cold
    );
}

#[tokio::test]
async fn instance_under_load_gets_more_mirrors_and_gives_them_back() {
    let site = Arc::new(Site::with(
        serving(|guest, request| {
            // Work that takes its time, on the guest's own thread.
            std::thread::sleep(Duration::from_millis(2));
            guest.respond(request.id, 200, "done");
        }),
        |options| options.scaling = Scaling::Auto(quick(1, 3)),
    ));
    let until = Instant::now() + Duration::from_secs(60);
    let mut clients = Vec::new();
    for _ in 0..12 {
        let site = Arc::clone(&site);
        clients.push(tokio::spawn(async move {
            while site.instance.stats().mirrors.len() < 3 && Instant::now() < until {
                assert_eq!(site.read(get("/")).await.0, 200);
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    site.observed.wait("started 2").await;
    site.observed.wait_for("scaled_down", 2).await;
    assert_eq!(site.instance.stats().mirrors.len(), 1);
    assert_eq!(site.read(get("/")).await.0, 200);
}

#[tokio::test]
async fn instance_that_computes_gets_more_mirrors() {
    let site = Arc::new(Site::with(
        serving(|guest, request| {
            let until = Instant::now() + Duration::from_millis(3);
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            guest.respond(request.id, 200, "done");
        }),
        |options| {
            options.scaling = Scaling::Auto(Autoscale {
                // It shares the processors with others.
                cpu_percent: Some(3.0),
                requests_per_mirror: 1000.0,
                ..quick(1, 2)
            });
        },
    ));
    let until = Instant::now() + Duration::from_secs(60);
    while site.observed.count("scaled 1->2 cpu") == 0 && Instant::now() < until {
        assert_eq!(site.read(get("/")).await.0, 200);
    }
    site.observed.wait("started 1").await;
}

#[tokio::test]
async fn instance_that_cannot_start_on_demand_says_so_and_tries_again_with_a_later_request() {
    let site = Site::with(
        supervisor(|guest| {
            if guest.number == 0 {
                guest.control("serve.failed", r#"{"name":"Error","message":"not today"}"#);
            } else {
                guest.ready();
            }
            Some(Box::new(|guest, received| {
                if let crate::guest::Received::Request(request) = received {
                    guest.respond(request.id, 200, "");
                }
            }))
        }),
        |options| options.scaling = Scaling::Auto(quick(0, 1)),
    );
    let error = site.get("/").await.unwrap_err();
    assert!(
        matches!(&error, FetchError::NotStarted { why, .. } if why.contains("not today")),
        "{error}"
    );
    let until = Instant::now() + Duration::from_secs(60);
    while site.get("/").await.is_err() {
        assert!(Instant::now() < until);
        tokio::task::yield_now().await;
    }
}

/// Bytes of this process that are in memory.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok());
    pages.expect("a number") * 4096
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn instance_without_mirrors_costs_little() {
    let supervisor = serving(|guest, request| guest.respond(request.id, 200, "here"));
    let site = || {
        Site::with(supervisor.clone(), |options| {
            options.scaling = Scaling::Auto(Autoscale {
                min: 0,
                ..Autoscale::default()
            });
        })
    };
    let mut sites: Vec<Site> = (0..10).map(|_| site()).collect();
    tokio::task::yield_now().await;
    let before = resident();
    sites.extend((0..2000).map(|_| site()));
    for site in &sites {
        site.instance.ready().await.unwrap();
    }
    let each = (resident() - before) / 2000;
    println!("an instance without mirrors holds {each} bytes");
    assert!(each < 20_000, "{each} bytes");
    // The last of many is as quick as the first.
    assert_eq!(sites[2000].read(get("/")).await.1, "here");
}

#[tokio::test]
async fn request_that_comes_while_the_last_mirror_still_drains_starts_another() {
    let site = Site::with(
        serving(|guest, request| {
            if guest.number == 0 {
                // Promises that never settle keep it.
                let id = request.id;
                guest.control(
                    "http.response",
                    format!("[{id},200,[],\"first\",null,true]"),
                );
            } else {
                guest.respond(request.id, 200, "second");
            }
        }),
        |options| {
            options.scaling = Scaling::Fixed(1);
            options.recycle.requests = Some(1);
            options.limits.wait_until = Duration::from_secs(600);
        },
    );
    assert_eq!(site.read(get("/")).await.1, "first");
    site.observed.wait("started 1").await;
    assert_eq!(site.read(get("/")).await.1, "second");
    assert_eq!(site.observed.count("ended 0"), 0);
}
