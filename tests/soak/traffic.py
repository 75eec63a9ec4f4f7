"""Clients of the soak. Each runs in a thread until it is stopped and counts what it saw."""

import base64
import collections
import http.client
import os
import random
import re
import socket
import ssl
import struct
import subprocess
import threading
import time

PIECES = 16 * 16384


class Tally:
    """Counts, and the first examples of what went wrong."""

    def __init__(self):
        self.lock = threading.Lock()
        self.counts = collections.Counter()
        self.examples = collections.defaultdict(list)
        self.times = collections.defaultdict(list)

    def add(self, name, example=None):
        with self.lock:
            self.counts[name] += 1
            if example is not None and len(self.examples[name]) < 5:
                self.examples[name].append(f"{time.strftime('%H:%M:%S')} {example}")

    def time(self, name, seconds):
        with self.lock:
            self.times[name].append(seconds)


class Client(threading.Thread):
    """One thread that does `step` again and again, `rest` seconds apart."""

    rest = 0.0

    def __init__(self, setup, tally, stop):
        super().__init__(daemon=True)
        self.setup, self.tally, self.halt = setup, tally, stop

    def run(self):
        while not self.halt.is_set():
            try:
                self.step()
            except Exception as error:
                self.tally.add(f"{type(self).__name__}: broke", repr(error))
            if self.rest:
                self.halt.wait(self.rest)


class Good(Client):
    """Requests whose answers are known. `tls` and the share of kinds vary by thread."""

    rest = 0.004

    def __init__(self, *arguments, tls=False):
        super().__init__(*arguments)
        self.tls, self.link = tls, None

    def connect(self):
        if self.tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.link = http.client.HTTPSConnection("127.0.0.1", self.setup.tls, timeout=20, context=context)
        else:
            self.link = http.client.HTTPConnection("127.0.0.1", self.setup.plain, timeout=20)
        self.link.connect()

    def ask_once(self, method, path, body=None, host="good.localhost"):
        """Status and body. A kept connection that was closed before any answer is no loss for a client
        (RFC 9112, 9.3.1): it asks again on a new one."""
        fresh = self.link is None
        if fresh:
            self.connect()
        try:
            self.link.request(method, path, body=body, headers={"host": host})
            answer = self.link.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            self.link.close()
            self.link = None
            if fresh or method == "POST":
                raise
            self.tally.add("kept connections closed")
            return self.ask_once(method, path, body, host)
        except Exception:
            self.link.close()
            self.link = None
            raise
        try:
            data = answer.read()
        except Exception:
            self.link.close()
            self.link = None
            raise
        if answer.will_close:
            self.link.close()
            self.link = None
        return answer.status, data

    def step(self):
        kind = random.choices(["get", "other", "put", "echo", "stream", "fresh"], [50, 10, 10, 15, 10, 5])[0]
        if kind == "fresh" and self.link is not None:
            self.link.close()
            self.link = None
        getattr(self, "get" if kind == "fresh" else kind)()

    def expect(self, name, method, path, fits, body=None):
        begun = time.monotonic()
        try:
            status, data = self.ask_once(method, path, body)
        except Exception as error:
            return self.tally.add(f"{name}: lost", f"{method} {path[:60]}: {error!r}")
        self.tally.time(name, time.monotonic() - begun)
        if fits(status, data):
            return self.tally.add(f"{name}: right")
        return self.tally.add(f"{name}: wrong", f"{method} {path[:60]}: {status} {data[:120]!r}")

    def get(self):
        n = random.randrange(1 << 30)
        self.expect("GET", "GET", f"/hello?n={n}", lambda status, data: (status, data) == (200, f"hello {n}".encode()))

    def other(self):
        n = random.randrange(1 << 30)
        self.expect("GET by another site", "GET", f"/other?n={n}",
                    lambda status, data: (status, data) == (200, f"hello {n}".encode()))

    def put(self):
        n = random.randrange(50)
        self.expect("PUT state", "PUT", f"/note?n={n}", lambda status, data: status == 204, body=b"note %d" % n)
        self.expect("GET state", "GET", f"/note?n={n}",
                    lambda status, data: status == 200 and data in (b"note %d" % n, b"none"))

    def echo(self):
        body = os.urandom(random.choice([1, 1000, 100_000]))
        self.expect("POST", "POST", "/echo", lambda status, data: status == 200 and data == body, body=body)

    def stream(self):
        self.expect("stream", "GET", "/stream", lambda status, data: status == 200 and len(data) == PIECES)


class Http2(Client):
    """GETs over HTTP/2 and TLS by `h2load`, a few hundred at a time."""

    def step(self):
        done = subprocess.run(
            ["h2load", "-n", "400", "-c", "4", "-m", "5", "--rps", "25", "-H", ":authority: good.localhost",
             f"https://127.0.0.1:{self.setup.tls}/hello?n=1"],
            capture_output=True, text=True, timeout=60,
        )
        right = re.search(r"status codes: (\d+) 2xx", done.stdout)
        right = int(right.group(1)) if right else 0
        with self.tally.lock:
            self.tally.counts["GET over HTTP/2: right"] += right
        if right != 400:
            self.tally.add("GET over HTTP/2: lost", done.stdout[-400:] + done.stderr[-200:])


class Counter(Good):
    """Counts up in the shared state. What was acknowledged must be there at the end."""

    rest = 0.05

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.acknowledged = self.unknown = self.highest = 0

    def step(self):
        try:
            status, data = self.ask_once("POST", "/count", body=b"")
        except ConnectionRefusedError as error:
            # Nothing was asked. While the server runs it must not happen.
            if not self.setup.down:
                return self.tally.add("count: broke", repr(error))
            return self.halt.wait(0.05)
        except Exception as error:
            self.unknown += 1
            return self.tally.add("count: lost", repr(error))
        if status != 200:
            self.unknown += 1
            return self.tally.add(f"count: {status}")
        value = int(data)
        if value <= self.highest:
            self.tally.add("count: went back", f"{value} after {self.highest}")
        self.highest = max(self.highest, value)
        self.acknowledged += 1
        return self.tally.add("count: right")


class Socket(Client):
    """A WebSocket that echoes, kept as long as it holds."""

    def step(self):
        with socket.create_connection(("127.0.0.1", self.setup.plain), 20) as one:
            one.settimeout(20)
            key = base64.b64encode(os.urandom(16)).decode()
            one.sendall((f"GET /socket HTTP/1.1\r\nhost: good.localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                         f"sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n").encode())
            buffer = b""
            while b"\r\n\r\n" not in buffer:
                piece = one.recv(4096)
                if not piece:
                    return self.tally.add("socket: not opened", repr(buffer))
                buffer += piece
            if b" 101 " not in buffer:
                return self.tally.add("socket: not opened", repr(buffer[:80]))
            self.tally.add("socket: opened")
            buffer = buffer.split(b"\r\n\r\n", 1)[1]
            while not self.halt.is_set():
                text = b"%d" % random.randrange(1 << 30)
                one.sendall(b"\x81" + bytes([0x80 | len(text)]) + b"\0\0\0\0" + text)
                while len(buffer) < 2 or len(buffer) < 2 + (buffer[1] & 127):
                    piece = one.recv(4096)
                    if not piece:
                        return self.tally.add("socket: cut without a close frame")
                    buffer += piece
                length = buffer[1] & 127
                frame, buffer = buffer[:2 + length], buffer[2 + length:]
                if frame[0] == 0x88:
                    code = struct.unpack(">H", frame[2:4])[0] if length >= 2 else 0
                    return self.tally.add(f"socket: closed by the server ({code})")
                if frame[0] == 0x89:
                    one.sendall(b"\x8a" + bytes([0x80 | length]) + b"\0\0\0\0" + frame[2:])
                elif frame[0] == 0x81 and frame[2:] == text:
                    self.tally.add("socket: right")
                else:
                    self.tally.add("socket: wrong", repr(frame))
                self.halt.wait(0.02)
        return None


class Hostile(Good):
    """Asks the hostile sites, whatever comes of it."""

    rest = 0.05

    def __init__(self, *arguments, deeds):
        super().__init__(*arguments)
        self.deeds = deeds

    def step(self):
        deed = random.choice(self.deeds)
        try:
            with socket.create_connection(("127.0.0.1", self.setup.plain), 15) as one:
                one.settimeout(15)
                one.sendall(f"GET / HTTP/1.1\r\nhost: {deed}.localhost\r\nconnection: close\r\n\r\n".encode())
                first = one.recv(4096)
                # What floods is read for a moment, then dropped.
                until = time.monotonic() + 0.3
                while time.monotonic() < until and one.recv(65536):
                    pass
            status = first.split(b" ", 2)[1].decode() if first else "cut"
        except TimeoutError:
            return self.tally.add(f"hostile {deed}: no answer in 15 s", deed)
        except OSError:
            status = "cut"
        return self.tally.add(f"hostile {deed}: {status}")
