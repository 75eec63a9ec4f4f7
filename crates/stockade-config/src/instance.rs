//! One site: its code, its addresses, its walls, its limits and what it is granted.

mod assets;
mod cron;
mod grants;
mod read;
mod scaling;

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use stockade_http::EncodedSlashes;
use stockade_policy::{CgroupUse, CpuShare, Isolation, Limits, Wx};

use crate::fields::Fields;
use crate::guard::DataGuard;
use crate::keys::{
    CODE, CRON, FOLDER, INSTANCE_NAME, Key, Kind, Section, URL, VARIABLE, boolean, either, integer,
    list, map, number, size, text, time,
};
use crate::section::{Record, Words, section, words};
use crate::tls::{self, CLIENT_AUTH, ClientAuth};
use crate::url::UrlPattern;

pub use assets::{Assets, AssetsOrder};
pub use cron::Cron;
pub use grants::{Binding, FileGrant, FileMode, Secret, SecretSource, SecretText, StateBinding};
pub use scaling::{Autoscale, Recycle, Scaling};

pub(crate) use read::{Marked, Wider, read};

use scaling::AutoscaleKeys;

section! {
    /// One site: its code, its addresses, its walls, its limits and what it is granted.
    pub struct Instance "instance" {
        /// Its key in `instances`, or `main` for the single `instance`: lower case letters, digits and hyphens, at most
        /// 63.
        pub name: String => |_| String::new(),
        /// A module, or a folder with `index.ts`, `index.js`, `index.tsx`, `index.jsx` or `index.mjs` in it.
        pub code: Option<PathBuf> = text(CODE)
            .derived("none where there are `assets`; for a single `instance` the folder of this file")
            .like(&["./site/main.ts"]),
        /// A folder of files served without running code.
        pub assets: Option<Assets> = either(&[Kind::Text(FOLDER), Assets::KIND]) => assets::assets,
        /// What it answers: hosts, paths or both. An exact host wins over a wildcard, a longer wildcard over a
        /// shorter, an exact path over one with `/*`, a longer path over a shorter. Without it only bindings and crons
        /// reach it.
        pub urls: Vec<UrlPattern> = list(&Kind::Text(URL))
            .like(&["[\"https://a.example.com\", \"*.example.com/api/*\", /path]"]) => |_| Vec::new(),
        /// The wall: a process in namespaces of its own, a confined process, or a worker shared by all instances with
        /// `thread`, which then share their fate.
        pub isolation: Isolation = Key::of(Isolation::KIND).default("container").shared() => read::isolation,
        /// `strict`: no memory of its workers is ever both written and executed; V8 interprets.
        pub wx: Wx = Key::of(Wx::KIND)
            .derived("`jit`, or `strict` where `security.wx_policy` says so")
            .shared(),
        /// Logs refused attempts to get executable memory.
        pub wx_audit: bool = boolean().derived("`false`, or what `security.wx_policy` says").shared(),
        /// `require`: without cgroups for memory and pids the instance does not start.
        pub cgroup: CgroupUse = Key::of(CgroupUse::KIND).default("auto").shared(),
        /// The limits of the instance.
        pub limits: InstanceLimits = Key::of(InstanceLimits::KIND).shared(),
        /// Short for `limits.memory`.
        key "memory_limit" = size(8 << 20, 1 << 40).derived("`limits.memory`"),
        /// Short for `limits.cores`: a number of cores, not a time.
        key "cpu_limit" = number(0.01, 1024.0).derived("`limits.cores`"),
        /// Short for `limits.timeout`, in seconds.
        key "timeout_seconds" = number(0.001, 86_400.0).derived("`limits.timeout`"),
        /// Variables, read as `env.NAME`: text, numbers, `true` and `false`, lists and mappings, as JSON.
        pub env: BTreeMap<String, Value> = map(VARIABLE, &Kind::Any)
            .like(&["{GREETING: hello, LIMIT: 10}"])
            .shared() => grants::env,
        /// Secrets, read as `env.NAME`.
        pub secrets: BTreeMap<String, Secret> = map(VARIABLE, &Secret::KIND) => grants::secrets,
        /// Other instances, called as `env.NAME.fetch()` and `env.NAME.method()`; circles are allowed.
        pub bindings: BTreeMap<String, Binding> =
            map(VARIABLE, &Kind::Either(&[Kind::Text(INSTANCE_NAME), Binding::KIND]))
                .like(&["{api: api}"]) => |_| BTreeMap::new(),
        /// Shared state: `env.STATE` with `true`. All mirrors of the instance see the same, no other instance does.
        pub state: Option<StateBinding> = either(&[Kind::Bool, StateBinding::KIND])
            .derived("`false`")
            .shared() => grants::state,
        /// Folders it may read or write.
        pub files: Vec<FileGrant> = list(&FileGrant::KIND) => grants::files,
        /// When `scheduled` is called, UTC.
        pub crons: Vec<Cron> = list(&Kind::Text(CRON)).like(&["[\"*/5 * * * *\"]"]),
        /// Replicas; with `autoscale` how many to begin with.
        key "mirrors" = integer(1, 1000).default("1").shared(),
        /// Lets the number of mirrors follow load; `false` undoes a wider default.
        key "autoscale" = either(&[Kind::Bool, AutoscaleKeys::KIND]).derived("`false`").shared(),
        /// How many mirrors.
        pub scaling: Scaling => |_| Scaling::Fixed(1),
        /// When a mirror is replaced by a fresh one; no request is lost by it.
        pub recycle: Recycle = Key::of(Recycle::KIND).shared(),
        /// What it may reach; without it, nothing.
        pub data_guard: DataGuard = Key::of(DataGuard::KIND).shared(),
        /// What becomes of `%2F` in a path: answered with 400, kept as it is, or a slash for routes and handlers
        /// alike.
        pub encoded_slashes: EncodedSlashes = Key::of(EncodedSlashes::KIND).default("reject").shared(),
        /// Who must show a certificate to reach its hosts.
        pub client_auth: Option<ClientAuth> = either(CLIENT_AUTH)
            .derived("that of the listener")
            .shared() => tls::client_auth,
    }
}

section! {
    /// The limits of an instance. They are those of one mirror, unless they say otherwise.
    pub struct InstanceLimits "limits" {
        /// JS heap, ArrayBuffers and WebAssembly memory together; beyond it the mirror ends and is replaced.
        pub memory: u64 = size(8 << 20, 1 << 40).default("128mb"),
        /// CPU time of one activation: from work coming in until the guest is idle again; beyond it the mirror ends
        /// and is replaced.
        pub cpu: Duration = time(1, 3_600_000).default("500ms"),
        /// Cores. A mirror above it is slowed down. A mirror computes on one thread, so what is above 1 holds by
        /// itself.
        pub cores: CpuShare = number(0.01, 1024.0)
            .formerly("cpu_limit")
            .default("1") => |limits| share(limits.get("cores")),
        /// Elapsed time of one activation; beyond it the mirror ends and is replaced.
        pub wall: Duration = time(1, 86_400_000).derived("ten times `cpu`, at least 5s") => wall,
        /// The time from a request's arrival at a mirror to the head of its response; beyond it 504.
        pub timeout: Duration = time(1, 86_400_000).default("30s"),
        /// Requests at the same time.
        pub concurrency: usize = integer(1, 100_000).default("100"),
        /// Requests of the whole instance that wait for a mirror with room; beyond it 503.
        pub queue: usize = integer(0, 1_000_000).default("1000"),
        /// How long a request may wait for a mirror with room; beyond it 503.
        pub queue_timeout: Duration = time(1, 3_600_000).default("10s"),
        /// How long a mirror may take to be ready.
        pub start_timeout: Duration = time(100, 600_000).default("10s"),
        /// How long promises given to `ctx.waitUntil` may take.
        pub wait_until: Duration = time(0, 3_600_000).default("30s"),
        /// Messages, requests, answers and console lines a second; beyond it the guest waits.
        pub io_ops: Option<NonZeroU32> = integer(1, 1_000_000),
        /// Bytes a second of messages, requests, answers and console lines; beyond it the guest waits.
        pub bandwidth: Option<NonZeroU64> = size(1 << 10, 1_000_000_000_000),
        /// Requests to the outside, to bindings and to state that wait for an answer; beyond it they fail.
        pub subrequests: u32 = integer(1, 16_384).default("1000"),
        /// Bytes the whole instance may store: in its state, and in each folder it may write.
        pub storage: u64 = size(0, 1 << 50).default("100mb"),
        /// Bytes of a request's body; beyond it 413.
        pub max_body: u64 = size(0, 1 << 40).default("100mb"),
        /// Bytes of a response's body; beyond it the response is cut off.
        pub max_response: Option<u64> = size(0, 1 << 50),
        /// WebSockets of clients at the same time.
        pub websockets: usize = integer(0, 100_000).default("1000"),
        /// How long it may run on after it was asked to end, before its worker is killed.
        pub kill_grace: Duration = time(1, 10_000).default("200ms"),
    }
}

section! {
    /// Whether workers may execute what they have written.
    pub(crate) struct WxPolicy "wx_policy" {
        /// `true` is `wx: strict`.
        pub strict: bool = boolean().default("false"),
        /// `true` is `wx_audit: true`.
        pub audit_logging: bool = boolean().default("false"),
    }
}

words! {
    impl Isolation {
        Thread = "thread",
        Process = "process",
        Container = "container",
    }
}

words! {
    impl Wx {
        Jit = "jit",
        Strict = "strict",
    }
}

words! {
    impl CgroupUse {
        Auto = "auto",
        Require = "require",
    }
}

words! {
    impl EncodedSlashes {
        Reject = "reject",
        Keep = "keep",
        Decode = "decode",
    }
}

/// `defaults`: the keys of an instance that hold for all.
pub(crate) const DEFAULTS: Section = Section {
    name: "defaults",
    doc: "What holds for every instance that does not say otherwise, key by key.",
    keys: &Instance::SECTION.shared::<{ Instance::SECTION.count_shared() }>(),
};

/// `scaling`.
pub(crate) const SCALING: Section = Section {
    name: "scaling",
    doc: "How many mirrors every instance has that does not say otherwise.",
    keys: &[
        Instance::SECTION.take("mirrors"),
        Instance::SECTION.take("autoscale"),
    ],
};

/// `security`.
pub(crate) const SECURITY: Section = Section {
    name: "security",
    doc: "What holds for every instance that does not say otherwise.",
    keys: &[
        Instance::SECTION.take("data_guard"),
        Key::of(WxPolicy::KIND).named(
            "wx_policy",
            "Whether workers may execute what they have written.",
        ),
        Instance::SECTION.take("isolation"),
        Instance::SECTION.take("cgroup"),
    ],
};

/// The share of one core that a number of cores is for a mirror, which computes on one thread.
fn share(cores: f64) -> CpuShare {
    CpuShare::new(cores.min(1.0)).unwrap_or(CpuShare::FULL)
}

fn wall(limits: &Fields<'_>) -> Duration {
    let written: Option<Duration> = limits.get("wall");
    let derived = || Limits::wall_for(Some(limits.get("cpu")));
    written.or_else(derived).unwrap_or_default()
}
