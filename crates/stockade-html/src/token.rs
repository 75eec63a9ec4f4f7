//! What a handler is called with.

/// One call of a handler.
#[derive(Debug, PartialEq, Eq)]
pub struct Visit {
    /// The number of the handler object, in the order in which they were given; `None` for the functions that wait for the
    /// end tag of an element.
    pub handler: Option<usize>,
    /// What the handler is called with; `None` where it is the token of the visit before, as that visit left it.
    pub token: Option<Token>,
}

/// A part of a document, as it is written there.
#[derive(Debug, PartialEq, Eq)]
pub enum Token {
    /// A start tag.
    Element {
        /// The number by which its end tag names it.
        element: u64,
        /// In lower case.
        name: String,
        /// The URI of its namespace.
        namespace: &'static str,
        /// Names in lower case, and values with their character references.
        attributes: Vec<(String, String)>,
        /// Whether there can be an end tag, and something before it.
        has_content: bool,
    },
    /// The end tag that ends an element; it may be that of another one around it.
    EndTag {
        /// The number of the element.
        element: u64,
        /// In lower case.
        name: String,
    },
    /// A part of a text.
    Text {
        /// With its character references.
        text: String,
        /// Whether it is the last part; that one is empty.
        last: bool,
    },
    /// A comment.
    Comment {
        /// What is between `<!--` and `-->`.
        text: String,
    },
    /// A document type.
    Doctype {
        /// Its name, in lower case.
        name: Option<String>,
        /// Its public identifier.
        public_id: Option<String>,
        /// Its system identifier.
        system_id: Option<String>,
    },
    /// The end of the document.
    End,
}
