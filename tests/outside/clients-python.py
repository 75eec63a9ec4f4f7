"""The client for Python, by its own tests, under `mypy --strict`, and by the programs in examples/clients/python."""

import os
import re
import subprocess
import sys

from docs import ROOT, Pages
from server import processes

CLIENT = ROOT / "clients/python"
EXAMPLES = ROOT / "examples/clients/python"
CASES = ["test_tools", "test_sandbox.Runs", "test_sandbox.Tools", "test_sandbox.Sessions", "test_sandbox.Async", "test_sandbox.Supervisors"]


class Place(Pages):
    """In the place of a server: the clients start supervisors of their own."""

    def alive(self):
        """Whether no supervisor is left of clients that ended."""
        return not processes(self.binary, "supervise")

    def python(self, *arguments):
        environment = {**os.environ, "STOCKADE": str(self.binary), "PYTHONPATH": f"{CLIENT}:{CLIENT / 'tests'}", "MYPYPATH": str(CLIENT), "PYTHONDONTWRITEBYTECODE": "1"}
        environment["PATH"] = f"{self.binary.parent}:{environment['PATH']}"
        return subprocess.run([sys.executable, *arguments], cwd=self.folder, env=environment, capture_output=True, text=True)


def server(_quick):
    return Place


def checks(place):
    for case in CASES:

        def tests(case=case):
            done = place.python("-m", "unittest", case)
            ran = re.search(r"^Ran ([1-9]\d*) tests?", done.stderr, re.MULTILINE)
            if done.returncode == 0 and ran and "skipped" not in done.stderr:
                return None, f"{ran[1]} tests"
            return done.stderr[-4000:]

        yield case, tests

    def types():
        files = [*(CLIENT / "tests").glob("*.py"), *EXAMPLES.glob("*.py")]
        done = place.python("-m", "mypy", "--strict", "--cache-dir", place.folder / "mypy", CLIENT / "stockade", *files)
        return None if done.returncode == 0 else done.stdout[-4000:]

    yield "mypy --strict", types
    for example in sorted(EXAMPLES.glob("*.py")):

        def runs(example=example):
            done = place.python(example)
            expected = example.with_suffix(".out").read_text()
            if done.returncode == 0 and done.stdout == expected:
                return None
            return f"it prints {done.stdout!r} and not {expected!r}\n{done.stderr[-2000:]}"

        yield f"examples/clients/python/{example.name}", runs
