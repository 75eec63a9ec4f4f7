//! What the first parser leaves for the handlers.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use lol_html::html_content::{Comment, Doctype, Element, EndTag, TextChunk};
use lol_html::{DocumentContentHandlers, ElementContentHandlers, HandlerResult};

use crate::handlers::Handlers;
use crate::token::{Token, Visit};

/// The kinds of tokens of which several handlers may be called with the same one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Element,
    Text,
    Comment,
}

/// The visits that the first parser found and that are still to be made.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) visits: VecDeque<Visit>,
    /// The token of the last visit.
    last: Option<(Kind, Range<usize>)>,
    elements: u64,
}

pub(crate) type SharedRecord = Rc<RefCell<Record>>;

impl Record {
    /// Notes a visit, and its token if it is not that of the visit before.
    fn note(
        &mut self,
        handler: usize,
        kind: Kind,
        place: Range<usize>,
        token: impl FnOnce(&mut Self) -> Token,
    ) {
        let place = Some((kind, place));
        let token = (self.last != place).then(|| token(self));
        self.last = place;
        self.push(Some(handler), token);
    }

    /// Notes a visit of a token of which there are no other visits.
    fn note_alone(&mut self, handler: Option<usize>, token: Token) {
        self.last = None;
        self.push(handler, Some(token));
    }

    fn push(&mut self, handler: Option<usize>, token: Option<Token>) {
        self.visits.push_back(Visit { handler, token });
    }
}

fn element(record: &SharedRecord, handler: usize, element: &mut Element<'_, '_>) -> HandlerResult {
    let place = element.source_location().bytes();
    let mut number = None;
    record
        .borrow_mut()
        .note(handler, Kind::Element, place, |record| {
            record.elements += 1;
            number = Some(record.elements);
            let attributes = element.attributes().iter();
            Token::Element {
                element: record.elements,
                name: element.tag_name(),
                namespace: element.namespace_uri(),
                attributes: attributes.map(|each| (each.name(), each.value())).collect(),
                has_content: element.can_have_content(),
            }
        });
    match number {
        Some(number) if element.can_have_content() => {
            let record = Rc::clone(record);
            element.on_end_tag(Box::new(move |tag| {
                end_tag(&record, number, tag);
                Ok(())
            }))
        }
        _ => Ok(()),
    }
}

fn end_tag(record: &SharedRecord, element: u64, tag: &EndTag<'_>) {
    let name = tag.name();
    let token = Token::EndTag { element, name };
    record.borrow_mut().note_alone(None, token);
}

fn text(record: &SharedRecord, handler: usize, chunk: &TextChunk<'_>) {
    let place = chunk.source_location().bytes();
    record
        .borrow_mut()
        .note(handler, Kind::Text, place, |_| Token::Text {
            text: chunk.as_str().to_owned(),
            last: chunk.last_in_text_node(),
        });
}

fn comment(record: &SharedRecord, handler: usize, comment: &Comment<'_>) {
    let place = comment.source_location().bytes();
    record
        .borrow_mut()
        .note(handler, Kind::Comment, place, |_| Token::Comment {
            text: comment.text(),
        });
}

fn doctype(record: &SharedRecord, handler: usize, doctype: &Doctype<'_>) {
    let token = Token::Doctype {
        name: doctype.name(),
        public_id: doctype.public_id(),
        system_id: doctype.system_id(),
    };
    record.borrow_mut().note_alone(Some(handler), token);
}

/// The first parser's functions in the place of a handler object with a selector.
pub(crate) fn of_elements(
    record: &SharedRecord,
    number: usize,
    handlers: &Handlers,
) -> ElementContentHandlers<'static> {
    let mut content = ElementContentHandlers::default();
    if handlers.element {
        let record = Rc::clone(record);
        content =
            content.element(move |found: &mut Element<'_, '_>| element(&record, number, found));
    }
    if handlers.comments {
        let record = Rc::clone(record);
        content = content.comments(move |found: &mut Comment<'_>| {
            comment(&record, number, found);
            Ok(())
        });
    }
    if handlers.text {
        let record = Rc::clone(record);
        content = content.text(move |found: &mut TextChunk<'_>| {
            text(&record, number, found);
            Ok(())
        });
    }
    content
}

/// The first parser's functions in the place of a handler object for the document.
pub(crate) fn of_document(
    record: &SharedRecord,
    number: usize,
    handlers: &Handlers,
) -> DocumentContentHandlers<'static> {
    let mut content = DocumentContentHandlers::default();
    if handlers.doctype {
        let record = Rc::clone(record);
        content = content.doctype(move |found: &mut Doctype<'_>| {
            doctype(&record, number, found);
            Ok(())
        });
    }
    if handlers.comments {
        let record = Rc::clone(record);
        content = content.comments(move |found: &mut Comment<'_>| {
            comment(&record, number, found);
            Ok(())
        });
    }
    if handlers.text {
        let record = Rc::clone(record);
        content = content.text(move |found: &mut TextChunk<'_>| {
            text(&record, number, found);
            Ok(())
        });
    }
    if handlers.end {
        let record = Rc::clone(record);
        content = content.end(move |_: &mut lol_html::html_content::DocumentEnd<'_>| {
            record.borrow_mut().note_alone(Some(number), Token::End);
            Ok(())
        });
    }
    content
}
