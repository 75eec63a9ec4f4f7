"""`wsproto` writes valid frames, and invalid ones are written by hand (RFC 6455). The server must answer a broken frame
with a close frame that has the right code, and end the connection."""

import base64
import os
import socket
import struct
import time

import wsproto
from wsproto.events import (
    AcceptConnection, BytesMessage, CloseConnection, Ping, Pong, RejectConnection, Request, TextMessage,
)

KEY = base64.b64encode(os.urandom(16))
UPGRADE = {
    b"upgrade": b"websocket",
    b"connection": b"Upgrade",
    b"sec-websocket-version": b"13",
    b"sec-websocket-key": KEY,
}


class Client:
    """A client by `wsproto`."""

    def __init__(self, server):
        self.socket = socket.create_connection(("127.0.0.1", server.plain), 5)
        self.socket.settimeout(30)
        self.protocol = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self.events = []
        self.send(Request(host="localhost", target="/socket"))
        first = self.next()
        if not isinstance(first, AcceptConnection):
            raise RuntimeError(f"not accepted: {first}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, event):
        self.socket.sendall(self.protocol.send(event))

    def next(self):
        while not self.events:
            data = self.socket.recv(65536)
            self.protocol.receive_data(data or None)
            self.events += self.protocol.events()
            if not data and not self.events:
                raise RuntimeError("closed without a close frame")
        return self.events.pop(0)

    def message(self):
        whole = None
        while True:
            event = self.next()
            if not isinstance(event, (TextMessage, BytesMessage)):
                raise RuntimeError(f"no message: {event}")
            whole = event.data if whole is None else whole + event.data
            if event.message_finished:
                return whole


def echo(server):
    with Client(server) as one:
        for data in ["text", "ü🦀", "", "x" * 100_000]:
            one.send(TextMessage(data))
            if (back := one.message()) != data:
                return f"{data[:20]!r} came back as {back[:20]!r}"
        for data in [b"", b"\0\xff", os.urandom(500_000)]:
            one.send(BytesMessage(data))
            if bytes(back := one.message()) != data:
                return f"{len(data)} bytes came back as {len(back)}"
    return None


def fragments(server):
    with Client(server) as one:
        one.send(TextMessage("a", message_finished=False))
        one.send(Ping(b"between"))
        one.send(TextMessage("", message_finished=False))
        one.send(TextMessage("ü"))
        pong = one.next()
        if not isinstance(pong, Pong) or bytes(pong.payload) != b"between":
            return f"no pong: {pong}"
        return None if (back := one.message()) == "aü" else repr(back)


def closing(server):
    with Client(server) as one:
        one.send(CloseConnection(4321, "bye"))
        event = one.next()
        if not isinstance(event, CloseConnection) or event.code != 4321:
            return repr(event)
        return None if one.socket.recv(1) == b"" else "the connection stayed open"


def thousand(server):
    with Client(server) as one:
        begun = time.monotonic()
        for n in range(1000):
            one.send(TextMessage(str(n)))
        for n in range(1000):
            if (back := one.message()) != str(n):
                return f"{back} in place of {n}"
        return None, f"in {time.monotonic() - begun:.2f} s"


def upgrade(server, changes=None, method=b"GET", version=b"1.1"):
    """Opens by hand; gives the socket and the head of the answer."""
    fields = {**UPGRADE, **(changes or {})}
    one = socket.create_connection(("127.0.0.1", server.plain), 5)
    one.settimeout(30)
    one.sendall(method + b" /socket HTTP/" + version + b"\r\nhost: localhost\r\n"
                + b"".join(name + b": " + value + b"\r\n" for name, value in fields.items() if value is not None)
                + b"\r\n")
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = one.recv(4096)
        if not piece:
            break
        answer += piece
    return one, answer


def handshake(changes, statuses, method=b"GET", version=b"1.1"):
    def check(server):
        one, answer = upgrade(server, changes, method, version)
        one.close()
        status = int(answer.split(b" ", 2)[1])
        return None if status in statuses else f"answered {status}, not {statuses}"
    return check


HANDSHAKES = {
    "no key": handshake({b"sec-websocket-key": None}, {400}),
    "short key": handshake({b"sec-websocket-key": b"c2hvcnQ="}, {400}),
    "key that is not base64": handshake({b"sec-websocket-key": b"!!!!!!!!!!!!!!!!!!!!!!!!"}, {400}),
    "no version": handshake({b"sec-websocket-version": None}, {400, 426}),
    "version 12": handshake({b"sec-websocket-version": b"12"}, {400, 426}),
    "POST": handshake({b"content-length": b"0"}, {400, 405, 200, 500, 502}, method=b"POST"),
    "HTTP/1.0": handshake({}, {400, 426, 505, 500, 502}, version=b"1.0"),
    "with a body": handshake({b"content-length": b"5"}, {400}),
}


def frame(opcode, payload=b"", fin=True, masked=True, bits=0, length=None):
    """A frame as it is, right or wrong."""
    size = len(payload) if length is None else length
    head = bytes([(0x80 if fin else 0) | bits | opcode])
    mask_bit = 0x80 if masked else 0
    if size < 126:
        head += bytes([mask_bit | size])
    elif size < 65536:
        head += bytes([mask_bit | 126]) + struct.pack(">H", size)
    else:
        head += bytes([mask_bit | 127]) + struct.pack(">Q", size)
    mask = b"\x11\x22\x33\x44"
    if masked:
        payload = bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))
    return head + (mask if masked else b"") + payload


def broken(data, codes):
    """The server must close with one of these codes, and the connection with it."""
    def check(server):
        one, answer = upgrade(server)
        with one:
            if b" 101 " not in answer:
                return f"no upgrade: {answer[:60]!r}"
            got = answer.split(b"\r\n\r\n", 1)[1]
            try:
                one.sendall(data)
                while piece := one.recv(65536):
                    got += piece
            except TimeoutError:
                return f"the connection stayed open: {got[:40]!r}"
            except OSError:
                pass
        if len(got) < 4 or got[0] != 0x88:
            return f"no close frame: {got[:40]!r}"
        code = struct.unpack(">H", got[2:4])[0]
        return None if code in codes else f"closed with {code}, not {codes}"
    return check


BROKEN = {
    "frame without a mask": broken(frame(1, b"a", masked=False), {1002}),
    "reserved bit 1": broken(frame(1, b"a", bits=0x40), {1002}),
    "reserved bit 3": broken(frame(1, b"a", bits=0x10), {1002}),
    "opcode 3": broken(frame(3, b"a"), {1002}),
    "opcode 15": broken(frame(15, b"a"), {1002}),
    "continuation of nothing": broken(frame(0, b"a"), {1002}),
    "text within text": broken(frame(1, b"a", fin=False) + frame(1, b"b"), {1002}),
    "ping in fragments": broken(frame(9, b"a", fin=False), {1002}),
    "ping of 126 bytes": broken(frame(9, b"a" * 126), {1002}),
    "close of 1 byte": broken(frame(8, b"\x03"), {1002}),
    "close with code 999": broken(frame(8, struct.pack(">H", 999)), {1002}),
    "close with code 1005": broken(frame(8, struct.pack(">H", 1005)), {1002}),
    "close with code 1006": broken(frame(8, struct.pack(">H", 1006)), {1002}),
    "close with a reason that is not UTF-8": broken(frame(8, struct.pack(">H", 1000) + b"\xff"), {1002, 1007}),
    "text that is not UTF-8": broken(frame(1, b"\xff\xfe"), {1007}),
    "text with half a character": broken(frame(1, b"\xc3"), {1007}),
    "text with a surrogate": broken(frame(1, b"\xed\xa0\x80"), {1007}),
    "length of 2^63": broken(frame(2, length=1 << 63), {1002, 1009}),
    "length of 2^40": broken(frame(2, length=1 << 40), {1009}),
    "message of 2 MiB": broken(frame(2, bytes(2 << 20)), {1009}),
    "2 MiB in fragments": broken(
        frame(2, bytes(300_000), fin=False) + frame(0, bytes(300_000), fin=False) * 6 + frame(0), {1009}),
}


def long_length(server):
    """RFC 6455, 5.2: the fewest bytes must be used for a length. Many servers take more; it means the same."""
    one, answer = upgrade(server)
    with one:
        one.sendall(b"\x81\xff" + struct.pack(">Q", 5) + b"\0\0\0\0hello")
        got = answer.split(b"\r\n\r\n", 1)[1] or one.recv(100)
    if got[:1] == b"\x88":
        return None, "refused"
    return (None, "taken, though RFC 6455 wants the shortest form") if got == b"\x81\x05hello" else repr(got)


def ping_flood(server):
    """Pings that are answered to nobody: the server must not gather answers without bound."""
    before = server.memory()
    one, answer = upgrade(server)
    with one:
        if b" 101 " not in answer:
            return "no upgrade"
        one.settimeout(1)
        sent, begun = 0, time.monotonic()
        try:
            while time.monotonic() - begun < 5:
                one.sendall(frame(9, b"x" * 125) * 100)
                sent += 100
        except OSError:
            pass
        waited = server.alive()
        grown = (server.memory() - before) >> 20
    if waited is None:
        return "others got no answer"
    return f"memory grew by {grown} MiB" if grown > 32 else (None, f"{sent} pings taken, others waited {waited * 1e3:.0f} ms")


def checks(server):
    yield "echo of text and bytes", lambda: echo(server)
    yield "fragments with a ping between", lambda: fragments(server)
    yield "close with a code of its own", lambda: closing(server)
    yield "a thousand messages in order", lambda: thousand(server)
    for name, check in HANDSHAKES.items():
        yield f"handshake: {name}", lambda check=check: check(server)
    for name, check in BROKEN.items():
        yield f"broken: {name}", lambda check=check: check(server)
    yield "a length of 5 in 8 bytes", lambda: long_length(server)
    yield "pings whose answers are not read", lambda: ping_flood(server)
