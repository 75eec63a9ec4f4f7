//! Tokens that are skipped as a whole: strings, templates, numbers, regular expressions.

use super::Refused;
use super::brackets::Bracket;
use super::scan::{Before, Scan, is_word};

impl Scan<'_> {
    /// A string; one without end makes the scan blind.
    pub(super) fn string(&mut self, quote: u8) -> Result<(), Refused> {
        let mut end = self.at + 1;
        loop {
            match self.bytes.get(end) {
                None | Some(b'\n' | b'\r') => {
                    self.go_blind();
                    return Ok(());
                }
                Some(b'\\') if self.bytes.get(end + 1..end + 3) == Some(b"\r\n") => end += 3,
                Some(b'\\') => end += 2,
                Some(byte) if *byte == quote => break,
                Some(_) => end += 1,
            }
        }
        self.count(None)?;
        self.at = end + 1;
        self.done(Before::Operand);
        Ok(())
    }

    /// The rest of a template from `at`, up to its end or a `${`.
    pub(super) fn template(&mut self) -> Result<(), Refused> {
        let start = self.at;
        loop {
            match (self.byte(0), self.byte(1)) {
                _ if self.at >= self.bytes.len() => {
                    self.at = start;
                    self.go_blind();
                    return Ok(());
                }
                (b'\\', _) => self.at += 2,
                (b'`', _) => {
                    self.at += 1;
                    self.done(Before::Operand);
                    return Ok(());
                }
                (b'$', b'{') => {
                    self.count(None)?;
                    self.at += 2;
                    self.brackets.open(Bracket::Substitution, false);
                    self.done(Before::Operator);
                    return Ok(());
                }
                _ => self.at += 1,
            }
        }
    }

    pub(super) fn number(&mut self) -> Result<(), Refused> {
        self.count(None)?;
        let digits = |scan: &mut Self, digit: fn(&u8) -> bool| {
            while digit(&scan.byte(0)) || scan.byte(0) == b'_' {
                scan.at += 1;
            }
        };
        if self.byte(0) == b'0' && matches!(self.byte(1) | 0x20, b'x' | b'o' | b'b') {
            self.at += 2;
            digits(self, u8::is_ascii_hexdigit);
        } else {
            digits(self, u8::is_ascii_digit);
            if self.byte(0) == b'.' {
                self.at += 1;
                digits(self, u8::is_ascii_digit);
            }
            if self.byte(0) | 0x20 == b'e' {
                self.at += 1 + usize::from(matches!(self.byte(1), b'+' | b'-'));
                digits(self, u8::is_ascii_digit);
            }
        }
        self.at += usize::from(self.byte(0) == b'n');
        if is_word(self.byte(0)) {
            // `3in a` is an error that a parser may forgive.
            self.go_blind();
        }
        self.done(Before::Operand);
        Ok(())
    }

    /// Where the regular expression at `at` ends, flags aside.
    pub(super) fn regex_end(&self) -> Option<usize> {
        let mut index = self.at + 1;
        let mut class = false;
        loop {
            if self.line_end(index).is_some() {
                return None;
            }
            match self.bytes.get(index)? {
                b'\\' if self.line_end(index + 1).is_some() => return None,
                b'\\' => index += 1,
                b'[' => class = true,
                b']' => class = false,
                b'/' if !class => return Some(index + 1),
                _ => {}
            }
            index += 1;
        }
    }
}
