//! Finds the cases on disk.

use std::path::{Path, PathBuf};

use crate::BE_EMBED;
use crate::case::{Case, Settings};

/// Every case below `root`, the workspace's folder, in the order of their names.
pub(crate) fn all(root: &Path) -> Result<Vec<Case>, String> {
    let root = root
        .canonicalize()
        .map_err(|error| format!("{}: {error}", root.display()))?;
    let mut cases = specs(&root.join("tests/specs"))?;
    cases.extend(examples(&root)?);
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(cases)
}

fn specs(folder: &Path) -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    for area in entries(folder)?.into_iter().filter(|path| path.is_dir()) {
        for case in entries(&area)?.into_iter().filter(|path| path.is_dir()) {
            cases.extend(spec(&area, &case)?);
        }
    }
    Ok(cases)
}

/// Areas whose cases say what holds at every level of isolation.
const AT_EVERY_LEVEL: &[&str] = &["attack", "limits", "messages", "realm"];

/// Levels besides `thread`, the default.
#[cfg(target_os = "linux")]
const LEVELS: &[&str] = &["process", "container"];
#[cfg(not(target_os = "linux"))]
const LEVELS: &[&str] = &[];

fn spec(area: &Path, folder: &Path) -> Result<Vec<Case>, String> {
    let settings = Settings::read(&folder.join("spec.json"))?;
    let script = ["main.js", "main.ts"]
        .into_iter()
        .find(|name| folder.join(name).is_file());
    let command: Vec<String> = match (&settings.command, script) {
        (Some(command), _) => command.clone(),
        (None, Some(script)) => ["run", script]
            .into_iter()
            .map(str::to_owned)
            .chain(settings.args.iter().cloned())
            .collect(),
        (None, None) => {
            return Err(format!(
                "{} holds no main.js and no main.ts",
                folder.display()
            ));
        }
    };
    let name = format!("{}::{}", file_stem(area), file_stem(folder));
    let mut cases = vec![case(name.clone(), None, &command, folder, &settings)];
    if AT_EVERY_LEVEL.contains(&file_stem(area).as_str()) {
        for level in LEVELS.iter().filter(|level| settings.runs_at(level)) {
            let name = format!("{name}@{level}");
            cases.push(case(name, Some(level), &command, folder, &settings));
        }
    }
    Ok(cases)
}

fn case(
    name: String,
    level: Option<&str>,
    command: &[String],
    folder: &Path,
    settings: &Settings,
) -> Case {
    let level_option = level.map(|level| format!("--isolation={level}"));
    let arguments = command
        .iter()
        .take(1)
        .cloned()
        .chain(level_option)
        .chain(command.iter().skip(1).cloned())
        .collect();
    // What only this level prints, where there is a difference.
    let expected = |kind: &str| {
        level
            .map(|level| folder.join(format!("expected.{level}.{kind}")))
            .filter(|path| path.is_file())
            .unwrap_or_else(|| folder.join(format!("expected.{kind}")))
    };
    Case {
        name,
        program: env!("CARGO_BIN_EXE_stockade").into(),
        arguments,
        expected_out: expected("out"),
        expected_err: expected("err"),
        folder: folder.to_owned(),
        settings: settings.clone(),
    }
}

/// What `examples/expected/` names: a script, a folder with a `main.ts`, or the Rust example.
fn examples(root: &Path) -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    for expected in entries(&root.join("examples/expected"))? {
        let name = file_stem(&expected);
        let mut settings = Settings::default();
        let scripts = [
            format!("examples/{name}.js"),
            format!("examples/{name}.ts"),
            format!("examples/{name}/main.ts"),
        ];
        let (program, arguments) = if name == "embed" {
            settings.env.insert(BE_EMBED.to_owned(), "1".to_owned());
            let this = std::env::current_exe().map_err(|error| error.to_string())?;
            (this, Vec::new())
        } else {
            let script = scripts
                .into_iter()
                .find(|script| root.join(script).is_file())
                .ok_or_else(|| format!("{} belongs to no example", expected.display()))?;
            let program = env!("CARGO_BIN_EXE_stockade").into();
            (program, vec!["run".to_owned(), script])
        };
        cases.push(Case {
            name: format!("examples::{}", name.replace('-', "_")),
            program,
            arguments,
            folder: root.to_owned(),
            expected_err: expected.with_extension("err"),
            expected_out: expected,
            settings,
        });
    }
    Ok(cases)
}

/// The files in a folder, except hidden ones; sorted.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let complain = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut found = Vec::new();
    for entry in folder.read_dir().map_err(complain)? {
        let path = entry.map_err(complain)?.path();
        if !file_stem(&path).starts_with('.') {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn file_stem(path: &Path) -> String {
    path.file_stem()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}
