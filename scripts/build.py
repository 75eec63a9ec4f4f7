#!/usr/bin/env python3
"""Builds the release binary: `cargo build --release --package stockade` with one line of progress.

    scripts/build.py [ARGUMENTS FOR CARGO]

How much is done, and how long the rest takes, is weighed by the CPU time of each package in
docs/internals/build.json, which scripts/build-times.py measures. Warnings and errors of the compiler are printed
as cargo prints them. Where nothing has to be compiled, nothing is printed.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHORTEST_ESTIMATE = 20  # seconds of building before what is left is estimated


def weights():
    """{package: CPU seconds}; a package that was not there when it was measured weighs nothing."""
    measured = json.loads((ROOT / "docs/internals/build.json").read_text())
    return {name: times["rustc"] + times["script"] for name, times in measured["crates"].items()}


class Progress:
    """Prints on a terminal one line that changes, elsewhere one line a minute."""

    def __init__(self, left):
        self.left = left
        self.built = 0.0
        self.began = self.shown = time.monotonic()
        self.terminal = sys.stderr.isatty()

    def package_done(self, name, fresh):
        weight = self.left.pop(name, 0.0)
        if fresh:
            return
        self.built += weight
        now = time.monotonic()
        if now - self.shown >= (0.2 if self.terminal else 60):
            self.shown = now
            self.show(f"{self.percent()} %{self.remaining(now - self.began)}")

    def percent(self):
        return round(100 * self.built / (self.built + sum(self.left.values()) or 1))

    def remaining(self, elapsed):
        if elapsed < SHORTEST_ESTIMATE or not self.built:
            return ""
        return f", about {int(sum(self.left.values()) * elapsed / self.built / 60) + 1} min left"

    def show(self, text):
        line = f"building Stockade: {text}"
        sys.stderr.write(f"\r{line}\033[K" if self.terminal else f"{line}\n")
        sys.stderr.flush()

    def clear(self):
        if self.terminal:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()


def main():
    command = ["cargo", "build", "--release", "--package", "stockade", "--message-format", "json-render-diagnostics",
               *(["--quiet"] if sys.stderr.isatty() else []), *sys.argv[1:]]
    progress = Progress(weights())
    cargo = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    for line in cargo.stdout:
        message = json.loads(line)
        # A package is done with its library or program; its build script, compiled first, is not the package.
        if message.get("reason") == "compiler-artifact" and "custom-build" not in message["target"]["kind"]:
            package = message["package_id"].rpartition("#")[2].partition("@")[0]
            progress.package_done(package if not package[0].isdigit() else message["target"]["name"], message["fresh"])
    status = cargo.wait()
    progress.clear()
    sys.exit(status)


try:
    main()
except KeyboardInterrupt:
    sys.exit(130)
