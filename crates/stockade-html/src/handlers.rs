//! Handler objects, and the selectors that say for what they are called.

use lol_html::Selector;

use crate::bounds::{
    MAX_HANDLERS, MAX_SELECTOR_BYTES, MAX_SELECTOR_PARENTHESES, MAX_SELECTORS_BYTES,
};
use crate::error::HtmlError;

/// What one handler object of a guest wants to be called for.
#[derive(Debug, Default)]
pub struct Handlers {
    /// For which elements; `None` for the whole document.
    pub selector: Option<String>,
    /// With start tags. Has no effect for the document.
    pub element: bool,
    /// With comments.
    pub comments: bool,
    /// With texts.
    pub text: bool,
    /// With the document type, for the document.
    pub doctype: bool,
    /// With the document's end, for the document.
    pub end: bool,
}

/// Checks that a selector is one that can be matched.
///
/// # Errors
/// With the reason, for the guest.
pub fn check_selector(selector: &str) -> Result<(), HtmlError> {
    parse(selector).map(drop)
}

/// The selectors of these handlers, parsed, where they have any.
pub(crate) fn selectors(handlers: &[Handlers]) -> Result<Vec<Option<Selector>>, HtmlError> {
    if handlers.len() > MAX_HANDLERS {
        return Err(HtmlError::TooMuch {
            what: format!("the number of handlers, {},", handlers.len()),
            limit: MAX_HANDLERS,
        });
    }
    let texts = || handlers.iter().filter_map(|each| each.selector.as_deref());
    let bytes = texts().map(str::len).sum::<usize>();
    if bytes > MAX_SELECTORS_BYTES {
        return Err(HtmlError::TooMuch {
            what: format!("the length of all selectors, {bytes} bytes,"),
            limit: MAX_SELECTORS_BYTES,
        });
    }
    let parsed = handlers
        .iter()
        .map(|each| each.selector.as_deref().map(parse).transpose());
    parsed.collect()
}

/// The bounds come first: the parser of selectors calls itself for what stands in parentheses.
fn parse(selector: &str) -> Result<Selector, HtmlError> {
    if selector.len() > MAX_SELECTOR_BYTES {
        return Err(HtmlError::TooMuch {
            what: format!("the length of a selector, {} bytes,", selector.len()),
            limit: MAX_SELECTOR_BYTES,
        });
    }
    let parentheses = selector.matches('(').count();
    if parentheses > MAX_SELECTOR_PARENTHESES {
        return Err(HtmlError::TooMuch {
            what: format!("the number of parentheses in a selector, {parentheses},"),
            limit: MAX_SELECTOR_PARENTHESES,
        });
    }
    Ok(selector.parse()?)
}
