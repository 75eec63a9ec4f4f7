//! The configuration file of a server, for commands that open what the server keeps instead of asking the server.

use std::path::{Path, PathBuf};

use clap::Args;
use stockade_config::{Config, Loaded};

use super::guest::Refusal;
use super::serve::CONFIG;
use super::{exit, meant};

/// The option `--config` of a command that works without a configuration, too.
#[derive(Args)]
pub(super) struct ConfigArgs {
    /// The configuration file of the server, which says where its files are [default: stockade.yaml, if it exists]
    #[arg(long, global = true, value_name = "FILE", value_parser = meant::configuration())]
    config: Option<PathBuf>,
}

/// A configuration that was read.
pub(super) struct Configured {
    /// Its file, as it was named.
    pub(super) path: PathBuf,
    pub(super) config: Config,
}

impl ConfigArgs {
    /// Whether the command line names a file.
    pub(super) fn is_named(&self) -> bool {
        self.config.is_some()
    }

    /// Reads the file that was named, or the default one if it exists.
    ///
    /// # Errors
    /// When the file has errors: bad usage.
    pub(super) fn read(&self) -> Result<Option<Configured>, Refusal> {
        let default = Path::new(CONFIG);
        let path = match &self.config {
            Some(path) => path,
            None if default.exists() => default,
            None => return Ok(None),
        };
        let config = read_configuration(path)?.config;
        let path = path.to_owned();
        Ok(Some(Configured { path, config }))
    }
}

/// Reads a configuration, and not the files that it names.
///
/// # Errors
/// When it has errors: bad usage.
pub(super) fn read_configuration(path: &Path) -> Result<Loaded, Refusal> {
    Config::read(path).map_err(|error| {
        let message = format!("the configuration has errors:\n{error}");
        Refusal(message, exit::USAGE)
    })
}
