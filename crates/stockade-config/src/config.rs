//! The whole file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::check;
use crate::fields::{Fields, Found, Reader};
use crate::files;
use crate::instance::{self, DEFAULTS, INSTANCE, Instance, Marked, SCALING, SECURITY, Wider};
use crate::keys::{INSTANCE_NAME, Key, Kind, NETWORK as NETWORKS, NEW, Section, URL};
use crate::mistake::{Mistake, Mistakes};
use crate::network::{self, GatewayLimits, LIMITS, LISTENERS, Listener};
use crate::observe::{self, LOGGING, Logging, METRICS, Metrics};
use crate::tls::{self, TLS, Tls};
use crate::tree::{Node, Place, Remark, Source};
use crate::yaml;

/// The whole file, every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where clients connect; at least one unless no instance has a URL.
    pub listeners: Vec<Listener>,
    /// The port that plain requests are sent to (308) whose URL is for `https` only; `None` where
    /// nothing of the kind happens.
    pub https_redirect: Option<u16>,
    /// Whose word on the client's address is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// What every client is held to.
    pub limits: GatewayLimits,
    /// The sites by name; at least one.
    pub instances: BTreeMap<String, Instance>,
    /// What is logged, and how.
    pub logging: Logging,
    /// Where metrics and health are asked for.
    pub metrics: Option<Metrics>,
    /// The database of all instances' state.
    pub state: PathBuf,
    /// The Unix socket that `stockade reload` talks to.
    pub control: PathBuf,
    /// How long requests may take to end when stopping, or when their instance changed.
    pub drain_timeout: Duration,
    /// Whether the file, code and certificates are read again when they change.
    pub watch: bool,
}

/// What was read, and from where.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// Files it was read from, secrets among them, whose changes change it; absolute.
    pub sources: Vec<PathBuf>,
    /// What is allowed but is hardly meant.
    pub warnings: Vec<Mistake>,
}

const VERSION: &str = "1.0";

/// The most instances of one file.
const MOST_INSTANCES: usize = 10_000;

/// What the sections that hold for all instances weigh, once for each of them.
const MOST_SHARED: usize = 20_000_000;

const NETWORK: Section = Section {
    name: "network",
    doc: "The short form of one site: what it answers, and TLS.",
    keys: &[
        Key::maybe(
            "urls",
            Kind::List(&Kind::Text(URL)),
            "The `urls` of the single `instance`.",
        ),
        Key::maybe(
            "tls",
            Kind::Section(&TLS),
            "The same as `tls` at the top of the file.",
        ),
    ],
};

const STATE: Section = Section {
    name: "state",
    doc: "Where the state of all instances is kept.",
    keys: &[Key::with(
        "path",
        Kind::Text(NEW),
        "./state.db",
        "The database; made where it is not there, with mode 0600. Two more files stand beside it.",
    )],
};

/// The file as a whole.
pub(crate) const TOP: Section = Section {
    name: "config",
    doc: "The configuration of `stockade serve`.",
    keys: &[
        Key::needed(
            "version",
            Kind::Words(&[VERSION]),
            "The version of this format.",
        ),
        Key::maybe(
            "instances",
            Kind::Map(INSTANCE_NAME, &Kind::Section(&INSTANCE)),
            "The sites by name. Needed unless there is a single `instance`.",
        ),
        Key::maybe(
            "instance",
            Kind::Section(&INSTANCE),
            "A single site, in place of `instances`; its name is `main`.",
        ),
        Key::maybe(
            "defaults",
            Kind::Section(&DEFAULTS),
            "What holds for every instance that does not say otherwise, key by key.",
        ),
        Key::maybe(
            "security",
            Kind::Section(&SECURITY),
            "What holds for every instance that says nothing of it, nor do `defaults`.",
        ),
        Key::maybe(
            "scaling",
            Kind::Section(&SCALING),
            "The mirrors of every instance that says nothing of them, nor do `defaults`.",
        ),
        Key::maybe(
            "network",
            Kind::Section(&NETWORK),
            "The short form of one site: what it answers, and TLS.",
        ),
        Key::derived(
            "listeners",
            LISTENERS,
            "127.0.0.1:8443 where there is `tls`, else 127.0.0.1:8080",
            "Where clients connect.",
        ),
        Key::maybe(
            "tls",
            Kind::Section(&TLS),
            "Certificates and who must show one, for every listener that says nothing of it.",
        ),
        Key::derived(
            "https_redirect",
            Kind::Either(&[Kind::Flag, Kind::Whole(1, 65_535)]),
            "the port of the first listener with TLS, if there is one",
            "Where plain requests are sent (308) whose URL is for `https` only: the port as clients see it; `false` answers 404.",
        ),
        Key::maybe(
            "trusted_proxies",
            Kind::List(&Kind::Text(NETWORKS)),
            "Networks whose word on the client is taken: `x-forwarded-for`, `x-forwarded-proto`, `x-request-id`, PROXY headers.",
        )
        .like(&["[\"10.0.0.0/8\"]"]),
        Key::maybe(
            "limits",
            Kind::Section(&LIMITS),
            "What every client is held to, whatever it asks for.",
        ),
        Key::maybe("logging", Kind::Section(&LOGGING), "What is logged, and how."),
        Key::maybe(
            "metrics",
            Kind::Either(&[Kind::Flag, Kind::Section(&METRICS)]),
            "Where metrics and health are asked for; without it, nowhere.",
        ),
        Key::maybe(
            "state",
            Kind::Section(&STATE),
            "Where the state of all instances is kept.",
        ),
        Key::with(
            "control",
            Kind::Text(NEW),
            "./stockade.sock",
            "The Unix socket that `stockade reload` talks to; made with mode 0600.",
        ),
        Key::with(
            "drain_timeout",
            Kind::Time(0, 3_600_000),
            "30s",
            "How long requests may take to end when stopping, or when their instance changed.",
        ),
        Key::with(
            "watch",
            Kind::Flag,
            "true",
            "Reads this file, code and certificates again when they change.",
        ),
    ],
};

impl Config {
    /// Reads and checks a file, and looks whether the files, folders and variables it names are there;
    /// reads its secrets.
    ///
    /// # Errors
    /// Names everything that is wrong with it in one go, warnings among it.
    pub fn load(path: &Path) -> Result<Loaded, Mistakes> {
        Self::open(path, true)
    }

    /// Reads and checks a file, but looks at nothing that it names.
    ///
    /// # Errors
    /// Names everything that is wrong with it in one go, warnings among it.
    pub fn read(path: &Path) -> Result<Loaded, Mistakes> {
        Self::open(path, false)
    }

    /// Reads and checks text as if it stood in the file `name` in the folder `base`. Looks at no file.
    ///
    /// # Errors
    /// Names everything that is wrong with it in one go, warnings among it.
    pub fn parse(text: &str, name: &str, base: &Path) -> Result<Loaded, Mistakes> {
        Self::read_text(text, name, base, false)
    }

    fn open(path: &Path, look: bool) -> Result<Loaded, Mistakes> {
        let name = path.display().to_string();
        let text = files::text(path).map_err(|why| {
            let source = Source::new(&name, "");
            source.error(Place::default(), "", why);
            Mistakes::new(source.finish().0, 0)
        })?;
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let base = absolute.parent().unwrap_or(Path::new("/"));
        let mut loaded = Self::read_text(&text, &name, base, look)?;
        loaded.sources.insert(0, absolute);
        Ok(loaded)
    }

    fn read_text(text: &str, name: &str, base: &Path, look: bool) -> Result<Loaded, Mistakes> {
        let source = Source::new(name, text);
        let base = std::path::absolute(base).unwrap_or_else(|_| base.to_owned());
        let mut config = yaml::read(text, &source).and_then(|root| {
            let reader = Reader {
                source: &source,
                base: &base,
                top: &TOP,
            };
            read(reader, &root)
        });
        let mut sources = Vec::new();
        if look && let Some(config) = &mut config {
            sources = files::look(config, &source);
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
                Err(Mistakes::new(all, dropped))
            }
        }
    }
}

fn read(reader: Reader<'_>, root: &Node) -> Option<Config> {
    let found = Found {
        node: root,
        at: Place {
            end: root.place.start,
            ..root.place
        },
        path: String::new(),
    };
    let top = Fields::new(reader, &TOP, &found)?;
    top.word("version", &[(VERSION, ())]);
    let tls = shared_tls(&top).map(Arc::new);
    let mut listeners = network::listeners(&top, tls.as_ref());
    let trusted_proxies = top.texts("trusted_proxies", network::network);
    let marked = instances(&top);
    network::fill_in_domains(&top, &mut listeners, &marked);
    check::check(reader.source, &marked, &listeners);
    let (state, metrics) = (top.section("state"), observe::metrics(&top));
    if let Some(metrics) = &metrics
        && let Some(other) =
            (listeners.iter()).find(|l| network::clash_with_metrics(l.address, metrics.listen))
    {
        let what = format!(
            "{} is taken by the listener on {}",
            metrics.listen, other.address
        );
        top.section("metrics").refuse("listen", what);
    }
    Some(Config {
        https_redirect: network::https_redirect(&top, &listeners),
        listeners,
        trusted_proxies,
        limits: network::limits(&top.section("limits")),
        instances: marked
            .into_iter()
            .map(|marked| (marked.instance.name.clone(), marked.instance))
            .collect(),
        logging: observe::logging(&top.section("logging")),
        metrics,
        state: state.path("path").unwrap_or_default(),
        control: top.path("control").unwrap_or_default(),
        drain_timeout: top.time("drain_timeout"),
        watch: top.flag("watch"),
    })
}

fn shared_tls(top: &Fields<'_>) -> Option<Tls> {
    let short = top.section("network");
    if top.has("tls") && short.has("tls") {
        let what = "there is a section `tls` at the top of the file too";
        short.refuse("tls", Remark::allowed(what, "one of both"));
    }
    let from = if top.has("tls") { top } else { &short };
    if !from.has("tls") {
        return None;
    }
    let fields = from.section("tls");
    // Where the key holds something else, that has been told.
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
        top.refuse("instance", Remark::allowed(what, "one of both"));
    }
    if network.has("urls") && top.has("instances") {
        let what =
            "network.urls is for a single `instance`; here nobody knows which one answers them";
        let allowed = "urls in one of `instances`";
        network.refuse("urls", Remark::allowed(what, allowed));
    }
    if single.is_none() && many.is_empty() {
        let what = "there is no instance, so there is nothing to serve";
        let allowed = "instances: {web: {code: ./site, urls: [localhost]}}";
        let at = top.find("instances").map_or(top.at, |found| found.at);
        top.reader()
            .source
            .error(at, "instances", Remark::allowed(what, allowed));
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
        if let Some(own) = Fields::new(top.reader(), &INSTANCE, &found) {
            out.push(instance::read(own, name, &wider, false));
        }
    }
    if let Some(found) = single
        && let Some(own) = Fields::new(top.reader(), &INSTANCE, &found)
    {
        if own.has("urls") && network.has("urls") {
            let what = "the instance has `urls` too";
            network.refuse("urls", Remark::allowed(what, "one of both"));
        }
        out.push(instance::read(
            own.over(Some(&network)),
            "main",
            &wider,
            true,
        ));
    }
    out
}
