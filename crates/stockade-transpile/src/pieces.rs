//! Text that is made of pieces of another one, with a source map that follows them.

use std::borrow::Cow;

use oxc::span::Span;
use oxc_sourcemap::{SourceMap, Token};

#[derive(Debug)]
enum Piece {
    Text(Cow<'static, str>),
    /// Bytes of the other text. No two pieces overlap.
    Source(Span),
}

/// Pieces in their order.
#[derive(Debug, Default)]
pub(crate) struct Pieces(Vec<Piece>);

/// Where a piece of the source went.
struct Moved {
    from: Span,
    to: usize,
    /// Where the text directly before it begins, which gets the place of the piece's beginning.
    text: Option<usize>,
}

impl Pieces {
    pub(crate) fn text(&mut self, text: impl Into<Cow<'static, str>>) {
        self.0.push(Piece::Text(text.into()));
    }

    pub(crate) fn source(&mut self, span: Span) {
        self.0.push(Piece::Source(span));
    }

    pub(crate) fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    /// The text of all pieces, and the source map of `source` for it.
    pub(crate) fn join<'m>(self, source: &str, map: SourceMap<'m>) -> (String, SourceMap<'m>) {
        let mut code = String::with_capacity(source.len() + 256);
        let mut moved = Vec::new();
        let mut before = None;
        for piece in self.0 {
            match piece {
                Piece::Text(text) => {
                    before = Some(code.len());
                    code.push_str(&text);
                }
                Piece::Source(span) => {
                    moved.push(Moved {
                        from: span,
                        to: code.len(),
                        text: before.take(),
                    });
                    let bytes = span.start as usize..span.end as usize;
                    code.push_str(source.get(bytes).unwrap_or_default());
                }
            }
        }
        let tokens = follow(source, &code, &mut moved, map.get_tokens());
        let mut parts = map.into_parts();
        parts.tokens = tokens.into();
        parts.token_chunks = None;
        (code, parts.into())
    }
}

/// The tokens of the pieces, at their new places.
fn follow(
    source: &str,
    code: &str,
    moved: &mut [Moved],
    tokens: impl Iterator<Item = Token>,
) -> Vec<Token> {
    moved.sort_by_key(|piece| piece.from.start);
    let mut cursor = Cursor::new(source);
    let mut placed: Vec<(usize, Token)> = Vec::new();
    let mut last = None;
    for token in tokens {
        let Some(byte) = cursor.byte_at(token.get_dst_line(), token.get_dst_col()) else {
            continue;
        };
        let index = moved.partition_point(|piece| piece.from.start as usize <= byte);
        let index = index.checked_sub(1);
        let Some(piece) = index.and_then(|index| moved.get(index)) else {
            continue;
        };
        if byte < piece.from.end as usize {
            // Tokens come in the order of the source: this is the first of its piece.
            if last != index {
                last = index;
                placed.extend(piece.text.map(|text| (text, token)));
            }
            placed.push((piece.to + (byte - piece.from.start as usize), token));
        }
    }
    placed.sort_by_key(|(byte, _)| *byte);
    let mut cursor = Cursor::new(code);
    let place = |(byte, token): (usize, Token)| {
        cursor.advance_to(byte);
        Token::new(
            cursor.line,
            cursor.column,
            token.get_src_line(),
            token.get_src_col(),
            token.get_source_id(),
            token.get_name_id(),
        )
    };
    placed.into_iter().map(place).collect()
}

/// Walks through a text once, in lines and UTF-16 columns, from 0.
struct Cursor<'t> {
    text: &'t str,
    byte: usize,
    line: u32,
    column: u32,
}

impl<'t> Cursor<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            text,
            byte: 0,
            line: 0,
            column: 0,
        }
    }

    /// Takes the next character; false at the end.
    fn step(&mut self) -> bool {
        let rest = self.text.get(self.byte..).unwrap_or_default();
        let mut chars = rest.chars();
        let Some(char) = chars.next() else {
            return false;
        };
        self.byte += char.len_utf8();
        match char {
            // The line feed after it ends the line.
            '\r' if chars.next() == Some('\n') => self.column += 1,
            '\n' | '\r' | '\u{2028}' | '\u{2029}' => {
                self.line += 1;
                self.column = 0;
            }
            char => self.column += char.len_utf16() as u32,
        }
        true
    }

    fn advance_to(&mut self, byte: usize) {
        while self.byte < byte && self.step() {}
    }

    /// The byte at a place; places must be asked for in their order. `None` where the text has no such place.
    fn byte_at(&mut self, line: u32, column: u32) -> Option<usize> {
        while (self.line, self.column) < (line, column) {
            if !self.step() {
                return None;
            }
        }
        (self.line == line).then_some(self.byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn join_moves_tokens_with_their_pieces() {
        let source = "one\ntwö 😀three\n";
        let three = source.find("three").unwrap() as u32;
        let tokens = vec![
            Token::new(0, 0, 10, 0, Some(0), None),
            Token::new(1, 0, 11, 0, Some(0), None),
            Token::new(1, 6, 11, 7, Some(0), None),
        ];
        let sources = vec!["a.ts".into()];
        let map = SourceMap::new(None, vec![], None, sources, vec![], tokens.into(), None);
        let mut pieces = Pieces::default();
        pieces.text("😀(");
        pieces.source(Span::new(three, three + 5));
        pieces.text(");\n");
        pieces.source(Span::new(0, 3));
        let (code, map) = pieces.join(source, map);
        assert_eq!(code, "😀(three);\none");
        let places = map.get_tokens().map(|token| {
            let to = (token.get_dst_line(), token.get_dst_col());
            (to, (token.get_src_line(), token.get_src_col()))
        });
        // The token of `twö` is in no piece.
        let expected = [
            ((0, 0), (11, 7)),
            ((0, 3), (11, 7)),
            ((0, 8), (10, 0)),
            ((1, 0), (10, 0)),
        ];
        assert_eq!(places.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn cursor_counts_every_line_terminator_once() {
        let mut cursor = Cursor::new("a\r\nb\rc\u{2028}d\ne");
        assert_eq!(cursor.byte_at(4, 0), Some(11));
        assert_eq!(cursor.byte_at(4, 9), None);
    }
}
