//! What a handler changes.

use encoding_rs::Encoding;
use lol_html::errors::{AttributeNameError, CommentTextError, TagNameError};
use lol_html::html_content::{Comment, ContentType, DocumentEnd, Element, EndTag, TextChunk};

use crate::error::HtmlError;

/// One change of a token. Content is text unless `html` says that it is markup.
#[derive(Debug)]
pub enum Change {
    /// Puts content before the token.
    Before {
        /// The content.
        content: String,
        /// Whether it is markup.
        html: bool,
    },
    /// Puts content after the token, or after an element's end tag.
    After {
        /// The content.
        content: String,
        /// Whether it is markup.
        html: bool,
    },
    /// Puts content behind an element's start tag.
    Prepend {
        /// The content.
        content: String,
        /// Whether it is markup.
        html: bool,
    },
    /// Puts content before an element's end tag, or at the document's end.
    Append {
        /// The content.
        content: String,
        /// Whether it is markup.
        html: bool,
    },
    /// Puts content in the token's place.
    Replace {
        /// The content.
        content: String,
        /// Whether it is markup.
        html: bool,
    },
    /// Puts content in the place of what an element contains.
    SetInnerContent {
        /// The content.
        content: String,
        /// Whether it is markup.
        html: bool,
    },
    /// Removes the token, and what it contains.
    Remove,
    /// Removes an element's tags.
    RemoveAndKeepContent,
    /// Renames a tag.
    SetName(String),
    /// Sets an attribute: its name and its value.
    SetAttribute(String, String),
    /// Removes an attribute.
    RemoveAttribute(String),
    /// Replaces the text of a comment.
    SetText(String),
}

const fn content_type(html: bool) -> ContentType {
    if html {
        ContentType::Html
    } else {
        ContentType::Text
    }
}

impl Change {
    /// Finds what the second parser would refuse, while the handler can still be given the error.
    pub(crate) fn check(&self, encoding: &'static Encoding) -> Result<(), HtmlError> {
        let unencodable = |text: &str| encoding.encode(text).2;
        match self {
            Self::SetName(name) => {
                match name.bytes().next() {
                    None => return Err(TagNameError::Empty.into()),
                    Some(first) if !first.is_ascii_alphabetic() => {
                        return Err(TagNameError::InvalidFirstCharacter.into());
                    }
                    Some(_) => {}
                }
                if let Some(char) = forbidden(name, b" \n\r\t\x0c/>") {
                    return Err(TagNameError::ForbiddenCharacter(char).into());
                }
                if unencodable(name) {
                    return Err(TagNameError::UnencodableCharacter.into());
                }
            }
            Self::SetAttribute(name, _) => {
                if name.is_empty() {
                    return Err(AttributeNameError::Empty.into());
                }
                if let Some(char) = forbidden(name, b" \n\r\t\x0c/>=") {
                    return Err(AttributeNameError::ForbiddenCharacter(char).into());
                }
                if unencodable(name) {
                    return Err(AttributeNameError::UnencodableCharacter.into());
                }
            }
            Self::SetText(text) => {
                if text.contains("-->") {
                    return Err(CommentTextError::CommentClosingSequence.into());
                }
                if unencodable(text) {
                    return Err(CommentTextError::UnencodableCharacter.into());
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn of_element(self, element: &mut Element<'_, '_>) -> Result<(), HtmlError> {
        match self {
            Self::Before { content, html } => element.before(&content, content_type(html)),
            Self::After { content, html } => element.after(&content, content_type(html)),
            Self::Prepend { content, html } => element.prepend(&content, content_type(html)),
            Self::Append { content, html } => element.append(&content, content_type(html)),
            Self::Replace { content, html } => element.replace(&content, content_type(html)),
            Self::SetInnerContent { content, html } => {
                element.set_inner_content(&content, content_type(html));
            }
            Self::Remove => element.remove(),
            Self::RemoveAndKeepContent => element.remove_and_keep_content(),
            Self::SetName(name) => element.set_tag_name(&name)?,
            Self::SetAttribute(name, value) => element.set_attribute(&name, &value)?,
            Self::RemoveAttribute(name) => element.remove_attribute(&name),
            Self::SetText(_) => return Err(HtmlError::Disagreement),
        }
        Ok(())
    }

    pub(crate) fn of_end_tag(self, tag: &mut EndTag<'_>) -> Result<(), HtmlError> {
        match self {
            Self::Before { content, html } => tag.before(&content, content_type(html)),
            Self::After { content, html } => tag.after(&content, content_type(html)),
            Self::Replace { content, html } => tag.replace(&content, content_type(html)),
            Self::Remove => tag.remove(),
            Self::SetName(name) => tag.set_name_str(name),
            _ => return Err(HtmlError::Disagreement),
        }
        Ok(())
    }

    pub(crate) fn of_text(self, text: &mut TextChunk<'_>) -> Result<(), HtmlError> {
        match self {
            Self::Before { content, html } => text.before(&content, content_type(html)),
            Self::After { content, html } => text.after(&content, content_type(html)),
            Self::Replace { content, html } => text.replace(&content, content_type(html)),
            Self::Remove => text.remove(),
            _ => return Err(HtmlError::Disagreement),
        }
        Ok(())
    }

    pub(crate) fn of_comment(self, comment: &mut Comment<'_>) -> Result<(), HtmlError> {
        match self {
            Self::Before { content, html } => comment.before(&content, content_type(html)),
            Self::After { content, html } => comment.after(&content, content_type(html)),
            Self::Replace { content, html } => comment.replace(&content, content_type(html)),
            Self::Remove => comment.remove(),
            Self::SetText(text) => comment.set_text(&text)?,
            _ => return Err(HtmlError::Disagreement),
        }
        Ok(())
    }

    pub(crate) fn of_end(self, end: &mut DocumentEnd<'_>) -> Result<(), HtmlError> {
        match self {
            Self::Append { content, html } => end.append(&content, content_type(html)),
            _ => return Err(HtmlError::Disagreement),
        }
        Ok(())
    }
}

/// The first of these characters in a name.
fn forbidden(name: &str, characters: &[u8]) -> Option<char> {
    let found = name.bytes().find(|byte| characters.contains(byte));
    found.map(char::from)
}
