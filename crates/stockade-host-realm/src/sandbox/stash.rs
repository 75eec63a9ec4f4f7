//! What an isolate sent before its host had a handler for it: as text, in order, within bounds.

use std::collections::{HashMap, VecDeque};

use stockade_protocol::Payload;

const MAX_STASH_MESSAGES: usize = 1024;
const MAX_STASH_BYTES: usize = 8 << 20;

#[derive(Default)]
pub(super) struct Stash {
    by_event: HashMap<String, VecDeque<Payload>>,
    messages: usize,
    bytes: usize,
    lost: bool,
}

impl Stash {
    /// Keeps one; gives a sentence the first time there is no room.
    pub(super) fn put(&mut self, event: String, data: Payload) -> Option<String> {
        let size = data.kept_size();
        if self.messages >= MAX_STASH_MESSAGES || self.bytes.saturating_add(size) > MAX_STASH_BYTES
        {
            if std::mem::replace(&mut self.lost, true) {
                return None;
            }
            return Some(format!(
                "messages of the event '{event}' are lost: nothing handles them, and {} messages ({} bytes) without a handler wait already",
                self.messages, self.bytes
            ));
        }
        self.messages += 1;
        self.bytes += size;
        self.by_event.entry(event).or_default().push_back(data);
        None
    }

    pub(super) fn has(&self, event: &str) -> bool {
        self.by_event.contains_key(event)
    }

    /// The oldest that was kept for an event.
    pub(super) fn take(&mut self, event: &str) -> Option<Payload> {
        let list = self.by_event.get_mut(event)?;
        let data = list.pop_front()?;
        if list.is_empty() {
            self.by_event.remove(event);
        }
        self.messages -= 1;
        self.bytes -= data.kept_size();
        Some(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(length: usize) -> Payload {
        Payload::from_json("1".repeat(length))
    }

    #[test]
    fn stash_full_of_messages_says_so_once_and_has_room_again_when_one_is_taken() {
        let mut stash = Stash::default();
        for _ in 0..MAX_STASH_MESSAGES {
            assert_eq!(stash.put("a".to_owned(), text(1)), None);
        }
        let sentence = stash.put("b".to_owned(), text(1)).unwrap();
        assert!(
            sentence.contains("1024 messages (1024 bytes)"),
            "{sentence}"
        );
        assert_eq!(stash.put("b".to_owned(), text(1)), None);
        assert!(!stash.has("b"));
        assert!(stash.take("a").is_some());
        assert_eq!(stash.put("b".to_owned(), text(1)), None);
        assert!(stash.has("b"));
    }

    #[test]
    fn stash_counts_empty_byte_arrays() {
        let mut stash = Stash::default();
        let empty = Payload {
            json: String::new(),
            bytes: vec![Vec::new(); 16_384],
            marked: true,
        };
        let kept = (0..100)
            .take_while(|_| stash.put("a".to_owned(), empty.clone()).is_none())
            .count();
        assert_eq!(kept, MAX_STASH_BYTES / empty.kept_size());
    }

    #[test]
    fn stash_gives_messages_of_an_event_in_order() {
        let mut stash = Stash::default();
        for length in 1..=3 {
            stash.put("a".to_owned(), text(length));
            stash.put("b".to_owned(), text(9));
        }
        let taken: Vec<_> = std::iter::from_fn(|| stash.take("a"))
            .map(|data| data.json.len())
            .collect();
        assert_eq!(taken, [1, 2, 3]);
        assert!(!stash.has("a") && stash.has("b"));
    }
}
