//! One site: its code, its addresses, its isolation, its limits and its grants.

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
use stockade_limits::{CgroupUse, CpuShare, Fresh, Isolation, Limits, ShownLimits, Wx};

use crate::auth::{self, Auth};
use crate::fields::Fields;
use crate::grants::{Approve, GRANT_KIND, Grant};
use crate::guard::DataGuard;
use crate::keys::{
    CODE, CRON, FOLDER, INSTANCE_NAME, Key, Kind, NEW, Section, URL, VARIABLE, boolean, either,
    integer, list, map, number, size, text, time,
};
use crate::rate::{self, RateLimit};
use crate::section::{Record, Words, section, words};
use crate::sockets::Sockets;
use crate::tls::{self, CLIENT_AUTH, ClientAuth};
use crate::url::UrlPattern;

pub use assets::{Assets, AssetsOrder};
pub use cron::Cron;
pub use grants::{Binding, FileGrant, Secret, StateBinding};
pub use scaling::{Autoscale, Recycle, Scaling};

pub(crate) use read::{Marked, Wider, read};

use scaling::AutoscaleKeys;

section! {
    /// One site: its code, URLs, level of isolation, limits and grants.
    pub struct Instance "instance" {
        /// Its key in `instances`, or `main` for the single `instance`: lower case letters, digits and hyphens, at most
        /// 63.
        pub name: String => |_| String::new(),
        /// A module, or a folder that contains `index.ts`, `index.js`, `index.tsx`,
        /// `index.jsx` or `index.mjs`.
        pub code: Option<PathBuf> = text(CODE)
            .derived("none where there are `assets`; for a single `instance` the folder of this file")
            .like(&["./site/main.ts"]),
        /// A folder of files that are served without running code.
        pub assets: Option<Assets> = either(&[Kind::Text(FOLDER), Assets::KIND]) => assets::assets,
        /// The URLs that the instance answers: hosts, paths or both. An exact host has
        /// precedence over a wildcard, a longer wildcard over a shorter one, an exact
        /// path over one with `/*`, and a longer path over a shorter one. Without it,
        /// only bindings and crons reach the instance.
        pub urls: Vec<UrlPattern> = list(&Kind::Text(URL))
            .like(&["[\"https://a.example.com\", \"*.example.com/api/*\", /path]"]) => |_| Vec::new(),
        /// The level of isolation: a process in its own namespaces, a confined process,
        /// or one container that all instances with `thread` share, and which ends for
        /// all of them.
        pub isolation: Isolation = Key::of(Isolation::KIND).default("container").shared() => read::isolation,
        /// With `strict`, no memory of the workers is ever written and then executed,
        /// and V8 interprets.
        pub wx: Wx = Key::of(Wx::KIND)
            .derived("`jit`, or `strict` where `security.wx_policy` says so")
            .shared(),
        /// With `own`, the workers of the instance are copied from a template that no
        /// other instance uses, so that they share no address with others. It takes about
        /// 10 MB. At most 32 instances may have one.
        pub template: TemplateUse = Key::of(TemplateUse::KIND).default("shared").shared(),
        /// Logs denied attempts to create executable memory.
        pub wx_audit: bool = boolean().derived("`false`, or what `security.wx_policy` says").shared(),
        /// Lets operators of this machine debug the mirrors in Chrome's DevTools, with
        /// `stockade inspect`. Not for instances with traffic that matters: a paused
        /// mirror answers nothing.
        pub inspect: bool = boolean().default("false"),
        /// The file with the Ed25519 key that signs a receipt of each request that a client sends to the
        /// instance's code: what it was and used. The file is created with mode 0600 if it does not exist,
        /// and its public half next to it, with the ending `.pub`. Receipts are in the log.
        pub receipts: Option<PathBuf> = text(NEW).like(&["./receipt.key"]).shared(),
        /// With `require`, the instance does not start without cgroups for memory and
        /// pids.
        pub cgroup: CgroupUse = Key::of(CgroupUse::KIND).default("auto").shared(),
        /// The limits of the instance.
        pub limits: InstanceLimits = Key::of(InstanceLimits::KIND).shared(),
        /// Short for `limits.memory`.
        key "memory_limit" = size(8 << 20, 1 << 40).derived("`limits.memory`"),
        /// Short for `limits.cores`: a number of cores, not a time.
        key "cpu_limit" = number(0.01, 1024.0).derived("`limits.cores`"),
        /// Short for `limits.timeout`, in seconds.
        key "timeout_seconds" = number(0.001, 86_400.0).derived("`limits.timeout`"),
        /// Variables, read as `env.NAME`: strings, numbers, `true` and `false`, lists
        /// and mappings, as JSON.
        pub env: BTreeMap<String, Value> = map(VARIABLE, &Kind::Any)
            .like(&["{GREETING: hello, LIMIT: 10}"])
            .shared() => grants::env,
        /// Secrets, read as `env.NAME`.
        pub secrets: BTreeMap<String, Secret> = map(VARIABLE, &Secret::KIND) => grants::secrets,
        /// Other instances, called as `env.NAME.fetch()` and `env.NAME.method()`.
        /// Circles are allowed.
        pub bindings: BTreeMap<String, Binding> =
            map(VARIABLE, &Kind::Either(&[Kind::Text(INSTANCE_NAME), Binding::KIND]))
                .like(&["{api: api}"]) => |_| BTreeMap::new(),
        /// Shared state: with `true`, `env.STATE`. All mirrors of the instance share
        /// it; other instances have no access.
        pub state: Option<StateBinding> = either(&[Kind::Bool, StateBinding::KIND])
            .derived("`false`")
            .shared() => grants::state,
        /// Folders that the instance may read or write.
        pub files: Vec<FileGrant> = list(&FileGrant::KIND) => grants::files,
        /// What else the instance is granted, by names that become `env.NAME`. Each
        /// names one kind.
        pub grants: BTreeMap<String, Grant> = map(VARIABLE, &GRANT_KIND)
            .like(&["{NAMES: {dns: {names: [example.com]}}}"]) => crate::grants::grants,
        /// Who approves the calls of a grant, by the grant's name.
        pub approvals: BTreeMap<String, Approve> => crate::grants::approvals,
        /// The times in UTC at which `scheduled` is called.
        pub crons: Vec<Cron> = list(&Kind::Text(CRON)).like(&["[\"*/5 * * * *\"]"]),
        /// The number of mirrors. With `autoscale`, the number at the start.
        key "mirrors" = integer(1, 1000).default("1").shared(),
        /// Adjusts the number of mirrors to the load. `false` overrides a default.
        key "autoscale" = either(&[Kind::Bool, AutoscaleKeys::KIND]).derived("`false`").shared(),
        /// How many mirrors.
        pub scaling: Scaling => |_| Scaling::Fixed(1),
        /// When a mirror is replaced by a new one. No request is lost.
        pub recycle: Recycle = Key::of(Recycle::KIND).shared(),
        /// What gets a mirror that was never used: with `mirror`, a mirror answers many
        /// requests. With `request`, each request, call of a binding and scheduled run
        /// gets a mirror of its own, which ends with the answer; `mirrors` is then the
        /// number of mirrors that are kept ready.
        pub fresh: Fresh = Key::of(Fresh::KIND).default("mirror").shared(),
        /// The hosts that the instance may reach. The default is none.
        pub data_guard: DataGuard = Key::of(DataGuard::KIND).shared(),
        /// The servers that the instance may connect to over TCP. The default is none.
        pub sockets: Sockets = Key::of(Sockets::KIND),
        /// How `%2F` in a path is handled: rejected with 400, kept unchanged, or
        /// decoded to a slash for routes and handlers.
        pub encoded_slashes: EncodedSlashes = Key::of(EncodedSlashes::KIND).default("reject").shared(),
        /// Which clients may send requests: `true` is those with an API key. The default is everyone.
        pub auth: Option<Auth> = either(&[Kind::Bool, Auth::KIND])
            .derived("`false`")
            .shared() => auth::auth,
        /// Limits of what clients may use over time.
        pub rate_limits: Vec<RateLimit> = list(&RateLimit::KIND)
            .like(&["[{by: key, requests: 100/s}, {by: key, requests: 10000/day}]"])
            .shared() => rate::rate_limits,
        /// Which of the `rate_limits` the headers `RateLimit` and `RateLimit-Policy` of responses state: the one that is
        /// closest to being used up, all, or none.
        pub rate_limit_headers: ShownLimits = Key::of(ShownLimits::KIND).default("closest").shared(),
        /// The rule for client certificates of the instance's hosts.
        pub client_auth: Option<ClientAuth> = either(CLIENT_AUTH)
            .derived("that of the listener")
            .shared() => tls::client_auth,
    }
}

section! {
    /// The limits of an instance. They apply to one mirror unless stated otherwise.
    pub struct InstanceLimits "limits" {
        /// JavaScript heap, ArrayBuffers and WebAssembly memory together. A mirror that
        /// exceeds it is terminated and replaced.
        pub memory: u64 = size(8 << 20, 1 << 40).default("128mb"),
        /// CPU time of one activation, which lasts from the arrival of work until the
        /// guest is idle again. A mirror that exceeds it is terminated and replaced.
        pub cpu: Duration = time(1, 3_600_000).default("500ms"),
        /// The number of cores that a mirror may use on average; a mirror above it is
        /// throttled. A mirror computes on one thread, so a value above 1 has no
        /// further effect.
        pub cores: CpuShare = number(0.01, 1024.0)
            .formerly("cpu_limit")
            .default("1") => |limits| share(limits.get("cores")),
        /// Elapsed time of one activation. A mirror that exceeds it is terminated and
        /// replaced.
        pub wall: Duration = time(1, 86_400_000).derived("ten times `cpu`, at least 5s") => wall_time,
        /// Time from a request's arrival at a mirror to the head of its response. A
        /// slower response is replaced by 504.
        pub timeout: Duration = time(1, 86_400_000).default("30s"),
        /// Concurrent requests. With `fresh: request`, mirrors of the whole instance, used
        /// and ready.
        pub concurrency: usize = integer(1, 100_000).default("100"),
        /// Requests of the whole instance that wait for a free mirror. Further requests
        /// get 503.
        pub queue: usize = integer(0, 1_000_000).default("1000"),
        /// How long a request may wait for a free mirror. After it the request gets
        /// 503.
        pub queue_timeout: Duration = time(1, 3_600_000).default("10s"),
        /// How long a mirror may take to be ready.
        pub start_timeout: Duration = time(100, 600_000).default("10s"),
        /// How long promises passed to `ctx.waitUntil` may take.
        pub wait_until: Duration = time(0, 3_600_000).default("30s"),
        /// Messages, requests, answers and console lines per second. Above it the guest
        /// waits.
        pub io_ops: Option<NonZeroU32> = integer(1, 1_000_000),
        /// Bytes per second of messages, requests, answers and console lines. Above it
        /// the guest waits.
        pub bandwidth: Option<NonZeroU64> = size(1 << 10, 1_000_000_000_000),
        /// Unanswered requests to other hosts, bindings and state. Further requests
        /// fail.
        pub subrequests: u32 = integer(1, 16_384).default("1000"),
        /// Storage of the whole instance: of its state, and of each writable folder.
        pub storage: u64 = size(0, 1 << 50).default("100mb"),
        /// Size of a request's body. A larger body gets 413.
        pub max_body: u64 = size(0, 1 << 40).default("100mb"),
        /// Size of a response's body. A larger response is cut off.
        pub max_response: Option<u64> = size(0, 1 << 50),
        /// Concurrent connections that the guest holds open, by `sockets` and by bindings.
        pub connections: usize = integer(0, 100_000).default("1000"),
        /// Concurrent WebSockets of clients.
        pub websockets: usize = integer(0, 100_000).default("1000"),
        /// Time between the termination of a guest and the kill of its worker.
        pub kill_grace: Duration = time(1, 10_000).default("200ms"),
    }
}

section! {
    /// Whether workers may execute memory that they have written.
    pub(crate) struct WxPolicy "wx_policy" {
        /// `true` is `wx: strict`.
        pub strict: bool = boolean().default("false"),
        /// `true` is `wx_audit: true`.
        pub audit_logging: bool = boolean().default("false"),
    }
}

words! {
    /// From which template the workers of an instance are copied.
    pub enum TemplateUse {
        /// From the one of all instances with the same `limits.memory` and `wx`.
        Shared = "shared",
        /// From one of their own.
        Own = "own",
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
    impl Fresh {
        Mirror = "mirror",
        Request = "request",
    }
}

words! {
    impl ShownLimits {
        Closest = "closest",
        All = "all",
        None = "none",
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
    doc: "Defaults for every instance, key by key.",
    keys: &Instance::SECTION.shared::<{ Instance::SECTION.count_shared() }>(),
};

/// `scaling`.
pub(crate) const SCALING: Section = Section {
    name: "scaling",
    doc: "The default number of mirrors.",
    keys: &[
        Instance::SECTION.take("mirrors"),
        Instance::SECTION.take("autoscale"),
    ],
};

/// `security`.
pub(crate) const SECURITY: Section = Section {
    name: "security",
    doc: "Defaults for every instance.",
    keys: &[
        Instance::SECTION.take("data_guard"),
        Key::of(WxPolicy::KIND).named(
            "wx_policy",
            "Whether workers may execute memory that they have written.",
        ),
        Instance::SECTION.take("isolation"),
        Instance::SECTION.take("cgroup"),
    ],
};

/// The share of one core that a number of cores is for a mirror, which computes on one thread.
fn share(cores: f64) -> CpuShare {
    CpuShare::new(cores.min(1.0)).unwrap_or(CpuShare::FULL)
}

fn wall_time(limits: &Fields<'_>) -> Duration {
    let written: Option<Duration> = limits.get("wall");
    let derived = || Limits::wall_limit_for(Some(limits.get("cpu")));
    written.or_else(derived).unwrap_or_default()
}
