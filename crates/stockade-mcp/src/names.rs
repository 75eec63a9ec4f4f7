//! Names of servers and tools in JavaScript. What a server calls its tools is hostile: it may be no identifier, equal
//! another name, or be one that JavaScript treats specially.

use std::collections::HashSet;

/// Properties that promises, JSON and objects read by themselves. A tool with such a name gets a `_`.
const SPECIAL: [&str; 8] = [
    "then",
    "toJSON",
    "toString",
    "valueOf",
    "constructor",
    "prototype",
    "hasOwnProperty",
    "isPrototypeOf",
];

/// Gives names that are identifiers and unlike each other.
#[derive(Debug)]
pub(crate) struct Identifiers {
    /// Characters of one, without a number that makes it different.
    most: usize,
    taken: HashSet<String>,
}

impl Identifiers {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            taken: HashSet::new(),
        }
    }

    /// The identifier for `name`: the same text where that is one, otherwise with `_` for what is not allowed. The
    /// second name that would be equal gets `_2`.
    pub(crate) fn take(&mut self, name: &str) -> String {
        let base = identifier(name, self.most);
        let mut found = base.clone();
        let mut number = 1usize;
        while !self.taken.insert(found.clone()) {
            number += 1;
            found = format!("{base}_{number}");
        }
        found
    }
}

fn identifier(name: &str, most: usize) -> String {
    let mut text: String = name
        .chars()
        .take(most)
        .map(|letter| match letter {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '$' => letter,
            _ => '_',
        })
        .collect();
    if text.chars().all(|letter| letter == '_') {
        text = "unnamed".to_owned();
    }
    if text.starts_with("__") {
        text.remove(0);
    }
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        text.insert(0, '_');
    }
    if SPECIAL.contains(&text.as_str()) {
        text.push('_');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifier_of_hostile_names_is_harmless() {
        for (name, expected) in [
            ("create_issue", "create_issue"),
            ("create-issue", "create_issue"),
            ("repos/list", "repos_list"),
            ("2fa", "_2fa"),
            ("__proto__", "_proto__"),
            ("constructor", "constructor_"),
            ("then", "then_"),
            ("", "unnamed"),
            ("---", "unnamed"),
            ("日本", "unnamed"),
            ("a\u{202e}b", "a_b"),
            ("x(){};alert(1)//", "x_____alert_1___"),
        ] {
            assert_eq!(identifier(name, 100), expected, "{name:?}");
        }
        assert_eq!(identifier(&"a".repeat(10_000), 20).len(), 20);
    }

    #[test]
    fn names_that_would_be_equal_get_numbers() {
        let mut names = Identifiers::new(100);
        assert_eq!(names.take("a-b"), "a_b");
        assert_eq!(names.take("a_b"), "a_b_2");
        assert_eq!(names.take("a_b_2"), "a_b_2_2");
        assert_eq!(names.take("a.b"), "a_b_3");
    }
}
