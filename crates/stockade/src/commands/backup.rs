//! `stockade backup` and `stockade restore`: what a server keeps, as one file.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use stockade_serve::{BackupError, RestoreOptions, back_up};

use super::configuration::read_configuration;
use super::guest::Refusal;
use super::serve::CONFIG;
use super::{exit, meant, output};

pub(crate) const BACKUP_EXAMPLES: &str = "\
Examples:
  stockade backup stockade.tar                          what the server of ./stockade.yaml keeps, while it runs
  stockade backup --config /etc/stockade/stockade.yaml /backup/stockade.tar
  stockade backup - | age -r age1... > stockade.tar.age

A backup has the shared state, API keys with their pepper, quotas, usage, uploaded code and the audit log. It is as secret \
as the server's disk, and readable for its owner only. The server serves on, and each database is copied as it is at one \
instant. The file is replaced when the backup is complete.

Exit codes: 0 done, 1 nothing was written, 2 bad usage.";

pub(crate) const RESTORE_EXAMPLES: &str = "\
Examples:
  stockade restore --check stockade.tar                 whether a backup is whole and could be restored
  stockade restore stockade.tar                         into the places that ./stockade.yaml names
  stockade restore --replace stockade.tar               also where something is already; it is kept as NAME.replaced
  age -d stockade.tar.age | stockade restore -

The server must be stopped. Nothing is changed before the whole backup was read and checked.

Exit codes: 0 done, 1 the backup is damaged or a server is running, 2 bad usage.";

#[derive(Args)]
pub(crate) struct BackupArgs {
    /// The file to write; - for standard output
    #[arg(value_name = "FILE")]
    to: PathBuf,

    /// The configuration file of the server, which says what there is and where
    #[arg(long, value_name = "FILE", default_value = CONFIG, value_parser = meant::configuration())]
    config: PathBuf,
}

#[derive(Args)]
pub(crate) struct RestoreArgs {
    /// The backup; - for standard input
    #[arg(value_name = "FILE")]
    from: PathBuf,

    /// The configuration file of the server, which says where everything belongs
    #[arg(long, value_name = "FILE", default_value = CONFIG, value_parser = meant::configuration())]
    config: PathBuf,

    /// Replace what is there, and keep it with the suffix .replaced
    #[arg(long)]
    replace: bool,

    /// Only check that the backup is whole and can be restored
    #[arg(long, conflicts_with = "replace")]
    check: bool,
}

/// Runs `backup` and gives the exit code.
pub(crate) fn backup(args: &BackupArgs) -> Result<i32, Refusal> {
    let began = Instant::now();
    let loaded = read_configuration(&args.config)?;
    let to = (args.to != Path::new("-")).then_some(args.to.as_path());
    if to.is_none() && io::stdout().is_terminal() {
        let message = "standard output is a terminal\n  fix: name a file, or redirect the output";
        return Err(Refusal(message.to_owned(), exit::USAGE));
    }
    let copied = back_up(&loaded.config, &args.config, to).map_err(|error| failed(&error))?;
    // Standard output has the archive.
    output::print_diagnostics(&format!(
        "copied {}: {:.1} MB in {:.1} s",
        copied.stores.join(", "),
        copied.bytes as f64 / 1e6,
        began.elapsed().as_secs_f64()
    ));
    Ok(exit::DONE)
}

/// Runs `restore` and gives the exit code.
pub(crate) fn restore(args: &RestoreArgs) -> Result<i32, Refusal> {
    let loaded = read_configuration(&args.config)?;
    let from: Box<dyn Read> =
        if args.from == Path::new("-") {
            Box::new(io::stdin().lock())
        } else {
            let opened = File::open(&args.from);
            Box::new(opened.map_err(|error| {
                Refusal(format!("{}: {error}", args.from.display()), exit::FAILED)
            })?)
        };
    let options = RestoreOptions {
        replace: args.replace,
        check: args.check,
    };
    let from = BufReader::with_capacity(1 << 20, from);
    let restored = stockade_serve::restore(&loaded.config, from, options);
    let restored = restored.map_err(|error| failed(&error))?;
    let done = if args.check {
        "can be restored"
    } else {
        "restored"
    };
    let mut lines = vec![format!("the backup of {}", restored.made)];
    lines.extend(
        restored
            .stores
            .iter()
            .map(|path| format!("{done}: {}", path.display())),
    );
    lines.extend((restored.left_out.iter()).map(|name| {
        format!(
            "left out: {name}, which {} does not have",
            args.config.display()
        )
    }));
    output::print(&lines.join("\n"))?;
    Ok(exit::DONE)
}

fn failed(error: &BackupError) -> Refusal {
    Refusal(error.to_string(), exit::FAILED)
}
