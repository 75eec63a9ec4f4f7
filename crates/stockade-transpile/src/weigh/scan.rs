//! Splits a source into tokens, exactly as far as brackets and statement ends depend on it.
//!
//! Strings, comments, templates and regular expressions hide brackets. Whether `/` begins a regular
//! expression follows from the token before it in most cases; where it does not, and both readings
//! are possible and differ, the scan goes blind. The rules hold in any state of the parser, including
//! its trial runs, so they ask only what could be read, not what is right.

use super::brackets::{Bracket, Brackets};
use super::{Refused, Weight};

/// What the token before means for a `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// An expression begins here: a regular expression.
    Operator,
    /// An expression has ended, on the same line: a division.
    Operand,
    /// Either.
    Either,
}

/// Keywords that an expression follows.
const BEFORE_EXPRESSION: &[&str] = &[
    "return",
    "throw",
    "delete",
    "typeof",
    "in",
    "instanceof",
    "new",
    "case",
    "do",
    "else",
    "extends",
    "default",
];

/// Words that an expression or the end of one may follow.
const BEFORE_EITHER: &[&str] = &[
    "yield", "await", "of", "void", "break", "continue", "debugger", "async",
];

/// Words that a type may follow, so that a `(` after them need not be a call.
const BEFORE_TYPE: &[&str] = &[
    "as",
    "satisfies",
    "keyof",
    "is",
    "readonly",
    "unique",
    "infer",
    "implements",
    "asserts",
    "abstract",
    "out",
    "type",
    "import",
    "get",
    "set",
    "static",
    "declare",
    "accessor",
    "const",
];

/// Keywords whose `( … )` ends no expression.
const CONTROL: &[&str] = &["if", "for", "while", "with", "await"];

/// Words that may stand before a parameter.
const MODIFIERS: &[&str] = &[
    "abstract",
    "accessor",
    "async",
    "const",
    "declare",
    "default",
    "export",
    "in",
    "out",
    "override",
    "private",
    "protected",
    "public",
    "readonly",
    "static",
];

pub(super) struct Scan<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) source: &'a str,
    pub(super) at: usize,
    pub(super) brackets: Brackets,
    before: Before,
    /// The token before is a word: where it begins and ends.
    word: Option<(usize, usize)>,
    /// The token before is `.` or `?.`, so that a keyword is a property's name.
    after_dot: bool,
    /// The token before, if it is punctuation: its last byte.
    punctuation: u8,
    /// A line ended since the token before.
    new_line: bool,
    jsx: bool,
}

/// Measures a source; see the module above.
pub(super) fn scan(source: &str, jsx: bool) -> Result<Weight, Refused> {
    let mut scan = Scan {
        bytes: source.as_bytes(),
        source,
        at: 0,
        brackets: Brackets::new(),
        before: Before::Operator,
        word: None,
        after_dot: false,
        punctuation: 0,
        new_line: false,
        jsx,
    };
    if jsx {
        // Text between tags may hold any bracket and quote.
        scan.go_blind();
    }
    if source.starts_with("#!") {
        scan.skip_line();
    }
    while scan.at < scan.bytes.len() {
        scan.step()?;
    }
    Ok(scan.brackets.weight())
}

impl Scan<'_> {
    pub(super) fn byte(&self, offset: usize) -> u8 {
        self.bytes.get(self.at + offset).copied().unwrap_or(0)
    }

    fn starts_with(&self, text: &str) -> bool {
        self.bytes
            .get(self.at..)
            .is_some_and(|rest| rest.starts_with(text.as_bytes()))
    }

    /// The length of a line terminator at an index, if there is one.
    pub(super) fn line_end(&self, index: usize) -> Option<usize> {
        match self.bytes.get(index..)? {
            [b'\n' | b'\r', ..] => Some(1),
            [0xe2, 0x80, 0xa8 | 0xa9, ..] => Some(3),
            _ => None,
        }
    }

    fn step(&mut self) -> Result<(), Refused> {
        if let Some(length) = self.line_end(self.at) {
            self.new_line = true;
            self.at += length;
            return Ok(());
        }
        match self.byte(0) {
            b' ' | b'\t' | 0x0b | 0x0c => {
                self.at += 1;
                Ok(())
            }
            b'/' => self.slash(),
            _ if self.brackets.is_blind() => self.blind_token(),
            quote @ (b'"' | b'\'') => self.string(quote),
            b'`' => {
                self.count(None)?;
                self.at += 1;
                self.template()
            }
            b'0'..=b'9' => self.number(),
            b'.' if self.byte(1).is_ascii_digit() => self.number(),
            0x80.. if !self.starts_name() => Ok(()),
            byte if is_word(byte) => self.word(),
            _ => self.punctuation(),
        }
    }

    /// Whether the character outside ASCII at `at` belongs to a name. Skips it otherwise.
    fn starts_name(&mut self) -> bool {
        let char = self
            .source
            .get(self.at..)
            .and_then(|rest| rest.chars().next());
        let char = char.unwrap_or(char::REPLACEMENT_CHARACTER);
        if char.is_alphanumeric() {
            return true;
        }
        if !char.is_whitespace() && char != '\u{feff}' {
            // An error, white space by another standard's tables, or the odd mark in a name.
            self.go_blind();
        }
        self.at += char.len_utf8();
        false
    }

    pub(super) fn count(&mut self, word: Option<&str>) -> Result<(), Refused> {
        self.brackets.token(self.at, word)
    }

    pub(super) fn go_blind(&mut self) {
        self.brackets.go_blind(self.at);
    }

    /// What has been read ends an operand, an operator, or may be either.
    pub(super) fn done(&mut self, before: Before) {
        self.before = before;
        self.word = None;
        self.after_dot = false;
        self.punctuation = 0;
        self.new_line = false;
    }

    fn skip_line(&mut self) {
        while self.at < self.bytes.len() && self.line_end(self.at).is_none() {
            self.at += 1;
        }
    }

    /// In blind text there may be code inside what looks like a string, and the reverse.
    fn blind_token(&mut self) -> Result<(), Refused> {
        match self.byte(0) {
            b'"' | b'\'' | b'`' => {
                self.count(None)?;
                self.at += 1;
                self.done(Before::Either);
                Ok(())
            }
            0x80.. if !self.starts_name() => Ok(()),
            byte if is_word(byte) => self.word(),
            _ => self.punctuation(),
        }
    }

    fn word(&mut self) -> Result<(), Refused> {
        let start = self.at;
        loop {
            match self.byte(0) {
                0x80.. => {
                    let char = self
                        .source
                        .get(self.at..)
                        .and_then(|rest| rest.chars().next());
                    match char {
                        Some(char) if char.is_alphanumeric() => self.at += char.len_utf8(),
                        _ => break,
                    }
                }
                b'\\' if self.byte(1) == b'u' && self.byte(2) == b'{' => {
                    self.at += 3;
                    while self.byte(0).is_ascii_hexdigit() {
                        self.at += 1;
                    }
                    self.at += usize::from(self.byte(0) == b'}');
                }
                byte if is_word(byte) => self.at += 1,
                _ => break,
            }
        }
        let (end, after_dot) = (self.at, self.after_dot);
        let text = self.source.get(start..end).unwrap_or("\\");
        self.brackets.token(start, Some(text))?;
        if text == "implements" {
            self.brackets.keep_item();
        }
        let escaped = text.contains('\\');
        if (text == "infer" && !after_dot) || escaped {
            // `infer A extends B` parses B twice; an escape may spell that word.
            self.brackets.double();
        }
        self.done(if after_dot {
            Before::Operand
        } else if BEFORE_EXPRESSION.contains(&text) {
            Before::Operator
        } else if escaped || BEFORE_EITHER.contains(&text) {
            Before::Either
        } else {
            Before::Operand
        });
        if !after_dot {
            self.word = Some((start, end));
        }
        Ok(())
    }

    fn punctuation(&mut self) -> Result<(), Refused> {
        if self.starts_with("<!--") || self.starts_with("-->") {
            // A comment in scripts, operators in modules.
            self.go_blind();
        }
        let byte = self.byte(0);
        let after_dot = byte == b'#' || byte == b'.' && self.punctuation != b'.';
        self.count(None)?;
        let (at, operand) = (self.at, self.before != Before::Operator);
        let before = match byte {
            b'(' => {
                self.open_paren();
                Before::Operator
            }
            b'[' => {
                self.brackets.open(Bracket::Square, false);
                Before::Operator
            }
            b'{' => {
                let list = self.opens_list();
                self.brackets.open(Bracket::Curly { list }, false);
                Before::Operator
            }
            b')' | b']' | b'}' => match self.brackets.close(at, byte) {
                Some(Bracket::Substitution) => {
                    self.at += 1;
                    return self.template();
                }
                Some(Bracket::Paren { control: false } | Bracket::Square) => Before::Operand,
                _ => Before::Either,
            },
            b';' => {
                self.brackets.semicolon();
                Before::Operator
            }
            b',' => {
                self.brackets.comma();
                Before::Operator
            }
            b'<' => {
                // After `>` stands no operand but a tag, and `</` ends an element.
                let end = self.byte(1) == b'/' && !matches!(self.byte(2), b'/' | b'*');
                let tag = self.jsx && (self.punctuation == b'>' || end);
                self.brackets.angle(operand && !tag);
                Before::Operator
            }
            b'>' if self.punctuation == b'=' && self.at > 0 && self.bytes[self.at - 1] == b'=' => {
                Before::Operator
            }
            b'>' => Before::Either,
            b'+' | b'-' if self.punctuation == byte => Before::Either,
            b'!' if operand => Before::Either,
            _ => Before::Operator,
        };
        self.done(before);
        // `...` begins an expression, and after `#` stands a name.
        self.after_dot = after_dot;
        self.punctuation = byte;
        self.at += 1;
        Ok(())
    }

    fn open_paren(&mut self) {
        let word = self
            .word
            .and_then(|(start, end)| self.source.get(start..end));
        let control = word.is_some_and(|word| CONTROL.contains(&word));
        let typed = word.is_some_and(|word| BEFORE_TYPE.contains(&word));
        let called = self.before == Before::Operand && !control && !typed;
        if !called {
            self.brackets.retry();
        }
        self.brackets.open(
            Bracket::Paren { control },
            !called && self.pattern_follows(),
        );
    }

    /// In types, `([` and `({` may begin parameters or a type in parentheses, and both are tried;
    /// modifiers may stand between. A character outside plain ASCII may be white space.
    fn pattern_follows(&self) -> bool {
        let rest = self.source.get(self.at + 1..).unwrap_or_default();
        let rest = rest.trim_ascii_start();
        match rest.bytes().next() {
            Some(b'[' | b'{' | b'/' | b'\\' | b'@' | 0x0b | 0x80..) => true,
            Some(byte) if is_word(byte) => {
                let end = rest
                    .bytes()
                    .position(|byte| !is_word(byte))
                    .unwrap_or(rest.len());
                rest.get(..end)
                    .is_some_and(|word| MODIFIERS.contains(&word))
            }
            _ => false,
        }
    }

    /// Whether a `{` opens items that commas separate. In doubt it does not.
    fn opens_list(&self) -> bool {
        match self.punctuation {
            b'=' | b'(' | b',' | b'[' | b'?' | b'&' | b'|' | b'+' | b'<' => true,
            b':' => self.brackets.is_in_list(),
            _ => self
                .word
                .is_some_and(|(start, end)| self.source.get(start..end) == Some("return")),
        }
    }

    fn slash(&mut self) -> Result<(), Refused> {
        match self.byte(1) {
            // What is blind may read a comment as something else.
            b'/' | b'*' if self.brackets.is_blind() => self.punctuation(),
            b'/' => {
                self.skip_line();
                Ok(())
            }
            b'*' => {
                let end = self
                    .source
                    .get(self.at + 2..)
                    .and_then(|rest| rest.find("*/"));
                let Some(end) = end else {
                    self.go_blind();
                    return Ok(());
                };
                let body = self.at + 2..self.at + 2 + end;
                self.new_line |= body.clone().any(|index| self.line_end(index).is_some());
                self.at = body.end + 2;
                Ok(())
            }
            _ if self.brackets.is_blind() => self.punctuation(),
            _ => {
                let before = if self.new_line && self.before == Before::Operand {
                    Before::Either
                } else {
                    self.before
                };
                match (before, self.regex_end()) {
                    (Before::Operand, _) => self.punctuation(),
                    (Before::Operator, Some(end)) => {
                        self.count(None)?;
                        self.at = end;
                        // Flags, right or wrong.
                        while is_word(self.byte(0)) {
                            self.at += 1;
                        }
                        self.done(Before::Operand);
                        Ok(())
                    }
                    // The parser stops at a regular expression without end.
                    (Before::Either, None) => self.punctuation(),
                    _ => {
                        self.go_blind();
                        Ok(())
                    }
                }
            }
        }
    }
}

/// A byte of a name or number; all characters outside ASCII count as such.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'\\' | 0x80..)
}
