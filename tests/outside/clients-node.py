"""The client for Node and its drivers, with the packages that they are made for: `@cloudflare/codemode`,
`@tanstack/ai-code-mode`, `ai` and `@mastra/core`. The tests are those of clients/node/test, in a folder in which npm has
installed these packages and the client."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from server import ROOT, processes

# Of the client, and of the peers of its drivers and of `require` for modules.
OLDEST = (18, 18)
MODERN = (20, 19)
FILES = sorted(path.relative_to(ROOT / "clients/node") for path in (ROOT / "clients/node/test").rglob("*.test.js"))


class Folder:
    """In the place of a server: the folder with the packages, and a supervisor with a socket."""

    def __init__(self, *_, **__):
        self.folder = Path(os.environ["STOCKADE_OUTSIDE_TOOLS"]) / "clients-node"
        self.binary = os.environ.get("STOCKADE", str(ROOT / "target/release/stockade"))

    def __enter__(self):
        shutil.rmtree(self.folder / "test", ignore_errors=True)
        shutil.copytree(ROOT / "clients/node/test", self.folder / "test")
        (self.folder / "bin").mkdir(exist_ok=True)
        places = {"node_modules/stockade": ROOT / "clients/node", "lib": ROOT / "clients/node/lib", "bin/stockade": self.binary}
        for place, target in places.items():
            (self.folder / place).unlink(missing_ok=True)
            (self.folder / place).symlink_to(target)
        self.socket = self.folder / "supervisor" / "socket"
        with open(self.folder / "output.txt", "wb") as output:
            self.process = subprocess.Popen([self.binary, "supervise", "--socket", self.socket], stdout=output, stderr=output)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def alive(self):
        """Whether the supervisor still runs code."""
        return self.process.poll() is None and self.node("--input-type=module", "-e", USE_SOCKET).stdout == "2\n"

    def node(self, *arguments):
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "STOCKADE": self.binary, "STOCKADE_SOCKET": str(self.socket)}
        return subprocess.run(["node", *arguments], cwd=self.folder, env=environment, capture_output=True, text=True)


USE_SOCKET = """
import { Sandbox } from "stockade";
console.log((await new Sandbox({ connect: process.env.STOCKADE_SOCKET }).run("1 + 1")).result);
"""


def server(_quick):
    return Folder


def checks(folder):
    version = folder.node("--version").stdout.strip()
    number = tuple(map(int, version.lstrip("v").split(".")[:2]))
    if number < OLDEST:
        yield "version of Node", lambda: (None, f"skipped: this is {version}, and the package needs 18.18")
        return
    modern = number >= MODERN
    if not modern:
        yield "drivers", lambda: (None, f"skipped: this is {version}, and their peers need 20.19")
    for file in FILES:
        if not modern and "drivers" in file.parts:
            continue

        def check(file=file):
            done = folder.node("--test", "--test-reporter=tap", *(["--test-timeout=60000"] if modern else []), file)
            passed = re.search(r"^# pass (\d+)", done.stdout, re.MULTILINE)
            if done.returncode == 0 and passed and (not modern or "\n# skipped 0\n" in done.stdout):
                return None, f"{passed[1]} tests"
            failed = re.findall(r"^ *not ok .*(?:\n .*)*", done.stdout, re.MULTILINE)
            return "\n".join(failed)[:4000] or (done.stdout + done.stderr)[-4000:]

        yield str(file), check

    def types(*files):
        command = ["--noEmit", "--skipLibCheck", "--strict", "--module", "esnext", "--moduleResolution", "bundler", "--target", "esnext"]
        done = folder.node("node_modules/typescript/bin/tsc", *command, *files)
        return None if done.returncode == 0 else done.stdout[-4000:]

    yield "types of the client, and what they refuse", lambda: types("test/types.ts")
    if not modern:
        return
    yield "drivers have the types of their peers", lambda: types("test/drivers/interfaces.ts")

    def examples():
        for script in sorted((ROOT / "examples/clients/node").glob("*.mjs")):
            shutil.copy(script, folder.folder)
            done = folder.node(script.name)
            if done.stdout != script.with_suffix(".out").read_text():
                return f"{script.name}: {done.stdout}{done.stderr}"
        return None

    yield "examples print what they should", examples

    def left():
        found = processes(folder.binary, "supervise")
        return f"processes {', '.join(found)} are left" if found else None

    yield "no supervisor is left of clients that ended", left
