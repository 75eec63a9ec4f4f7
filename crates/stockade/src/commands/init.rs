//! `stockade init`: new projects.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use stockade_project::{
    SCHEMA_FILE, Template, configuration_text, project_files, read_wrangler, schema_text,
    write_files,
};

use super::guest::Refusal;
use super::{exit, output};

pub(crate) const INIT_EXAMPLES: &str = "\
Examples:
  stockade init site                     a site, in this folder
  stockade init site shop                the same in ./shop
  stockade init plugins                  a host script with plugins that it does not trust
  stockade init rpc                      functions that are called by JSON-RPC
  stockade init agent                    a host script that runs code of a language model
  stockade init --from wrangler.toml     a stockade.yaml that says what the file says

Nothing that is there is overwritten: where one of the files is there, none is written.

Exit codes: 0 written, 1 not written, 2 bad usage.";

/// What to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A site
    Site,
    /// A host script and plugins
    Plugins,
    /// Functions by JSON-RPC
    Rpc,
    /// Code of a language model, with tools
    Agent,
}

#[derive(Args)]
pub(crate) struct InitArgs {
    /// What to begin
    #[arg(value_enum, required_unless_present = "from")]
    kind: Option<Kind>,

    /// The folder, which is made if it is not there
    #[arg(default_value = ".")]
    folder: PathBuf,

    /// Write a stockade.yaml next to this wrangler.toml, wrangler.json or wrangler.jsonc
    #[arg(long, value_name = "FILE", conflicts_with = "kind")]
    from: Option<PathBuf>,
}

fn failed(error: &dyn std::fmt::Display) -> Refusal {
    Refusal(error.to_string(), exit::FAILED)
}

/// Runs the command and gives the exit code.
pub(crate) fn init(args: &InitArgs) -> Result<i32, Refusal> {
    if let Some(from) = &args.from {
        return convert(from);
    }
    let (template, next): (_, &[&str]) = match args.kind {
        Some(Kind::Site) => (Template::Site, &["stockade dev", "stockade test"]),
        Some(Kind::Plugins) => (
            Template::Plugins,
            &["stockade run main.ts", "stockade test"],
        ),
        Some(Kind::Rpc) => (
            Template::Rpc,
            &["stockade call src/api.ts add 2 3", "stockade test"],
        ),
        Some(Kind::Agent) => (Template::Agent, &["stockade run main.ts", "stockade test"]),
        // The command line has one of both.
        None => return Ok(exit::USAGE),
    };
    if args.folder.exists() && !args.folder.is_dir() {
        let folder = args.folder.display();
        return Err(failed(&format_args!(
            "'{folder}' is not a folder\n  fix: name one, which is made if it is not there"
        )));
    }
    let files = project_files(template);
    let written = write_files(&args.folder, &files).map_err(|error| failed(&error))?;
    let folder = args.folder.display();
    output::say(&format!("{} files in {folder}:", written.len()));
    for (name, _) in files.iter().filter(|(name, _)| !name.starts_with("types/")) {
        output::say(&format!("  {name}"));
    }
    output::say("  types/, for editors\n\nNext:");
    if args.folder != Path::new(".") {
        output::say(&format!("  cd {folder}"));
    }
    for command in next {
        output::say(&format!("  {command}"));
    }
    Ok(exit::DONE)
}

/// Writes a configuration with what a wrangler file says.
fn convert(from: &Path) -> Result<i32, Refusal> {
    let converted = read_wrangler(from).map_err(|error| failed(&error))?;
    let sites = converted.configuration["instances"].as_object();
    let mut sites = sites.into_iter().flat_map(|sites| sites.values());
    if sites.all(|site| site["code"].is_null() && site["assets"].is_null()) {
        let from = from.display();
        return Err(failed(&format_args!(
            "{from} names no code and no files\n  fix: add `main`, or `assets` with a `directory`"
        )));
    }
    let name = from.file_name().unwrap_or(from.as_os_str());
    let name = name.to_string_lossy();
    let notes = converted.notes.iter().map(ToString::to_string);
    let notes: Vec<String> = notes.collect();
    let text = configuration_text(&converted.configuration, &name, &notes);
    let folder = from.parent().unwrap_or(Path::new("."));
    let mut files = vec![("stockade.yaml".to_owned(), text)];
    if !folder.join(SCHEMA_FILE).exists() {
        files.push((SCHEMA_FILE.to_owned(), schema_text()));
    }
    let written = write_files(folder, &files).map_err(|error| failed(&error))?;
    for path in written {
        output::say(&format!("{}: written", path.display()));
    }
    for note in converted.notes {
        let kind = if note.is_missing {
            "missing"
        } else {
            "ignored"
        };
        output::say(&format!("  {kind}  {note}"));
    }
    Ok(exit::DONE)
}
