//! Ops of `HTMLRewriter`. What they hold counts against the isolate's memory, as all that ops allocate.

use std::collections::HashMap;

use deno_core::{OpState, op2};
use deno_error::JsErrorBox;
use serde::Serialize;
use stockade_html::{Change, Handlers, HtmlError, Rewriter, Token, check_selector};

/// Flags of a handler object, as `js/html_rewriter.js` sets them.
const ELEMENT: u32 = 1;
const COMMENTS: u32 = 2;
const TEXT: u32 = 4;
const DOCTYPE: u32 = 8;
const END: u32 = 16;

/// The documents that are being rewritten, by the numbers that the script has for them.
#[derive(Default)]
pub(crate) struct Documents {
    open: HashMap<u32, Document>,
    last: u32,
}

struct Document {
    rewriter: Rewriter,
    /// Written, and not taken yet.
    output: Vec<u8>,
}

fn wrong(error: &HtmlError) -> JsErrorBox {
    JsErrorBox::type_error(format!("Parser error: {error}"))
}

fn document(state: &mut OpState, id: u32) -> Result<&mut Document, JsErrorBox> {
    let documents = state.borrow_mut::<Documents>();
    let found = documents.open.get_mut(&id);
    found.ok_or_else(|| JsErrorBox::type_error("the document is not being rewritten any more"))
}

#[op2(fast)]
pub(crate) fn op_html_check_selector(#[string] selector: &str) -> Result<(), JsErrorBox> {
    check_selector(selector).map_err(|error| wrong(&error))
}

/// Begins to rewrite a document, and gives the number for it. `selectors` and `wanted` have one entry for each handler
/// object; `null` in the place of a selector is the document.
#[op2]
#[smi]
pub(crate) fn op_html_open(
    state: &mut OpState,
    #[serde] selectors: Vec<Option<String>>,
    #[serde] wanted: Vec<u32>,
    #[string] charset: &str,
) -> Result<u32, JsErrorBox> {
    let handlers: Vec<_> = selectors
        .into_iter()
        .zip(wanted)
        .map(|(selector, wanted)| Handlers {
            selector,
            element: wanted & ELEMENT != 0,
            comments: wanted & COMMENTS != 0,
            text: wanted & TEXT != 0,
            doctype: wanted & DOCTYPE != 0,
            end: wanted & END != 0,
        })
        .collect();
    let rewriter = Rewriter::new(&handlers, charset).map_err(|error| wrong(&error))?;
    let documents = state.borrow_mut::<Documents>();
    documents.last = documents.last.wrapping_add(1);
    let document = Document {
        rewriter,
        output: Vec::new(),
    };
    documents.open.insert(documents.last, document);
    Ok(documents.last)
}

/// Ends the rewriting of a document; doing so twice is fine.
#[op2(fast)]
pub(crate) fn op_html_close(state: &mut OpState, #[smi] id: u32) {
    state.borrow_mut::<Documents>().open.remove(&id);
}

#[op2(fast)]
pub(crate) fn op_html_read(
    state: &mut OpState,
    #[smi] id: u32,
    #[buffer] piece: &[u8],
) -> Result<(), JsErrorBox> {
    let read = document(state, id)?.rewriter.read(piece);
    read.map_err(|error| wrong(&error))
}

#[op2(fast)]
pub(crate) fn op_html_read_end(state: &mut OpState, #[smi] id: u32) -> Result<(), JsErrorBox> {
    let read = document(state, id)?.rewriter.end();
    read.map_err(|error| wrong(&error))
}

/// One call of a handler.
#[derive(Serialize)]
struct Found {
    /// The number of the handler object; -1 for the functions that wait for an end tag.
    handler: i64,
    /// `None` where it is the token of the call before.
    token: Option<FoundToken>,
}

#[derive(Serialize)]
#[serde(
    tag = "kind",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
enum FoundToken {
    Element {
        element: u64,
        name: String,
        namespace: &'static str,
        attributes: Vec<(String, String)>,
        has_content: bool,
    },
    EndTag {
        element: u64,
        name: String,
    },
    Text {
        text: String,
        last: bool,
    },
    Comment {
        text: String,
    },
    Doctype {
        name: Option<String>,
        public_id: Option<String>,
        system_id: Option<String>,
    },
    End,
}

impl From<Token> for FoundToken {
    fn from(token: Token) -> Self {
        match token {
            Token::Element {
                element,
                name,
                namespace,
                attributes,
                has_content,
            } => Self::Element {
                element,
                name,
                namespace,
                attributes,
                has_content,
            },
            Token::EndTag { element, name } => Self::EndTag { element, name },
            Token::Text { text, last } => Self::Text { text, last },
            Token::Comment { text } => Self::Comment { text },
            Token::Doctype {
                name,
                public_id,
                system_id,
            } => Self::Doctype {
                name,
                public_id,
                system_id,
            },
            Token::End => Self::End,
        }
    }
}

/// The next call of a handler; `null` when what was read can be written.
#[op2]
#[serde]
pub(crate) fn op_html_next(
    state: &mut OpState,
    #[smi] id: u32,
) -> Result<Option<Found>, JsErrorBox> {
    let visit = document(state, id)?.rewriter.next_visit();
    Ok(visit.map(|visit| Found {
        handler: visit.handler.map_or(-1, |number| number as i64),
        token: visit.token.map(FoundToken::from),
    }))
}

/// Notes a change of the token. The kinds are numbered as in `js/html_rewriter.js`; `a` and `b` are the content, the new
/// name, or the name and the value of an attribute.
#[op2(fast)]
pub(crate) fn op_html_change(
    state: &mut OpState,
    #[smi] id: u32,
    #[smi] kind: u32,
    #[string] a: String,
    #[string] b: String,
    html: bool,
) -> Result<(), JsErrorBox> {
    let change = match kind {
        0 => Change::Before { content: a, html },
        1 => Change::After { content: a, html },
        2 => Change::Prepend { content: a, html },
        3 => Change::Append { content: a, html },
        4 => Change::Replace { content: a, html },
        5 => Change::SetInnerContent { content: a, html },
        6 => Change::Remove,
        7 => Change::RemoveAndKeepContent,
        8 => Change::SetName(a),
        9 => Change::SetAttribute(a, b),
        10 => Change::RemoveAttribute(a),
        11 => Change::SetText(a),
        _ => return Err(JsErrorBox::type_error("there is no such change")),
    };
    let changed = document(state, id)?.rewriter.change(change);
    changed.map_err(|error| wrong(&error))
}

/// Writes what was read, and gives the number of bytes that [`op_html_take`] has then.
#[op2(fast)]
#[smi]
pub(crate) fn op_html_write(state: &mut OpState, #[smi] id: u32) -> Result<u32, JsErrorBox> {
    let document = document(state, id)?;
    document.output = document.rewriter.write().map_err(|error| wrong(&error))?;
    let length = u32::try_from(document.output.len());
    length.map_err(|_| JsErrorBox::range_error("the document grows too much at once"))
}

/// Copies what was written into the realm's own memory.
#[op2(fast)]
pub(crate) fn op_html_take(
    state: &mut OpState,
    #[smi] id: u32,
    #[buffer] target: &mut [u8],
) -> Result<(), JsErrorBox> {
    let output = std::mem::take(&mut document(state, id)?.output);
    if output.len() != target.len() {
        return Err(JsErrorBox::type_error("so much was not written"));
    }
    target.copy_from_slice(&output);
    Ok(())
}
