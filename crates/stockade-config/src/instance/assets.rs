//! Files served without running code.

use std::path::{Component, Path, PathBuf};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::diagnostic::shown;
use crate::fields::Fields;
use crate::keys::{FOLDER, HEADER, Key, Kind, TEXT, VARIABLE, boolean, integer, map, text};
use crate::reader::Located;
use crate::section::{Parse, Record, Words, section, words};
use crate::tree::Message;
use crate::value::header_name;

section! {
    /// Files that are served without running code. Hidden files and targets of links
    /// outside the folder are never served. A `name.br` or `name.gz` next to a file is
    /// served to clients that accept it.
    pub struct Assets "assets" {
        /// The folder.
        pub folder: PathBuf = text(FOLDER).required().like(&["./public"]),
        /// The name in `env` with which code requests files:
        /// `env.ASSETS.fetch(request)`.
        pub binding: Option<String> = text(VARIABLE).like(&["ASSETS"]),
        /// The file served for a folder.
        pub index: String = text(TEXT).default("index.html") => index,
        /// A file in the folder that is served for missing files: the page of a
        /// single-page application, or an error page. If the instance has code,
        /// requests for missing files go to the code instead.
        pub fallback: Option<String> = text(TEXT).like(&["index.html", "404.html"]) => fallback,
        /// 200 or 404.
        pub fallback_status: StatusCode = integer(200, 404)
            .derived("404 where the file is named 404, else 200") => fallback_status,
        /// Whether files or code handle a request first, if there are both. With
        /// `code_first`, files are served only through `binding`.
        pub order: AssetsOrder = Key::of(AssetsOrder::KIND).default("files_first"),
        /// Compresses text for clients that accept it.
        pub compress: bool = boolean().default("true"),
        /// `cache-control` of every file.
        pub cache_control: Option<HeaderValue> = text(TEXT).like(&["\"public, max-age=3600\""]),
        /// Additional headers of every file.
        pub headers: HeaderMap = map(HEADER, &Kind::Text(TEXT))
            .like(&["{x-content-type-options: nosniff}"]) => headers,
    }
}

words! {
    /// Who is asked first where there is code too.
    pub enum AssetsOrder {
        /// Files, and code for paths that match no file.
        FilesFirst = "files_first",
        /// Code alone, which asks for files.
        CodeFirst = "code_first",
    }
}

/// A folder alone, or a section.
pub(super) fn assets(fields: &Fields<'_>) -> Option<Assets> {
    let found = fields.find("assets")?;
    if found.node.map().is_some() {
        return Some(Assets::read(&fields.own_section("assets")));
    }
    let node = found.node.under("folder", found.at);
    let found = Located {
        node: &node,
        ..found
    };
    Assets::parse(fields.reader(), &found, &Assets::KIND)
}

fn index(section: &Fields<'_>) -> String {
    let file: String = section.get("index");
    inside(section, "index", &file);
    file
}

fn fallback(section: &Fields<'_>) -> Option<String> {
    let file: Option<String> = section.get("fallback");
    if let Some(file) = &file {
        inside(section, "fallback", file);
    }
    file
}

/// Reports a path that leads out of the folder.
fn inside(section: &Fields<'_>, key: &str, file: &str) {
    let inside = Path::new(file)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !inside {
        let what = format!("{:?} is not a file in the folder of assets", shown(file));
        let allowed = "a path within the folder, as index.html or pages/404.html";
        section.refuse(key, Message::allowed(what, allowed));
    }
}

fn fallback_status(section: &Fields<'_>) -> StatusCode {
    let status: Option<u16> = section.get("fallback_status");
    if status.is_some() && !section.has("fallback") {
        let what = "without `fallback` there is no page whose status this could be";
        section.warn("fallback_status", what.to_owned());
    }
    match status {
        Some(200) => StatusCode::OK,
        Some(404) => StatusCode::NOT_FOUND,
        Some(_) => {
            let what = "a page that stands for others comes with 200 or 404";
            section.refuse("fallback_status", Message::allowed(what, "200 or 404"));
            StatusCode::OK
        }
        None => {
            let file: Option<String> = section.get("fallback");
            let is_404 = |file: String| {
                Path::new(&file)
                    .file_stem()
                    .is_some_and(|stem| stem == "404")
            };
            if file.is_some_and(is_404) {
                StatusCode::NOT_FOUND
            } else {
                StatusCode::OK
            }
        }
    }
}

fn headers(section: &Fields<'_>) -> HeaderMap {
    // The gateway sets what belongs to the message itself.
    const OURS: [HeaderName; 8] = [
        header::CONNECTION,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::DATE,
        header::ETAG,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    let reader = section.reader();
    let mut out = HeaderMap::new();
    for (name, found) in section.entries("headers") {
        let value = HeaderValue::parse(reader, &found, &Kind::Text(TEXT));
        match (header_name(name), value) {
            (Ok(name), _) if OURS.contains(&name) => {
                reader.refuse(&found, format!("{name} is set by the gateway"));
            }
            (Ok(name), Some(value)) => {
                out.insert(name, value);
            }
            (Err(message), _) => reader.refuse(&found, message),
            // The value was reported where it was read.
            (Ok(_), None) => {}
        }
    }
    out
}
