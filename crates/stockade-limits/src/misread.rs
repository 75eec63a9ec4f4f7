//! Why a text cannot be read, without what it contains: errors about files with secrets go to logs and terminals.

use std::fmt::Display;

/// What serde says before it quotes a value.
const QUOTES: [&str; 3] = ["invalid type: ", "invalid value: ", "unknown variant "];

/// What it says behind the value. A value may contain the same, so the last one counts.
const BEHIND: [&str; 2] = [", expected ", ", there are no variants"];

/// The message of an error of serde without the value that it quotes. The kind of the value, what is expected and the
/// place stay, and so do the names of keys.
///
/// `invalid type: string "secret", expected a map at line 3 column 5` becomes
/// `invalid type: string, expected a map at line 3 column 5`.
#[must_use]
pub fn without_value(error: &dyn Display) -> String {
    let message = error.to_string();
    let quote = QUOTES.iter().filter_map(|quote| {
        let (before, _) = message.split_once(quote)?;
        Some(before.len() + quote.len())
    });
    let Some((said, quoted)) = quote.min().and_then(|at| message.split_at_checked(at)) else {
        return message;
    };
    let behind = BEHIND.iter().filter_map(|behind| quoted.rfind(behind));
    let (value, behind) = quoted.split_at(behind.max().unwrap_or(quoted.len()));
    // The kind of the value stands before its quotes, or alone.
    let kind = value.split(['"', '`']).next().unwrap_or_default();
    format!("{}{behind}", format!("{said}{kind}").trim_end())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only errors are of interest")]
    struct Shape {
        map: Option<BTreeMap<String, String>>,
        number: Option<u8>,
        word: Option<Word>,
    }

    #[derive(Deserialize, Debug)]
    #[serde(rename_all = "lowercase")]
    enum Word {
        One,
    }

    #[test]
    fn value_is_left_out_and_its_kind_and_place_stay() {
        for (text, expected) in [
            (
                r#"{"map": "hunter2"}"#,
                "invalid type: string, expected a map at line 1 column 17",
            ),
            (
                r#"{"map": {"KEY": "hunter2, expected \" a` trick", "PIN": 4711}}"#,
                "invalid type: integer, expected a string at line 1 column 60",
            ),
            (
                r#"{"map": "hunter2, expected \" a` trick"}"#,
                "invalid type: string, expected a map at line 1 column 39",
            ),
            (
                r#"{"number": 4711}"#,
                "invalid value: integer, expected u8 at line 1 column 15",
            ),
            (
                r#"{"word": "hunter2"}"#,
                "unknown variant, expected `one` at line 1 column 18",
            ),
            (
                r#"{"map": null, "number": [4711]}"#,
                "invalid type: sequence, expected u8 at line 1 column 24",
            ),
            (
                r#"{"mpa": "hunter2"}"#,
                "unknown field `mpa`, expected one of `map`, `number`, `word` at line 1 column 6",
            ),
            (r#"{"map": hunter2}"#, "expected value at line 1 column 9"),
        ] {
            let error = serde_json::from_str::<Shape>(text).unwrap_err();
            assert_eq!(without_value(&error), expected, "{text}");
        }
    }
}
