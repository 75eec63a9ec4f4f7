"""A `stockade serve` of its own for the outside tools: loopback only, ports that are free, a folder in /tmp."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# The environment in which `node` is the version that run.sh chose. Elsewhere it is the machine's, to which its `npm` belongs.
NODE_20 = {**os.environ, "PATH": f"{os.environ.get('STOCKADE_OUTSIDE_NODE', '')}:{os.environ['PATH']}".lstrip(":")}


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def processes(*command):
    """The ids of the processes that run exactly this command."""
    wanted = b"".join(os.fsencode(word) + b"\0" for word in command)
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            if path.read_bytes() == wanted:
                found.append(path.parent.name)
    return found


class Server:
    """Runs until it is left. `limits` go into the configuration's `limits`."""

    def __init__(self, limits, binary=None, mirrors=2):
        self.binary = binary or os.environ.get("STOCKADE", str(ROOT / "target/release/stockade"))
        self.folder = Path(tempfile.mkdtemp(prefix="stockade-outside-"))
        self.plain, self.tls, self.metrics = free_port(), free_port(), free_port()
        self.limits, self.mirrors = limits, mirrors

    def __enter__(self):
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-keyout", self.folder / "key.pem", "-out", self.folder / "cert.pem", "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
            check=True, capture_output=True,
        )
        public = self.folder / "public"
        public.mkdir()
        (public / "asset.txt").write_text("0123456789" * 1000)
        config = {
            "version": "1.0",
            "listeners": [
                {"address": f"127.0.0.1:{self.plain}", "tls": False},
                {"address": f"127.0.0.1:{self.tls}", "tls": True},
            ],
            "tls": {"certificates": [{"cert": str(self.folder / "cert.pem"), "key": str(self.folder / "key.pem")}]},
            "https_redirect": False,
            "instances": {
                "site": {
                    "code": str(HERE / "site/index.js"),
                    "assets": {"folder": str(public)},
                    "urls": ["/"],
                    "mirrors": self.mirrors,
                    "limits": {"memory": "128mb", "timeout": "5s"},
                },
                **self.more_instances(),
            },
            "limits": self.limits,
            # What a check leaves open is not waited for.
            "drain_timeout": "5s",
            "metrics": {"listen": f"127.0.0.1:{self.metrics}"},
            "logging": {"level": "warn", "access": False, "file": str(self.folder / "log.txt")},
            **self.more_config(),
        }
        path = self.folder / "stockade.yaml"
        path.write_text(json.dumps(config))
        self.output = open(self.folder / "output.txt", "wb")
        self.process = subprocess.Popen(
            [self.binary, "serve", str(path)], stdout=self.output, stderr=subprocess.STDOUT,
        )
        until = time.monotonic() + 90
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", self.metrics), 1) as one:
                    one.sendall(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                    if b" 200 " in one.recv(100):
                        return self
            except OSError:
                pass
            time.sleep(0.05)
        raise RuntimeError("the server did not start:\n" + (self.folder / "output.txt").read_text())

    def more_config(self):
        """Further keys at the top."""
        return {}

    def more_instances(self):
        """Further entries of `instances`."""
        return {}

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.output.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def alive(self, source="127.0.0.2", timeout=20.0):
        """Seconds that a plain request from another address takes; None: no good answer. Seconds are not what decides: the
        machine may be busy. A client that an attack holds up gets no answer."""
        begun = time.monotonic()
        try:
            with socket.create_connection(("127.0.0.1", self.plain), timeout, (source, 0)) as one:
                one.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                answer = b""
                while piece := one.recv(4096):
                    answer += piece
        except OSError:
            return None
        return time.monotonic() - begun if b" 200 " in answer and b"hello" in answer else None

    def memory(self):
        """Resident bytes of the supervisor."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))
