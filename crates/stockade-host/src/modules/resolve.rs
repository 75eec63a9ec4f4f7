//! Which module an import names. Only local files can be imported; everything else is refused with
//! what to do instead.

use deno_core::ModuleSpecifier;
use deno_core::url::Url;

/// An import that names nothing this runtime loads.
#[derive(Debug, PartialEq, Eq, thiserror::Error, deno_error::JsError)]
#[class(type)]
pub(crate) enum ResolveError {
    /// Code on the network.
    #[error(
        "cannot import \"{specifier}\": only local files can be imported\n  fix: bundle the script first, which Deno does with such imports: deno bundle {entry} -o app.js"
    )]
    Remote { specifier: String, entry: String },
    /// One of Node's own modules.
    #[error(
        "cannot import \"{specifier}\": Node's modules are not part of this runtime\n  fix: use the web platform's APIs or those of the Deno namespace"
    )]
    Node { specifier: String },
    /// A package's name.
    #[error(
        "cannot import \"{specifier}\": it is neither a path nor a file: URL\n  fix: write \"./{specifier}\" for a file of that name, or bundle packages first: npx esbuild {entry} --bundle --format=esm --outfile=app.js"
    )]
    Bare { specifier: String, entry: String },
    /// Not a URL at all.
    #[error("cannot import \"{specifier}\": {reason}")]
    Invalid { specifier: String, reason: String },
}

/// The module that `specifier` names in `referrer`.
pub(crate) fn resolve(specifier: &str, referrer: &str) -> Result<ModuleSpecifier, ResolveError> {
    let is_path = ["./", "../", "/"].iter().any(|p| specifier.starts_with(p));
    let url = if is_path {
        Url::parse(referrer).and_then(|base| base.join(specifier))
    } else {
        Url::parse(specifier)
    };
    let specifier = || specifier.to_owned();
    match url {
        Ok(url) => match url.scheme() {
            "file" | "data" => Ok(url),
            "node" => Err(ResolveError::Node {
                specifier: specifier(),
            }),
            "http" | "https" | "npm" | "jsr" => Err(ResolveError::Remote {
                specifier: specifier(),
                entry: entry(referrer),
            }),
            scheme => Err(ResolveError::Invalid {
                specifier: specifier(),
                reason: format!("modules cannot be loaded from {scheme}: URLs"),
            }),
        },
        Err(_) if !is_path => Err(ResolveError::Bare {
            specifier: specifier(),
            entry: entry(referrer),
        }),
        Err(error) => Err(ResolveError::Invalid {
            specifier: specifier(),
            reason: error.to_string(),
        }),
    }
}

/// The file name of the importing module, for a command to copy.
fn entry(referrer: &str) -> String {
    let name = referrer.rsplit('/').next().unwrap_or_default();
    if name.is_empty() {
        "main.js".to_owned()
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(specifier: &str, expect: Result<&str, &str>) {
        let found = resolve(specifier, "file:///srv/app/main.ts");
        match (found, expect) {
            (Ok(url), Ok(expect)) => assert_eq!(url.as_str(), expect),
            (Err(error), Err(expect)) => {
                let text = error.to_string();
                assert!(text.contains(expect), "{text}");
            }
            (found, expect) => panic!("{specifier}: {found:?} is not {expect:?}"),
        }
    }

    #[test]
    fn resolve_paths_are_relative_to_the_importing_module() {
        check("./lib.js", Ok("file:///srv/app/lib.js"));
        check("../lib.js", Ok("file:///srv/lib.js"));
        check("/etc/lib.js", Ok("file:///etc/lib.js"));
        check("file:///x.js", Ok("file:///x.js"));
    }

    #[test]
    fn resolve_anything_else_is_refused_with_a_fix() {
        check("https://deno.land/std/x.ts", Err("deno bundle main.ts"));
        check("npm:express@4", Err("deno bundle main.ts"));
        check("jsr:@std/fs", Err("only local files"));
        check("node:fs", Err("Node's modules"));
        check("express", Err("\"./express\""));
        check("express", Err("npx esbuild main.ts"));
        check("blob:abc", Err("blob: URLs"));
    }
}
