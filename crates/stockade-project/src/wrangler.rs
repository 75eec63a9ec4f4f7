//! Wrangler files, as those of Cloudflare Workers, read as configurations of a site.
//!
//! Each key that is in a file is used, ignored because it has no meaning here, or missing because Stockade has nothing
//! for it, and [`Converted::notes`] says which. `docs/dev.md` has the table.

use std::fmt;
use std::path::Path;

use serde_json::{Map, Value, json};

/// Bytes of a file.
const MAX_WRANGLER_BYTES: u64 = 1 << 20;

/// Names of the files, in the order in which wrangler takes them.
pub(crate) const WRANGLER_FILES: [&str; 3] = ["wrangler.json", "wrangler.jsonc", "wrangler.toml"];

/// What a wrangler file says, in the form of a configuration of Stockade.
#[derive(Debug, Clone, PartialEq)]
pub struct Converted {
    /// The configuration, as JSON, which is YAML.
    pub configuration: Value,
    /// What is not in it, and why.
    pub notes: Vec<Note>,
}

/// A key of the file that has no effect, or another one than on Workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Which, with the keys around it.
    pub key: String,
    /// Whether something that the code uses is missing.
    pub is_missing: bool,
    /// Why, or what to use instead.
    pub why: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.why)
    }
}

/// Why a wrangler file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WranglerError {
    /// It cannot be read.
    #[error("cannot read '{name}': {why}")]
    Unreadable {
        /// The file.
        name: String,
        /// Why.
        why: String,
    },
    /// It is not TOML or JSON with comments.
    #[error("{name}: {why}")]
    Syntax {
        /// The file.
        name: String,
        /// Why, with the place.
        why: String,
    },
}

/// Keys without a meaning here, and why.
const IGNORED: &[(&str, &str)] = &[
    ("$schema", "it is for editors"),
    (
        "compatibility_date",
        "there is one behaviour, that of this version of Stockade",
    ),
    (
        "compatibility_flags",
        "there are no flags; the modules of Node that Stockade has can always be imported",
    ),
    ("account_id", "there is no account"),
    ("workers_dev", "there is no workers.dev"),
    (
        "preview_urls",
        "`deployments.preview_domain` of a configuration has previews",
    ),
    ("observability", "requests and console are always logged"),
    ("logpush", "requests and console are always logged"),
    ("minify", "`stockade dev` does not minify"),
    ("keep_vars", "there are no variables on a dashboard"),
    ("keep_names", "names are kept"),
    ("send_metrics", "nothing is sent"),
    ("upload_source_maps", "source maps are part of the bundle"),
    ("tsconfig", "esbuild reads tsconfig.json next to the code"),
    ("dev", "use the options of `stockade dev`, such as --port"),
    ("no_bundle", "code is bundled if it imports packages"),
    (
        "find_additional_modules",
        "files are read when code imports them",
    ),
    ("base_dir", "files are read when code imports them"),
    (
        "rules",
        "text and HTML can be imported; other rules are not known",
    ),
    ("build", "run the command before `stockade dev`"),
    ("placement", "code runs where the server is"),
    ("usage_model", "nothing is billed"),
    (
        "node_compat",
        "the modules of Node that Stockade has can always be imported",
    ),
    (
        "first_party_worker",
        "it has no meaning outside of Cloudflare",
    ),
    ("compliance_region", "code runs where the server is"),
];

/// Keys of what Stockade does not have in this form, and what to use instead.
const MISSING: &[(&str, &str)] = &[
    (
        "services",
        "name the other sites in one stockade.yaml, with `bindings`",
    ),
    (
        "d1_databases",
        "grant a database of its own: `grants: {DB: {sqlite: {…}}}`, whose calls differ from D1",
    ),
    (
        "r2_buckets",
        "grant a folder: `files: [{path: ./data, mode: write}]`, whose calls differ from R2",
    ),
    (
        "hyperdrive",
        "grant the database: `grants: {HYPERDRIVE: {postgres: {…}}}`",
    ),
    (
        "durable_objects",
        "there is nothing like them; `state` with `atomic()` keeps what all mirrors share",
    ),
    ("migrations", "they are for Durable Objects"),
    ("queues", "there are no queues"),
    ("workflows", "there are no workflows"),
    ("ai", "call a model with fetch, which `data_guard` allows"),
    (
        "vectorize",
        "call such a service with fetch, which `data_guard` allows",
    ),
    ("browser", "there is no browser"),
    ("images", "there is no service for images"),
    (
        "send_email",
        "connect to a mail server, which `sockets` allows",
    ),
    (
        "analytics_engine_datasets",
        "there is no such store; metrics are those of the server",
    ),
    (
        "mtls_certificates",
        "name its files in a rule of `data_guard`: `client_certificate` and `client_key`",
    ),
    (
        "dispatch_namespaces",
        "a host script can run code of others: `stockade run`",
    ),
    (
        "ratelimits",
        "`rate_limits` limits clients without the code; there is no binding",
    ),
    ("tail_consumers", "logs go to the server's log"),
    ("pipelines", "there are no pipelines"),
    ("version_metadata", "there is no such binding"),
    ("secrets_store_secrets", "use `secrets` of a configuration"),
    ("containers", "there are no containers of images"),
    ("unsafe", "there is nothing for it"),
    ("wasm_modules", "import the bytes as a module of the bundle"),
    ("text_blobs", "import the text as a module"),
    (
        "data_blobs",
        "there is nothing for it; use `assets` or `files`",
    ),
    ("define", "use `vars`"),
    ("alias", "use `paths` of tsconfig.json"),
    ("env", "environments are not read; write a file for each"),
    ("logfwdr", "there is nothing for it"),
    ("cloudchamber", "there is nothing for it"),
];

/// Reads a wrangler file.
///
/// # Errors
/// When it cannot be read or is neither TOML nor JSON with comments.
pub fn read_wrangler(path: &Path) -> Result<Converted, WranglerError> {
    let name = path.display().to_string();
    let unreadable = |why: String| WranglerError::Unreadable {
        name: name.clone(),
        why,
    };
    let data = path
        .metadata()
        .map_err(|error| unreadable(error.to_string()))?;
    if !data.is_file() {
        return Err(unreadable("it is not a file".to_owned()));
    }
    if data.len() > MAX_WRANGLER_BYTES {
        let most = MAX_WRANGLER_BYTES >> 20;
        return Err(unreadable(format!("it is larger than {most} MiB")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    let is_toml = path.extension().is_some_and(|ending| ending == "toml");
    parse_wrangler(&text, is_toml, &name)
}

/// Reads the text of a wrangler file, TOML or JSON with comments.
///
/// # Errors
/// When it is neither.
pub(crate) fn parse_wrangler(
    text: &str,
    is_toml: bool,
    name: &str,
) -> Result<Converted, WranglerError> {
    let syntax = |why: String| WranglerError::Syntax {
        name: name.to_owned(),
        why: why.trim().to_owned(),
    };
    let read = if is_toml {
        let table: Result<toml::Table, _> = toml::from_str(text);
        let table = table.map_err(|error| syntax(placed(&error, text)))?;
        serde_json::to_value(table).map_err(|error| syntax(error.to_string()))?
    } else {
        // JSON with comments and trailing commas, as of Visual Studio Code, and nothing else.
        let options = jsonc_parser::ParseOptions {
            allow_comments: true,
            allow_trailing_commas: true,
            allow_loose_object_property_names: false,
            allow_missing_commas: false,
            allow_single_quoted_strings: false,
            allow_hexadecimal_numbers: false,
            allow_unary_plus_numbers: false,
        };
        let value: Option<Value> = jsonc_parser::parse_to_serde_value(text, &options)
            .map_err(|error| syntax(error.to_string()))?;
        value.ok_or_else(|| syntax("it is empty".to_owned()))?
    };
    match read {
        Value::Object(keys) => Ok(convert(keys)),
        _ => Err(syntax("it is not an object".to_owned())),
    }
}

/// An error of TOML with its place, and without the line, which may have a secret of `vars`.
fn placed(error: &toml::de::Error, text: &str) -> String {
    let message = error.message();
    let before = error.span().and_then(|span| text.get(..span.start));
    let Some(before) = before else {
        return message.to_owned();
    };
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count()
        + 1;
    format!("{message} on line {line} column {column}")
}

fn convert(keys: Map<String, Value>) -> Converted {
    let mut site = Map::new();
    let mut notes = Notes(Vec::new());
    let mut name = "site".to_owned();
    for (key, value) in keys {
        match (&*key, value) {
            ("name", Value::String(text)) => name = instance_name(&text),
            ("main", Value::String(path)) => put(&mut site, "code", json!(relative(&path))),
            ("vars", Value::Object(vars)) => put(&mut site, "env", Value::Object(vars)),
            ("route", route) => urls(&mut site, vec![route], &mut notes),
            ("routes", Value::Array(routes)) => urls(&mut site, routes, &mut notes),
            ("triggers", Value::Object(triggers)) => crons(&mut site, triggers, &mut notes),
            ("assets", Value::Object(assets)) => put_assets(&mut site, assets, &mut notes),
            ("site", Value::Object(old)) => match old.get("bucket").and_then(Value::as_str) {
                Some(bucket) => put(&mut site, "assets", json!(relative(bucket))),
                None => notes.ignored("site", "it names no bucket"),
            },
            ("kv_namespaces", Value::Array(spaces)) => state(&mut site, &spaces, &mut notes),
            ("limits", Value::Object(limits)) => put_limits(&mut site, limits, &mut notes),
            (key, _) => notes.unknown(key),
        }
    }
    if site.contains_key("code")
        && let Some(Value::Object(assets)) = site.get_mut("assets")
        && let Some(Value::String(file)) = assets.remove("fallback")
    {
        let why = format!(
            "paths without a file go to the code, which can answer with /{file} of its assets"
        );
        notes.missing("assets.not_found_handling", why);
    }
    if !site.contains_key("urls") {
        put(&mut site, "urls", json!(["localhost"]));
    }
    let configuration = json!({ "version": "1.0", "instances": { name: site } });
    let notes = notes.0;
    Converted {
        configuration,
        notes,
    }
}

struct Notes(Vec<Note>);

impl Notes {
    fn ignored(&mut self, key: &str, why: impl Into<String>) {
        self.add(key, false, why.into());
    }

    fn missing(&mut self, key: &str, why: impl Into<String>) {
        self.add(key, true, why.into());
    }

    fn add(&mut self, key: &str, is_missing: bool, why: String) {
        self.0.push(Note {
            key: key.to_owned(),
            is_missing,
            why,
        });
    }

    /// A key at the top, or one whose value is not of the kind that wrangler describes.
    fn unknown(&mut self, key: &str) {
        let of = |table: &[(&str, &str)]| {
            let found = table.iter().find(|(name, _)| *name == key);
            found.map(|(_, why)| (*why).to_owned())
        };
        if let Some(why) = of(IGNORED) {
            self.ignored(key, why);
        } else if let Some(why) = of(MISSING) {
            self.missing(key, why);
        } else {
            self.missing(
                key,
                "it is not known here, or its value is not of the expected kind",
            );
        }
    }
}

fn put(site: &mut Map<String, Value>, key: &str, value: Value) {
    site.insert(key.to_owned(), value);
}

/// A name as a configuration takes it: lower case letters, digits and hyphens.
fn instance_name(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let kept = lower.chars().map(|char| match char {
        'a'..='z' | '0'..='9' => char,
        _ => '-',
    });
    let kept: String = kept.take(63).collect();
    match kept.trim_matches('-') {
        "" => "site".to_owned(),
        name => name.to_owned(),
    }
}

/// A path that begins at the folder of the file.
fn relative(path: &str) -> String {
    if path.starts_with(['/', '.']) {
        path.to_owned()
    } else {
        format!("./{path}")
    }
}

fn urls(site: &mut Map<String, Value>, routes: Vec<Value>, notes: &mut Notes) {
    let mut urls = Vec::new();
    for route in routes {
        let pattern = match &route {
            Value::String(text) => Some(text.as_str()),
            Value::Object(keys) => keys.get("pattern").and_then(Value::as_str),
            _ => None,
        };
        match pattern.and_then(url) {
            Some(url) if !urls.contains(&url) => urls.push(url),
            Some(_) => {}
            None => notes.missing(
                "routes",
                format!("{route} is no host and path that can be matched here"),
            ),
        }
    }
    if !urls.is_empty() {
        put(site, "urls", json!(urls));
    }
}

/// A route of Workers as a URL pattern: `*` stands for whole labels at the start and for the rest of a path.
fn url(pattern: &str) -> Option<String> {
    let (scheme, rest) = match pattern.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (format!("{scheme}://"), rest),
        Some(_) => return None,
        None => (String::new(), pattern),
    };
    let (host, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    let host = match host.strip_prefix('*') {
        Some(below) if below.starts_with('.') => host.to_owned(),
        // `*example.com` is the name and all below it; the name alone can be written as one pattern.
        Some(name) => name.to_owned(),
        None => host.to_owned(),
    };
    let inner = path.strip_suffix("/*").unwrap_or(path);
    let plain = !host.is_empty() && !host.get(1..).unwrap_or_default().contains('*');
    (plain && !inner.contains('*')).then(|| format!("{scheme}{host}{path}"))
}

fn crons(site: &mut Map<String, Value>, triggers: Map<String, Value>, notes: &mut Notes) {
    for (key, value) in triggers {
        match (&*key, value) {
            ("crons", Value::Array(crons)) if !crons.is_empty() => {
                put(site, "crons", Value::Array(crons));
            }
            ("crons", _) => {}
            (key, _) => notes.missing(&format!("triggers.{key}"), "it is not known here"),
        }
    }
}

fn put_assets(site: &mut Map<String, Value>, assets: Map<String, Value>, notes: &mut Notes) {
    let mut section = Map::new();
    for (key, value) in assets {
        match (&*key, value) {
            ("directory", Value::String(path)) => {
                put(&mut section, "folder", json!(relative(&path)))
            }
            ("binding", Value::String(name)) => put(&mut section, "binding", json!(name)),
            ("run_worker_first", Value::Bool(first)) => {
                let order = if first { "code_first" } else { "files_first" };
                put(&mut section, "order", json!(order));
            }
            ("not_found_handling", Value::String(how)) => match &*how {
                "single-page-application" => put(&mut section, "fallback", json!("index.html")),
                "404-page" => put(&mut section, "fallback", json!("404.html")),
                _ => {}
            },
            ("html_handling", _) => {
                notes.ignored("assets.html_handling", "a folder is its index.html")
            }
            (key, _) => notes.missing(
                &format!("assets.{key}"),
                "it is not known here, or not in this form",
            ),
        }
    }
    if section.contains_key("folder") {
        put(site, "assets", Value::Object(section));
    } else {
        notes.missing("assets", "it names no directory");
    }
}

fn state(site: &mut Map<String, Value>, spaces: &[Value], notes: &mut Notes) {
    let names = spaces
        .iter()
        .filter_map(|space| space.get("binding")?.as_str());
    for (at, name) in names.enumerate() {
        if at == 0 {
            put(site, "state", json!({ "binding": name }));
            let why = format!(
                "{name} is the state of the site, in a store of this server: get, put, delete and list have other \
                 options than those of KV, and a value that was put as an object is read as one"
            );
            notes.ignored("kv_namespaces", why);
        } else {
            let why = format!(
                "{name}: a site has one state; put its keys below a prefix of the first one"
            );
            notes.missing("kv_namespaces", why);
        }
    }
}

fn put_limits(site: &mut Map<String, Value>, limits: Map<String, Value>, notes: &mut Notes) {
    for (key, value) in limits {
        match (&*key, value.as_u64()) {
            ("cpu_ms", Some(milliseconds)) => {
                put(
                    site,
                    "limits",
                    json!({ "cpu": format!("{milliseconds}ms") }),
                );
            }
            (key, _) => notes.missing(&format!("limits.{key}"), "it is not known here"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use stockade_config::Config;

    use super::*;

    const TOML: &str = r#"
name = "My Shop"
main = "src/index.ts"
compatibility_date = "2026-01-01"
routes = ["shop.example.com/*", { pattern = "*.example.org/api/*", zone_name = "example.org" }, "a*b.example"]
d1_databases = [{ binding = "DB", database_id = "1" }]
later = 1

[vars]
GREETING = "hello"
LIMIT = 3

[triggers]
crons = ["*/5 * * * *"]

[assets]
directory = "public"
binding = "ASSETS"
not_found_handling = "single-page-application"

[[kv_namespaces]]
binding = "CACHE"
id = "1"

[limits]
cpu_ms = 50
"#;

    #[test]
    fn toml_is_a_configuration_that_is_valid() {
        let converted = parse_wrangler(TOML, true, "wrangler.toml").unwrap();
        let text = converted.configuration.to_string();
        let loaded = Config::parse(&text, "wrangler.toml", Path::new("/srv")).unwrap();
        let site = &loaded.config.instances["my-shop"];
        assert_eq!(site.code.as_deref(), Some(Path::new("/srv/src/index.ts")));
        assert_eq!(site.env["LIMIT"], 3);
        let urls: Vec<String> = site.urls.iter().map(ToString::to_string).collect();
        assert_eq!(urls, ["shop.example.com/*", "*.example.org/api/*"]);
        assert_eq!(site.crons.len(), 1);
        assert_eq!(site.state.as_ref().unwrap().binding, "CACHE");
        assert_eq!(site.limits.cpu.as_millis(), 50);
        let assets = site.assets.as_ref().unwrap();
        assert_eq!(assets.fallback, None);
        let keys = |missing: bool| {
            let notes = converted.notes.iter();
            let notes = notes.filter(|note| note.is_missing == missing);
            let mut keys: Vec<&str> = notes.map(|note| &*note.key).collect();
            keys.sort_unstable();
            keys
        };
        assert_eq!(keys(false), ["compatibility_date", "kv_namespaces"]);
        let missing = [
            "assets.not_found_handling",
            "d1_databases",
            "later",
            "routes",
        ];
        assert_eq!(keys(true), missing);
        // Without code, files that are not there are what the key says.
        let text = r#"{"assets": {"directory": "dist", "not_found_handling": "404-page"}}"#;
        let converted = parse_wrangler(text, false, "wrangler.json").unwrap();
        let text = converted.configuration.to_string();
        let loaded = Config::parse(&text, "wrangler.json", Path::new("/srv")).unwrap();
        let assets = loaded.config.instances["site"].assets.as_ref().unwrap();
        assert_eq!(assets.fallback.as_deref(), Some("404.html"));
        assert!(converted.notes.is_empty());
    }

    #[test]
    fn json_may_have_comments_and_trailing_commas() {
        let text =
            "// a\n{ \"name\": \"a\", /* b */ \"main\": \"./i.js\", \"vars\": {\"A\": [1,],}, }";
        let converted = parse_wrangler(text, false, "wrangler.jsonc").unwrap();
        let site = &converted.configuration["instances"]["a"];
        assert_eq!(site["code"], "./i.js");
        assert_eq!(site["env"]["A"], json!([1]));
        assert_eq!(site["urls"], json!(["localhost"]));
    }

    #[test]
    fn error_of_toml_has_its_place_and_no_line_of_the_file() {
        let text = "name = \"a\"\n[vars]\nTOKEN = \"hunter2\" hunter2\n";
        let error = parse_wrangler(text, true, "w.toml")
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("w.toml: ") && error.contains(" on line 3 column "),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn hostile_text_is_refused() {
        for (text, toml) in [("", false), ("[]", false), ("a = ", true), ("{", false)] {
            assert!(parse_wrangler(text, toml, "w").is_err(), "{text}");
        }
        let deep = "[".repeat(200_000);
        assert!(parse_wrangler(&deep, false, "w").is_err());
        assert!(parse_wrangler(&format!("a = {deep}"), true, "w").is_err());
        assert_eq!(instance_name("-Ünï_x-"), "n--x");
        assert_eq!(instance_name("💥"), "site");
    }
}
