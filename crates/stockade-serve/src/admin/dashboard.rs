//! The dashboard: a page that is a client of this API, and the files that it consists of.
//!
//! Invariants:
//! 1. The files are in the program and are the same for everyone: they contain nothing of this server's, and every client
//!    that may connect gets them. What the page shows, it reads from this API with a key of its reader's.
//! 2. The page's policy lets it load scripts and styles of this origin only, runs no script or style that stands in the
//!    document, and makes no document from text (Trusted Types, without a policy that could).
//! 3. Log-in sets no cookie. A cookie of this origin's host is sent to all ports of the host, and the servers there may be
//!    sites of guests.

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use http::header::CONTENT_SECURITY_POLICY;
use http::header::CONTENT_TYPE;

/// A file of the page.
struct File {
    path: &'static str,
    kind: &'static str,
    content: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

macro_rules! files {
    ($($file:literal: $kind:ident,)*) => {
        &[
            File {
                path: "/",
                kind: HTML,
                content: include_bytes!("../../dashboard/index.html"),
            },
            $(File {
                path: concat!("/dashboard/", $file),
                kind: $kind,
                content: include_bytes!(concat!("../../dashboard/", $file)),
            },)*
        ]
    };
}

const FILES: &[File] = files! {
    "api.js": SCRIPT,
    "chart.js": SCRIPT,
    "flame.js": SCRIPT,
    "icon.svg": PICTURE,
    "main.js": SCRIPT,
    "pages/audit.js": SCRIPT,
    "pages/configuration.js": SCRIPT,
    "pages/deployments.js": SCRIPT,
    "pages/history.js": SCRIPT,
    "pages/index.js": SCRIPT,
    "pages/instance.js": SCRIPT,
    "pages/keys.js": SCRIPT,
    "pages/live.js": SCRIPT,
    "pages/overview.js": SCRIPT,
    "pages/profiles.js": SCRIPT,
    "pages/usage.js": SCRIPT,
    "parts.js": SCRIPT,
    "shown.js": SCRIPT,
    "style.css": STYLE,
    "vendor/libraries.js": SCRIPT,
    "vendor/uplot.css": STYLE,
};

/// The policy of the page (https://www.w3.org/TR/CSP3/).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'none'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// Whether a path is one of the page's files.
pub(crate) fn is_file(path: &str) -> bool {
    FILES.iter().any(|file| file.path == path)
}

/// Adds the files to the router. The OpenAPI document has none of them.
pub(crate) fn add<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    FILES.iter().fold(router, |router, file| {
        router.route(file.path, get(async || show(file)))
    })
}

fn show(file: &'static File) -> impl IntoResponse {
    let headers = [(CONTENT_TYPE, file.kind), (CONTENT_SECURITY_POLICY, POLICY)];
    let isolated = [("cross-origin-opener-policy", "same-origin")];
    (headers, isolated, file.content)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn in_folder(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                in_folder(&path, found);
            } else {
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }

    #[test]
    fn files_are_those_of_the_folder() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboard/");
        let mut found = Vec::new();
        in_folder(Path::new(folder), &mut found);
        let mut found: Vec<_> = (found.iter())
            .map(|path| path.strip_prefix(folder).unwrap())
            .filter(|path| !matches!(*path, "index.html" | "vendor/LICENSES.txt"))
            .collect();
        found.sort_unstable();
        let listed = FILES.iter().skip(1);
        let listed: Vec<_> = listed
            .map(|file| &file.path["/dashboard/".len()..])
            .collect();
        assert_eq!(listed, found);
    }

    #[test]
    fn files_make_no_document_from_text() {
        for file in FILES.iter().filter(|file| !file.path.contains("/vendor/")) {
            let text = std::str::from_utf8(file.content).unwrap();
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "style=",
            ] {
                assert!(!text.contains(word), "{} has {word}", file.path);
            }
        }
    }
}
