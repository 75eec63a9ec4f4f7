"""A restart of `stockade serve` under load, behind sockets that a service manager holds, as systemd does with stockade.socket.
Clients open connections, and keep others alive, all the time."""

import http.client
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from docs import Pages
from steady import Clients

SITE = """\
export default {
  async fetch(request: Request): Promise<Response> {
    const slow = new URL(request.url).pathname === "/slow";
    if (slow) await new Promise((resolve) => setTimeout(resolve, 1500));
    return new Response(slow ? "slow\\n" : "hello\\n");
  },
};
"""
RESTARTS = 3


class Manager:
    """Holds a socket, and starts the server with it, as sd_listen_fds(3) says."""

    def __init__(self, folder, binary, output):
        self.folder, self.binary = folder, binary
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = self.socket.getsockname()[1]
        (folder / "site").mkdir()
        (folder / "site/index.ts").write_text(SITE)
        (folder / "stockade.yaml").write_text(f"""\
version: "1.0"
listeners: [{{ address: "127.0.0.1:{self.port}" }}]
instances: {{ site: {{ code: ./site, urls: ["*"], mirrors: 2, state: true }} }}
logging: {{ access: false, level: warn }}
drain_timeout: 10s
""")
        self.log = open(output, "ab")

    def start(self):
        # The number of the process is known in the process alone.
        given = self.socket.fileno()
        self.process = subprocess.Popen(
            ["bash", "-c", f'LISTEN_PID=$$ exec "$0" serve stockade.yaml 3<&{given}', str(self.binary)],
            cwd=self.folder, pass_fds=[given], env={**os.environ, "LISTEN_FDS": "1"}, stdout=self.log, stderr=subprocess.STDOUT)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def server(quick):
    return Pages


def checks(pages):
    def restart():
        # One for each try.
        folder = Path(tempfile.mkdtemp(dir=pages.folder))
        manager = Manager(folder, pages.binary, Path(pages.folder) / "output.txt")
        manager.start()
        clients = Clients(manager.port)
        slow, statuses = [], []

        def ask_slowly():
            connection = http.client.HTTPConnection("127.0.0.1", manager.port, timeout=60)
            try:
                connection.request("GET", "/slow")
                answer = connection.getresponse()
                slow.append((answer.status, answer.read()))
            except (OSError, http.client.HTTPException) as error:
                slow.append((0, repr(error)))

        try:
            for _ in range(RESTARTS):
                until = clients.answers + 400
                while clients.answers < until and manager.process.poll() is None:
                    time.sleep(0.05)
                asking = threading.Thread(target=ask_slowly)
                asking.start()
                time.sleep(0.5)
                statuses.append(manager.stop())
                manager.start()
                asking.join()
            until = clients.answers + 400
            while clients.answers < until and manager.process.poll() is None:
                time.sleep(0.05)
        finally:
            clients.stop()
            statuses.append(manager.stop())
            manager.socket.close()
        if any(statuses):
            return f"the server ended with {statuses}"
        if slow != [(200, b"slow\n")] * RESTARTS:
            return f"requests that were running: {slow}"
        if clients.lost:
            return f"{len(clients.lost)} of {clients.answers} requests were lost: {clients.lost[:3]}"
        return None, (f"{RESTARTS} restarts, {clients.answers} answers, none refused or lost; {clients.again} requests on kept "
                      f"connections crossed their end and were sent again; a request waited {clients.longest:.1f} s at most")

    return [("no connection is refused, and no request is lost", restart)]
