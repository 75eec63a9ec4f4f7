//! What a guest may import: the modules it was created with, and nothing else.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use deno_core::url::Url;
use deno_core::{
    ModuleLoadOptions, ModuleLoadReferrer, ModuleLoadResponse, ModuleLoader, ModuleResolveResponse,
    ModuleSource, ModuleSourceCode, ModuleSpecifier, ModuleType, RequestedModuleType,
    ResolutionKind,
};
use deno_error::JsErrorBox;
use stockade_policy::IsolateOptions;
use stockade_protocol::GuestError;
use stockade_transpile::{Language, Options, transpile};

use crate::serve::serves;

/// Where a guest's modules seem to lie.
const BASE: &str = "guest:///";

/// Names of the module that is run when the isolate starts.
const MAIN: &[&str] = &[
    "main", "main.ts", "main.js", "main.tsx", "main.jsx", "main.mjs",
];

/// What handlers written for Cloudflare's Workers import, in serve mode alone: `js/serve.js` of the realm
/// puts under this symbol what it exports.
const WORKERS: &str = "cloudflare:workers";
const WORKERS_SOURCE: &str = "\
const workers = globalThis[Symbol.for('cloudflare:workers')];
export const { WorkerEntrypoint, env } = workers;
";

/// Source maps of everything the isolate has run, by the name shown in stacks.
#[derive(Default)]
pub(crate) struct SourceMaps(RefCell<HashMap<String, Vec<u8>>>);

impl SourceMaps {
    pub(crate) fn add(&self, name: String, map: Vec<u8>) {
        self.0.borrow_mut().insert(name, map);
    }
}

/// What Node calls its tracking of asynchronous work: `js/async_context.js` of the realm puts under this
/// symbol what it exports.
const HOOKS: &str = "node:async_hooks";
const HOOKS_SOURCE: &str = "\
const hooks = globalThis[Symbol.for('node:async_hooks')];
export const { AsyncLocalStorage, AsyncResource } = hooks;
export default hooks;
";

/// Finds modules among those of the isolate's options.
#[derive(Default)]
pub(crate) struct GuestModules {
    options: RefCell<Option<Arc<IsolateOptions>>>,
    /// The names of the modules, by the URLs that they seem to lie at.
    names: RefCell<HashMap<Url, String>>,
    pub(crate) source_maps: SourceMaps,
}

impl GuestModules {
    /// Sets the modules there are, once, before guest code runs.
    pub(crate) fn set_options(&self, options: Arc<IsolateOptions>) {
        let names = options.modules.keys();
        *self.names.borrow_mut() = names
            .filter_map(|name| Some((url_for(name)?, name.clone())))
            .collect();
        *self.options.borrow_mut() = Some(options);
    }

    /// The module to run when the isolate starts, if there is one.
    pub(crate) fn main(&self) -> Option<ModuleSpecifier> {
        MAIN.iter().find_map(|name| self.url_of(name))
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

    fn find(&self, specifier: &str, referrer: &str) -> Result<Url, JsErrorBox> {
        if specifier == HOOKS || (specifier == WORKERS && self.serves()) {
            return Url::parse(specifier)
                .map_err(|error| JsErrorBox::type_error(error.to_string()));
        }
        let relative = ["./", "../", "/"]
            .iter()
            .any(|start| specifier.starts_with(start));
        let url = match Url::parse(referrer) {
            Ok(base) if relative && base.scheme() == "guest" => base.join(specifier).ok(),
            _ => url_for(specifier),
        };
        let names = self.names.borrow();
        url.filter(|url| names.contains_key(url)).ok_or_else(|| {
            JsErrorBox::type_error(format!(
                "cannot import '{specifier}': the modules of this isolate are: {}",
                self.listed()
            ))
        })
    }

    fn load_source(&self, url: &Url, json: bool) -> Result<ModuleSource, JsErrorBox> {
        if let Some(code) = built_in(url.as_str()) {
            let code = ModuleSourceCode::String(code.to_owned().into());
            return Ok(ModuleSource::new(ModuleType::JavaScript, code, url, None));
        }
        let code = self
            .source(url)
            .ok_or_else(|| JsErrorBox::type_error(format!("there is no module '{url}'")))?;
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
            let done = transpile(&code, &options)
                .map_err(|error| JsErrorBox::new("SyntaxError", error.to_string()))?;
            if let Some(map) = done.source_map {
                self.source_maps.add(url.to_string(), map);
            }
            done.code
        };
        let code = ModuleSourceCode::String(code.into());
        Ok(ModuleSource::new(ModuleType::JavaScript, code, url, None))
    }
}

/// The source of a module that is part of the runtime.
fn built_in(url: &str) -> Option<&'static str> {
    match url {
        WORKERS => Some(WORKERS_SOURCE),
        HOOKS => Some(HOOKS_SOURCE),
        _ => None,
    }
}

fn url_for(name: &str) -> Option<Url> {
    Url::parse(BASE)
        .ok()?
        .join(name)
        .ok()
        .filter(|url| url.scheme() == "guest")
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

    fn load(
        &self,
        module_specifier: &ModuleSpecifier,
        _referrer: Option<&ModuleLoadReferrer>,
        options: ModuleLoadOptions,
    ) -> ModuleLoadResponse {
        let json = matches!(options.requested_module_type, RequestedModuleType::Json);
        ModuleLoadResponse::Sync(self.0.load_source(module_specifier, json))
    }

    fn get_source_map(&self, file_name: &str) -> Option<Cow<'_, [u8]>> {
        self.0
            .source_maps
            .0
            .borrow()
            .get(file_name)
            .map(|map| Cow::Owned(map.clone()))
    }
}
