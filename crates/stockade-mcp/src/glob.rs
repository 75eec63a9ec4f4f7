//! Patterns of tool names: `*` is any text, `?` is one character, anything else is itself.

/// A pattern of tool names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// Makes the pattern of a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether the whole `name` matches. The time is at most the product of both lengths.
    pub fn matches(&self, name: &str) -> bool {
        let pattern: Vec<char> = self.0.chars().collect();
        let name: Vec<char> = name.chars().collect();
        let (mut at, mut in_name) = (0, 0);
        // Where to go on if what follows the last `*` does not match: after the star, and with one more character in it.
        let mut retry: Option<(usize, usize)> = None;
        while in_name < name.len() {
            match pattern.get(at) {
                Some('*') => {
                    retry = Some((at + 1, in_name));
                    at += 1;
                }
                Some(&letter) if letter == '?' || letter == name[in_name] => {
                    at += 1;
                    in_name += 1;
                }
                _ => {
                    let Some((after_star, from)) = retry else {
                        return false;
                    };
                    retry = Some((after_star, from + 1));
                    (at, in_name) = (after_star, from + 1);
                }
            }
        }
        pattern[at..].iter().all(|letter| *letter == '*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn glob_matches_the_whole_name() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "anything", true),
            ("get_*", "get_issue", true),
            ("get_*", "forget_issue", false),
            ("*_issue", "get_issue", true),
            ("*_issue", "get_issues", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("get_?", "get_a", true),
            ("get_?", "get_", false),
            ("", "", true),
            ("", "a", false),
            ("[a]", "a", false),
        ] {
            assert_eq!(
                Glob::new(pattern).matches(name),
                expected,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn glob_with_many_stars_ends_soon() {
        let name = "a".repeat(1000);
        assert!(!Glob::new("a*".repeat(500) + "b").matches(&name));
    }
}
