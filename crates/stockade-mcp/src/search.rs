//! Finds tools by words: those of their names count more than those of their descriptions, and rare words count more
//! than frequent ones.

use std::collections::{HashMap, HashSet};

/// How much a word of the name counts for one of the description.
const IN_NAME: f64 = 4.0;
/// What a word is worth that only begins like the one of the query.
const PREFIX: f64 = 0.5;
/// Words of a description that are in the index.
const WORDS: usize = 200;

/// Words of a query that count. Each is compared with all words of all tools.
const QUERY_WORDS: usize = 32;

/// The words of some tools.
#[derive(Debug, Default)]
pub(crate) struct Index {
    tools: Vec<Words>,
    /// How many tools have the word.
    frequency: HashMap<String, usize>,
}

#[derive(Debug)]
struct Words {
    name: HashSet<String>,
    description: HashSet<String>,
}

impl Index {
    /// Makes the index of tools: the name with the server's, and the description of each.
    pub(crate) fn new<'a>(tools: impl Iterator<Item = (String, &'a str)>) -> Self {
        let mut index = Self::default();
        for (name, description) in tools {
            let words = Words {
                name: words(&name).collect(),
                description: words(description).take(WORDS).collect(),
            };
            for word in words.name.union(&words.description) {
                *index.frequency.entry(word.clone()).or_default() += 1;
            }
            index.tools.push(words);
        }
        index
    }

    /// The positions of the tools that have a word of the query, the best first. An empty query finds all.
    pub(crate) fn search(&self, query: &str) -> Vec<usize> {
        let query: HashSet<String> = words(query).take(QUERY_WORDS).collect();
        if query.is_empty() {
            return (0..self.tools.len()).collect();
        }
        let mut found: Vec<(f64, usize)> = self
            .tools
            .iter()
            .enumerate()
            .map(|(position, tool)| {
                (
                    query.iter().map(|word| self.score(tool, word)).sum(),
                    position,
                )
            })
            .filter(|(score, _)| *score > 0.0)
            .collect();
        found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        found.into_iter().map(|(_, position)| position).collect()
    }

    fn score(&self, tool: &Words, word: &str) -> f64 {
        let of = |words: &HashSet<String>| {
            if words.contains(word) {
                return self.rarity(word);
            }
            let begins = words.iter().find(|other| {
                word.len() > 2
                    && (other.starts_with(word)
                        || other.len() > 2 && word.starts_with(other.as_str()))
            });
            begins.map_or(0.0, |other| PREFIX * self.rarity(other))
        };
        IN_NAME * of(&tool.name) + of(&tool.description)
    }

    fn rarity(&self, word: &str) -> f64 {
        let all = self.tools.len() as f64;
        let with = self.frequency.get(word).copied().unwrap_or(0) as f64;
        (1.0 + all / (1.0 + with)).ln()
    }
}

/// The words of a text in lower case: `createIssue`, `create_issue` and `create issue` have the same ones.
fn words(text: &str) -> impl Iterator<Item = String> {
    let mut all = Vec::new();
    let mut word = String::new();
    let mut before_is_lower = false;
    for letter in text.chars() {
        if word.len() > 64
            || !letter.is_alphanumeric()
            || (letter.is_uppercase() && before_is_lower)
        {
            all.push(std::mem::take(&mut word));
        }
        if letter.is_alphanumeric() {
            word.extend(letter.to_lowercase());
        }
        before_is_lower = letter.is_lowercase();
    }
    all.push(word);
    all.into_iter().filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(query: &str) -> Vec<usize> {
        let tools = [
            ("github.create_issue", "Opens a new issue in a repository."),
            ("github.listIssues", "Lists the issues of a repository."),
            (
                "weather.forecast",
                "The weather of the next days in a city.",
            ),
            (
                "files.read",
                "Reads a file. Raises an issue if it is missing.",
            ),
        ];
        let named = tools.iter().map(|(name, text)| ((*name).to_owned(), *text));
        Index::new(named).search(query)
    }

    #[test]
    fn search_ranks_names_before_descriptions() {
        assert_eq!(search("create issue")[0], 0);
        assert_eq!(search("list issues")[0], 1);
        assert_eq!(search("weather in a city")[0], 2);
        assert_eq!(search("read file"), [3]);
        assert_eq!(*search("issue").last().unwrap(), 3);
    }

    #[test]
    fn search_without_words_finds_all_and_unknown_ones_none() {
        assert_eq!(search(" -- "), [0, 1, 2, 3]);
        assert!(search("spaceship").is_empty());
    }

    #[test]
    fn words_of_all_spellings_are_equal() {
        let of = |text| words(text).collect::<Vec<_>>();
        assert_eq!(of("createIssue"), ["create", "issue"]);
        assert_eq!(of("create_issue"), ["create", "issue"]);
        assert_eq!(of("HTTPServer2"), ["httpserver2"]);
        assert!(of(&"x".repeat(1000)).iter().all(|word| word.len() <= 65));
    }
}
