//! `stockade test`: tests of guests and sites, each file in an isolate of its own.
//!
//! What a test reports comes from its isolate and is a guest's text: it is bounded, and shown without what steers a
//! terminal.

mod report;
mod run;
mod site;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use stockade_project::{Project, find_test_files, project_root};

use self::report::{Form, Reporter};
use self::run::{Runner, Watched};
use super::exit;
use super::guest::{GuestArgs, Refusal};
use super::run_guest::block_on;
use super::units::duration;

pub(crate) const TEST_EXAMPLES: &str = "\
Examples:
  stockade test                          *.test.ts and *_test.ts in this folder and below
  stockade test tests/api.test.ts
  stockade test --filter visits          tests whose names contain this
  stockade test --watch                  again when a file changes
  stockade test --tap                    for tools that read TAP 14; --json is one document
  stockade test --isolation process --memory-limit 64mb

A test file imports what it needs: import { describe, expect, site, test } from \"stockade:test\". Each file runs in an \
isolate of its own, under the limits of the command line. `site.fetch` asks the site of the project, which runs in isolates \
of its own, with state that is new.

Exit codes: 0 all passed, 1 a test or a file failed, 2 bad usage or no tests, 130 Ctrl-C, 143 SIGTERM.";

#[derive(Args)]
pub(crate) struct TestArgs {
    /// Test files, and folders in which they are found
    #[arg(default_value = ".")]
    paths: Vec<PathBuf>,

    /// Run only tests whose names contain this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,

    /// Elapsed time of one test, as 500ms or 2s; a bare number is milliseconds, 0 is no limit
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    timeout: Duration,

    /// Print TAP, version 14
    #[arg(long, conflicts_with = "json")]
    tap: bool,

    /// Print one JSON document with all tests
    #[arg(long)]
    json: bool,

    /// Run again when a file changes, until Ctrl-C
    #[arg(long, conflicts_with_all = ["json", "tap"])]
    watch: bool,

    #[command(flatten)]
    pub(crate) guest: GuestArgs,
}

/// Runs the command and gives the exit code.
pub(crate) fn test(args: &TestArgs) -> Result<i32, Refusal> {
    let usage = |error: &dyn std::fmt::Display| Refusal(error.to_string(), exit::USAGE);
    let files = find_test_files(&args.paths).map_err(|error| usage(&error))?;
    let first = args
        .paths
        .first()
        .cloned()
        .unwrap_or_else(|| PathBuf::from("."));
    let root = project_root(&first).map_err(|error| usage(&error))?;
    // A project of guests alone has nothing to serve.
    let has_site = Project::find(&root).is_ok();
    stockade::initialize();
    let mut runner = Runner {
        guest: &args.guest,
        filter: args.filter.as_deref(),
        timeout: args.timeout,
        root,
        has_site,
        watched: Watched::default(),
    };
    let form = match (args.tap, args.json) {
        (true, _) => Form::Tap,
        (_, true) => Form::Json,
        _ => Form::People,
    };
    block_on(async {
        loop {
            let mut reporter = Reporter::new(form);
            let ended = runner.run(&files, &mut reporter).await?;
            if let Some(code) = ended {
                return Ok(code);
            }
            let code = reporter.finish();
            if !args.watch {
                return Ok(code);
            }
            if let Some(code) = runner.changed().await? {
                return Ok(code);
            }
        }
    })?
}
