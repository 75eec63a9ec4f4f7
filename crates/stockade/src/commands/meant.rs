//! What was probably meant, where a file was given to what is not for it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::builder::{PathBufValueParser, TypedValueParser};

const CODE: [&str; 8] = ["ts", "mts", "cts", "tsx", "js", "mjs", "jsx", "cjs"];
const CONFIGURATION: [&str; 2] = ["yaml", "yml"];

fn ends_with(path: &Path, endings: &[&str]) -> bool {
    let ending = path.extension().and_then(OsStr::to_str);
    ending.is_some_and(|ending| endings.contains(&ending))
}

/// Takes a path of code from the command line, and no configuration.
pub(crate) fn code() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(not_a_configuration)
}

/// Takes a path of a configuration from the command line, and no code.
pub(crate) fn configuration() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(not_code)
}

fn not_a_configuration(path: PathBuf) -> Result<PathBuf, String> {
    if !ends_with(&path, &CONFIGURATION) {
        return Ok(path);
    }
    let shown = path.display();
    Err(format!(
        "it is a configuration, not code\n  did you mean: stockade serve {shown}"
    ))
}

fn not_code(path: PathBuf) -> Result<PathBuf, String> {
    if !ends_with(&path, &CODE) {
        return Ok(path);
    }
    let shown = path.display();
    Err(format!(
        "it is code, not a configuration\n  \
         fix: name it in one, as `code: {shown}` of an instance\n  \
         did you mean: stockade exec {shown}, or stockade run {shown}"
    ))
}

/// Explains a command line whose first word names a file instead of a command.
pub(crate) fn command(word: &str) -> Option<String> {
    let path = Path::new(word);
    if ends_with(path, &CONFIGURATION) {
        return Some(format!(
            "there is no command '{word}': it is a configuration file\n  \
             did you mean: stockade serve {word}"
        ));
    }
    if path.is_dir() {
        return Some(format!(
            "there is no command '{word}': it is a folder\n  \
             did you mean: stockade dev {word} (serves the site in it on this machine)\n            \
             or: stockade test {word} (runs its tests)"
        ));
    }
    if !ends_with(path, &CODE) && !path.exists() {
        return None;
    }
    Some(format!(
        "there is no command '{word}': it is a file\n  \
         did you mean: stockade run {word} (a host script, which is trusted)\n            \
         or: stockade exec {word} (a guest by itself, in a container)\n            \
         or: stockade serve (a site, which a configuration file names)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_that_is_a_file_names_the_commands_for_it() {
        let text = command("site.ts").unwrap();
        for part in [
            "stockade run site.ts",
            "stockade exec site.ts",
            "stockade serve",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(
            command("a/b.yaml")
                .unwrap()
                .ends_with("stockade serve a/b.yaml")
        );
        assert!(
            command("Cargo.toml")
                .unwrap()
                .contains("stockade exec Cargo.toml"),
            "what exists is a file, whatever its ending"
        );
        assert!(command("src").unwrap().contains("stockade dev src"));
        for word in ["rnu", "help-me", ""] {
            assert_eq!(command(word), None, "{word}");
        }
    }

    #[test]
    fn code_and_configuration_are_distinguished_by_their_endings() {
        let code = |path: &str| not_a_configuration(path.into()).is_ok();
        assert!(code("site.ts") && code("-") && code("folder"));
        assert!(!code("site.yml"));
        let configuration = |path: &str| not_code(path.into()).is_ok();
        assert!(configuration("stockade.yaml") && configuration("none"));
        assert!(!configuration("site.ts"));
    }
}
