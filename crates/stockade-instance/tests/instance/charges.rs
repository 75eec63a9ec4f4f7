//! For which API key a mirror's CPU and memory count.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use parking_lot::Mutex;
use stockade_http::{Body, Client, RequestAccount, Used};
use stockade_instance::{Instance, InstanceOptions, NoServices, Observer, Unobserved};
use stockade_limits::IsolateOptions;
use stockade_supervisor::{CpuClock, Supervisor};

use crate::guest::{Guest, Received, scripted, supervisor};
use crate::site::{from_client, get, text};

/// The number of an API key.
type Key = Option<u64>;

#[derive(Default)]
struct Sums(Mutex<HashMap<Key, (Duration, u64)>>);

impl Observer for Sums {
    fn divides_use(&self) -> bool {
        true
    }

    fn used(&self, key: Key, used: &Used) {
        let mut sums = self.0.lock();
        let sum = sums.entry(key).or_default();
        sum.0 += used.cpu;
        sum.1 += used.memory_byte_seconds;
    }
}

struct Charged {
    instance: Instance,
    sums: Arc<Sums>,
}

impl Charged {
    fn new(supervisor: Supervisor) -> Self {
        let options = InstanceOptions::new("site", IsolateOptions::default());
        let sums = Arc::new(Sums::default());
        let instance = Instance::start(
            options,
            supervisor,
            Arc::new(NoServices),
            Arc::clone(&sums) as _,
        );
        Self { instance, sums }
    }

    async fn read(&self, key: Key, path: &str) -> String {
        let response = self.instance.fetch(of_key(key, path)).await.unwrap();
        text(response).await.unwrap()
    }

    /// The CPU time of each key, once everything has ended. All of it adds up to what the instance used.
    async fn cpu(self) -> impl Fn(Key) -> Duration {
        self.instance.drain(Duration::from_secs(20)).await;
        let sums = self.sums.0.lock().clone();
        let all: Duration = sums.values().map(|sum| sum.0).sum();
        assert_eq!(all, self.instance.stats().cpu);
        move |key| sums.get(&key).map_or(Duration::ZERO, |sum| sum.0)
    }
}

fn of_key(key: Key, path: &str) -> Request<Body> {
    let mut request = from_client(get(path), false);
    if let Some(client) = request.extensions_mut().get_mut::<Client>() {
        client.key = key;
    }
    request
}

fn burn(milliseconds: u64) {
    let until = CpuClock::now() + Duration::from_millis(milliseconds);
    while CpuClock::now() < until {
        std::hint::black_box(0);
    }
}

const MS: Duration = Duration::from_millis(1);

#[tokio::test]
async fn cpu_of_requests_one_after_the_other_is_that_of_their_keys() {
    let site = Charged::new(scripted(|guest, received| {
        if let Received::Request(request) = received {
            burn(request.path()[1..].parse().unwrap());
            guest.respond(request.id, 200, "done");
        }
    }));
    for _ in 0..3 {
        site.read(Some(1), "/10").await;
        site.read(Some(2), "/40").await;
        site.read(None, "/20").await;
    }
    let cpu = site.cpu().await;
    for (key, least) in [(Some(1), 30), (Some(2), 120), (None, 60)] {
        assert!(cpu(key) >= least * MS, "{key:?}: {:?}", cpu(key));
    }
    // What a guest uses besides is little.
    assert!(
        cpu(Some(1)) < 60 * MS && cpu(Some(2)) < 160 * MS,
        "{:?} {:?}",
        cpu(Some(1)),
        cpu(Some(2))
    );
}

#[tokio::test]
async fn cpu_while_requests_of_several_keys_are_open_is_divided_among_requests() {
    let site = Charged::new(supervisor(|guest: &Guest| {
        guest.ready();
        let mut open = Vec::new();
        Some(Box::new(move |guest: &Guest, received: Received| {
            if let Received::Request(request) = received {
                open.push(request.id);
                // All three are open.
                if open.len() == 3 {
                    burn(90);
                    open.drain(..).for_each(|id| guest.respond(id, 200, "done"));
                }
            }
        }))
    }));
    tokio::join!(
        site.read(Some(1), "/"),
        site.read(Some(2), "/"),
        site.read(Some(2), "/")
    );
    let cpu = site.cpu().await;
    let (one, two) = (cpu(Some(1)), cpu(Some(2)));
    assert!(one >= 25 * MS && two >= 50 * MS, "{one:?} {two:?}");
    assert!(one < 50 * MS && two < 80 * MS, "{one:?} {two:?}");
}

#[tokio::test]
async fn work_after_the_response_counts_for_the_key_of_its_request() {
    let site = Charged::new(scripted(|guest, received| match received {
        Received::Request(request) if request.path() == "/later" => {
            // With promises that are open.
            guest.control(
                "http.response",
                format!("[{},200,[],\"ok\",null,true]", request.id),
            );
            burn(40);
            guest.control("http.settled", format!("[{}]", request.id));
        }
        Received::Request(request) => guest.respond(request.id, 200, "done"),
        _ => {}
    }));
    site.read(Some(1), "/later").await;
    // Another key comes while the work goes on, and shares what is used from then on.
    site.read(Some(2), "/").await;
    let cpu = site.cpu().await;
    assert!(cpu(Some(1)) >= 20 * MS, "{:?}", cpu(Some(1)));
    assert!(cpu(None) < 20 * MS, "{:?}", cpu(None));
}

#[tokio::test]
async fn work_for_a_client_that_has_gone_counts_for_its_key() {
    let (hung, mut hangs) = tokio::sync::mpsc::unbounded_channel();
    let site = Charged::new(scripted(move |guest, received| match received {
        Received::Request(request) if request.path() == "/" => {
            guest.respond(request.id, 200, "done")
        }
        Received::Request(_) => hung.send(()).unwrap(),
        received => {
            if let Some(aborted) = received.control("http.abort") {
                burn(40);
                guest.control(
                    "http.failed",
                    format!("[{},\"AbortError\",\"gone\",null]", aborted[0]),
                );
            }
        }
    }));
    site.read(None, "/").await;
    tokio::select! {
        answer = site.instance.fetch(of_key(Some(1), "/hang")) => panic!("{answer:?}"),
        hung = hangs.recv() => hung.unwrap(),
    }
    let cpu = site.cpu().await;
    assert!(cpu(Some(1)) >= 40 * MS, "{:?}", cpu(Some(1)));
}

#[tokio::test]
async fn mirrors_that_die_in_the_middle_are_charged_to_the_end() {
    let site = Charged::new(scripted(|guest, received| {
        if let Received::Request(request) = received {
            burn(20);
            if request.path() == "/die" {
                // A response that no request has asked for ends the mirror.
                guest.respond(request.id + 7, 200, "forged");
            } else {
                guest.respond(request.id, 200, "done");
            }
        }
    }));
    for _ in 0..3 {
        assert!(site.instance.fetch(of_key(Some(1), "/die")).await.is_err());
        site.read(Some(2), "/").await;
    }
    let cpu = site.cpu().await;
    // A request that can be sent again is: each death is two.
    assert!(cpu(Some(1)) >= 60 * MS, "{:?}", cpu(Some(1)));
    assert!(cpu(Some(2)) >= 60 * MS, "{:?}", cpu(Some(2)));
}

/// What was charged to one client.
#[derive(Debug, Default)]
struct Account(Mutex<(Duration, Duration)>);

impl RequestAccount for Account {
    fn used(&self, time: Duration) {
        self.0.lock().0 += time;
    }

    fn idle(&self, time: Duration) {
        self.0.lock().1 += time;
    }
}

/// A site whose use nobody divides among keys.
struct Limited(Instance);

impl Limited {
    fn new(supervisor: Supervisor) -> Self {
        let options = InstanceOptions::new("site", IsolateOptions::default());
        let (services, observer) = (Arc::new(NoServices), Arc::new(Unobserved));
        Self(Instance::start(options, supervisor, services, observer))
    }

    async fn read(&self, account: Option<&Arc<Account>>, path: &str) -> String {
        let mut request = of_key(None, path);
        if let Some(client) = request.extensions_mut().get_mut::<Client>() {
            client.account = account.map(|account| Arc::clone(account) as _);
        }
        let response = self.0.fetch(request).await.unwrap();
        text(response).await.unwrap()
    }

    /// What was charged to each account, for requests and besides, once everything has ended.
    async fn charged<const N: usize>(
        self,
        accounts: [&Arc<Account>; N],
    ) -> [(Duration, Duration); N] {
        self.0.drain(Duration::from_secs(20)).await;
        let charged = accounts.map(|account| *account.0.lock());
        let all: Duration = charged.iter().map(|(used, idle)| *used + *idle).sum();
        assert!(all <= self.0.stats().cpu);
        charged
    }
}

#[tokio::test]
async fn cpu_is_charged_to_the_account_of_each_request() {
    let site = Limited::new(scripted(|guest, received| {
        if let Received::Request(request) = received {
            burn(request.path()[1..].parse().unwrap());
            guest.respond(request.id, 200, "done");
        }
    }));
    let (one, two) = (Arc::default(), Arc::default());
    for _ in 0..3 {
        site.read(Some(&one), "/10").await;
        site.read(Some(&two), "/40").await;
        // Of a request without an account nobody is charged.
        site.read(None, "/60").await;
    }
    let [one, two] = site.charged([&one, &two]).await;
    assert!(one.0 >= 30 * MS && one.0 < 60 * MS, "{one:?}");
    assert!(two.0 >= 120 * MS && two.0 < 160 * MS, "{two:?}");
}

#[tokio::test]
async fn cpu_of_requests_side_by_side_is_divided_among_their_accounts() {
    let site = Limited::new(supervisor(|guest: &Guest| {
        guest.ready();
        let mut open = Vec::new();
        Some(Box::new(move |guest: &Guest, received: Received| {
            if let Received::Request(request) = received {
                open.push(request.id);
                if open.len() == 3 {
                    burn(90);
                    open.drain(..).for_each(|id| guest.respond(id, 200, "done"));
                }
            }
        }))
    }));
    let (one, two) = (Arc::default(), Arc::default());
    tokio::join!(
        site.read(Some(&one), "/"),
        site.read(Some(&two), "/"),
        site.read(None, "/")
    );
    let charged = site.charged([&one, &two]).await;
    for (used, _) in charged {
        assert!(used >= 25 * MS && used < 50 * MS, "{charged:?}");
    }
}

/// What a guest computes once it has answered.
async fn charged_after_the_response(after: u64) -> (Duration, Duration) {
    let site = Limited::new(scripted(move |guest, received| {
        if let Received::Request(request) = received {
            guest.respond(request.id, 200, "done");
            burn(after);
        }
    }));
    let account = Arc::default();
    site.read(Some(&account), "/").await;
    let [charged] = site.charged([&account]).await;
    charged
}

#[tokio::test]
async fn guest_that_computes_after_its_response_is_charged_as_one_that_computes_before() {
    let hostile = charged_after_the_response(60).await;
    assert!(hostile.0 >= 60 * MS, "{hostile:?}");
    let harmless = charged_after_the_response(0).await;
    assert!(harmless.0 < 30 * MS, "{harmless:?}");
}

#[tokio::test]
async fn cpu_of_a_start_is_charged_as_idle_time_of_the_first_account() {
    let site = Limited::new(supervisor(|guest: &Guest| {
        burn(60);
        guest.ready();
        Some(Box::new(|guest: &Guest, received: Received| {
            if let Received::Request(request) = received {
                guest.respond(request.id, 200, "done");
            }
        }))
    }));
    let (first, second) = (Arc::default(), Arc::default());
    site.read(Some(&first), "/").await;
    site.read(Some(&second), "/").await;
    let [first, second] = site.charged([&first, &second]).await;
    assert!(first.1 >= 60 * MS && first.0 < 30 * MS, "{first:?}");
    assert!(second.1 < 30 * MS, "{second:?}");
}
