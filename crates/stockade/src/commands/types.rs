//! `stockade types`: type declarations for editors and compilers.

use std::path::{Path, PathBuf};

use clap::Args;
use stockade_project::{DECLARATIONS, ENV_FILE, Project, env_types};

use super::guest::Refusal;
use super::{exit, output};

pub(crate) const TYPES_EXAMPLES: &str = "\
Examples:
  stockade types                           types/*.d.ts, and stockade-env.d.ts for the site in this folder
  stockade types shop --out shop/env.d.ts  the types of `env` in another file
  stockade types --out -                   the types of `env` on standard output, and no other file

Exit codes: 0 written, 1 not written, 2 errors in the configuration.";

#[derive(Args)]
pub(crate) struct TypesArgs {
    /// The folder of the project, its stockade.yaml, or a wrangler file
    #[arg(default_value = ".")]
    path: PathBuf,

    /// Where to write the types of `env`; `-` is standard output [default: stockade-env.d.ts in the project]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Bytes at the start of a file by which an earlier version of it is known.
const KNOWN_BY: usize = 32;

/// Runs the command and gives the exit code.
pub(crate) fn types(args: &TypesArgs) -> Result<i32, Refusal> {
    let config = match Project::find(&args.path) {
        Ok(project) => {
            let settings = project.settings_alone();
            settings.map_err(|errors| Refusal(errors, exit::USAGE))?
        }
        // A folder of guests or host scripts needs the other declarations.
        Err(_) if args.path.is_dir() => None,
        Err(error) => return Err(Refusal(error.to_string(), exit::FAILED)),
    };
    let env = config.as_ref().map(env_types);
    if args.out.as_deref() == Some(Path::new("-")) {
        let missing = "there is no configuration, and so there is no type of `env`";
        let env = env.ok_or_else(|| Refusal(missing.to_owned(), exit::FAILED))?;
        output::print(env.trim_end())?;
        return Ok(exit::DONE);
    }
    let folder = match args.path.is_dir() {
        true => args.path.clone(),
        false => args.path.parent().unwrap_or(Path::new(".")).to_owned(),
    };
    let mut files: Vec<(PathBuf, &str)> = DECLARATIONS
        .iter()
        .map(|(name, text)| (folder.join("types").join(name), *text))
        .collect();
    if let Some(env) = &env {
        let out = args.out.clone();
        files.push((out.unwrap_or_else(|| folder.join(ENV_FILE)), env));
    }
    for (path, text) in &files {
        replace(path, text)?;
    }
    for (path, _) in &files {
        output::say(&path.display().to_string());
    }
    Ok(exit::DONE)
}

/// Writes a file, in the place of an earlier version and of nothing else.
fn replace(path: &Path, text: &str) -> Result<(), Refusal> {
    let refused = |why: &str| {
        let path = path.display();
        Refusal(format!("cannot write '{path}': {why}"), exit::FAILED)
    };
    let known = text.get(..KNOWN_BY).unwrap_or(text);
    match std::fs::read_to_string(path) {
        Ok(old) if old == text => return Ok(()),
        Ok(old) if !old.starts_with(known) => {
            return Err(refused(
                "another file of this name is there\n  fix: move it away, or give another name with --out",
            ));
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(refused(&error.to_string())),
    }
    let written = match path.parent() {
        Some(folder) => std::fs::create_dir_all(folder),
        None => Ok(()),
    };
    let written = written.and_then(|()| std::fs::write(path, text));
    written.map_err(|error| refused(&error.to_string()))
}
