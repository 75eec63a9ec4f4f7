//! Programs of `helpers/`, which lie next to the program that uses Stockade.

use std::path::{Path, PathBuf};

/// Where the program of this name is: next to this one, and for tests next to the folder of test programs.
///
/// # Errors
/// Why it is not there, with what to do.
pub(crate) fn program(name: &str) -> Result<PathBuf, String> {
    let lost = |why: String| {
        format!(
            "{why}; install {name} next to the program that uses Stockade (`./x build` makes both)"
        )
    };
    let own = std::env::current_exe().map_err(|error| lost(error.to_string()))?;
    let folder = own.parent().unwrap_or(Path::new("/"));
    let folder = match folder.parent() {
        Some(above) if folder.ends_with("deps") => above,
        _ => folder,
    };
    let program = folder.join(name);
    match program.is_file() {
        true => Ok(program),
        false => Err(lost(format!("{} does not exist", program.display()))),
    }
}
