"""A site of `hono` and `zod` is begun by `stockade init`, bundled with `esbuild` by `stockade dev`, changed, broken and mended,
tested by `stockade test`, and checked by `tsc`, as a developer does it in an empty folder."""

import json
import os
import queue
import shutil
import signal
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from server import HERE

PATIENCE = 90
PACKAGES = HERE / "developing"


class Project:
    """An empty folder, and what is done in it."""

    def __init__(self, server):
        self.binary, self.folder = server.binary, server.folder / "dev"
        self.folder.mkdir()
        self.home = server.folder / "home"
        self.home.mkdir()
        self.environment = {**os.environ, "HOME": str(self.home), "XDG_DATA_HOME": str(self.home / "data"), "NO_COLOR": "1"}
        self.server = None

    def run(self, *command, code=0):
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120)
        if done.returncode != code:
            raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def start(self, *options):
        self.stop()
        self.server = subprocess.Popen(
            [self.binary, "dev", "--port", "0", *options], cwd=self.folder, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )
        self.lines = queue.Queue()
        threading.Thread(target=self.read, args=(self.server.stdout,), daemon=True).start()
        self.url = self.wait("://localhost:").split()[0].rstrip("/")

    def read(self, stream):
        for line in stream:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def wait(self, text):
        until, seen = time.monotonic() + PATIENCE, []
        while True:
            line = self.lines.get(timeout=max(0.1, until - time.monotonic()))
            if line is None:
                raise AssertionError(f"no line has {text!r}: {seen}")
            if text in line:
                return line
            seen.append(line)

    def ask(self, path, accept="*/*", body=None, trust=None):
        request = urllib.request.Request(self.url + path, headers={"accept": accept}, data=body)
        context = ssl.create_default_context(cafile=trust) if trust else None
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE, context=context) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def stop(self):
        if self.server:
            self.server.send_signal(signal.SIGINT)
            code = self.server.wait(PATIENCE)
            self.server = None
            return code
        return None

    def write(self, name, text):
        (self.folder / name).write_text(text)


def checks(server):
    project = Project(server)
    source = (PACKAGES / "index.ts").read_text()
    try:
        yield "from an empty folder to the first answer", lambda: begin(project)
        yield "packages without a bundler are explained", lambda: explained(project, source)
        yield "packages are bundled by the project's esbuild", lambda: bundled(project, source)
        yield "a change is in use, and a broken one is not", lambda: changed(project, source)
        yield "an error has the place in TypeScript", lambda: broken(project)
        yield "tests import packages and ask the site", lambda: tested(project)
        yield "types hold", lambda: typed(project)
        yield "Ctrl-C ends it with its code", lambda: None if project.stop() == 130 else "another exit code"
        yield "HTTPS with the certificate of this user", lambda: secure(project)
    finally:
        project.stop()


def begin(project):
    for entry in project.folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    began = time.monotonic()
    project.run(project.binary, "init", "site")
    project.start()
    status, page = project.ask("/")
    took = round((time.monotonic() - began) * 1000)
    if status != 200 or "Hello, visitor" not in page:
        return f"{status} {page}"
    return None, f"{took} ms from `init` to the first answer"


def explained(project, source):
    project.write("src/index.ts", source)
    project.wait("npm install --save-dev esbuild")
    status, page = project.ask("/")
    return None if status == 200 and "Hello, visitor" in page else f"what was in use does not go on: {status}"


def bundled(project, source):
    for name in ("package.json", "package-lock.json"):
        shutil.copy(PACKAGES / name, project.folder / name)
    project.run("npm", "ci", "--no-audit", "--no-fund", "--loglevel=error")
    began = time.monotonic()
    project.start("src/index.ts")
    status, page = project.ask("/")
    took = round((time.monotonic() - began) * 1000)
    if status != 200 or "<h1>Hello</h1>" not in page:
        return f"{status} {page}"
    status, answer = project.ask("/orders", body=json.dumps({"item": "tea", "count": 3}).encode())
    if (status, json.loads(answer)) != (200, {"ordered": 3}):
        return f"{status} {answer}"
    status, answer = project.ask("/orders", body=b'{"item": ""}')
    return f"{status} {answer}" if status != 400 else (None, f"{took} ms from the start to the first answer, with hono and zod")


def changed(project, source):
    began = time.monotonic()
    project.write("src/index.ts", source.replace("<h1>$", "<h1>New: $"))
    project.wait("configuration reloaded")
    took = round((time.monotonic() - began) * 1000)
    if "New: Hello" not in project.ask("/")[1]:
        return "the change is not in use"
    project.write("src/index.ts", source + "\nimport { none } from './none';\nnone();\n")
    project.wait("Could not resolve")
    if "New: Hello" not in project.ask("/")[1]:
        return "what was in use does not go on"
    # A file that is added mends the error, though no file that was there has changed.
    project.write("src/none.ts", "export const none = () => {};\n")
    project.wait("configuration reloaded")
    project.write("src/index.ts", source)
    project.wait("configuration reloaded")
    return None, f"{took} ms from a change to its use"


def broken(project):
    line = 1 + (PACKAGES / "index.ts").read_text().splitlines().index('  throw new RangeError("<b>broken</b>");')
    project.write("src/index.ts", (PACKAGES / "index.ts").read_text().replace("export default {", "app.onError((error) => { throw error; });\nexport default {"))
    project.wait("configuration reloaded")
    status, page = project.ask("/broken", accept="text/html")
    if status != 500 or f"src/index.ts:{line}:9" not in page or "<b>" in page:
        return f"{status} {page}"
    project.wait("broken")
    _, page = project.ask("/", accept="text/html")
    return None if "/.stockade/dev/live.js" in page else "the page does not load again"


def tested(project):
    shutil.copy(PACKAGES / "index.test.ts", project.folder / "tests/index.test.ts")
    report = json.loads(project.run(project.binary, "test", "--json"))
    if (report["passed"], report["failed"]) != (2, 0):
        return json.dumps(report)
    return None, f"{report['elapsedMs']} ms for two tests"


def typed(project):
    project.run(project.binary, "types")
    project.run("node_modules/.bin/tsc")


def secure(project):
    project.start("src/index.ts", "--tls")
    status, page = project.ask("/", trust=project.home / "data/stockade/dev/localhost.crt")
    return None if status == 200 and project.url.startswith("https://") else f"{status} {page}"
