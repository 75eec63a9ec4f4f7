//! What a guest may import: the modules it was created with, and nothing else.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use deno_core::error::ModuleLoaderError;
use deno_core::sourcemap::SourceMap;
use deno_core::url::Url;
use deno_core::{
    FastString, ModuleLoadOptions, ModuleLoadReferrer, ModuleLoadResponse, ModuleLoader,
    ModuleResolveResponse, ModuleSource, ModuleSourceCode, ModuleSpecifier, ModuleType,
    RequestedModuleType, ResolutionKind, ascii_str,
};
use deno_error::{JsErrorBox, JsErrorClass};
use serde_json::Value;
use stockade_limits::{IsolateOptions, NODE_MODULES, SITE_MODULES, node_module};
use stockade_protocol::GuestError;
use stockade_realm::{RUN, SERVE, node_source};
use stockade_transpile::{Language, Options, transpile};

use crate::source_maps::{BASE, COMMENT, SourceMaps, decode, inline_map};
use crate::sys::interrupt::Place;

/// Schemes of what people import and a guest has not. No other may reach the loader: the runtime's own
/// scripts have names that are URLs.
const ELSEWHERE: &[&str] = &[
    "npm", "jsr", "http", "https", "node", "data", "file", "blob",
];

/// Imports that were not found of which is kept how they were written.
const MOST_MISSING: usize = 64;

/// Endings that are left out, or mixed up.
const ENDINGS: &[&str] = &[
    ".ts",
    ".js",
    ".tsx",
    ".jsx",
    ".mjs",
    ".json",
    "/index.ts",
    "/index.js",
];

/// Whether the isolate's module answers requests.
pub(crate) fn serves(options: &IsolateOptions) -> bool {
    options.env.get(SERVE) == Some(&Value::Bool(true))
}

/// How the isolate runs code for a result, if it does: `true` in a session.
pub(crate) fn session(options: &IsolateOptions) -> Option<bool> {
    let run = options.env.get(RUN)?;
    Some(run.get("session") == Some(&Value::Bool(true)))
}

/// Where a guest's `env` lists what it is granted; no key of a user begins with U+0000.
const BINDINGS: &str = "\0bindings";

/// Names of the module that is run when the isolate starts.
const MAIN: &[&str] = &[
    "main", "main.ts", "main.js", "main.tsx", "main.jsx", "main.mjs",
];

/// What handlers written for Cloudflare's Workers import, in serve mode alone: `js/serve.js` of the realm
/// puts under these symbols what they export.
const WORKERS: &str = "cloudflare:workers";
const WORKERS_SOURCE: &str = "\
const workers = globalThis[Symbol.for('cloudflare:workers')];
export const { RpcPromise, RpcStub, RpcTarget, WorkerEntrypoint, env, waitUntil } = workers;
";
const SOCKETS_SOURCE: &str = "\
const sockets = globalThis[Symbol.for('cloudflare:sockets')];
export const { connect } = sockets;
";
const OWN_SOCKETS_SOURCE: &str = "\
const sockets = globalThis[Symbol.for('cloudflare:sockets')];
export const { connect, datagram } = sockets;
";

/// What Node calls its tracking of asynchronous work, which every guest may import.
const HOOKS: &str = "node:async_hooks";

/// The scheme of what the modules of Node are made of, which they alone import.
const INTERNAL: &str = "internal";

/// Where the guest's author wrote a place, by the source map of its script.
pub(crate) fn written(map: &SourceMap, place: &Place) -> Place {
    let mut place = place.clone();
    let (line, column) = (place.line.saturating_sub(1), place.column.saturating_sub(1));
    if let Some(token) = map.lookup_token(line, column) {
        place.line = token.get_src_line().saturating_add(1);
        place.column = token.get_src_col().saturating_add(1);
        let source = token.get_source().unwrap_or_default();
        if let Ok(url) = Url::parse(&place.source).or_else(|_| Url::parse(BASE))
            && let Ok(url) = url.join(source)
            && source != place.source
        {
            place.source = url.to_string();
        }
    }
    place
}

/// Finds modules among those of the isolate's options.
#[derive(Default)]
pub(crate) struct GuestModules {
    options: RefCell<Option<Arc<IsolateOptions>>>,
    /// The names of the modules, by the URLs that they seem to lie at.
    names: RefCell<HashMap<Url, String>>,
    /// What was asked for and is not there, as it was written; see [`GuestModules::find`].
    missing: RefCell<HashMap<Url, String>>,
    pub(crate) source_maps: SourceMaps,
    /// Whether debuggers are let in.
    inspect: Cell<bool>,
}

impl GuestModules {
    /// Sets the modules there are, once, before guest code runs. `inspect`: debuggers are let in.
    pub(crate) fn set_options(&self, options: Arc<IsolateOptions>, inspect: bool) {
        self.inspect.set(inspect);
        let names = options.modules.keys();
        *self.names.borrow_mut() = names
            .filter_map(|name| Some((url_for(name)?, name.clone())))
            .collect();
        *self.options.borrow_mut() = Some(options);
    }

    /// The module to run when the isolate starts, if there is one.
    pub(crate) fn main(&self) -> Option<ModuleSpecifier> {
        let chosen = (self.options.borrow().as_ref()).and_then(|options| options.main.clone());
        match chosen {
            Some(name) => self.url_of(&name),
            None => MAIN.iter().find_map(|name| self.url_of(name)),
        }
    }

    /// What is wrong where there is none.
    pub(crate) fn no_main(&self) -> GuestError {
        GuestError::new(format!(
            "there is no module to answer requests: one must be called {}; the modules are: {}",
            MAIN.join(", "),
            self.listed()
        ))
    }

    /// The URL of the module a user calls `name`, if there is one.
    fn url_of(&self, name: &str) -> Option<Url> {
        url_for(name).filter(|url| self.names.borrow().contains_key(url))
    }

    fn source(&self, url: &Url) -> Option<String> {
        let options = self.options.borrow();
        let names = self.names.borrow();
        let name = names.get(url)?;
        options.as_ref()?.modules.get(name).cloned()
    }

    fn serves(&self) -> bool {
        self.options.borrow().as_deref().is_some_and(serves)
    }

    /// Whether the modules of Node are there: for sites, and where something is granted that they use.
    fn has_node(&self) -> bool {
        let options = self.options.borrow();
        let options = options.as_deref();
        options.is_some_and(|options| serves(options) || options.env.contains_key(BINDINGS))
    }

    fn listed(&self) -> String {
        let options = self.options.borrow();
        let names: Vec<&str> = options
            .iter()
            .flat_map(|options| options.modules.keys())
            .map(String::as_str)
            .take(20)
            .collect();
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    }

    /// The URL of what is imported. One of a module that there is not is given as well, where it is not that of
    /// a script of the runtime's own: loading it fails, and only then it is known where the import stands.
    fn find(&self, specifier: &str, referrer: &str) -> Result<Url, JsErrorBox> {
        if let Some(url) = self.find_built_in(specifier, referrer) {
            return Ok(url);
        }
        let url = match Url::parse(referrer) {
            Ok(base) if is_path(specifier) && base.scheme() == "guest" => base.join(specifier).ok(),
            _ => url_for(specifier),
        };
        if let Some(url) = url.as_ref().filter(|url| self.has(url)) {
            return Ok(url.clone());
        }
        let foreign = || {
            let url = Url::parse(specifier).ok()?;
            ELSEWHERE.contains(&url.scheme()).then_some(url)
        };
        let Some(url) = url.or_else(foreign) else {
            return Err(JsErrorBox::type_error(format!(
                "cannot import '{specifier}': {}",
                self.no_module()
            )));
        };
        let mut missing = self.missing.borrow_mut();
        if missing.len() >= MOST_MISSING {
            missing.clear();
        }
        missing.insert(url.clone(), specifier.to_owned());
        Ok(url)
    }

    /// The URL of a module that is part of the runtime: for sites and guests with grants, except one. A module of the guest's goes before
    /// one of Node's whose name is written without `node:`.
    fn find_built_in(&self, specifier: &str, referrer: &str) -> Option<Url> {
        let of_site = SITE_MODULES.contains(&specifier) && self.serves();
        let of_node = specifier.starts_with(INTERNAL) && !is_guest(referrer);
        if of_site || of_node || specifier == HOOKS {
            return Url::parse(specifier).ok();
        }
        if !self.has_node() {
            return None;
        }
        let url = Url::parse(&node_module(specifier)?).ok()?;
        let own = url_for(specifier).is_some_and(|own| self.has(&own));
        (!own).then_some(url)
    }

    /// The source of a module that is part of the runtime, where this guest may import it.
    fn built_in(&self, url: &Url) -> Option<FastString> {
        let is_of_site = SITE_MODULES.contains(&url.as_str());
        let has = if is_of_site {
            self.serves()
        } else {
            self.has_node()
        };
        (has || url.as_str() == HOOKS)
            .then(|| built_in(url.as_str()))
            .flatten()
    }

    fn has(&self, url: &Url) -> bool {
        self.names.borrow().contains_key(url)
    }

    fn no_module(&self) -> String {
        format!("the modules of this isolate are: {}", self.listed())
    }

    /// Why a module cannot be imported, and what to do.
    fn refuse(&self, url: &Url) -> String {
        let missing = self.missing.borrow();
        let specifier = missing.get(url).map_or(url.as_str(), String::as_str);
        let entry = self.main().map_or_else(
            || "main.ts".to_owned(),
            |url| url.path().trim_start_matches('/').to_owned(),
        );
        let esbuild = format!("npx esbuild {entry} --bundle --format=esm --outfile=bundle.js");
        let why = match url.scheme() {
            "guest" => match self.similar(url, specifier) {
                Some(similar) => format!("there is no such module; did you mean '{similar}'?"),
                None if is_path(specifier) => self.no_module(),
                None => format!(
                    "{}\n  fix: write './{specifier}' for a file, or bundle packages first: {esbuild}",
                    self.no_module()
                ),
            },
            "node" if !self.has_node() => {
                format!("the only Node module is '{HOOKS}'\n  fix: use the web platform's APIs")
            }
            "node" => format!(
                "there is no such module of Node; there are {}\n  fix: use one of these, or the web platform's APIs",
                NODE_MODULES.join(", ")
            ),
            "npm" | "jsr" | "http" | "https" => format!(
                "a guest loads no code from the network\n  \
                 fix: bundle it first, which Deno does with such imports: \
                 deno bundle {entry} -o bundle.js"
            ),
            scheme => format!("modules cannot be loaded from {scheme}: URLs"),
        };
        format!("cannot import '{specifier}': {why}")
    }

    /// A module that was probably meant, as it would be imported.
    fn similar(&self, url: &Url, specifier: &str) -> Option<String> {
        let names = self.names.borrow();
        let there = |path: &str| {
            let mut other = url.clone();
            other.set_path(path);
            names.contains_key(&other)
        };
        let with_ending = (ENDINGS.iter()).find(|ending| there(&format!("{}{ending}", url.path())));
        if let Some(ending) = with_ending {
            return Some(format!("{specifier}{ending}"));
        }
        if let Some((stem, _)) = url.path().rsplit_once('.')
            && let Some(ending) = ENDINGS
                .iter()
                .find(|ending| there(&format!("{stem}{ending}")))
            && let Some((stem, _)) = specifier.rsplit_once('.')
        {
            return Some(format!("{stem}{ending}"));
        }
        let same = |name: &&String| name.eq_ignore_ascii_case(url.path().trim_start_matches('/'));
        let name = names.values().find(same)?;
        Some(format!("/{name}"))
    }

    /// What the engine says of a place, as the guest's author wrote it.
    pub(crate) fn original(&self, place: &Place) -> String {
        let mapped = self
            .source_map(&place.source)
            .map(|map| written(&map, place));
        let Place {
            function,
            source,
            line,
            column,
        } = mapped.as_ref().unwrap_or(place);
        match function.as_deref() {
            None | Some("") => format!("{source}:{line}:{column}"),
            Some(function) => format!("{function} ({source}:{line}:{column})"),
        }
    }

    /// The source map of what stacks call by this name.
    pub(crate) fn source_map(&self, name: &str) -> Option<SourceMap> {
        if let Some(map) = self.source_maps.get(name) {
            return SourceMap::from_slice(&map).ok();
        }
        // A guest names its scripts, and could name one module in any number of ways.
        let url = Url::parse(name).ok().filter(|url| url.as_str() == name)?;
        let code = self.source(&url)?;
        decode(inline_map(&code)?)
    }

    /// Puts the source map of code that the runtime made at its end, where debuggers are let in: they find it nowhere else.
    pub(crate) fn append_map(&self, name: &str, code: &mut String) {
        let map = self.inspect.get().then(|| self.source_map(name)).flatten();
        if let Some(url) = map.and_then(|map| map.to_data_url().ok()) {
            code.extend(["\n", COMMENT, &url, "\n"]);
        }
    }

    fn load_source(&self, url: &Url, json: bool) -> Result<ModuleSource, JsErrorBox> {
        if let Some(code) = self.built_in(url) {
            let code = ModuleSourceCode::String(code);
            return Ok(ModuleSource::new(ModuleType::JavaScript, code, url, None));
        }
        let code = self
            .source(url)
            .ok_or_else(|| JsErrorBox::type_error(self.refuse(url)))?;
        if url.path().ends_with(".json") {
            if !json {
                return Err(JsErrorBox::type_error(format!(
                    "cannot import '{url}' without `with {{ type: 'json' }}`"
                )));
            }
            let code = ModuleSourceCode::String(code.into());
            return Ok(ModuleSource::new(ModuleType::Json, code, url, None));
        }
        let language = Language::from_path(Path::new(url.path())).unwrap_or(Language::TypeScript);
        let code = if language == Language::JavaScript {
            code
        } else {
            let options = Options {
                specifier: url.as_str(),
                language,
                module: true,
            };
            let mut done = transpile(&code, &options)
                .map_err(|error| JsErrorBox::new("SyntaxError", error.to_string()))?;
            if let Some(map) = done.source_map {
                self.source_maps.add(url.to_string(), map);
            }
            self.append_map(url.as_str(), &mut done.code);
            done.code
        };
        let code = ModuleSourceCode::String(code.into());
        Ok(ModuleSource::new(ModuleType::JavaScript, code, url, None))
    }
}

/// The source of a module that is part of the runtime.
fn built_in(url: &str) -> Option<FastString> {
    match url {
        WORKERS => Some(ascii_str!(WORKERS_SOURCE).into()),
        "cloudflare:sockets" => Some(ascii_str!(SOCKETS_SOURCE).into()),
        "stockade:sockets" => Some(ascii_str!(OWN_SOCKETS_SOURCE).into()),
        _ => node_source(url).map(FastString::from),
    }
}

/// Whether a module is the guest's own.
fn is_guest(referrer: &str) -> bool {
    !referrer.starts_with("node:") && !referrer.starts_with(INTERNAL)
}

fn url_for(name: &str) -> Option<Url> {
    Url::parse(BASE)
        .ok()?
        .join(name)
        .ok()
        .filter(|url| url.scheme() == "guest")
}

fn is_path(specifier: &str) -> bool {
    ["./", "../", "/"]
        .iter()
        .any(|start| specifier.starts_with(start))
}

/// Shares the modules between the engine and the isolate.
pub(crate) struct GuestLoader(pub(crate) Rc<GuestModules>);

impl ModuleLoader for GuestLoader {
    fn resolve(
        &self,
        specifier: &str,
        referrer: &str,
        _kind: ResolutionKind,
    ) -> ModuleResolveResponse {
        self.0.find(specifier, referrer)
    }

    fn import_meta_resolve(
        &self,
        specifier: &str,
        referrer: &str,
    ) -> Result<ModuleSpecifier, ModuleLoaderError> {
        let url = self.0.find(specifier, referrer)?;
        let own = self.0.built_in(&url).is_some();
        if is_path(specifier) || own || self.0.has(&url) {
            return Ok(url);
        }
        Err(JsErrorBox::type_error(self.0.refuse(&url)))
    }

    fn load(
        &self,
        module_specifier: &ModuleSpecifier,
        referrer: Option<&ModuleLoadReferrer>,
        options: ModuleLoadOptions,
    ) -> ModuleLoadResponse {
        let json = matches!(options.requested_module_type, RequestedModuleType::Json);
        let source = self.0.load_source(module_specifier, json);
        ModuleLoadResponse::Sync(source.map_err(|error| match referrer {
            Some(at) if error.get_class() == "TypeError" => {
                let (line, column) = (at.line_number, at.column_number);
                let message = error.get_message();
                JsErrorBox::type_error(format!(
                    "{message}\n    at {}:{line}:{column}",
                    at.specifier
                ))
            }
            _ => error,
        }))
    }

    fn get_source_map(&self, file_name: &str) -> Option<Cow<'_, [u8]>> {
        self.0.source_maps.get(file_name).map(Cow::Owned)
    }

    /// What the source map of a bundle names need not be there: it is only shown.
    fn source_map_source_exists(&self, source_url: &str) -> Option<bool> {
        Some(source_url.starts_with(BASE))
    }
}
