//! One site: its code, its addresses, its walls, its limits and what it is granted.

mod assets;
mod grant_keys;
mod grants;
mod keys;
mod read;
mod scaling;

use std::collections::BTreeMap;
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use stockade_http::{EncodedSlashes, HostPattern};
use stockade_policy::{CgroupUse, CpuShare, Isolation, Wx};

use crate::guard::DataGuard;
use crate::tls::ClientAuth;
use crate::url::UrlPattern;

pub(crate) use keys::{DEFAULTS, INSTANCE, SCALING, SECURITY};
pub(crate) use read::{Marked, Wider, read};

/// One site.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Its key in `instances`, or `main` for the single `instance`: lower case letters, digits and
    /// hyphens, at most 63.
    pub name: String,
    /// A module, or a folder with `index.ts` or the like in it; `None` where there are only assets.
    pub code: Option<PathBuf>,
    /// Files served without running code.
    pub assets: Option<Assets>,
    /// What it answers; empty where it is reached through bindings or crons only.
    pub urls: Vec<UrlPattern>,
    /// The wall. Never [`Isolation::Vm`]; [`Isolation::Thread`] is a worker shared by all such instances.
    pub isolation: Isolation,
    /// Whether its workers may compile to machine code.
    pub wx: Wx,
    /// Whether refused attempts to get executable memory are logged.
    pub wx_audit: bool,
    /// Whether its workers must be in a cgroup.
    pub cgroup: CgroupUse,
    /// What it is held to.
    pub limits: InstanceLimits,
    /// Variables: any JSON value.
    pub env: BTreeMap<String, Value>,
    /// Secrets by the name they have in `env`.
    pub secrets: BTreeMap<String, Secret>,
    /// Other instances by the name they have in `env`.
    pub bindings: BTreeMap<String, Binding>,
    /// The shared state.
    pub state: Option<StateBinding>,
    /// Granted folders.
    pub files: Vec<FileGrant>,
    /// When `scheduled` is called.
    pub crons: Vec<Cron>,
    /// How many mirrors.
    pub scaling: Scaling,
    /// When a mirror is replaced by a fresh one.
    pub recycle: Recycle,
    /// What it may reach.
    pub data_guard: DataGuard,
    /// What becomes of `%2F` in a path.
    pub encoded_slashes: EncodedSlashes,
    /// Who must show a certificate; `None` is what the listener says.
    pub client_auth: Option<ClientAuth>,
}

/// What an instance is held to. Figures are of one mirror unless they say otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct InstanceLimits {
    /// Bytes over JS heap, ArrayBuffers and WebAssembly memory together.
    pub memory: u64,
    /// CPU time of one activation.
    pub cpu: Duration,
    /// Share of one core over any second.
    pub cpu_share: CpuShare,
    /// Elapsed time of one activation.
    pub wall: Duration,
    /// From a request's arrival at a mirror to the head of its response.
    pub timeout: Duration,
    /// Requests at the same time.
    pub concurrency: usize,
    /// Of the whole instance: requests that may wait for a mirror with room.
    pub queue: usize,
    /// How long a request may wait for a mirror with room.
    pub queue_timeout: Duration,
    /// How long a mirror may take to be ready.
    pub start_timeout: Duration,
    /// How long promises given to `ctx.waitUntil` may take.
    pub wait_until: Duration,
    /// Messages, requests, answers and console lines a second.
    pub io_ops: Option<NonZeroU32>,
    /// The bytes of it.
    pub bandwidth: Option<NonZeroU64>,
    /// Requests to the outside, to bindings and to state that may wait for an answer.
    pub subrequests: u32,
    /// Of the whole instance: bytes stored, for the state and for each granted folder that says nothing itself.
    pub storage: u64,
    /// Bytes of one request's body.
    pub max_body: u64,
    /// Bytes of one response's body.
    pub max_response: Option<u64>,
    /// Client WebSockets at the same time.
    pub websockets: usize,
    /// How long it may go on after it was told to end before its worker is killed.
    pub kill_grace: Duration,
}

/// Files served without running code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assets {
    /// The folder; nothing outside it is ever served.
    pub folder: PathBuf,
    /// The name in `env` by which code asks for them.
    pub binding: Option<String>,
    /// The file served for a folder.
    pub index: String,
    /// A file in the folder for paths that match none: for single-page applications with status 200, or
    /// a page for 404.
    pub fallback: Option<String>,
    /// The status that goes with `fallback`: 200 or 404.
    pub fallback_status: u16,
    /// Whether code is asked before files.
    pub code_first: bool,
    /// Whether text is compressed where the client takes it.
    pub compress: bool,
    /// `cache-control` of every file.
    pub cache_control: Option<String>,
    /// Further headers of every file, names lower case.
    pub headers: BTreeMap<String, String>,
}

/// A secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Where it comes from.
    pub source: SecretSource,
    /// Where the guest gets a placeholder only: the hosts towards which the broker fills it in.
    /// `None` hands the secret itself to the guest.
    pub hosts: Option<Vec<HostPattern>>,
    /// Whether a placeholder is filled in over plain HTTP too.
    pub over_plain_http: bool,
    /// Whether a placeholder is filled in in paths and queries too.
    pub in_urls: bool,
    /// The secret, where [`Config::load`](crate::Config::load) read it.
    pub value: Option<SecretText>,
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file; one line end at its end does not belong to the secret.
    File(PathBuf),
    /// An environment variable of the supervisor.
    Variable(String),
}

/// A secret's text, which `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// The secret itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

/// Another instance, called directly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The instance's name; there is one.
    pub instance: String,
}

/// The state shared by an instance's mirrors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateBinding {
    /// The name it has in `env`.
    pub binding: String,
    /// Bytes stored.
    pub storage: u64,
    /// Bytes of one value.
    pub max_value: u64,
    /// Writes a second.
    pub write_rate: u32,
}

/// A granted folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileGrant {
    /// The name it has in `env`.
    pub binding: String,
    /// The folder; nothing outside it is reached.
    pub path: PathBuf,
    /// What may be done in it.
    pub mode: FileMode,
    /// Bytes stored in it; only for [`FileMode::Write`].
    pub storage: u64,
    /// Bytes of one file.
    pub max_file: u64,
}

/// What may be done in a granted folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileMode {
    /// Read and list.
    Read,
    /// That, and make, change and delete.
    Write,
}

/// When `scheduled` is called, UTC: five fields that are known to be good.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cron {
    text: String,
}

impl Cron {
    /// The five fields as written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// How many mirrors.
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    /// Always so many; at least 1.
    Fixed(usize),
    /// As load demands.
    Auto(Autoscale),
}

/// How the number of mirrors follows load.
#[derive(Debug, Clone, PartialEq)]
pub struct Autoscale {
    /// The fewest; 0 lets an idle instance have none.
    pub min: usize,
    /// The most; at least 1 and at least `min`.
    pub max: usize,
    /// How many to begin with; from `min` to `max`.
    pub initial: usize,
    /// CPU time of a mirror that is wanted, in percent of one core (that is `cpu_threshold` of the
    /// share a mirror may use).
    pub cpu_percent: f64,
    /// Requests running and waiting, for each mirror, that are wanted.
    pub requests_per_mirror: f64,
    /// Over how long load is averaged.
    pub stable_window: Duration,
    /// Over how long load is averaged to notice a burst.
    pub panic_window: Duration,
    /// How long without any request before the last mirror goes, where `min` is 0.
    pub idle: Duration,
}

/// When a mirror is replaced by a fresh one; `None` is never.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recycle {
    /// After so many requests.
    pub requests: Option<u64>,
    /// Above so many bytes of memory.
    pub memory: Option<u64>,
    /// After so long.
    pub age: Option<Duration>,
}
