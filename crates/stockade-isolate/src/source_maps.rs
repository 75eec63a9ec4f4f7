//! Source maps of what an isolate runs, by the names that stacks have for it.
//!
//! Those that the runtime makes itself are kept as they are. One that a bundle brings along is decoded when it
//! is first needed, which for most is never.

use std::cell::RefCell;
use std::collections::HashMap;

use deno_core::sourcemap::{DecodedMap, SourceMap, decode_data_url};
use deno_core::url::Url;

/// Where a guest's modules seem to lie.
pub(crate) const BASE: &str = "guest:///";

/// Comments that name the source map of a script (ECMA-426).
pub(crate) const COMMENT: &str = "//# sourceMappingURL=";

enum Map {
    Made(Vec<u8>),
    /// A `data:` URL of a script.
    Inline(String),
}

/// See the module.
#[derive(Default)]
pub(crate) struct SourceMaps(RefCell<HashMap<String, Map>>);

impl SourceMaps {
    /// Keeps a map that the runtime made.
    pub(crate) fn add(&self, name: String, map: Vec<u8>) {
        self.0.borrow_mut().insert(name, Map::Made(map));
    }

    /// Keeps the map that a script names, if it brings it along.
    pub(crate) fn add_inline(&self, name: String, url: String) {
        if url.starts_with("data:") {
            self.0.borrow_mut().insert(name, Map::Inline(url));
        }
    }

    /// The map as JSON text, its sources as URLs.
    pub(crate) fn get(&self, name: &str) -> Option<Vec<u8>> {
        match self.0.borrow().get(name)? {
            Map::Made(map) => Some(map.clone()),
            Map::Inline(url) => {
                let mut text = Vec::new();
                placed(decode(url)?).to_writer(&mut text).ok()?;
                Some(text)
            }
        }
    }
}

/// The map in a `data:` URL.
pub(crate) fn decode(url: &str) -> Option<SourceMap> {
    match decode_data_url(url) {
        Ok(DecodedMap::Regular(map)) => Some(map),
        _ => None,
    }
}

/// The `data:` URL of the map that a source brings along.
pub(crate) fn inline_map(code: &str) -> Option<&str> {
    let (_, url) = code.rsplit_once(COMMENT)?;
    let url = url.split_whitespace().next()?;
    url.starts_with("data:").then_some(url)
}

/// Places the sources of a script's map among the guest's modules: a script itself has no place.
fn placed(mut map: SourceMap) -> SourceMap {
    let Ok(base) = Url::parse(BASE) else {
        return map;
    };
    for index in 0..map.get_source_count() {
        if let Some(source) = map.get_source(index)
            && let Ok(url) = base.join(source)
        {
            map.set_source(index, url.as_str());
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"version":3,"sources":["../src/a.ts"],"names":[],"mappings":"AAEA"}`
    const URL: &str = "data:application/json;base64,eyJ2ZXJzaW9uIjozLCJzb3VyY2VzIjpbIi4uL3NyYy9hLnRzIl0sIm5hbWVzIjpbXSwibWFwcGluZ3MiOiJBQUVBIn0=";

    #[test]
    fn map_of_a_script_names_its_sources_among_the_modules() {
        let maps = SourceMaps::default();
        maps.add_inline("execute#1".to_owned(), URL.to_owned());
        let map = SourceMap::from_slice(&maps.get("execute#1").unwrap()).unwrap();
        let token = map.lookup_token(0, 0).unwrap();
        assert_eq!(token.get_source(), Some("guest:///src/a.ts"));
        assert_eq!(token.get_src_line(), 2);
    }

    #[test]
    fn map_that_lies_elsewhere_or_is_none_is_not_kept() {
        let maps = SourceMaps::default();
        maps.add_inline("a".to_owned(), "a.js.map".to_owned());
        maps.add_inline(
            "b".to_owned(),
            "data:application/json;base64,AAAA".to_owned(),
        );
        assert_eq!(maps.get("a"), None);
        assert_eq!(maps.get("b"), None);
    }

    #[test]
    fn inline_map_is_that_of_the_last_comment() {
        let code = format!("x;\n{COMMENT}old\ny;\n{COMMENT}{URL}\n");
        assert_eq!(inline_map(&code), Some(URL));
        assert_eq!(inline_map(&format!("{COMMENT}a.map")), None);
        assert_eq!(inline_map("x"), None);
    }
}
