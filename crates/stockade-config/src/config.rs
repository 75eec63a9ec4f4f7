//! The whole file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::admin::{self, Admin};
use crate::check;
use crate::deployments::{self, Deployments};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::fields::Fields;
use crate::files;
use crate::instance::{self, DEFAULTS, Instance, Marked, SCALING, SECURITY, Wider};
use crate::keys::{
    INSTANCE_NAME, Key, Kind, NETWORK as NETWORKS, NEW, Section, URL, VARIABLE, boolean, either,
    list, map, text, time,
};
use crate::network::{self, GatewayLimits, Listener};
use crate::observe::{self, Audit, Logging, Metrics, Usage};
use crate::rate::{self, RateLimit};
use crate::reader::{Located, Reader};
use crate::section::{Record, section};
use crate::tls::{self, Tls};
use crate::tracing::{self, Tracing};
use crate::tree::{Message, Node, Source, Span};
use crate::yaml;

section! {
    /// The configuration of `stockade serve`.
    pub struct Config "config" {
        /// The version of this format.
        key "version" = Key::of(Kind::Enum(VERSIONS)).required(),
        /// The sites by name. Required unless there is a single `instance`.
        pub instances: BTreeMap<String, Instance> = map(INSTANCE_NAME, &Instance::KIND) => |_| BTreeMap::new(),
        /// A single site, instead of `instances`. Its name is `main`.
        key "instance" = Key::of(Instance::KIND),
        /// Defaults for every instance, key by key.
        key "defaults" = Key::of(Kind::Section(&DEFAULTS)),
        /// Defaults for an instance, if neither the instance nor `defaults` sets them.
        key "security" = Key::of(Kind::Section(&SECURITY)),
        /// The default for the mirrors of an instance, if neither the instance nor
        /// `defaults` sets them.
        key "scaling" = Key::of(Kind::Section(&SCALING)),
        /// The short form for a single site: its URLs and TLS.
        key "network" = Key::of(Kind::Section(&NETWORK)),
        /// The addresses at which clients connect.
        pub listeners: Vec<Listener> = list(&Listener::KIND)
            .derived("127.0.0.1:8443 where there is `tls`, else 127.0.0.1:8080") => |_| Vec::new(),
        /// Certificates, and the rule for client certificates, of every listener
        /// without a `tls` of its own.
        key "tls" = Key::of(Tls::KIND),
        /// The port, as clients see it, to which plain HTTP requests for `https` URLs
        /// are redirected (308). `false` answers 404.
        pub https_redirect: Option<u16> = either(&[Kind::Bool, Kind::Integer(1, 65_535)])
            .derived("the port of the first listener with TLS, if there is one") => |_| None,
        /// Networks of trusted proxies, from which `x-forwarded-for`,
        /// `x-forwarded-proto`, `x-request-id` and PROXY headers are accepted.
        pub trusted_proxies: Vec<IpNet> = list(&Kind::Text(NETWORKS)).like(&["[\"10.0.0.0/8\"]"]),
        /// Limits of what clients may use over time, of all instances together.
        pub rate_limits: Vec<RateLimit> = list(&RateLimit::KIND)
            .like(&["[{by: address, requests: 100/s, burst: 200}]"]) => rate::rate_limits,
        /// Limits for each client, regardless of the site.
        pub limits: GatewayLimits = Key::of(GatewayLimits::KIND),
        /// The content, format and destination of the log.
        pub logging: Logging = Key::of(Logging::KIND),
        /// The listener for metrics and health. The default is none.
        pub metrics: Option<Metrics> = either(&[Kind::Bool, Metrics::KIND]) => observe::metrics,
        /// The listener of the admin API. The default is none; the control socket always has the API.
        pub admin: Option<Admin> = either(&[Kind::Bool, Admin::KIND]) => admin::admin,
        /// Traces of requests. The default is none.
        pub tracing: Option<Tracing> = either(&[Kind::Bool, Tracing::KIND]) => tracing::tracing,
        /// Uploaded code. Without the key none is taken, and none that was uploaded is run.
        pub deployments: Option<Deployments> = either(&[Kind::Bool, Deployments::KIND])
            .derived("`false`") => deployments::deployments,
        /// The audit log. The default is none.
        pub audit: Option<Audit> = either(&[Kind::Bool, Audit::KIND]) => observe::audit,
        /// What instances and API keys used on each day. The default is not to count it.
        pub usage: Option<Usage> = either(&[Kind::Bool, Usage::KIND]) => observe::usage,
        /// The database for the state of all instances.
        pub state: PathBuf = Key::of(State::KIND) => |top| State::read(&top.section("state")).path,
        /// Where API keys are kept, for instances whose `auth` asks for them.
        pub api_keys: ApiKeys = Key::of(ApiKeys::KIND),
        /// The Unix socket with the admin API, to which `stockade reload` connects. It has the mode 0600.
        pub control: PathBuf = text(NEW).default("./stockade.sock"),
        /// How long running requests may take to finish when the server stops or their
        /// instance changes.
        pub drain_timeout: Duration = time(0, 3_600_000).default("30s"),
        /// Reads this file, code and certificates again when they change.
        pub watch: bool = boolean().default("true"),
    }
}

section! {
    /// The database for the state of all instances.
    struct State "state" {
        /// The database file. It is created with mode 0600 if it does not exist, with
        /// two more files next to it.
        pub path: PathBuf = text(NEW).default("./state.db"),
    }
}

section! {
    /// Where API keys are kept. `stockade keys` makes, shows and revokes them.
    pub struct ApiKeys "api_keys" {
        /// The database file. It contains keyed hashes and no key. It is created with mode 0600 if it does not exist,
        /// with two more files next to it.
        pub path: PathBuf = text(NEW).default("./keys.db"),
        /// The file with the secret with which keys are hashed, at least 32 bytes. It is created if it does not
        /// exist. Without it, no key in the database is valid.
        pub pepper: PathBuf = text(NEW).default("./keys.pepper"),
        /// The environment variable of the server that has that secret, in place of the file.
        pub pepper_variable: Option<String> = text(VARIABLE).like(&["STOCKADE_PEPPER"]),
    }
}

/// `network`. Its keys are read as those of an instance and of the file.
const NETWORK: Section = Section {
    name: "network",
    doc: "The short form for a single site: its URLs and TLS.",
    keys: &[
        list(&Kind::Text(URL)).named("urls", "The `urls` of the single `instance`."),
        Key::of(Tls::KIND).named("tls", "The same section as `tls` at the top of the file."),
    ],
};

/// Versions of this format.
const VERSIONS: &[&str] = &["1.0"];

/// What was read, and from where.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// Files it was read from, secrets among them, whose changes change it; absolute.
    pub sources: Vec<PathBuf>,
    /// What is allowed but is hardly meant.
    pub warnings: Vec<Diagnostic>,
}

/// The most instances of one file.
const MOST_INSTANCES: usize = 10_000;

/// What the sections that hold for all instances weigh, once for each of them.
const MOST_SHARED: usize = 20_000_000;

impl Config {
    /// Reads and checks a file, checks that the files, folders and variables it names are there, and reads its
    /// secrets.
    ///
    /// # Errors
    /// Names everything that is wrong with it in one go, warnings among it.
    pub fn load(path: &Path) -> Result<Loaded, Diagnostics> {
        Self::open(path, true)
    }

    /// Reads and checks a file, but nothing that it names.
    ///
    /// # Errors
    /// Names everything that is wrong with it in one go, warnings among it.
    pub fn read(path: &Path) -> Result<Loaded, Diagnostics> {
        Self::open(path, false)
    }

    /// Reads and checks text as if it stood in the file `name` in the folder `base`. No file is opened.
    ///
    /// # Errors
    /// Names everything that is wrong with it in one go, warnings among it.
    pub fn parse(text: &str, name: &str, base: &Path) -> Result<Loaded, Diagnostics> {
        Self::read_text(text, name, base, false)
    }

    /// Reads and checks text that is to become the file at `path`, as [`Config::load`] would.
    ///
    /// # Errors
    /// Names everything that is wrong with it in one go, warnings among it.
    pub fn load_text(path: &Path, text: &str) -> Result<Loaded, Diagnostics> {
        Self::of_file(path, text, true)
    }

    fn open(path: &Path, look: bool) -> Result<Loaded, Diagnostics> {
        let text = files::text(path).map_err(|why| {
            let name = path.display().to_string();
            let source = Source::new(&name, "");
            source.error(Span::default(), "", why);
            Diagnostics::new(source.finish().0, 0)
        })?;
        Self::of_file(path, &text, look)
    }

    fn of_file(path: &Path, text: &str, look: bool) -> Result<Loaded, Diagnostics> {
        let name = path.display().to_string();
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let base = absolute.parent().unwrap_or(Path::new("/"));
        let mut loaded = Self::read_text(text, &name, base, look)?;
        loaded.sources.insert(0, absolute);
        Ok(loaded)
    }

    fn read_text(text: &str, name: &str, base: &Path, look: bool) -> Result<Loaded, Diagnostics> {
        let source = Source::new(name, text);
        let base = std::path::absolute(base).unwrap_or_else(|_| base.to_owned());
        let mut config = yaml::read(text, &source).and_then(|root| {
            let reader = Reader {
                source: &source,
                base: &base,
                top: Config::SECTION,
                plain_secrets: false,
            };
            read(reader, &root)
        });
        let mut sources = Vec::new();
        if look && let Some(config) = &mut config {
            sources = files::look(
                &mut config.instances,
                config.tracing.as_mut(),
                &config.control,
                &source,
            );
        }
        let (errors, warnings, dropped) = source.finish();
        match config {
            Some(config) if errors.is_empty() => Ok(Loaded {
                config,
                sources,
                warnings,
            }),
            _ => {
                let mut all = errors;
                all.extend(warnings);
                Err(Diagnostics::new(all, dropped))
            }
        }
    }
}

fn read(reader: Reader<'_>, root: &Node) -> Option<Config> {
    let found = Located {
        node: root,
        at: Span {
            end: root.span.start,
            ..root.span
        },
        path: String::new(),
    };
    let top = Fields::new(reader, Config::SECTION, &found)?;

    // Every key by itself.
    top.value("version", |reader, value, kind| {
        reader.word(value, kind, VERSIONS, &[()])
    });
    let mut config = <Config as Record>::read(&top);

    // What several keys decide together.
    let tls = shared_tls(&top).map(Arc::new);
    config.listeners = network::listeners(&top, tls.as_ref());
    let speak_http = |listeners: &[Listener]| -> Vec<Listener> {
        let http = listeners.iter().filter(|one| one.connect.is_none());
        http.cloned().collect()
    };
    config.https_redirect = network::https_redirect(&top, &speak_http(&config.listeners));
    let marked = instances(&top);
    check::fill_in_domains(&top, &mut config.listeners, &marked);
    check::check(reader.source, &marked, &speak_http(&config.listeners));
    network::check_connect(&top, &config.listeners, &marked);
    if let Some(metrics) = &config.metrics {
        network::check_metrics(&top, metrics.listen, &config.listeners);
    }
    if let Some(admin) = &config.admin {
        let metrics = config.metrics.as_ref().map(|metrics| metrics.listen);
        network::check_admin(&top, admin.listen, &config.listeners, metrics);
    }
    let named = |marked: Marked| (marked.instance.name.clone(), marked.instance);
    config.instances = marked.into_iter().map(named).collect();
    Some(config)
}

fn shared_tls(top: &Fields<'_>) -> Option<Tls> {
    let short = top.section("network");
    if top.has("tls") && short.has("tls") {
        let what = "there is a section `tls` at the top of the file too";
        short.refuse("tls", Message::allowed(what, "one of both"));
    }
    let from = if top.has("tls") { top } else { &short };
    if !from.has("tls") {
        return None;
    }
    let fields = from.section("tls");
    // A value of another kind has been reported.
    from.find("tls")?.node.map()?;
    tls::read(&fields)
}

/// The sites, in the order of the file.
fn instances(top: &Fields<'_>) -> Vec<Marked> {
    let (defaults, security) = (top.section("defaults"), top.section("security"));
    let scaling = top.section("scaling");
    let wider = Wider {
        defaults: &defaults,
        security: &security,
        scaling: &scaling,
    };
    let network = top.section("network");
    let single = top.find("instance");
    let many = top.entries("instances");
    if single.is_some() && top.has("instances") {
        let what = "there are `instances` too";
        top.refuse("instance", Message::allowed(what, "one of both"));
    }
    if network.has("urls") && top.has("instances") {
        let what = "network.urls is for a single `instance`; with several it is not defined which one answers them";
        let allowed = "urls in one of `instances`";
        network.refuse("urls", Message::allowed(what, allowed));
    }
    if single.is_none() && many.is_empty() {
        let what = "there is no instance, so there is nothing to serve";
        let allowed = "instances: {web: {code: ./site, urls: [localhost]}}";
        let at = top.find("instances").map_or(top.at, |found| found.at);
        top.reader()
            .source
            .error(at, "instances", Message::allowed(what, allowed));
    }
    let shared: usize = ["defaults", "security", "scaling"]
        .iter()
        .filter_map(|name| top.find(name))
        .map(|found| found.node.weight)
        .sum();
    if many.len() > MOST_INSTANCES || shared.saturating_mul(many.len()) > MOST_SHARED {
        let what = if many.len() > MOST_INSTANCES {
            format!("{} instances; the limit is {MOST_INSTANCES}", many.len())
        } else {
            format!(
                "what holds for all is too large for {} instances",
                many.len()
            )
        };
        top.refuse("instances", what);
        return Vec::new();
    }
    let mut out = Vec::new();
    for (name, found) in many {
        if let Some(own) = Fields::new(top.reader(), Instance::SECTION, &found) {
            out.push(instance::read(own, name, &wider, false));
        }
    }
    if let Some(found) = single
        && let Some(own) = Fields::new(top.reader(), Instance::SECTION, &found)
    {
        if own.has("urls") && network.has("urls") {
            let what = "the instance has `urls` too";
            network.refuse("urls", Message::allowed(what, "one of both"));
        }
        out.push(instance::read(own.over(&network), "main", &wider, true));
    }
    out
}
