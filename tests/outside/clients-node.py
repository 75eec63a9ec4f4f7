"""The client for Node and its drivers, with the packages that they are made for: `@cloudflare/codemode`,
`@tanstack/ai-code-mode`, `ai` and `@mastra/core`. The tests are those of clients/node/test, in a folder in which npm has
installed these packages and the client."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from server import NODE_20, ROOT, processes

# What `engines` of the client's package.json names, and what the peers of its drivers need.
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
        return self.run(NODE_20, arguments)

    def machines_node(self, *arguments):
        return self.run(os.environ, arguments)

    def run(self, environment, arguments):
        path = f"{self.folder / 'bin'}:{environment['PATH']}"
        environment = {**environment, "PATH": path, "STOCKADE": self.binary, "STOCKADE_SOCKET": str(self.socket)}
        return subprocess.run(["node", *arguments], cwd=self.folder, env=environment, capture_output=True, text=True)


USE_SOCKET = """
import { Sandbox } from "stockade";
console.log((await new Sandbox({ connect: process.env.STOCKADE_SOCKET }).run("1 + 1")).result);
"""


def server(_quick):
    return Folder


def tests(node, file, *options):
    done = node("--test", "--test-reporter=tap", *options, file)
    passed = re.search(r"^# pass (\d+)", done.stdout, re.MULTILINE)
    # On an older version, tests of what it lacks are skipped.
    if done.returncode == 0 and passed and (not options or "\n# skipped 0\n" in done.stdout):
        return None, f"{passed[1]} tests"
    failed = re.findall(r"^ *not ok .*(?:\n .*)*", done.stdout, re.MULTILINE)
    return "\n".join(failed)[:4000] or (done.stdout + done.stderr)[-4000:]


def checks(folder):
    for file in FILES:
        yield str(file), lambda file=file: tests(folder.node, file, "--test-timeout=60000")

    # Without its drivers, the client also runs on the Node of the machine, such as Debian 12's.
    version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()
    if OLDEST <= tuple(map(int, version.lstrip("v").split(".")[:2])) < MODERN:
        for file in (file for file in FILES if "drivers" not in file.parts):
            yield f"{file} on Node {version}", lambda file=file: tests(folder.machines_node, file)

    def types(*files):
        command = ["--noEmit", "--skipLibCheck", "--strict", "--module", "esnext", "--moduleResolution", "bundler", "--target", "esnext"]
        done = folder.node("node_modules/typescript/bin/tsc", *command, *files)
        return None if done.returncode == 0 else done.stdout[-4000:]

    yield "types of the client, and what they refuse", lambda: types("test/types.ts")
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
