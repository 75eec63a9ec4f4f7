"""`stockade mcp` with the official clients and servers of MCP: tests/outside/mcp/checks.mjs has the checks."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from server import HERE, ROOT


class Clients:
    """Each check starts servers of its own; this one only has the place of the packages."""

    def __init__(self, _limits, mirrors=None):
        self.binary = os.environ.get("STOCKADE", str(ROOT / "target/release/stockade"))
        self.folder = Path(tempfile.mkdtemp(prefix="stockade-outside-"))
        self.place = Path(os.environ["STOCKADE_OUTSIDE_TOOLS"]) / "mcp"
        (self.folder / "output.txt").write_text("")

    def __enter__(self):
        for file in (HERE / "mcp").iterdir():
            shutil.copy(file, self.place)
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder)

    def alive(self):
        return self.run() is not None

    def run(self, *name):
        environment = {**os.environ, "STOCKADE": self.binary, "PYTHON": sys.executable}
        done = subprocess.run(
            ["node", self.place / "checks.mjs", *name],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120,
        )
        if done.returncode:
            raise AssertionError(done.stderr.strip()[-1500:])
        return json.loads(done.stdout)


def server(_quick):
    return Clients


def checks(clients):
    def one(name):
        return lambda: (None, clients.run(name)["note"])

    return [(name, one(name)) for name in clients.run()]
