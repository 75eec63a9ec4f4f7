//! A process that a test kills with SIGKILL: one test of the same binary, which works until then and prints what it has
//! done.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// How many processes a test kills: `STOCKADE_TEST_KILLS`, or this number.
pub(crate) fn kills(unless_set: usize) -> usize {
    std::env::var("STOCKADE_TEST_KILLS").map_or(unless_set, |kills| kills.parse().unwrap())
}

/// The process. It is killed when this is dropped.
pub(crate) struct KilledChild {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl KilledChild {
    /// Runs the test of this name in a process of its own, which finds `value` in the variable.
    pub(crate) fn start(test: &str, variable: &str, value: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--include-ignored", "--nocapture"])
            .env(variable, value)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next of its lines that is of interest. The first one stands behind words of the test's own.
    pub(crate) fn next<T>(&mut self, of_interest: impl FnMut(String) -> Option<T>) -> T {
        let found = self
            .lines
            .by_ref()
            .map(Result::unwrap)
            .find_map(of_interest);
        found.expect("the process ended by itself")
    }

    /// Kills it wherever it is, and gives the lines that were left. The last one may be cut off.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.end();
        self.lines.by_ref().map_while(Result::ok).collect()
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for KilledChild {
    fn drop(&mut self) {
        self.end();
    }
}
