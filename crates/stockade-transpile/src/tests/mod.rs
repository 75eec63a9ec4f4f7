mod expanding;
mod hostile;
mod shapes;
mod typescript;

use crate::{Language, Options, TranspileError, Transpiled, transpile};

fn ts(source: &str) -> Result<Transpiled, TranspileError> {
    let options = Options {
        specifier: "a.ts",
        language: Language::TypeScript,
        module: true,
    };
    transpile(source, &options)
}
