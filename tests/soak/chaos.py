"""What happens to the server meanwhile: killed workers, new configurations, new certificates."""

import os
import random
import signal
import ssl
import socket
import time

from traffic import Client


class Killer(Client):
    """Kills a worker at random with SIGKILL, whatever it does."""

    rest = 1.5

    def step(self):
        workers = self.setup.workers()
        if workers:
            try:
                os.kill(random.choice(workers), signal.SIGKILL)
                self.tally.add("workers killed")
            except ProcessLookupError:
                pass


class Reloader(Client):
    """Writes a new configuration and has it read. Each fifth one has an error and must be refused."""

    rest = 2.0

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.turn = 0

    def step(self):
        self.turn += 1
        broken = self.turn % 5 == 0
        self.setup.write(broken)
        begun = time.monotonic()
        status, text = self.setup.reload()
        self.tally.time("reload", time.monotonic() - begun)
        if broken:
            fine = status == 1 and "mirors" in text
            self.tally.add("bad configurations refused" if fine else "reload: a bad one was not refused", text[:300])
            self.setup.write()
        elif status == 0:
            self.tally.add("configurations reloaded")
        elif "ended before it was ready" in text:
            # The killer had the worker that was to be the first of a new site: all stays as it was.
            self.tally.add("configurations whose new worker was killed")
        else:
            self.tally.add("reload: refused", f"{status}: {text[:300]}")


class Certifier(Client):
    """Swaps the certificate and waits until new clients see it."""

    rest = 5.0

    def step(self):
        self.setup.certificate()
        begun = time.monotonic()
        while not self.halt.is_set():
            try:
                if self.served() == self.setup.serial:
                    self.tally.time("certificate", time.monotonic() - begun)
                    return self.tally.add("certificates swapped")
            except OSError as error:
                self.tally.add("certificate: no handshake", repr(error))
            if time.monotonic() - begun > 30:
                return self.tally.add("certificate: not served after 30 s", f"serial {self.setup.serial}")
            self.halt.wait(0.25)
        return None

    def served(self):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", self.setup.tls), 10) as one:
            with context.wrap_socket(one, server_hostname="localhost") as tls:
                der = tls.getpeercert(binary_form=True)
        # TBSCertificate: SEQUENCE, SEQUENCE, [0] version, INTEGER serial (RFC 5280, 4.1).
        at = der.index(b"\xa0\x03\x02\x01\x02\x02") + 6
        return int.from_bytes(der[at + 1:at + 1 + der[at]], "big")
