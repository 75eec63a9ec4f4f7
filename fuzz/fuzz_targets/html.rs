//! HTML of any server, rewritten by handlers that a guest wrote: no panic, and both parsers come to the same visits.
#![no_main]

use stockade_html::{Change, Handlers, HtmlError, Rewriter, Token, bounds::MAX_PIECE_BYTES};

libfuzzer_sys::fuzz_target!(|input: (String, Vec<Vec<u8>>)| {
    let (selector, pieces) = input;
    let elements = Handlers { selector: Some(selector), element: true, comments: true, text: true, ..Handlers::default() };
    let all = Handlers { selector: Some("*".to_owned()), element: true, ..Handlers::default() };
    let document = Handlers { comments: true, text: true, doctype: true, end: true, ..Handlers::default() };
    let Ok(mut rewriter) = Rewriter::new(&[elements, document, all], "utf-8") else { return };
    let write = |rewriter: &mut Rewriter, read: Result<(), HtmlError>| {
        read?;
        let mut element = false;
        while let Some(visit) = rewriter.next_visit() {
            if let Some(token) = visit.token {
                element = matches!(token, Token::Element { .. });
            }
            if element {
                rewriter.change(Change::SetAttribute("a".to_owned(), "b".to_owned()))?;
            }
        }
        let written = rewriter.write();
        assert!(!matches!(written, Err(HtmlError::Disagreement)));
        written
    };
    for piece in &pieces {
        let read = rewriter.read(&piece[..piece.len().min(MAX_PIECE_BYTES)]);
        if write(&mut rewriter, read).is_err() {
            return;
        }
    }
    let end = rewriter.end();
    let _ = write(&mut rewriter, end);
});
