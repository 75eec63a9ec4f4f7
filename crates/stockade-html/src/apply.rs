//! What the second parser does in the place of the handlers: their changes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use lol_html::html_content::{Comment, Doctype, DocumentEnd, Element, EndTag, TextChunk};
use lol_html::{DocumentContentHandlers, ElementContentHandlers, HandlerResult};

use crate::change::Change;
use crate::error::HtmlError;
use crate::handlers::Handlers;

/// What one visit came to.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Whether it is the first visit of an element that may have an end tag.
    pub(crate) expects_end_tag: bool,
    pub(crate) changes: Vec<Change>,
}

/// What the visits of a piece came to, in their order.
pub(crate) type Outcomes = Rc<RefCell<VecDeque<Outcome>>>;

fn next(outcomes: &Outcomes) -> Result<Outcome, HtmlError> {
    let next = outcomes.borrow_mut().pop_front();
    next.ok_or(HtmlError::Disagreement)
}

/// Makes the changes of the next visit, of which there is no end tag to be expected.
fn apply(
    outcomes: &Outcomes,
    mut change: impl FnMut(Change) -> Result<(), HtmlError>,
) -> HandlerResult {
    let outcome = next(outcomes)?;
    for each in outcome.changes {
        change(each)?;
    }
    Ok(())
}

fn element(outcomes: &Outcomes, element: &mut Element<'_, '_>) -> HandlerResult {
    let outcome = next(outcomes)?;
    if outcome.expects_end_tag {
        let outcomes = Rc::clone(outcomes);
        element.on_end_tag(Box::new(move |tag: &mut EndTag<'_>| {
            apply(&outcomes, |change| change.of_end_tag(tag))
        }))?;
    }
    for change in outcome.changes {
        change.of_element(element)?;
    }
    Ok(())
}

/// The second parser's functions in the place of a handler object with a selector.
pub(crate) fn of_elements(
    outcomes: &Outcomes,
    handlers: &Handlers,
) -> ElementContentHandlers<'static> {
    let mut content = ElementContentHandlers::default();
    if handlers.element {
        let outcomes = Rc::clone(outcomes);
        content = content.element(move |found: &mut Element<'_, '_>| element(&outcomes, found));
    }
    if handlers.comments {
        let outcomes = Rc::clone(outcomes);
        content = content.comments(move |found: &mut Comment<'_>| {
            apply(&outcomes, |change| change.of_comment(found))
        });
    }
    if handlers.text {
        let outcomes = Rc::clone(outcomes);
        content = content.text(move |found: &mut TextChunk<'_>| {
            apply(&outcomes, |change| change.of_text(found))
        });
    }
    content
}

/// The second parser's functions in the place of a handler object for the document.
pub(crate) fn of_document(
    outcomes: &Outcomes,
    handlers: &Handlers,
) -> DocumentContentHandlers<'static> {
    let mut content = DocumentContentHandlers::default();
    if handlers.doctype {
        let outcomes = Rc::clone(outcomes);
        content = content
            .doctype(move |_: &mut Doctype<'_>| apply(&outcomes, |_| Err(HtmlError::Disagreement)));
    }
    if handlers.comments {
        let outcomes = Rc::clone(outcomes);
        content = content.comments(move |found: &mut Comment<'_>| {
            apply(&outcomes, |change| change.of_comment(found))
        });
    }
    if handlers.text {
        let outcomes = Rc::clone(outcomes);
        content = content.text(move |found: &mut TextChunk<'_>| {
            apply(&outcomes, |change| change.of_text(found))
        });
    }
    if handlers.end {
        let outcomes = Rc::clone(outcomes);
        content = content.end(move |found: &mut DocumentEnd<'_>| {
            apply(&outcomes, |change| change.of_end(found))
        });
    }
    content
}
