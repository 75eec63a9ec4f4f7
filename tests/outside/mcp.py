"""`stockade mcp` with the official clients and servers of MCP: tests/outside/mcp/checks.mjs has the checks."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from docs import Pages
from server import HERE, NODE_20


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
        environment = {**NODE_20, "STOCKADE": str(self.binary), "PYTHON": sys.executable}
        # Into files: servers that a failed check leaves would keep pipes open.
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            command = ["node", self.place / "checks.mjs", *name]
            node = subprocess.Popen(command, env=environment, stdout=output, stderr=errors, start_new_session=True)
            try:
                failed = node.wait(timeout=120)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(node.pid, signal.SIGKILL)
                node.wait()
            output.seek(0)
            errors.seek(0)
            if failed:
                raise AssertionError(errors.read().strip()[-1500:])
            return json.loads(output.read())


def server(_quick):
    return Clients


def checks(clients):
    def one(name):
        return lambda: (None, clients.run(name)["note"])

    return [(name, one(name)) for name in clients.run()]
