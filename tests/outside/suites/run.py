"""Runs bundles of tests as guests of a host script (host.js): `stockade run`, at level thread."""

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BINARY = os.environ.get("STOCKADE", str(HERE.parent.parent.parent / "target/release/stockade"))


def results(folder, root, peer, tasks):
    plan = folder / "plan.json"
    plan.write_text(json.dumps({"peer": peer, "root": str(root), "tasks": tasks}))
    with open(folder / "errors.txt", "wb") as errors:
        process = subprocess.Popen(
            [BINARY, "run", HERE / "host.js", "--", plan], stdout=subprocess.PIPE, stderr=errors, text=True)
        for line in process.stdout:
            yield json.loads(line)
        code = process.wait()
    if code:
        sys.exit(f"the host ended with exit code {code}:\n{(folder / 'errors.txt').read_text()[-3000:]}")
