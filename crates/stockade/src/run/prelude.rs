//! Code of the host that runs in an isolate before the code of a run.

use serde_json::{Value, json};

use super::options::MAX_PRELUDE_BYTES;

/// Compiled code of the host.
#[derive(Debug, Clone)]
pub struct Prelude(Value);

impl Prelude {
    /// What it is called in stacks and places. Written by `stockade_isolate` too.
    pub const NAME: &'static str = "prelude.ts";

    /// Compiles TypeScript or JavaScript. Takes as long as the code needs.
    ///
    /// # Errors
    /// It is larger than [`MAX_PRELUDE_BYTES`], or does not parse: where and why.
    pub fn compile(source: &str) -> Result<Self, String> {
        if source.len() > MAX_PRELUDE_BYTES {
            return Err(format!(
                "it is larger than the limit of {MAX_PRELUDE_BYTES} bytes"
            ));
        }
        let made =
            stockade_transpile::prelude(source, Self::NAME).map_err(|error| error.to_string())?;
        let map = String::from_utf8_lossy(&made.source_map);
        Ok(Self(json!({ "code": made.code, "map": map })))
    }

    /// The form in which `stockade_isolate` reads it.
    pub(super) fn to_json(&self) -> Value {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prelude_that_does_not_parse_names_the_place() {
        assert!(Prelude::compile("globalThis.a = (x: number) => x").is_ok());
        let error = Prelude::compile("let a = 1;\nlet b = ;").unwrap_err();
        assert!(error.contains("prelude.ts:2:9"), "{error}");
        let large = " ".repeat(MAX_PRELUDE_BYTES + 1);
        assert!(
            Prelude::compile(&large)
                .unwrap_err()
                .to_string()
                .contains("1048576 bytes")
        );
    }
}
