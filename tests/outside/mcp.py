"""`stockade mcp` with the official clients and servers of MCP: tests/outside/mcp/checks.mjs has the checks."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from docs import Pages
from server import HERE

# Of Node, for `@modelcontextprotocol/client`.
OLDEST = 20


class Clients(Pages):
    """Each check starts servers of its own; this one only has the place of the packages."""

    def __init__(self, *_, **__):
        super().__init__()
        self.place = Path(os.environ["STOCKADE_OUTSIDE_TOOLS"]) / "mcp"

    def __enter__(self):
        for file in (HERE / "mcp").iterdir():
            shutil.copy(file, self.place)
        return super().__enter__()

    def run(self, *name):
        environment = {**os.environ, "STOCKADE": str(self.binary), "PYTHON": sys.executable}
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

    version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()
    if int(version.lstrip("v").split(".")[0]) < OLDEST:
        return [("version of Node", lambda: (None, f"skipped: this is {version}, and the clients need {OLDEST}"))]
    return [(name, one(name)) for name in clients.run()]
