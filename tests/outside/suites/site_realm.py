"""Runs bundles of tests as sites of a `stockade serve`, at level thread. A test that asks for the site's own URL gets it:
the gateway on loopback is on every site's list."""

import http.client
import json
import os
import re
import socket
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
BINARY = os.environ.get("STOCKADE", str(HERE.parent.parent.parent / "target/release/stockade"))
ATTEMPTS = 25
AT_ONCE = 24


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Sites:
    """A server with a site for each task. `task["site"]` becomes its name."""

    def __init__(self, folder, tasks):
        self.folder, self.port, self.ready = folder, free_port(), free_port()
        instances = {}
        for number, task in enumerate(tasks):
            task["site"] = f"t{number}-" + re.sub(r"[^a-z0-9]+", "-", task["file"].lower())[-40:].strip("-")
            instances[task["site"]] = {
                "code": task["out"],
                "urls": [f"{task['site']}.localhost"],
                "env": task.get("env", {}),
                "bindings": {name: task["site"] for name in task.get("itself", [])},
                "autoscale": {"min_instances": 0, "max_instances": 1},
            }
        config = {
            "version": "1.0",
            "listeners": [{"address": f"127.0.0.1:{self.port}"}],
            "metrics": {"listen": f"127.0.0.1:{self.ready}"},
            "control": str(folder / "control.sock"),
            "watch": False,
            "logging": {"level": "warn", "access": False, "file": str(folder / "serve-log.txt")},
            "defaults": {
                "isolation": "thread",
                "limits": {"memory": "512mb", "cpu": "60s", "timeout": "300s"},
            },
            "instances": instances,
        }
        (folder / "stockade.yaml").write_text(json.dumps(config))

    def __enter__(self):
        self.output = open(self.folder / "serve.txt", "wb")
        self.process = subprocess.Popen(
            [BINARY, "serve", self.folder / "stockade.yaml"], stdout=self.output, stderr=subprocess.STDOUT)
        until = time.monotonic() + 30
        while time.monotonic() < until and self.process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.ready), 1) as one:
                    one.sendall(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                    if b" 200 " in one.recv(100):
                        return self
            except OSError:
                pass
            time.sleep(0.05)
        raise RuntimeError("the server did not start:\n" + (self.folder / "serve.txt").read_text()[-3000:])

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.output.close()

    def why(self, task):
        """What the log says of a site that did not start."""
        pattern = rf'mirror_start_failed instance={task["site"]} .*?error="((?:[^"\\]|\\.)*)"'
        until = time.monotonic() + 3
        while not (found := re.findall(pattern, (self.folder / "serve-log.txt").read_text())) and time.monotonic() < until:
            time.sleep(0.05)  # the log is written after the answer
        return json.loads(f'"{found[-1]}"')[:1000] if found else None

    def ask(self, task, skip):
        """The lines that the site reports; ends early where the site does."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            connection.request("POST", "/~suite", json.dumps(skip), {"host": f"{task['site']}.localhost:{self.port}"})
            answer = connection.getresponse()
            if answer.status != 200:
                yield {"broken": f"{answer.status} {answer.read(300).decode(errors='replace').strip()}"}
                return
            for line in answer:
                if line.strip():
                    yield json.loads(line)
        except (OSError, http.client.HTTPException) as error:
            yield {"lost": f"{type(error).__name__}: {error}"}
        finally:
            connection.close()


def one(sites, task):
    skip, broken = [], None
    for _ in range(ATTEMPTS):
        running, over = None, False
        for line in sites.ask(task, skip):
            if "begin" in line:
                running = line["begin"]
            elif "name" in line:
                running = None
                skip.append(line["name"])
                yield {"file": task["file"], **line}
            elif "end" in line:
                over = True
            elif "broken" in line:
                broken = line["broken"]
        if over or running is None:
            broken = None if over else broken or "the site ended between tests"
            break
        skip.append(running)
        yield {"file": task["file"], "name": running, "ok": False, "error": f"the site ended: {broken or 'no word why'}"}
    result = {"file": task["file"], "name": "(loads)", "ok": broken is None}
    if broken:
        result["error"] = sites.why(task) or broken
    yield result


def results(folder, tasks):
    for at in range(0, len(tasks), AT_ONCE):
        some = tasks[at: at + AT_ONCE]
        with Sites(folder, some) as sites:
            for task in some:
                yield from one(sites, task)
