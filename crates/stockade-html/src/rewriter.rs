//! One document on its way through both parsers.

use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;

use encoding_rs::Encoding;
use lol_html::{
    AsciiCompatibleEncoding, HtmlRewriter, MemorySettings, OutputSink, Selector, Settings,
};

use crate::apply::{self, Outcome, Outcomes};
use crate::bounds::{MAX_PARSER_BYTES, MAX_PIECE_BYTES};
use crate::change::Change;
use crate::error::HtmlError;
use crate::handlers::{Handlers, selectors};
use crate::record::{self, SharedRecord};
use crate::token::{Token, Visit};

/// Bytes that a parser holds from the start.
const PREALLOCATED_BYTES: usize = 1024;

/// Takes what the first parser writes: nothing of it is wanted.
struct Nowhere;

impl OutputSink for Nowhere {
    fn handle_chunk(&mut self, _: &[u8]) {}
}

/// Takes what the second parser writes.
struct Output(Rc<RefCell<Vec<u8>>>);

impl OutputSink for Output {
    fn handle_chunk(&mut self, chunk: &[u8]) {
        self.0.borrow_mut().extend_from_slice(chunk);
    }
}

/// Both parsers; they end together.
struct Parsers {
    first: HtmlRewriter<'static, Nowhere>,
    second: HtmlRewriter<'static, Output>,
}

/// What the second parser is to read once the handlers are done.
enum Unwritten {
    Nothing,
    Piece(Vec<u8>),
    /// The document's end, which the first parser has seen.
    End,
}

/// Rewrites one document: [`read`](Self::read) a piece, make each [`next`](Self::next) visit with its
/// [`change`](Self::change)s, then [`write`](Self::write).
pub struct Rewriter {
    /// `None` after an error and after the document's end.
    parsers: Option<Parsers>,
    encoding: &'static Encoding,
    record: SharedRecord,
    outcomes: Outcomes,
    output: Rc<RefCell<Vec<u8>>>,
    unwritten: Unwritten,
    /// The visit that is being made.
    current: Option<Outcome>,
}

impl Rewriter {
    /// Prepares a rewriter for one document in the encoding of this label, as `charset` has it.
    ///
    /// # Errors
    /// When the encoding is unknown or has tags that are not ASCII, or when a selector is wrong or above a bound.
    pub fn new(handlers: &[Handlers], charset: &str) -> Result<Self, HtmlError> {
        let encoding = Encoding::for_label(charset.as_bytes()).ok_or(HtmlError::UnknownEncoding)?;
        let compatible =
            AsciiCompatibleEncoding::new(encoding).ok_or(HtmlError::UnsupportedEncoding)?;
        let selectors = selectors(handlers)?;
        let (record, outcomes) = (SharedRecord::default(), Outcomes::default());
        let mut first = settings(compatible);
        let mut second = settings(compatible);
        for (number, (handlers, selector)) in handlers.iter().zip(selectors).enumerate() {
            if let Some(selector) = selector {
                let selector: Cow<'static, Selector> = Cow::Owned(selector);
                let recorded = record::of_elements(&record, number, handlers);
                let applied = apply::of_elements(&outcomes, handlers);
                first = first.append_element_content_handler((selector.clone(), recorded));
                second = second.append_element_content_handler((selector, applied));
            } else {
                let recorded = record::of_document(&record, number, handlers);
                let applied = apply::of_document(&outcomes, handlers);
                first = first.append_document_content_handler(recorded);
                second = second.append_document_content_handler(applied);
            }
        }
        let output = Rc::default();
        let parsers = Parsers {
            first: HtmlRewriter::new(first, Nowhere),
            second: HtmlRewriter::new(second, Output(Rc::clone(&output))),
        };
        Ok(Self {
            parsers: Some(parsers),
            encoding,
            record,
            outcomes,
            output,
            unwritten: Unwritten::Nothing,
            current: None,
        })
    }

    /// Reads the next piece of the document.
    ///
    /// # Errors
    /// When the document is ambiguous or needs too much memory; when the piece is longer than
    /// [`MAX_PIECE_BYTES`]; when what was read before is not written. The rewriter can then not be used any more.
    pub fn read(&mut self, piece: &[u8]) -> Result<(), HtmlError> {
        let mut parsers = self.take()?;
        if piece.len() > MAX_PIECE_BYTES {
            return Err(HtmlError::State("the piece is too long"));
        }
        parsers.first.write(piece)?;
        self.unwritten = Unwritten::Piece(piece.to_vec());
        self.parsers = Some(parsers);
        Ok(())
    }

    /// Reads the document's end.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn end(&mut self) -> Result<(), HtmlError> {
        let Parsers { first, second } = self.take()?;
        first.end()?;
        self.unwritten = Unwritten::End;
        // In the place of the first parser, which is at its end and gone.
        let first = HtmlRewriter::new(Settings::new(), Nowhere);
        self.parsers = Some(Parsers { first, second });
        Ok(())
    }

    /// The parsers, if everything before is written. They are put back where nothing fails.
    fn take(&mut self) -> Result<Parsers, HtmlError> {
        let parsers = self.parsers.take();
        if self.current.is_some() || !matches!(self.unwritten, Unwritten::Nothing) {
            return Err(HtmlError::State("what was read before is not written yet"));
        }
        parsers.ok_or(HtmlError::State("it has failed or is at its end"))
    }

    /// The next visit; the one before is over with it. `None` when what was read is to be written.
    pub fn next_visit(&mut self) -> Option<Visit> {
        self.settle();
        let visit = self.record.borrow_mut().visits.pop_front()?;
        let expects_end_tag = matches!(
            visit.token,
            Some(Token::Element {
                has_content: true,
                ..
            })
        );
        self.current = Some(Outcome {
            expects_end_tag,
            changes: Vec::new(),
        });
        Some(visit)
    }

    fn settle(&mut self) {
        if let Some(outcome) = self.current.take() {
            self.outcomes.borrow_mut().push_back(outcome);
        }
    }

    /// Notes a change that the handler of the present visit makes.
    ///
    /// # Errors
    /// When there is no visit, or when a new name or text is none. The rewriter can still be used.
    pub fn change(&mut self, change: Change) -> Result<(), HtmlError> {
        change.check(self.encoding)?;
        let current = self.current.as_mut();
        let current = current.ok_or(HtmlError::State("no handler is being called"))?;
        current.changes.push(change);
        Ok(())
    }

    /// Writes what was read, with the changes of all visits.
    ///
    /// # Errors
    /// When there are visits to be made, and when the two parsers come to different visits. The rewriter can then not be
    /// used any more.
    pub fn write(&mut self) -> Result<Vec<u8>, HtmlError> {
        let parsers = self.parsers.take();
        self.settle();
        if !self.record.borrow().visits.is_empty() {
            return Err(HtmlError::State("there are visits to be made"));
        }
        let mut parsers = parsers.ok_or(HtmlError::State("it has failed or is at its end"))?;
        match std::mem::replace(&mut self.unwritten, Unwritten::Nothing) {
            Unwritten::Nothing => self.parsers = Some(parsers),
            Unwritten::Piece(piece) => {
                parsers.second.write(&piece)?;
                self.parsers = Some(parsers);
            }
            Unwritten::End => parsers.second.end()?,
        }
        if !self.outcomes.borrow().is_empty() {
            self.parsers = None;
            return Err(HtmlError::Disagreement);
        }
        Ok(std::mem::take(&mut *self.output.borrow_mut()))
    }
}

fn settings(encoding: AsciiCompatibleEncoding) -> Settings<'static, 'static> {
    let memory = MemorySettings::new()
        .with_preallocated_parsing_buffer_size(PREALLOCATED_BYTES)
        .with_max_allowed_memory_usage(MAX_PARSER_BYTES);
    Settings::new()
        .with_encoding(encoding)
        .with_memory_settings(memory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::{MAX_HANDLERS, MAX_SELECTOR_BYTES};

    fn elements(selector: &str) -> Handlers {
        Handlers {
            selector: Some(selector.to_owned()),
            element: true,
            ..Handlers::default()
        }
    }

    fn html(content: &str) -> (String, bool) {
        (content.to_owned(), true)
    }

    fn before(content: &str) -> Change {
        let (content, html) = html(content);
        Change::Before { content, html }
    }

    fn append(content: &str) -> Change {
        let (content, html) = html(content);
        Change::Append { content, html }
    }

    /// Rewrites a document in pieces of `size` bytes; `handle` gives the changes of each visit.
    fn rewrite(
        handlers: &[Handlers],
        document: &str,
        size: usize,
        mut handle: impl FnMut(&Visit) -> Vec<Change>,
    ) -> Result<String, HtmlError> {
        let mut rewriter = Rewriter::new(handlers, "utf-8")?;
        let mut output = Vec::new();
        let mut visits = |rewriter: &mut Rewriter| {
            while let Some(visit) = rewriter.next_visit() {
                for change in handle(&visit) {
                    rewriter.change(change)?;
                }
            }
            rewriter.write()
        };
        for piece in document.as_bytes().chunks(size) {
            rewriter.read(piece)?;
            output.extend(visits(&mut rewriter)?);
        }
        rewriter.end()?;
        output.extend(visits(&mut rewriter)?);
        Ok(String::from_utf8(output).unwrap())
    }

    const PAGE: &str = "<!DOCTYPE html><html><head><title>a &amp; b</title></head><body CLASS=x>\
        <p id=1>one<!-- c --><br><b>two</b></p><svg><a/></svg><p>three</body></html>";

    fn everything() -> [Handlers; 3] {
        let all = |selector: &str| Handlers {
            comments: true,
            text: true,
            ..elements(selector)
        };
        let document = Handlers {
            comments: true,
            text: true,
            doctype: true,
            end: true,
            ..Handlers::default()
        };
        [all("*"), document, all("p b, p")]
    }

    #[test]
    fn document_whose_handlers_change_nothing_stays_as_it_is() {
        for size in [1, 7, 1000] {
            let same = rewrite(&everything(), PAGE, size, |_| Vec::new()).unwrap();
            assert_eq!(same, PAGE, "{size}");
        }
    }

    #[test]
    fn pieces_of_any_size_give_the_same_visits_of_elements_and_the_same_output() {
        let run = |size| {
            let mut visits = Vec::new();
            let output = rewrite(&everything(), PAGE, size, |visit| match &visit.token {
                Some(Token::Element { name, .. }) => {
                    visits.push(name.clone());
                    let after = Change::After {
                        content: "<after>".to_owned(),
                        html: false,
                    };
                    vec![before("<before>"), append("<append>"), after]
                }
                Some(Token::EndTag { element, name }) => {
                    visits.push(format!("/{name} of {element}"));
                    vec![before("<end>")]
                }
                _ => Vec::new(),
            });
            (output.unwrap(), visits)
        };
        let (whole, visits) = run(1000);
        assert_eq!(run(1), (whole.clone(), visits.clone()));
        assert_eq!(run(5), (whole.clone(), visits));
        assert!(
            whole.contains("<before><b>two<append><end></b>&lt;after&gt;"),
            "{whole}"
        );
    }

    #[test]
    fn handlers_of_one_element_see_one_token_and_change_it_in_their_order() {
        let handlers = [elements("p"), elements("#a"), elements("nothing")];
        let mut seen = Vec::new();
        let output = rewrite(&handlers, "<p id=a title=t>x</p>", 100, |visit| {
            seen.push((visit.handler, visit.token.is_some()));
            match visit.handler {
                Some(0) => vec![
                    Change::SetAttribute("title".to_owned(), "\"u\"".to_owned()),
                    Change::SetName("div".to_owned()),
                ],
                Some(_) => vec![Change::RemoveAttribute("id".to_owned()), before("<hr>")],
                None => Vec::new(),
            }
        });
        assert_eq!(output.unwrap(), "<hr><div title=\"&quot;u&quot;\">x</div>");
        assert_eq!(
            seen,
            [(Some(0), true), (Some(1), false), (None, true)],
            "the last one is the end tag"
        );
    }

    #[test]
    fn content_of_a_removed_element_has_visits_that_change_nothing() {
        let output = rewrite(
            &[elements("a"), elements("b")],
            "1<a><b>2</b></a>3",
            3,
            |visit| match visit.handler {
                Some(0) => vec![Change::Remove],
                Some(_) => vec![before("<hr>")],
                None => Vec::new(),
            },
        );
        assert_eq!(output.unwrap(), "13");
    }

    #[test]
    fn end_tag_that_is_missing_has_no_visit_of_its_own() {
        let mut ends = Vec::new();
        let output = rewrite(&[elements("i")], "<i>1<i>2</i><p><i>3</p>", 100, |visit| {
            if let Some(Token::EndTag { element, name }) = &visit.token {
                ends.push((*element, name.clone()));
                return vec![before("!")];
            }
            Vec::new()
        });
        assert_eq!(output.unwrap(), "<i>1<i>2!</i><p><i>3!</p>");
        assert_eq!(ends, [(2, "i".to_owned()), (3, "p".to_owned())]);
    }

    #[test]
    fn change_that_is_none_is_refused_and_the_rewriter_goes_on() {
        let mut rewriter = Rewriter::new(&[elements("a")], "utf-8").unwrap();
        rewriter.read(b"<a>").unwrap();
        assert!(rewriter.change(Change::Remove).is_err(), "no visit");
        assert!(rewriter.next_visit().is_some());
        for name in ["", "1", "a b", "a>", "a/"] {
            let refused = rewriter.change(Change::SetName(name.to_owned()));
            assert!(matches!(refused, Err(HtmlError::TagName(_))), "{name:?}");
        }
        for name in ["", "a=", "a b", ">"] {
            let refused = rewriter.change(Change::SetAttribute(name.to_owned(), String::new()));
            assert!(
                matches!(refused, Err(HtmlError::AttributeName(_))),
                "{name:?}"
            );
        }
        let refused = rewriter.change(Change::SetText("-->".to_owned()));
        assert!(matches!(refused, Err(HtmlError::CommentText(_))));
        rewriter.change(Change::SetName("b".to_owned())).unwrap();
        assert!(rewriter.next_visit().is_none());
        assert_eq!(rewriter.write().unwrap(), b"<b>");
    }

    #[test]
    fn rewriter_that_is_used_out_of_order_fails_for_good() {
        let mut rewriter = Rewriter::new(&[elements("a")], "utf-8").unwrap();
        rewriter.read(b"<a>").unwrap();
        assert!(
            matches!(rewriter.write(), Err(HtmlError::State(_))),
            "a visit is left"
        );
        assert!(matches!(rewriter.read(b"x"), Err(HtmlError::State(_))));
        assert!(matches!(rewriter.end(), Err(HtmlError::State(_))));
        let mut rewriter = Rewriter::new(&[], "utf-8").unwrap();
        assert!(rewriter.read(&vec![b'a'; MAX_PIECE_BYTES + 1]).is_err());
        let mut rewriter = Rewriter::new(&[], "utf-8").unwrap();
        rewriter.end().unwrap();
        assert_eq!(rewriter.write().unwrap(), b"");
        assert!(
            matches!(rewriter.read(b"x"), Err(HtmlError::State(_))),
            "after the end"
        );
    }

    #[test]
    fn elements_within_elements_are_bounded() {
        let nested = |depth: usize| {
            let document = "<a>".repeat(depth);
            rewrite(
                &[elements("a a"), elements("a > a")],
                &document,
                MAX_PIECE_BYTES,
                |_| Vec::new(),
            )
        };
        assert_eq!(nested(1000).unwrap().len(), 3000);
        let error = nested(1_000_000).unwrap_err();
        assert!(error.to_string().contains("memory limit"), "{error}");
    }

    #[test]
    fn token_that_never_ends_is_bounded() {
        for begin in ["<a b=\"", "<!--", "<"] {
            let document = begin.to_owned() + &"x".repeat(8 << 20);
            let result = rewrite(&everything(), &document, MAX_PIECE_BYTES, |_| Vec::new());
            let error = result.err().map(|error| error.to_string());
            assert!(
                error.is_some_and(|error| error.contains("memory limit")),
                "{begin}"
            );
        }
    }

    #[test]
    fn selectors_are_bounded() {
        let depth = |depth: usize| "a:not(".repeat(depth) + "b" + &")".repeat(depth);
        assert!(Rewriter::new(&[elements(&depth(1))], "utf-8").is_ok());
        for selector in [
            depth(10_000),
            "(".repeat(MAX_SELECTOR_BYTES),
            "[".repeat(MAX_SELECTOR_BYTES),
            "a ".repeat(MAX_SELECTOR_BYTES),
            "a, ".repeat(100),
            "\u{0}\"".to_owned(),
            "a + b".to_owned(),
            String::new(),
        ] {
            let refused = Rewriter::new(&[elements(&selector)], "utf-8");
            assert!(refused.is_err(), "{}", &selector[..selector.len().min(20)]);
        }
        let many: Vec<_> = (0..=MAX_HANDLERS).map(|_| elements("a")).collect();
        assert!(Rewriter::new(&many, "utf-8").is_err());
        assert!(Rewriter::new(&many[1..], "utf-8").is_ok());
        let long = format!("a{}", ", a".repeat(600));
        let long: Vec<_> = (0..100).map(|_| elements(&long)).collect();
        assert!(Rewriter::new(&long, "utf-8").is_err());
    }

    #[test]
    fn charset_decides_how_content_is_written() {
        let mut rewriter = Rewriter::new(&[elements("a")], "Latin1").unwrap();
        rewriter.read(b"<a>\xe4</a>").unwrap();
        rewriter.next_visit().unwrap();
        rewriter.change(before("\u{e4}\u{20ac}\u{4e00}")).unwrap();
        while rewriter.next_visit().is_some() {}
        assert_eq!(rewriter.write().unwrap(), b"\xe4\x80&#19968;<a>\xe4</a>");
        let refused = |charset| Rewriter::new(&[], charset).err().unwrap().to_string();
        assert!(refused("none").contains("Unknown character encoding"));
        assert!(refused("utf-16").contains("ASCII-compatible"));
    }
}
