//! Runs the behaviour specs: `tests/specs/<area>/<case>/`, and the examples with their expected output.
//!
//! A case holds `main.js` or `main.ts`, run as `stockade run main.js` in its folder, or a whole command
//! line in its `spec.json`, and
//! - `expected.out`: its standard output, `[WILDCARD]` for any text, `[WILDLINE]` within a line;
//! - `expected.err`: the same for standard error, which must be empty where the file is missing;
//! - `expected.<level>.out` and `.err`: in their place at a level of isolation where they differ;
//! - `spec.json`, where the defaults do not fit: see [`case::Settings`].
//!
//! Some areas are run once more at each other level of isolation, as `area::case@level`.
//!
//! `UPDATE=1 cargo test --release --workspace --test specs` rewrites the files that do not match.
//!
//! Deliberately absent: any check of how long something took. Tests share their cores.

mod case;
mod compare;
#[path = "../../examples/embed.rs"]
mod embed;
mod find;
mod process;

use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

/// Makes this program be the example of embedding, so that it is not linked once more.
pub(crate) const BE_EMBED: &str = "STOCKADE_SPECS_RUN_EMBED";

fn main() -> ExitCode {
    if std::env::var_os(BE_EMBED).is_some() {
        return match embed::main() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let arguments = Arguments::from_args();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let trials = match find::all(&root) {
        Ok(cases) => cases
            .into_iter()
            .map(|case| Trial::test(case.name.clone(), move || case.run().map_err(Failed::from)))
            .collect(),
        // One failing test says it where people look.
        Err(error) => vec![Trial::test("find_specs", move || Err(Failed::from(error)))],
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}
