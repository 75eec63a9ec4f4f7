//! One case: a program, its arguments, and what it must print.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::compare::{self, Expected};
use crate::process;

/// A program to run and what it must print.
pub(crate) struct Case {
    /// `area::case`
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// Where it runs.
    pub(crate) folder: PathBuf,
    pub(crate) expected_out: PathBuf,
    pub(crate) expected_err: PathBuf,
    pub(crate) settings: Settings,
}

/// The keys of `spec.json`.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// `args`: what follows the script on the command line.
    pub(crate) args: Vec<String>,
    /// `command`: the whole command line, in place of `run` and the script.
    pub(crate) command: Option<Vec<String>>,
    /// `exit`: the exit code it must end with; 0 where not given.
    pub(crate) exit: i32,
    /// `env`: variables added to the test's own.
    pub(crate) env: BTreeMap<String, String>,
    /// `stdin`: all of standard input; empty where not given.
    pub(crate) stdin: String,
    /// `levels`: levels of isolation besides `thread` that it is run at; all where not given.
    pub(crate) levels: Option<Vec<String>>,
    /// `timeoutSeconds`: when to kill it; 180 where not given, far above what any case needs on a busy machine.
    pub(crate) timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            args: Vec::new(),
            command: None,
            exit: 0,
            env: BTreeMap::new(),
            stdin: String::new(),
            levels: None,
            timeout: Duration::from_secs(180),
        }
    }
}

impl Settings {
    /// Reads `spec.json`; the defaults where there is none.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let mut settings = Self::default();
        if !path.exists() {
            return Ok(settings);
        }
        let wrong = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
        let json: Value = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
        let object = json.as_object().ok_or_else(|| wrong(&"not an object"))?;
        for (key, value) in object {
            settings
                .set(key, value)
                .ok_or_else(|| wrong(&format_args!("{key}: {value} is not allowed")))?;
        }
        Ok(settings)
    }

    /// Whether it is run at this level besides `thread`.
    pub(crate) fn runs_at(&self, level: &str) -> bool {
        self.levels
            .as_ref()
            .is_none_or(|levels| levels.iter().any(|name| name == level))
    }

    fn set(&mut self, key: &str, value: &Value) -> Option<()> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let texts = || value.as_array()?.iter().map(text).collect::<Option<_>>();
        match key {
            "args" => self.args = texts()?,
            "command" => self.command = Some(texts()?),
            "exit" => self.exit = i32::try_from(value.as_i64()?).ok()?,
            "env" => {
                for (name, value) in value.as_object()? {
                    self.env.insert(name.clone(), text(value)?);
                }
            }
            "stdin" => self.stdin = text(value)?,
            "levels" => {
                self.levels = Some(value.as_array()?.iter().map(text).collect::<Option<_>>()?);
            }
            "timeoutSeconds" => self.timeout = Duration::from_secs(value.as_u64()?),
            _ => return None,
        }
        Some(())
    }
}

impl Case {
    /// Runs it and compares.
    ///
    /// # Errors
    /// Says everything that differs, and all that was printed.
    pub(crate) fn run(&self) -> Result<(), String> {
        let result = process::run(self)?;
        let mut problems = Vec::new();
        match result.code {
            Some(code) if code == self.settings.exit => {}
            Some(code) => {
                problems.push(format!("it exited with {code}, not {}", self.settings.exit))
            }
            None if result.timed_out => problems.push(format!(
                "it did not end within {} s and was killed",
                self.settings.timeout.as_secs()
            )),
            None => problems.push("it was ended by a signal".to_owned()),
        }
        // What a run that went wrong printed is nobody's expectation.
        let update = std::env::var_os("UPDATE").is_some() && problems.is_empty();
        for (what, path, printed) in [
            ("standard output", &self.expected_out, &result.stdout),
            ("standard error", &self.expected_err, &result.stderr),
        ] {
            let expected = Expected::read(path)?;
            if expected.matches(printed) {
                continue;
            }
            if update {
                compare::write(path, printed, &self.folder)?;
            } else {
                problems.push(expected.difference(what, printed));
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(format!(
            "{}\n== standard output\n{}\n== standard error\n{}",
            problems.join("\n"),
            result.stdout,
            result.stderr
        ))
    }
}
