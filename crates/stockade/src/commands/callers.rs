//! The API keys of clients, as `rpc` and `mcp` take them.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use stockade::rpc::KeyRules;
use stockade_auth::{Keys, Pepper, Quotas, Scope};
use stockade_limits::{Amount, Period};

use super::exit;
use super::guest::Refusal;

/// Keys that may be counted: all in one process.
const COUNTERS: usize = 262_144;

#[derive(Args)]
pub(crate) struct CallerArgs {
    /// Let in only clients with an API key of this file, which `stockade keys` changes
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: Option<PathBuf>,

    /// The file with the secret that the keys are hashed with
    #[arg(
        long,
        value_name = "FILE",
        default_value = "keys.pepper",
        requires = "keys"
    )]
    pepper: PathBuf,

    /// The scope that a key needs for a function, as add=read; all others need write; may be given more than once
    #[arg(long, value_name = "FUNCTION=SCOPE", value_parser = function_scope, requires = "keys")]
    pub(crate) scope: Vec<(String, Scope)>,

    /// How many calls each key may make in a second, a minute or an hour, as 10/s, 600/m or 5000/h
    #[arg(long, value_name = "RATE", value_parser = rate, requires = "keys")]
    rate: Option<Amount>,

    /// The file in which the quotas of keys outlive the server; without it they begin again with each start
    #[arg(long, value_name = "FILE", requires = "keys")]
    quotas: Option<PathBuf>,
}

/// Reads a function's name and a scope.
fn function_scope(text: &str) -> Result<(String, Scope), String> {
    let (function, scope) = text
        .rsplit_once('=')
        .filter(|(function, _)| !function.is_empty())
        .ok_or("expected a function and a scope, as add=read")?;
    let scope = Scope::parse_required(scope).map_err(|error| error.to_string())?;
    Ok((function.to_owned(), scope))
}

fn rate(text: &str) -> Result<Amount, String> {
    let amount = Amount::parse(text);
    amount
        .filter(|amount| !matches!(amount.period, Period::Day | Period::Month))
        .ok_or_else(|| {
            "expected calls in a second, a minute or an hour, as 10/s, 600/m or 5000/h".to_owned()
        })
}

impl CallerArgs {
    /// Opens the keys, and what is counted for them, of the server with this name. A key store without keys lets nobody in.
    pub(crate) fn open(&self, name: Arc<str>) -> Result<Option<(KeyRules, Quotas)>, Refusal> {
        let Some(path) = &self.keys else {
            return Ok(None);
        };
        let failed = |error: &dyn std::fmt::Display| Refusal(error.to_string(), exit::FAILED);
        if !path.exists() {
            return Err(failed(&format_args!(
                "{} does not exist\n  fix: make a key with `stockade keys create NAME --store {}`, or name the file of the keys",
                path.display(),
                path.display()
            )));
        }
        let pepper = Pepper::read(&self.pepper).map_err(|error| {
            failed(&format_args!(
                "{error}\n  fix: name the file that `stockade keys` made for {} with --pepper",
                path.display()
            ))
        })?;
        let keys = Keys::open(path, pepper).map_err(|error| failed(&error))?;
        let quotas = match &self.quotas {
            Some(path) => Quotas::open(path, COUNTERS),
            None => Quotas::in_memory(COUNTERS),
        };
        let quotas = quotas.map_err(|error| failed(&error))?;
        let options = KeyRules {
            keys,
            name,
            scopes: self.scope.iter().cloned().collect(),
            rate: self.rate.map(|rate| rate.allowance(None)),
            cpu: None,
            counters: Arc::clone(quotas.counters()),
        };
        Ok(Some((options, quotas)))
    }
}
