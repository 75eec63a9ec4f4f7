//! Makes the configuration of a development server: what the project states, at one address of this machine, with its
//! code bundled where that is needed.
//!
//! Invariant: what a project states about access, limits and levels of isolation is the same as under `stockade serve`.
//! Only addresses, TLS, the number of mirrors, and the places of logs, state and sockets are those of development.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Map, Value, json};
use stockade_config::{Config, Instance, Loaded, Scaling};
use stockade_http::{Host, HostPattern};
use stockade_limits::{Isolation, NODE_MODULES, SITE_MODULES, node_module};
use stockade_transpile::{ModuleError, ModuleFiles, ModuleFilesError};

use crate::bundle::{BundleError, TEXTS, bundle, find_bundler};
use crate::certificate::LocalCertificate;
use crate::find::{Project, Settings, is_code};
use crate::wrangler::{Note, read_wrangler};

/// The name of a site that has none.
const NAME: &str = "site";

/// The folder of a project in which state is kept.
const DATA: &str = ".stockade";

/// Variables of a developer, next to a wrangler file.
const VARIABLES: &str = ".dev.vars";

/// Bytes of that file.
const MAX_VARIABLES: u64 = 256 << 10;

/// Entries of folders that are watched while the code has errors.
const MAX_WATCHED: usize = 5000;

/// Bundles of a site that are kept.
const KEPT_BUNDLES: usize = 4;

/// Folders in folders that are watched.
const MAX_WATCHED_DEPTH: usize = 8;

/// How a development server differs from one that is configured.
#[derive(Debug, Clone)]
pub struct MakeOptions {
    /// Where it listens.
    pub address: SocketAddr,
    /// HTTPS in place of HTTP.
    pub tls: Option<LocalCertificate>,
    /// Another level of isolation than the project states.
    pub isolation: Option<Isolation>,
    /// Hosts that `fetch` may reach besides those of the project.
    pub allow_fetch: Vec<String>,
    /// A private folder for bundles and the control socket.
    pub work: PathBuf,
    /// Where state is kept, in place of the folder `.stockade` of the project.
    pub data: Option<PathBuf>,
}

/// A folder, and the files in it whose lines pages of errors may show.
pub type ShownFiles = (PathBuf, Vec<PathBuf>);

/// A configuration that was made.
#[derive(Debug)]
pub struct Prepared {
    /// The configuration. Its sources are those of the project's settings.
    pub loaded: Loaded,
    /// Files of the code.
    pub sources: Vec<PathBuf>,
    /// The folder in which the paths of stacks begin, and the files that they may name, of which lines are shown.
    pub files: ShownFiles,
    /// What of a wrangler file has no meaning here.
    pub notes: Vec<Note>,
}

/// Why there is no configuration.
#[derive(Debug)]
pub struct Problem {
    /// Why, for the developer.
    pub text: String,
    /// Files whose changes may mend it.
    pub sources: Vec<PathBuf>,
}

impl Project {
    /// Makes the configuration. Blocks: it reads files and may run a bundler.
    ///
    /// # Errors
    /// When the project's settings or its code have errors.
    pub fn prepare(&self, options: &MakeOptions) -> Result<Prepared, Problem> {
        let found = self.find_again();
        let project = found.as_ref().unwrap_or(self);
        let mut sources = project.settings_files();
        let prepared = project.prepare_from(options, &mut sources);
        prepared.map_err(|text| {
            sources.extend(project.watched());
            Problem { text, sources }
        })
    }

    /// What the same path means now: a configuration may have been added.
    fn find_again(&self) -> Option<Self> {
        let path = match (&self.code, &self.settings) {
            (Some(code), _) if self.shown.is_file() => code,
            (_, Settings::Stockade(path) | Settings::Wrangler(path)) if self.shown.is_file() => {
                path
            }
            _ => &self.root,
        };
        let mut found = Self::find(path).ok()?;
        found.shown.clone_from(&self.shown);
        Some(found)
    }

    /// The files that state settings, or may come to.
    fn settings_files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.root.join("package.json")];
        match &self.settings {
            Settings::None => files.push(self.root.join("stockade.yaml")),
            Settings::Stockade(path) => files.push(path.clone()),
            Settings::Wrangler(path) => {
                files.extend([path.clone(), self.root.join(VARIABLES)]);
            }
        }
        files
    }

    /// The settings of the project, as a configuration. Opens the files that it names.
    ///
    /// # Errors
    /// When they have errors: the message names all.
    pub fn configuration(&self) -> Result<(Loaded, Vec<Note>), String> {
        let (text, path, notes) = match &self.settings {
            Settings::Stockade(path) => {
                let loaded = Config::load(path).map_err(|errors| errors.to_string())?;
                return Ok((loaded, Vec::new()));
            }
            Settings::Wrangler(path) => {
                let converted = read_wrangler(path).map_err(|error| error.to_string())?;
                let text = converted.configuration.to_string();
                (text, path.clone(), converted.notes)
            }
            Settings::None => {
                let mut site = Map::new();
                site.insert("urls".to_owned(), json!(["localhost"]));
                if let Some(code) = &self.code {
                    site.insert("code".to_owned(), json!(code));
                }
                if let Some(files) = &self.files {
                    site.insert("assets".to_owned(), json!(files));
                }
                let text = json!({ "version": "1.0", "instances": { NAME: site } });
                (
                    text.to_string(),
                    self.root.join("stockade.yaml"),
                    Vec::new(),
                )
            }
        };
        let loaded = Config::load_text(&path, &text).map_err(|errors| errors.to_string())?;
        Ok((loaded, notes))
    }

    /// The settings of the project, without opening the files that they name. None where nothing states them.
    ///
    /// # Errors
    /// When they have errors: the message names all.
    pub fn settings_alone(&self) -> Result<Option<Config>, String> {
        let loaded = match &self.settings {
            Settings::None => return Ok(None),
            Settings::Stockade(path) => Config::read(path),
            Settings::Wrangler(path) => {
                let converted = read_wrangler(path).map_err(|error| error.to_string())?;
                let name = path.display().to_string();
                Config::parse(&converted.configuration.to_string(), &name, &self.root)
            }
        };
        let loaded = loaded.map_err(|errors| errors.to_string())?;
        Ok(Some(loaded.config))
    }

    fn prepare_from(
        &self,
        options: &MakeOptions,
        sources: &mut Vec<PathBuf>,
    ) -> Result<Prepared, String> {
        let (mut loaded, notes) = self.configuration()?;
        sources.append(&mut loaded.sources);
        let mut instances = std::mem::take(&mut loaded.config.instances);

        // What differs from `stockade serve`.
        let with_code = instances
            .values()
            .filter(|site| site.code.is_some())
            .count();
        for site in instances.values_mut() {
            if let Some(code) = self.code.as_ref().filter(|_| with_code <= 1) {
                site.code = Some(code.clone());
            }
            if let Some(level) = options.isolation {
                site.isolation = level;
            }
            site.scaling = Scaling::Fixed(1);
            site.client_auth = None;
            site.receipts = None;
        }
        if matches!(self.settings, Settings::Wrangler(_)) {
            self.add_variables(&mut instances)?;
        }
        self.add_hosts(&mut instances, &options.allow_fetch)?;
        let mut config = self.frame(options, &instances)?;
        let urls = std::mem::take(&mut config.instances);
        for (name, site) in &mut instances {
            site.urls = urls
                .get(name)
                .map_or_else(Vec::new, |frame| frame.urls.clone());
        }
        config.limits = loaded.config.limits;
        config.limits.quotas = self.data_folder(options).join("quotas.db");
        config.api_keys = loaded.config.api_keys;
        if instances.values().any(|site| site.state.is_some()) {
            make_data_folder(&self.data_folder(options))?;
        }

        let (of_code, files) = self.read_sites(options, &mut instances)?;
        config.instances = instances;
        loaded.config = config;
        loaded.sources = std::mem::take(sources);
        Ok(Prepared {
            loaded,
            sources: of_code,
            files,
            notes,
        })
    }

    /// Reads the code of all sites, and bundles what has to be. Returns what was read, and the files whose lines pages of
    /// errors may show, with their folder.
    fn read_sites(
        &self,
        options: &MakeOptions,
        instances: &mut BTreeMap<String, Instance>,
    ) -> Result<(Vec<PathBuf>, ShownFiles), String> {
        let mut files = (self.root.clone(), Vec::new());
        let mut of_code = Vec::new();
        for (name, site) in instances {
            let Some(code) = site.code.clone() else {
                continue;
            };
            let read = self.read_code(&code, &options.work, name)?;
            of_code.extend(read.files.iter().cloned());
            let is_bundled = read.bundled.is_some();
            if let Some(bundled) = read.bundled {
                site.code = Some(bundled);
            } else {
                files.0 = read.folder;
            }
            // The source map of a bundle has what source maps of packages name, which may be any file. Guests write the
            // stacks by which lines are found.
            let is_own = |file: &PathBuf| file.starts_with(&self.root) && is_code(file);
            let shown = read.files.into_iter();
            files
                .1
                .extend(shown.filter(|file| !is_bundled || is_own(file)));
        }
        Ok((of_code, files))
    }

    /// Everything of the server itself: addresses, TLS, places.
    fn frame(
        &self,
        options: &MakeOptions,
        instances: &BTreeMap<String, Instance>,
    ) -> Result<Config, String> {
        let mut listener = json!({ "address": options.address.to_string() });
        if let Some(tls) = &options.tls {
            listener["tls"] = json!({ "cert_path": tls.certificate, "key_path": tls.key });
        }
        let reachable = instances.iter().filter(|(_, site)| !site.urls.is_empty());
        let mut reachable: Vec<&String> = reachable.map(|(name, _)| name).collect();
        if reachable.is_empty() {
            reachable.extend(instances.keys().next());
        }
        let mut sites = Map::new();
        for name in instances.keys() {
            let urls = match &*reachable {
                [only] if *only == name => {
                    json!(["localhost", "127.0.0.1", "[::1]", "*.localhost"])
                }
                several if several.contains(&name) => json!([format!("{name}.localhost")]),
                _ => json!([]),
            };
            sites.insert(name.clone(), json!({ "code": "./none.js", "urls": urls }));
        }
        let text = json!({
            "version": "1.0",
            "listeners": [listener],
            "https_redirect": false,
            "logging": { "format": "terminal", "access": { "query": "full" } },
            "drain_timeout": "2s",
            "control": options.work.join("control.sock"),
            "state": { "path": self.data_folder(options).join("state.db") },
            "instances": sites,
        });
        let frame = Config::parse(&text.to_string(), "stockade dev", &self.root);
        Ok(frame.map_err(|errors| errors.to_string())?.config)
    }

    /// Hosts of the command line, in the words of `data_guard.outbound_whitelist`.
    fn add_hosts(
        &self,
        instances: &mut BTreeMap<String, Instance>,
        hosts: &[String],
    ) -> Result<(), String> {
        if hosts.is_empty() {
            return Ok(());
        }
        let (rules, hosts): (Vec<&String>, Vec<&String>) =
            { hosts.iter() }.partition(|text| text.trim_start().starts_with('{'));
        let rules: Vec<&str> = rules.into_iter().map(String::as_str).collect();
        let (hosts, rules) = (json!(hosts), rules.join(","));
        let text = format!("{{\"outbound_whitelist\": {hosts}, \"rules\": [{rules}]}}");
        let guard = stockade_config::parse_data_guard(&text, &self.root);
        let guard = guard.map_err(|errors| format!("--allow-fetch: {errors}"))?;
        // As for `stockade exec`: an address that is named here may be private.
        let mut private = guard.allow_private.clone();
        for rule in &guard.rules {
            private.extend(&rule.addresses);
        }
        let localhost = HostPattern::Exact(Host::Name("localhost".to_owned()));
        if guard
            .rules
            .iter()
            .any(|rule| rule.hosts.contains(&localhost))
        {
            let loopback = ["127.0.0.0/8", "::1/128"];
            for network in loopback {
                if let Ok(network) = network.parse() {
                    private.push(network);
                }
            }
        }
        for site in instances.values_mut() {
            site.data_guard.rules.extend(guard.rules.iter().cloned());
            site.data_guard.allow_private.extend(&private);
        }
        Ok(())
    }

    /// The developer's own variables, as wrangler has them: `NAME=value` in each line.
    fn add_variables(&self, instances: &mut BTreeMap<String, Instance>) -> Result<(), String> {
        let path = self.root.join(VARIABLES);
        let Ok(data) = path.metadata() else {
            return Ok(());
        };
        if !data.is_file() || data.len() > MAX_VARIABLES {
            let most = MAX_VARIABLES >> 10;
            return Err(format!(
                "{}: it is not a file of at most {most} KiB",
                path.display()
            ));
        }
        let text = fs::read_to_string(&path);
        let text = text.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let variables = variables(&text);
        for site in instances.values_mut() {
            for (name, value) in &variables {
                site.env.insert(name.clone(), Value::from(value.as_str()));
            }
        }
        Ok(())
    }

    fn data_folder(&self, options: &MakeOptions) -> PathBuf {
        let own = || self.root.join(DATA);
        options.data.clone().unwrap_or_else(own)
    }

    /// Reads code that can run as it is, and bundles other code.
    fn read_code(&self, code: &Path, work: &Path, name: &str) -> Result<ReadCode, String> {
        let read = without_bundler(ModuleFiles::read(code));
        if let Some(files) = read.map_err(|text| self.placed(text, code))? {
            let names = files.modules.keys();
            return Ok(ReadCode {
                files: names.map(|name| files.folder.join(name)).collect(),
                folder: files.folder,
                bundled: None,
            });
        }
        let entry = entry_of(code);
        let bundle = bundle(&self.root, &entry, &[]);
        let bundle = bundle.map_err(|error| self.explain(error, &entry))?;
        let folder = work.join(name);
        let path = write_bundle(&folder, &bundle.code);
        let path = path
            .map_err(|error| format!("cannot write a bundle to {}: {error}", folder.display()))?;
        let mut files = bundle.sources;
        if !files.contains(&entry) {
            files.push(entry);
        }
        Ok(ReadCode {
            files,
            folder: self.root.clone(),
            bundled: Some(path),
        })
    }

    /// An error of a module, with its place from the folder of the project on.
    fn placed(&self, text: String, code: &Path) -> String {
        let entry = entry_of(code);
        let folder = entry
            .parent()
            .and_then(|folder| folder.strip_prefix(&self.root).ok());
        match folder.filter(|folder| !folder.as_os_str().is_empty()) {
            Some(folder) if !text.starts_with("cannot ") => {
                format!("{}/{text}", folder.display())
            }
            _ => text,
        }
    }

    /// An error of bundling, with the imports that asked for it.
    fn explain(&self, error: BundleError, entry: &Path) -> String {
        let BundleError::NoBundler = error else {
            return error.to_string();
        };
        match import_errors(entry) {
            Some(imports) => format!("{imports}\n{error}"),
            None => error.to_string(),
        }
    }

    /// Code and folders of the project, for a change that mends an error: a file that is added changes its folder.
    fn watched(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![(self.root.clone(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            found.push(folder.clone());
            let Ok(entries) = fs::read_dir(&folder) else {
                continue;
            };
            for entry in entries.flatten() {
                if found.len() + folders.len() >= MAX_WATCHED {
                    return found;
                }
                let name = entry.file_name();
                let name = name.to_string_lossy();
                let Ok(kind) = entry.file_type() else {
                    continue;
                };
                let skipped = name.starts_with('.') || name == "node_modules";
                // Links are not followed: they may lead in a circle.
                if kind.is_dir() && !skipped && depth < MAX_WATCHED_DEPTH {
                    folders.push((entry.path(), depth + 1));
                } else if kind.is_file() && !skipped && is_imported(&entry.path()) {
                    found.push(entry.path());
                }
            }
        }
        found
    }

    /// A configuration that answers nothing, for a server that waits for code that works.
    ///
    /// # Errors
    /// When the folder for it cannot be written.
    pub fn waiting(&self, options: &MakeOptions) -> Result<Loaded, String> {
        let path = options.work.join("waiting.js");
        let code = "export default { fetch() { return new Response(null, { status: 503 }); } };\n";
        fs::write(&path, code)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        let site = json!({ "version": "1.0", "instances": { NAME: { "code": path, "urls": ["localhost"] } } });
        let shown = self.root.join("stockade.yaml");
        let loaded = Config::load_text(&shown, &site.to_string());
        let mut loaded = loaded.map_err(|errors| errors.to_string())?;
        let instances = std::mem::take(&mut loaded.config.instances);
        let mut config = self.frame(options, &instances)?;
        for (name, site) in &mut config.instances {
            if let Some(waiting) = instances.get(name) {
                site.code.clone_from(&waiting.code);
            }
        }
        loaded.config = config;
        loaded.sources.clear();
        Ok(loaded)
    }
}

/// Writes a bundle, whose name is that of its contents: the server takes a file that changes for code that changes, and
/// reads again. One that is there already therefore stays as it is, apart from the time at which it was last used.
fn write_bundle(folder: &Path, code: &str) -> io::Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    code.hash(&mut hasher);
    let path = folder.join(format!("index-{:016x}.js", hasher.finish()));
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder)?;
    if fs::read(&path).is_ok_and(|there| there == code.as_bytes()) {
        let now = FileTimes::new().set_accessed(SystemTime::now());
        File::open(&path)?.set_times(now)?;
    } else {
        let mut next = tempfile::NamedTempFile::new_in(folder)?;
        next.write_all(code.as_bytes())?;
        next.persist(&path).map_err(|error| error.error)?;
    }

    // The one that runs now is among those that were used last.
    let mut old: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        old.push((entry.metadata()?.accessed()?, entry.path()));
    }
    old.sort();
    let surplus = old.len().saturating_sub(KEPT_BUNDLES);
    for (_, file) in old.iter().take(surplus).filter(|(_, file)| *file != path) {
        fs::remove_file(file)?;
    }
    Ok(path)
}

/// Makes the folder in which state is kept, apart from the source of the project.
fn make_data_folder(folder: &Path) -> Result<(), String> {
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(folder);
    let kept = made.and_then(|()| {
        let ignored = folder.join(".gitignore");
        if ignored.exists() {
            return Ok(());
        }
        fs::write(ignored, "*\n")
    });
    kept.map_err(|error| format!("cannot make {} for the state: {error}", folder.display()))
}

/// Code that was read.
struct ReadCode {
    files: Vec<PathBuf>,
    folder: PathBuf,
    bundled: Option<PathBuf>,
}

/// Whether code may import a file of this name. A log in the project is none of them: it changes with each error.
fn is_imported(path: &Path) -> bool {
    const ENDINGS: [&str; 15] = [
        "ts", "mts", "cts", "tsx", "js", "mjs", "cjs", "jsx", "json", "jsonc", "html", "txt",
        "sql", "css", "wasm",
    ];
    let ending = path.extension().and_then(std::ffi::OsStr::to_str);
    ending.is_some_and(|ending| ENDINGS.contains(&ending))
}

/// The names of modules that need no file.
fn built_in() -> Vec<String> {
    let node = NODE_MODULES.iter();
    let node = node.flat_map(|name| [(*name).to_owned(), format!("node:{name}")]);
    node.chain(SITE_MODULES.iter().map(|name| (*name).to_owned()))
        .collect()
}

/// Modules that run as they are. None where their imports need a bundler.
///
/// # Errors
/// When they have errors that no bundler mends.
pub(crate) fn without_bundler(
    read: Result<ModuleFiles, ModuleFilesError>,
) -> Result<Option<ModuleFiles>, String> {
    let files = match read {
        Ok(files) => files,
        // A bundler may read what lies outside of the folder, and more files.
        Err(ModuleFilesError::Outside { .. } | ModuleFilesError::TooMany) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    // A text is not read as code.
    if files.modules.keys().any(|name| is_text(name)) {
        return Ok(None);
    }
    let known = built_in();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let errors = files.errors(&known);
    // What does not compile, and what a module does not export, no bundler mends.
    let is_final = |error: &ModuleError| {
        error.message.starts_with("SyntaxError") || error.message.contains("has no export named")
    };
    let (last, imports): (Vec<_>, Vec<_>) = errors.into_iter().partition(is_final);
    if let Some(first) = last.first() {
        return Err(first.to_string());
    }
    // Without a bundler a package that only `import()` asks for fails when it is asked for.
    let can_bundle = || find_bundler(&files.folder).is_some();
    if !imports.is_empty() || (imports_unknown(&files) && can_bundle()) {
        return Ok(None);
    }
    Ok(Some(files))
}

/// Whether a bundle has a file of this name as text.
fn is_text(name: &str) -> bool {
    let ending = Path::new(name).extension();
    ending.is_some_and(|ending| TEXTS.iter().any(|text| ending == *text))
}

/// Whether a module asks for one that is not there in `import()`, of which nothing is reported.
fn imports_unknown(files: &ModuleFiles) -> bool {
    files.modules.iter().any(|(name, source)| {
        let language = stockade_transpile::Language::from_path(Path::new(name));
        let Some(language) = language else {
            return false;
        };
        let found = stockade_transpile::imports(source, language).unwrap_or_default();
        found.iter().any(|specifier| {
            let is_path = specifier.starts_with(['.', '/']);
            let is_known =
                SITE_MODULES.contains(&specifier.as_str()) || node_module(specifier).is_some();
            !is_path && !is_known && !specifier.contains(':')
        })
    })
}

/// What is wrong with the imports of a module, where it can be read.
fn import_errors(entry: &Path) -> Option<String> {
    let files = ModuleFiles::read(entry).ok()?;
    let known = built_in();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let errors: Vec<String> = files
        .errors(&known)
        .iter()
        .take(5)
        .map(ToString::to_string)
        .collect();
    (!errors.is_empty()).then(|| errors.join("\n"))
}

/// The module that a folder stands for.
fn entry_of(code: &Path) -> PathBuf {
    if !code.is_dir() {
        return code.to_owned();
    }
    let names = [
        "index.ts",
        "index.js",
        "index.tsx",
        "index.jsx",
        "index.mjs",
    ];
    let mut paths = names.iter().map(|name| code.join(name));
    paths
        .find(|path| path.is_file())
        .unwrap_or_else(|| code.to_owned())
}

/// `NAME=value` in each line; `#` begins a comment, and quotes around a value are removed.
fn variables(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pairs = lines.filter_map(|line| {
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        let is_name = !name.is_empty()
            && name
                .chars()
                .all(|char| char.is_ascii_alphanumeric() || char == '_')
            && !name.starts_with(|char: char| char.is_ascii_digit());
        let quoted = ['"', '\''].iter().find_map(|quote| {
            let inner = value.strip_prefix(*quote)?.strip_suffix(*quote)?;
            Some(match quote {
                '"' => inner.replace("\\n", "\n"),
                _ => inner.to_owned(),
            })
        });
        is_name.then(|| (name.to_owned(), quoted.unwrap_or_else(|| value.to_owned())))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests;
