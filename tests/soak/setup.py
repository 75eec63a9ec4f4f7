"""The server that is soaked: its folder, certificates, configuration and processes."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DEEDS = ["loop", "microtasks", "bomb", "buffers", "leak", "throw", "crash", "never", "headers", "console", "flood",
         "state", "timers", "background"]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Setup:
    def __init__(self, binary=None):
        self.binary = binary or os.environ.get("STOCKADE", str(ROOT / "target/release/stockade"))
        self.folder = Path(tempfile.mkdtemp(prefix="stockade-soak-"))
        self.plain, self.tls, self.metrics = free_port(), free_port(), free_port()
        self.config = self.folder / "stockade.yaml"
        self.version = self.serial = 0
        self.down = False

    def certificate(self):
        """A new certificate, put in place as Kubernetes does: a symbolic link is swapped."""
        self.serial += 1
        folder = self.folder / f"tls-{self.serial}"
        folder.mkdir()
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-days", "2", "-subj", "/CN=localhost",
             "-set_serial", str(self.serial), "-addext", "subjectAltName=DNS:localhost"],
            check=True, capture_output=True,
        )
        link = self.folder / "tls-next"
        link.symlink_to(folder)
        link.rename(self.folder / "tls")

    def write(self, broken=False):
        """The configuration; each one changes one site, the others stay as they are."""
        self.version += 1
        limits = {"memory": "48mb", "cpu": "200ms", "timeout": "1s", "wait_until": "1s", "queue_timeout": "1s"}
        instances = {
            "good": {
                "code": str(HERE / "sites/good.js"), "urls": ["good.localhost"], "mirrors": 3,
                "state": {"storage": "20mb"}, "bindings": {"other": "other"},
                "recycle": {"requests": 2000},
            },
            # Changed by every second configuration: it drains while it serves.
            "other": {
                "code": str(HERE / "sites/good.js"), "urls": ["other.localhost"], "mirrors": 2, "state": True,
                "env": {"VERSION": str(self.version // 2)},
            },
        }
        for deed in DEEDS:
            instances[deed] = {
                "code": str(HERE / "sites/hostile.js"), "urls": [f"{deed}.localhost"], "limits": limits,
                "env": {"DEED": deed}, "state": {"storage": "1mb"},
            }
        if self.version % 3 == 0:
            instances["extra"] = {"code": str(HERE / "sites/good.js"), "urls": ["extra.localhost"], "state": True}
        config = {
            "version": "1.0",
            "listeners": [
                {"address": f"127.0.0.1:{self.plain}", "tls": False},
                {"address": f"127.0.0.1:{self.tls}", "tls": True},
            ],
            "tls": {"certificates": [{"cert": str(self.folder / "tls/cert.pem"), "key": str(self.folder / "tls/key.pem")}]},
            "https_redirect": False,
            "limits": {"requests_per_connection": 10_000_000},
            "instances": instances,
            "metrics": {"listen": f"127.0.0.1:{self.metrics}"},
            "logging": {"level": "warn", "access": False, "file": str(self.folder / "log.txt")},
            "state": {"path": str(self.folder / "state.db")},
            "drain_timeout": "5s",
            "watch": False,
        }
        if broken:
            config["instances"]["good"]["mirors"] = 3
        text = json.dumps(config, indent=1)
        new = self.folder / "next.yaml"
        new.write_text(text)
        new.rename(self.config)

    def start(self):
        self.certificate()
        self.write()
        self.output = open(self.folder / "output.txt", "ab")
        self.process = subprocess.Popen(
            [self.binary, "serve", str(self.config)], stdout=self.output, stderr=subprocess.STDOUT)
        until = time.monotonic() + 60
        while time.monotonic() < until and self.process.poll() is None:
            if self.ask("/readyz") == 200:
                return
            time.sleep(0.1)
        raise RuntimeError("the server did not start:\n" + (self.folder / "output.txt").read_text()[-3000:])

    def ask(self, path):
        try:
            with socket.create_connection(("127.0.0.1", self.metrics), 2) as one:
                one.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
                return int(one.recv(100).split(b" ", 2)[1])
        except (OSError, IndexError, ValueError):
            return None

    def reload(self):
        done = subprocess.run(
            [self.binary, "reload", "--control", str(self.folder / "stockade.sock")],
            capture_output=True, text=True, timeout=60)
        return done.returncode, (done.stdout + done.stderr).strip()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = "killed after 60 s"
        self.output.close()
        return status

    def descendants(self):
        """All processes below the supervisor, as far as this one may look: (number, parent, name)."""
        parents = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    name, rest = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)
                except OSError:
                    continue
                state, parent = rest.split()[:2]
                if state != "Z":
                    parents[int(entry)] = (int(parent), name.split("(", 1)[1])
        below, frontier = [], {self.process.pid}
        while frontier:
            next_ones = {pid for pid, (parent, _) in parents.items() if parent in frontier}
            below += [(pid, *parents[pid]) for pid in next_ones]
            frontier = next_ones
        return below

    def workers(self):
        """Processes that have no children."""
        below = self.descendants()
        parents = {parent for _, parent, _ in below}
        return [pid for pid, _, _ in below if pid not in parents]

    def usage(self):
        """What the supervisor uses."""
        fields = {}
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            fields[name] = value
        anonymous = int(fields["RssAnon"].split()[0]) / 1024
        return {
            "memory_mib": round(anonymous, 1),
            "resident_mib": round(int(fields["VmRSS"].split()[0]) / 1024, 1),
            "descriptors": len(os.listdir(f"/proc/{self.process.pid}/fd")),
            "threads": int(fields["Threads"]),
            "processes": len(self.descendants()),
        }
