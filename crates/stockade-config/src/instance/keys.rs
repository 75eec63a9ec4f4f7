//! The tables of an instance's keys.

use super::grant_keys::{ASSETS, BINDING, FILES, SECRET, STATE};
use crate::guard::DATA_GUARD;
use crate::keys::{CODE, CRON, FOLDER, INSTANCE_NAME, Key, Kind, Section, URL, VARIABLE};
use crate::tls::{CLIENT_AUTH, MODES};

const ISOLATION: Key = Key::with(
    "isolation",
    Kind::Words(&["thread", "process", "container"]),
    "container",
    "The wall: a process in namespaces of its own, a confined process, or a worker shared by all instances with `thread`, which then share their fate.",
);
const WX: Key = Key::derived(
    "wx",
    Kind::Words(&["jit", "strict"]),
    "`jit`, or `strict` where `security.wx_policy` says so",
    "`strict`: no memory of its workers is ever both written and executed; V8 interprets.",
);
const WX_AUDIT: Key = Key::derived(
    "wx_audit",
    Kind::Flag,
    "`false`, or what `security.wx_policy` says",
    "Logs refused attempts to get executable memory.",
);
const CGROUP: Key = Key::with(
    "cgroup",
    Kind::Words(&["auto", "require"]),
    "auto",
    "`require`: without cgroups for memory and pids the instance does not start.",
);
const LIMITS_KEY: Key = Key::maybe("limits", Kind::Section(&LIMITS), "What it is held to.");
const ENV: Key = Key::maybe(
    "env",
    Kind::Map(VARIABLE, &Kind::Any),
    "Variables, read as `env.NAME`: text, numbers, `true` and `false`, lists and mappings, as JSON.",
)
.like(&["{GREETING: hello, LIMIT: 10}"]);
const STATE_KEY: Key = Key::derived(
    "state",
    Kind::Either(&[Kind::Flag, Kind::Section(&STATE)]),
    "`false`",
    "Shared state: `env.STATE` with `true`. All mirrors of the instance see the same, no other instance does.",
);
const GUARD: Key = Key::maybe(
    "data_guard",
    Kind::Section(&DATA_GUARD),
    "What it may reach; without it, nothing.",
);
const MIRRORS: Key = Key::with(
    "mirrors",
    Kind::Whole(1, 1000),
    "1",
    "Replicas; with `autoscale` how many to begin with.",
);
const AUTOSCALE_KEY: Key = Key::derived(
    "autoscale",
    Kind::Either(&[Kind::Flag, Kind::Section(&AUTOSCALE)]),
    "`false`",
    "Lets the number of mirrors follow load; `false` undoes a wider default.",
);
const RECYCLE_KEY: Key = Key::maybe(
    "recycle",
    Kind::Section(&RECYCLE),
    "When a mirror is replaced by a fresh one; no request is lost by it.",
);
const ENCODED_SLASHES: Key = Key::with(
    "encoded_slashes",
    Kind::Words(&["reject", "keep", "decode"]),
    "reject",
    "What becomes of `%2F` in a path: answered with 400, kept as it is, or a slash for routes and handlers alike.",
);
const CLIENT_AUTH_KEY: Key = Key::derived(
    "client_auth",
    Kind::Either(&[Kind::Words(MODES), Kind::Section(&CLIENT_AUTH)]),
    "that of the listener",
    "Who must show a certificate to reach its hosts.",
);

/// One entry of `instances`, or the single `instance`.
pub(crate) const INSTANCE: Section = Section {
    name: "instance",
    doc: "One site: its code, its addresses, its walls, its limits and what it is granted.",
    keys: &[
        Key::derived(
            "code",
            Kind::Text(CODE),
            "none where there are `assets`; for a single `instance` the folder of this file",
            "A module, or a folder with `index.ts`, `index.js`, `index.tsx`, `index.jsx` or `index.mjs` in it.",
        )
        .like(&["./site/main.ts"]),
        Key::maybe(
            "assets",
            Kind::Either(&[Kind::Text(FOLDER), Kind::Section(&ASSETS)]),
            "A folder of files served without running code.",
        ),
        Key::maybe(
            "urls",
            Kind::List(&Kind::Text(URL)),
            "What it answers: hosts, paths or both. An exact host wins over a wildcard, a longer wildcard over a shorter, an exact path over one with `/*`, a longer path over a shorter. Without it only bindings and crons reach it.",
        )
        .like(&["[\"https://a.example.com\", \"*.example.com/api/*\", /path]"]),
        ISOLATION,
        WX,
        WX_AUDIT,
        CGROUP,
        LIMITS_KEY,
        Key::derived(
            "memory_limit",
            Kind::Size(8 << 20, 1 << 40),
            "`limits.memory`",
            "Short for `limits.memory`.",
        ),
        Key::derived(
            "cpu_limit",
            Kind::Number(0.01, 1024.0),
            "`limits.cpu_limit`",
            "Short for `limits.cpu_limit`.",
        ),
        Key::derived(
            "timeout_seconds",
            Kind::Number(0.001, 86_400.0),
            "`limits.timeout`",
            "Short for `limits.timeout`, in seconds.",
        ),
        ENV,
        Key::maybe(
            "secrets",
            Kind::Map(VARIABLE, &Kind::Section(&SECRET)),
            "Secrets, read as `env.NAME`.",
        ),
        Key::maybe(
            "bindings",
            Kind::Map(
                VARIABLE,
                &Kind::Either(&[Kind::Text(INSTANCE_NAME), Kind::Section(&BINDING)]),
            ),
            "Other instances, called as `env.NAME.fetch()` and `env.NAME.method()`; circles are allowed.",
        )
        .like(&["{api: api}"]),
        STATE_KEY,
        Key::maybe(
            "files",
            Kind::List(&Kind::Section(&FILES)),
            "Folders it may read or write.",
        ),
        Key::maybe(
            "crons",
            Kind::List(&Kind::Text(CRON)),
            "When `scheduled` is called, UTC.",
        )
        .like(&["[\"*/5 * * * *\"]"]),
        MIRRORS,
        AUTOSCALE_KEY,
        RECYCLE_KEY,
        GUARD,
        ENCODED_SLASHES,
        CLIENT_AUTH_KEY,
    ],
};

/// `defaults`.
pub(crate) const DEFAULTS: Section = Section {
    name: "defaults",
    doc: "What holds for every instance that does not say otherwise, key by key.",
    keys: &[
        ISOLATION,
        WX,
        WX_AUDIT,
        CGROUP,
        LIMITS_KEY,
        ENV,
        STATE_KEY,
        MIRRORS,
        AUTOSCALE_KEY,
        RECYCLE_KEY,
        GUARD,
        ENCODED_SLASHES,
        CLIENT_AUTH_KEY,
    ],
};

/// `scaling`.
pub(crate) const SCALING: Section = Section {
    name: "scaling",
    doc: "How many mirrors every instance has that does not say otherwise.",
    keys: &[MIRRORS, AUTOSCALE_KEY],
};

/// `security`.
pub(crate) const SECURITY: Section = Section {
    name: "security",
    doc: "What holds for every instance that does not say otherwise.",
    keys: &[
        GUARD,
        Key::maybe(
            "wx_policy",
            Kind::Section(&WX_POLICY),
            "Whether workers may execute what they have written.",
        ),
        ISOLATION,
        CGROUP,
    ],
};

/// `security.wx_policy`.
const WX_POLICY: Section = Section {
    name: "wx_policy",
    doc: "Whether workers may execute what they have written.",
    keys: &[
        Key::with("strict", Kind::Flag, "false", "`true` is `wx: strict`."),
        Key::with(
            "audit_logging",
            Kind::Flag,
            "false",
            "`true` is `wx_audit: true`.",
        ),
    ],
};

/// `limits` of an instance.
const LIMITS: Section = Section {
    name: "limits",
    doc: "What an instance is held to. Figures are of one mirror unless they say otherwise.",
    keys: &[
        Key::with(
            "memory",
            Kind::Size(8 << 20, 1 << 40),
            "128mb",
            "JS heap, ArrayBuffers and WebAssembly memory together; beyond it the mirror ends and is replaced.",
        ),
        Key::with(
            "cpu",
            Kind::Time(1, 3_600_000),
            "500ms",
            "CPU time of one activation: from work coming in until the guest is idle again; beyond it the mirror ends and is replaced.",
        ),
        Key::with(
            "cpu_limit",
            Kind::Number(0.01, 1024.0),
            "1",
            "Cores. A mirror above it is slowed down. A mirror computes on one thread, so what is above 1 holds by itself.",
        ),
        Key::derived(
            "wall",
            Kind::Time(1, 86_400_000),
            "ten times `cpu`, at least 5s",
            "Elapsed time of one activation; beyond it the mirror ends and is replaced.",
        ),
        Key::with(
            "timeout",
            Kind::Time(1, 86_400_000),
            "30s",
            "From a request's arrival at a mirror to the head of its response; beyond it 504.",
        ),
        Key::with(
            "concurrency",
            Kind::Whole(1, 100_000),
            "100",
            "Requests at the same time.",
        ),
        Key::with(
            "queue",
            Kind::Whole(0, 1_000_000),
            "1000",
            "Requests of the whole instance that wait for a mirror with room; beyond it 503.",
        ),
        Key::with(
            "queue_timeout",
            Kind::Time(1, 3_600_000),
            "10s",
            "How long a request may wait for a mirror with room; beyond it 503.",
        ),
        Key::with(
            "start_timeout",
            Kind::Time(100, 600_000),
            "10s",
            "How long a mirror may take to be ready.",
        ),
        Key::with(
            "wait_until",
            Kind::Time(0, 3_600_000),
            "30s",
            "How long promises given to `ctx.waitUntil` may take.",
        ),
        Key::maybe(
            "io_ops",
            Kind::Whole(1, 1_000_000),
            "Messages, requests, answers and console lines a second; beyond it the guest waits.",
        ),
        Key::maybe(
            "bandwidth",
            Kind::Size(1 << 10, 1_000_000_000_000),
            "The bytes of it a second; beyond it the guest waits.",
        ),
        Key::with(
            "subrequests",
            Kind::Whole(1, 16_384),
            "1000",
            "Requests to the outside, to bindings and to state that wait for an answer; beyond it they fail.",
        ),
        Key::with(
            "storage",
            Kind::Size(0, 1 << 50),
            "100mb",
            "Bytes the whole instance may store: in its state, and in each folder it may write.",
        ),
        Key::with(
            "max_body",
            Kind::Size(0, 1 << 40),
            "100mb",
            "Bytes of a request's body; beyond it 413.",
        ),
        Key::maybe(
            "max_response",
            Kind::Size(0, 1 << 50),
            "Bytes of a response's body; beyond it the response is cut off.",
        ),
        Key::with(
            "websockets",
            Kind::Whole(0, 100_000),
            "1000",
            "WebSockets of clients at the same time.",
        ),
        Key::with(
            "kill_grace",
            Kind::Time(1, 10_000),
            "200ms",
            "How long it may go on after it was told to end before its worker is killed.",
        ),
    ],
};

/// `autoscale`.
pub(crate) const AUTOSCALE: Section = Section {
    name: "autoscale",
    doc: "How the number of mirrors follows load: enough for both CPU and requests, averaged over `stable_window`; in a burst, averaged over `panic_window`, it only grows.",
    keys: &[
        Key::with(
            "min_instances",
            Kind::Whole(0, 1000),
            "1",
            "The fewest mirrors; 0 lets an idle instance have none.",
        ),
        Key::derived(
            "max_instances",
            Kind::Whole(1, 1000),
            "4, or the larger of `min_instances` and `mirrors`",
            "The most mirrors.",
        ),
        Key::with(
            "cpu_threshold",
            Kind::Number(1.0, 100.0),
            "75",
            "Percent of the CPU a mirror may use (`limits.cpu_limit`, at most one core); above it there are to be more.",
        ),
        Key::derived(
            "queue_length",
            Kind::Number(0.1, 100_000.0),
            "half of `limits.concurrency`",
            "Requests running and waiting, for each mirror; above it there are to be more.",
        ),
        Key::with(
            "stable_window",
            Kind::Time(1000, 3_600_000),
            "60s",
            "Over how long load is averaged.",
        ),
        Key::with(
            "panic_window",
            Kind::Time(100, 600_000),
            "6s",
            "Over how long load is averaged to notice a burst.",
        ),
        Key::with(
            "scale_to_zero_after",
            Kind::Time(100, 86_400_000),
            "60s",
            "How long without any request before the last mirror goes, where `min_instances` is 0.",
        ),
    ],
};

/// `recycle`.
const RECYCLE: Section = Section {
    name: "recycle",
    doc: "When a mirror is replaced by a fresh one.",
    keys: &[
        Key::maybe(
            "requests",
            Kind::Whole(1, 1 << 50),
            "After so many requests.",
        ),
        Key::maybe(
            "memory",
            Kind::Size(1 << 20, 1 << 40),
            "Above so many bytes of memory; less than `limits.memory`.",
        ),
        Key::maybe("age", Kind::Time(1000, 31_536_000_000), "After so long."),
    ],
};
