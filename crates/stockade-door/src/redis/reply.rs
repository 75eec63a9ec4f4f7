//! Replies of the server, in RESP2 and RESP3, followed without being stored.

/// Longest line: a simple string, an error, a number.
const MAX_REPLY_LINE: usize = 32 << 10;
/// Longest string at the beginning of a message of a subscription.
const MAX_PUSH_NAME: usize = 16;
/// Deepest nesting.
const MAX_REPLY_DEPTH: usize = 32;

/// What begins at the next byte.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// More bytes are needed to see that.
    More,
    /// `line` bytes and then `body` bytes, which are an element or the beginning of one.
    Element { line: usize, body: u64 },
    /// It does not belong here.
    Forged,
}

/// Follows replies.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    /// Elements that are still to come, of each array around the next one.
    left: Vec<u64>,
    /// The letter of the reply that passes.
    pub(crate) kind: u8,
    /// The first string of the reply, if it is short.
    pub(crate) name: Vec<u8>,
    /// The last number of the reply.
    pub(crate) number: u64,
    is_first: bool,
}

impl Replies {
    /// Whether the next byte begins a reply.
    pub(crate) fn is_at_boundary(&self) -> bool {
        self.left.is_empty()
    }

    /// Goes on by one element, which begins `bytes`.
    pub(crate) fn step(&mut self, bytes: &[u8]) -> Step {
        let start = &bytes[..bytes.len().min(MAX_REPLY_LINE)];
        let Some(end) = start.windows(2).position(|pair| pair == b"\r\n") else {
            return if start.len() == MAX_REPLY_LINE {
                Step::Forged
            } else {
                Step::More
            };
        };
        let (Some(&kind), line) = (start.first(), end + 2) else {
            return Step::Forged;
        };
        let is_reply = self.is_at_boundary();
        let text = start.get(1..end).unwrap_or_default();
        let text = str::from_utf8(text).unwrap_or_default();
        // `-1` stands for null in RESP2.
        let count: Option<u64> = if text == "-1" {
            Some(0)
        } else {
            text.parse().ok()
        };
        let (body, elements) = match (kind, count) {
            (b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(', _) => (0, 0),
            (b'$' | b'=' | b'!', Some(_)) if text == "-1" => (0, 0),
            (b'$' | b'=' | b'!', Some(length)) => (length.saturating_add(2), 0),
            (b'*' | b'~' | b'>', Some(count)) => (0, count),
            (b'%', Some(count)) => (0, count.saturating_mul(2)),
            _ => return Step::Forged,
        };
        // The name of a message is needed before anything of it passes.
        if !is_reply && self.is_first && kind == b'$' && body <= MAX_PUSH_NAME as u64 {
            match bytes.get(line..line + body.saturating_sub(2) as usize) {
                Some(name) => self.name = name.to_vec(),
                None => return Step::More,
            }
        }
        if is_reply {
            (self.kind, self.number) = (kind, 0);
            self.name.clear();
        }
        if kind == b':' {
            self.number = count.unwrap_or(0);
        }
        self.is_first = is_reply && elements > 0;
        if elements > 0 {
            if self.left.len() == MAX_REPLY_DEPTH {
                return Step::Forged;
            }
            self.left.push(elements);
        } else {
            self.complete();
        }
        Step::Element { line, body }
    }

    /// An element is complete, and so are the arrays that it ends.
    fn complete(&mut self) {
        while let Some(left) = self.left.last_mut() {
            *left -= 1;
            if *left > 0 {
                return;
            }
            self.left.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The replies in `bytes`: letter, name, number.
    fn check(bytes: &[u8], expected: &[(u8, &str, u64)]) {
        let (mut replies, mut seen, mut rest) = (Replies::default(), Vec::new(), bytes);
        while !rest.is_empty() {
            let Step::Element { line, body } = replies.step(rest) else {
                panic!("{}", rest.escape_ascii());
            };
            rest = &rest[line + body as usize..];
            if replies.is_at_boundary() {
                let name = String::from_utf8(replies.name.clone()).unwrap();
                seen.push((replies.kind, name, replies.number));
            }
        }
        let expected: Vec<_> = expected
            .iter()
            .map(|(a, b, c)| (*a, (*b).to_owned(), *c))
            .collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn replies_are_followed() {
        check(
            b"+OK\r\n-ERR no\r\n:7\r\n$-1\r\n*-1\r\n*0\r\n$0\r\n\r\n_\r\n",
            &[
                (b'+', "", 0),
                (b'-', "", 0),
                (b':', "", 7),
                (b'$', "", 0),
                (b'*', "", 0),
                (b'*', "", 0),
                (b'$', "", 0),
                (b'_', "", 0),
            ],
        );
        check(b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n>3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\n\r\n\r\n", &[
            (b'*', "subscribe", 1), (b'>', "message", 0),
        ]);
        check(
            b"*2\r\n*2\r\n:1\r\n%1\r\n+a\r\n~1\r\n#t\r\n*1\r\n,1.5\r\n+after\r\n",
            &[(b'*', "", 1), (b'+', "", 0)],
        );
    }

    #[test]
    fn replies_are_waited_for_and_forged_ones_are_refused() {
        for bytes in [&b"+O"[..], b"$5", b"*1\r"] {
            assert_eq!(Replies::default().step(bytes), Step::More);
        }
        let mut replies = Replies::default();
        replies.step(b"*1\r\n");
        assert_eq!(replies.step(b"$7\r\nmess"), Step::More);
        for bytes in [
            &b"?\r\n"[..],
            b"$x\r\n",
            b"$-2\r\n",
            b"|1\r\n",
            b"\r\n",
            &[b'+'; MAX_REPLY_LINE],
        ] {
            assert_eq!(
                Replies::default().step(bytes),
                Step::Forged,
                "{}",
                bytes.escape_ascii()
            );
        }
        let mut replies = Replies::default();
        let steps: Vec<Step> = (0..=MAX_REPLY_DEPTH)
            .map(|_| replies.step(b"*1\r\n"))
            .collect();
        assert_eq!(steps.last(), Some(&Step::Forged));
        assert_eq!(
            steps.iter().filter(|step| **step == Step::Forged).count(),
            1
        );
    }
}
