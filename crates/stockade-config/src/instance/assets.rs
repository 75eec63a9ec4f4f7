//! Reads `assets`.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use super::Assets;
use crate::fields::Fields;
use crate::keys::{FOLDER, TEXT};
use crate::mistake::shown;
use crate::tree::Remark;

/// A folder alone, or a section.
pub(super) fn assets(fields: &Fields<'_>) -> Option<Assets> {
    let found = fields.find("assets")?;
    let short = found.node.map().is_none();
    let section = fields.own_section("assets");
    let folder = if short {
        fields.reader().path(&found, FOLDER)?
    } else {
        section.path("folder").unwrap_or_default()
    };
    let fallback = (!short).then(|| file(&section, "fallback")).flatten();
    let status = if short {
        None
    } else {
        section.maybe_whole("fallback_status")
    };
    if status.is_some_and(|status| status != 200 && status != 404) {
        let what = "a page that stands for others comes with 200 or 404";
        section.refuse("fallback_status", Remark::allowed(what, "200 or 404"));
    }
    if status.is_some() && !short && !section.has("fallback") {
        let what = "without `fallback` there is no page whose status this could be";
        section.warn("fallback_status", what.to_owned());
    }
    let usual = match &fallback {
        Some(file)
            if Path::new(file)
                .file_stem()
                .is_some_and(|stem| stem == "404") =>
        {
            404
        }
        _ => 200,
    };
    let words = [("files_first", false), ("code_first", true)];
    Some(Assets {
        folder,
        index: file_or(&section, "index", "index.html", short),
        fallback,
        fallback_status: status.and_then(|n| u16::try_from(n).ok()).unwrap_or(usual),
        binding: if short { None } else { section.text("binding") },
        code_first: !short && section.word("order", &words).unwrap_or_default(),
        compress: short || section.flag("compress"),
        cache_control: if short {
            None
        } else {
            header_value(&section, "cache_control")
        },
        headers: if short {
            BTreeMap::new()
        } else {
            headers(&section)
        },
    })
}

fn file_or(section: &Fields<'_>, name: &str, default: &str, short: bool) -> String {
    let given = if short { None } else { file(section, name) };
    given.unwrap_or_else(|| default.to_owned())
}

/// A file's path within the folder of assets.
fn file(section: &Fields<'_>, name: &str) -> Option<String> {
    let text = section.text(name)?;
    let inside = Path::new(&text)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !inside {
        let what = format!("{:?} is no file in the folder of assets", shown(&text));
        let allowed = "a path within the folder, as index.html or pages/404.html";
        section.refuse(name, Remark::allowed(what, allowed));
    }
    Some(text)
}

fn header_value(section: &Fields<'_>, name: &str) -> Option<String> {
    let value = section.text(name)?;
    if !value.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        let what = "a header's value is printable ASCII";
        section.refuse(name, Remark::allowed(what, TEXT.what));
    }
    Some(value)
}

fn headers(section: &Fields<'_>) -> BTreeMap<String, String> {
    // What belongs to the message itself is the gateway's to say.
    const OURS: [&str; 8] = [
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "date",
        "etag",
        "transfer-encoding",
        "upgrade",
    ];
    let mut out = BTreeMap::new();
    for (name, found) in section.entries("headers") {
        let name = name.to_ascii_lowercase();
        let reader = section.reader();
        let Some(value) = reader.text(&found, TEXT) else {
            continue;
        };
        if OURS.contains(&name.as_str()) {
            let what = format!("{name} is said by the gateway");
            reader.refuse(&found, what);
        } else if !value.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            let what = "a header's value is printable ASCII";
            reader.refuse(&found, Remark::allowed(what, TEXT.what));
        } else {
            out.insert(name, value.to_owned());
        }
    }
    out
}
