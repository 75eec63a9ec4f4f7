"""`h2` writes valid frames and `hyperframe` invalid ones. The server must reset a malformed request or answer it with 4xx,
end a broken connection, and end a flood before it affects others: another address sends requests all the time."""

import socket
import ssl
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hpack import Encoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/x")]
POST = [(":method", "POST"), *HEAD[1:]]


class Peer:
    """A TLS connection that speaks frames, with no opinion of its own."""

    def __init__(self, server, settings=None, greet=True):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        self.socket = context.wrap_socket(
            socket.create_connection(("127.0.0.1", server.tls), 5), server_hostname="localhost")
        if self.socket.selected_alpn_protocol() != "h2":
            raise RuntimeError("h2 was not chosen")
        self.encoder, self.buffer, self.frames, self.closed = Encoder(), b"", [], False
        if greet:
            self.send(PREFACE + SettingsFrame(0, settings=settings or {}).serialize())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        try:
            self.socket.settimeout(20)
            self.socket.sendall(data)
            return True
        except OSError:
            self.closed = True
            return False

    def frame(self, frame):
        return self.send(frame.serialize())

    def headers(self, stream=1, fields=HEAD, end=True, flags=("END_HEADERS",)):
        block = fields if isinstance(fields, bytes) else self.encoder.encode(fields)
        return HeadersFrame(stream, data=block, flags=[*flags, *(["END_STREAM"] if end else [])])

    def read(self, seconds=2.0, until=lambda frame: False):
        """Reads frames until one fits, the time is over or the peer closed."""
        deadline = time.monotonic() + seconds
        while True:
            while len(self.buffer) >= 9:
                frame, length = Frame.parse_frame_header(memoryview(self.buffer[:9]))
                if len(self.buffer) < 9 + length:
                    break
                frame.parse_body(memoryview(self.buffer[9:9 + length]))
                self.buffer = self.buffer[9 + length:]
                self.frames.append(frame)
                if isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
                    self.frame(SettingsFrame(0, flags=["ACK"]))
                if until(frame):
                    return frame
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self.socket.settimeout(left)
            try:
                piece = self.socket.recv(65536)
            except TimeoutError:
                return None
            except OSError:
                piece = b""
            if not piece:
                self.closed = True
                return None
            self.buffer += piece


def ended(peer, codes=None):
    """The connection must end, by GOAWAY with one of these codes."""
    frame = peer.read(20, lambda frame: isinstance(frame, GoAwayFrame) and frame.error_code != 0)
    if frame is None:
        return None if peer.closed and codes is None else f"no GOAWAY: {peer.frames[-3:]}, closed: {peer.closed}"
    if codes and frame.error_code not in codes:
        # The connection ends, which is what counts; the code is for people who look for the fault.
        note = f"ended with code {frame.error_code} in place of {min(codes)}"
        return (None, note) if frame.error_code == PROTOCOL else note
    return None


def stream_refused(peer, stream=1):
    """The stream must be reset or answered with a 4xx; the connection may end."""
    def fits(frame):
        return isinstance(frame, GoAwayFrame) or (
            frame.stream_id == stream and isinstance(frame, (RstStreamFrame, HeadersFrame)))
    frame = peer.read(20, fits)
    if frame is None:
        return None if peer.closed else f"nothing came: {peer.frames}"
    if isinstance(frame, HeadersFrame):
        import hpack
        fields = hpack.Decoder().decode(frame.data, raw=True)
        status = int(dict(fields)[b":status"])
        return None if 400 <= status < 600 else f"answered {status}"
    return None


def malformed(fields, data=b"", claimed=None):
    """A request that RFC 9113, 8.1.1 calls malformed."""
    def check(server):
        with Peer(server) as peer:
            peer.frame(peer.headers(fields=fields, end=not data))
            if data:
                peer.frame(DataFrame(1, data=data, flags=["END_STREAM"]))
            return stream_refused(peer)
    return check


MALFORMED = {
    "capital letter in a name": malformed(HEAD + [("X-Y", "z")]),
    "no :path": malformed(HEAD[:3]),
    "empty :path": malformed(HEAD[:3] + [(":path", "")]),
    "no :scheme": malformed([HEAD[0], *HEAD[2:]]),
    "no :method": malformed(HEAD[1:]),
    "two :path": malformed(HEAD + [(":path", "/y")]),
    "unknown :pseudo": malformed(HEAD + [(":x", "y")]),
    ":status in a request": malformed(HEAD + [(":status", "200")]),
    "pseudo-header after others": malformed([HEAD[0], ("x", "y"), *HEAD[1:]]),
    "transfer-encoding": malformed(POST + [("transfer-encoding", "chunked")], b"0\r\n\r\n"),
    "connection": malformed(HEAD + [("connection", "close")]),
    "keep-alive": malformed(HEAD + [("keep-alive", "x")]),
    "upgrade": malformed(HEAD + [("upgrade", "h2c")]),
    "te: gzip": malformed(HEAD + [("te", "gzip")]),
    "CR LF in a value": malformed(HEAD + [("x", "a\r\ny: z")]),
    "null in a value": malformed(HEAD + [("x", "a\0b")]),
    "LF in :path": malformed(HEAD[:3] + [(":path", "/a\nb")]),
    "space in :path": malformed(HEAD[:3] + [(":path", "/a HTTP/1.1")]),
    ":path without a slash": malformed(HEAD[:3] + [(":path", "x")]),
    "CR LF in :method": malformed([(":method", "GET / HTTP/1.1\r\nx:"), *HEAD[1:]]),
    "space in :authority": malformed(HEAD[:2] + [(":authority", "local host"), HEAD[3]]),
    "user in :authority": malformed(HEAD[:2] + [(":authority", "a@localhost"), HEAD[3]]),
    "host differs from :authority": malformed(HEAD + [("host", "other")]),
    "no :authority, no host": malformed([HEAD[0], HEAD[1], HEAD[3]]),
    "length above the data": malformed(POST + [("content-length", "5")], b"abc"),
    "length below the data": malformed(POST + [("content-length", "2")], b"abc"),
    "two lengths": malformed(POST + [("content-length", "3"), ("content-length", "4")], b"abc"),
    "length +3": malformed(POST + [("content-length", "+3")], b"abc"),
    "CONNECT": malformed([(":method", "CONNECT"), (":authority", "localhost:80")]),
    "name with a space": malformed(HEAD + [("x y", "z")]),
    "empty name": malformed(HEAD + [("", "z")]),
}


def raw(build, codes=None):
    """Frames after which the connection must end."""
    def check(server):
        with Peer(server) as peer:
            build(peer)
            return ended(peer, codes)
    return check


PROTOCOL, FLOW, STREAM_CLOSED, SIZE, COMPRESSION, CALM = 1, 3, 5, 6, 9, 11


def header(length, kind, flags, stream):
    return length.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")


BROKEN = {
    "DATA on stream 0": raw(lambda p: p.send(header(1, 0, 0, 0) + b"a"), {PROTOCOL}),
    "HEADERS on stream 0": raw(lambda p: p.send(header(1, 1, 5, 0) + b"\x82"), {PROTOCOL}),
    "HEADERS on an even stream": raw(lambda p: p.frame(p.headers(2)), {PROTOCOL}),
    "a stream number that goes back": raw(
        lambda p: (p.frame(p.headers(5)), p.read(0.3), p.frame(p.headers(3))), {PROTOCOL, STREAM_CLOSED}),
    "DATA on an idle stream": raw(lambda p: p.send(header(1, 0, 1, 7) + b"a"), {PROTOCOL, STREAM_CLOSED}),
    "WINDOW_UPDATE on an idle stream": raw(lambda p: p.send(header(4, 8, 0, 7) + b"\0\0\0\1"), {PROTOCOL}),
    "RST_STREAM on an idle stream": raw(lambda p: p.send(header(4, 3, 0, 7) + b"\0\0\0\1"), {PROTOCOL}),
    "WINDOW_UPDATE of 0": raw(lambda p: p.send(header(4, 8, 0, 0) + bytes(4)), {PROTOCOL}),
    "window above 2^31": raw(lambda p: p.send(header(4, 8, 0, 0) + b"\x7f\xff\xff\xff"), {FLOW}),
    "frame of 20,000 bytes": raw(
        lambda p: (p.frame(p.headers(1, POST, end=False)), p.send(header(20_000, 0, 0, 1) + bytes(20_000))), {SIZE}),
    "SETTINGS of 5 bytes": raw(lambda p: p.send(header(5, 4, 0, 0) + bytes(5)), {SIZE}),
    "SETTINGS ACK with data": raw(lambda p: p.send(header(6, 4, 1, 0) + bytes(6)), {SIZE}),
    "SETTINGS on a stream": raw(lambda p: p.send(header(0, 4, 0, 1)), {PROTOCOL}),
    "ENABLE_PUSH of 2": raw(lambda p: p.send(header(6, 4, 0, 0) + b"\0\2\0\0\0\2"), {PROTOCOL}),
    "initial window of 2^31": raw(lambda p: p.send(header(6, 4, 0, 0) + b"\0\4\x80\0\0\0"), {FLOW}),
    "frame size of 1": raw(lambda p: p.send(header(6, 4, 0, 0) + b"\0\5\0\0\0\1"), {PROTOCOL}),
    "PING of 7 bytes": raw(lambda p: p.send(header(7, 6, 0, 0) + bytes(7)), {SIZE}),
    "PING on a stream": raw(lambda p: p.send(header(8, 6, 0, 1) + bytes(8)), {PROTOCOL}),
    "GOAWAY on a stream": raw(lambda p: p.send(header(8, 7, 0, 1) + bytes(8)), {PROTOCOL}),
    "PUSH_PROMISE from a client": raw(
        lambda p: p.frame(PushPromiseFrame(1, 2, data=b"\x82", flags=["END_HEADERS"])), {PROTOCOL}),
    "CONTINUATION without HEADERS": raw(lambda p: p.frame(ContinuationFrame(1, data=b"\x82")), {PROTOCOL}),
    "PING between HEADERS and CONTINUATION": raw(
        lambda p: (p.frame(p.headers(flags=())), p.frame(PingFrame(0))), {PROTOCOL}),
    "CONTINUATION of another stream": raw(
        lambda p: (p.frame(p.headers(flags=())), p.frame(ContinuationFrame(3, data=b"\x82"))), {PROTOCOL}),
    "padding longer than the frame": raw(
        lambda p: (p.frame(p.headers(1, POST, end=False)), p.send(header(2, 0, 8, 1) + b"\xff\0")), {PROTOCOL}),
    "HPACK index that is not there": raw(lambda p: p.frame(p.headers(fields=b"\xff\xff\xff\x0f")), {COMPRESSION}),
    "HPACK integer without end": raw(lambda p: p.frame(p.headers(fields=b"\xff" * 40)), {COMPRESSION}),
    "HPACK string cut off": raw(lambda p: p.frame(p.headers(fields=b"\x40\x0aab")), {COMPRESSION}),
    "HPACK table above its bound": raw(lambda p: p.frame(p.headers(fields=b"\x3f\xff\xff\xff\x07")), {COMPRESSION}),
    "PRIORITY on stream 0": raw(lambda p: p.send(header(5, 2, 0, 0) + bytes(5)), {PROTOCOL}),
}


def flood(server, frames, seconds=120, most=200_000):
    """Sends frames until the server ends the connection; it has to, and others must not notice."""
    before = server.memory()
    with Peer(server) as peer:
        begun, sent, waits = time.monotonic(), 0, []
        for batch in frames(peer):
            if not peer.send(batch[0]):
                break
            sent += batch[1]
            peer.read(0.001)
            if peer.closed or any(isinstance(f, GoAwayFrame) and f.error_code for f in peer.frames):
                break
            if sent % 5000 < batch[1]:
                waits.append(server.alive())
            if sent >= most or time.monotonic() - begun > seconds:
                return f"{sent} frames in {time.monotonic() - begun:.0f} s and still open"
        grown = (server.memory() - before) >> 20
    waits.append(server.alive())
    if None in waits:
        return "others got no answer"
    if grown > 64:
        return f"memory grew by {grown} MiB"
    return None, f"ended after {sent} frames; others waited {max(waits) * 1e3:.0f} ms at most"


def batches(make, size=50):
    def frames(peer):
        number = 0
        while True:
            yield b"".join(make(peer, number + n) for n in range(size)), size
            number += size
    return frames


def rapid_reset(peer, n):
    """CVE-2023-44487."""
    stream = 2 * n + 1
    return peer.headers(stream).serialize() + RstStreamFrame(stream, error_code=8).serialize()


def continuation_flood(peer):
    """CVE-2024-27316: a head without end."""
    yield peer.headers(flags=()).serialize(), 1
    field = Encoder().encode([("x-%d" % n, "y" * 100) for n in range(100)])
    while True:
        yield ContinuationFrame(1, data=field).serialize(), 1


def header_bomb(server):
    """One long header in the HPACK table, named again and again."""
    with Peer(server) as peer:
        block = peer.encoder.encode(HEAD) + Encoder().encode([("x", "y" * 3900)]) + b"\xbe" * 16_000
        for n in range(0, len(block), 16_000):
            last = n + 16_000 >= len(block)
            piece = block[n:n + 16_000]
            if n == 0:
                peer.frame(HeadersFrame(1, data=piece, flags=["END_STREAM", *(["END_HEADERS"] if last else [])]))
            else:
                peer.frame(ContinuationFrame(1, data=piece, flags=["END_HEADERS"] if last else []))
        return stream_refused(peer)


def stalled_windows(server):
    """Many large responses that are never read (CVE-2019-9517's kin): memory stays, others are served."""
    before = server.memory()
    with Peer(server, settings={SettingsFrame.INITIAL_WINDOW_SIZE: 0}) as peer:
        for n in range(100):
            fields = HEAD[:3] + [(":path", "/stream?bytes=100000000")]
            peer.frame(peer.headers(2 * n + 1, fields))
        peer.read(2)
        waited = server.alive()
        grown = (server.memory() - before) >> 20
        gone = ended_or_reset(peer)
    if waited is None:
        return "others got no answer"
    if grown > 96:
        return f"memory grew by {grown} MiB"
    return gone or (None, f"memory grew by {max(grown, 0)} MiB; dropped after write_timeout")


def ended_or_reset(peer):
    peer.read(30, lambda frame: isinstance(frame, (RstStreamFrame, GoAwayFrame)))
    resets = [frame for frame in peer.frames if isinstance(frame, (RstStreamFrame, GoAwayFrame))]
    return None if resets or peer.closed else "nothing was reset after write_timeout"


def client(server, work, **config):
    """A well-behaved client by `h2`."""
    with Peer(server, greet=False) as peer:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8", **config))
        connection.initiate_connection()
        work(connection)
        peer.send(connection.data_to_send())
        events = []
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            peer.socket.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                data = peer.socket.recv(65536)
            except OSError:
                break
            if not data:
                break
            for event in connection.receive_data(data):
                events.append(event)
                if isinstance(event, h2.events.DataReceived):
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            peer.send(connection.data_to_send())
            open_streams = {e.stream_id for e in events if isinstance(e, (h2.events.StreamEnded, h2.events.StreamReset))}
            if len(open_streams) >= connection.wanted:
                break
        return events


def body(events, stream):
    return b"".join(e.data for e in events if isinstance(e, h2.events.DataReceived) and e.stream_id == stream)


def status(events, stream):
    for event in events:
        if isinstance(event, h2.events.ResponseReceived) and event.stream_id == stream:
            return int(dict(event.headers)[":status"])
    return None


def hundred_at_once(server):
    def work(connection):
        connection.wanted = 100
        for n in range(100):
            connection.send_headers(2 * n + 1, HEAD[:3] + [(":path", f"/number/{n}")], end_stream=True)
    events = client(server, work)
    bad = [n for n in range(100) if status(events, 2 * n + 1) != 200
           or f"/number/{n}\"".encode() not in body(events, 2 * n + 1)]
    return f"wrong: {bad}" if bad else None


def upload_with_trailers(server):
    def work(connection):
        connection.wanted = 1
        connection.send_headers(1, POST)
        for _ in range(3):
            connection.send_data(1, b"a" * 16_000)
        connection.send_headers(1, [("x-sum", "1")], end_stream=True)
    events = client(server, work)
    fine = status(events, 1) == 200 and b'"length":48000' in body(events, 1)
    return None if fine else f"{status(events, 1)} {body(events, 1)[:200]}"


def download(server):
    def work(connection):
        connection.wanted = 1
        connection.send_headers(1, HEAD[:3] + [(":path", "/stream?bytes=3000000")], end_stream=True)
    events = client(server, work)
    return None if len(body(events, 1)) == 3_000_000 else f"{len(body(events, 1))} bytes"


def too_many_streams(server):
    with Peer(server) as peer:
        peer.read(0.3)
        for n in range(130):
            peer.frame(peer.headers(2 * n + 1, HEAD[:3] + [(":path", "/never")]))
        peer.read(2)
        refused = {f.stream_id for f in peer.frames if isinstance(f, RstStreamFrame) and f.error_code == 7}
        if not refused and not peer.closed:
            return "130 streams at once and none was refused"
        return None, f"{len(refused)} of 130 refused"


def ping(server):
    with Peer(server) as peer:
        peer.frame(PingFrame(0, opaque_data=b"12345678"))
        frame = peer.read(20, lambda frame: isinstance(frame, PingFrame))
        return None if frame and "ACK" in frame.flags and frame.opaque_data == b"12345678" else "no answer"


def wrong_preface(server):
    with Peer(server, greet=False) as peer:
        peer.send(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n" + SettingsFrame(0).serialize())
        peer.read(20)
        return None if peer.closed or any(isinstance(f, GoAwayFrame) for f in peer.frames) else "still open"


def silent(server):
    with Peer(server, greet=False) as peer:
        peer.read(30)
        return None if peer.closed else "open after 30 s without a preface"


def checks(server):
    yield "a hundred requests at once", lambda: hundred_at_once(server)
    yield "an upload with trailers", lambda: upload_with_trailers(server)
    yield "a download of 3 MB with flow control", lambda: download(server)
    yield "PING is answered", lambda: ping(server)
    for name, check in MALFORMED.items():
        yield f"malformed: {name}", lambda check=check: check(server)
    for name, check in BROKEN.items():
        yield f"broken: {name}", lambda check=check: check(server)
    yield "broken: preface", lambda: wrong_preface(server)
    yield "header bomb by HPACK", lambda: header_bomb(server)
    yield "flood: rapid reset", lambda: flood(server, batches(rapid_reset))
    yield "flood: PING", lambda: flood(server, batches(lambda p, n: PingFrame(0, opaque_data=bytes(8)).serialize()))
    yield "flood: SETTINGS", lambda: flood(server, batches(lambda p, n: SettingsFrame(0).serialize()))
    yield "flood: WINDOW_UPDATE", lambda: flood(
        server, batches(lambda p, n: WindowUpdateFrame(0, window_increment=1).serialize()))
    yield "flood: PRIORITY", lambda: flood(
        server, batches(lambda p, n: header(5, 2, 0, 2 * n + 1) + bytes(4) + b"\x10"))
    yield "flood: empty DATA", lambda: flood(server, empty_data)
    yield "flood: CONTINUATION", lambda: flood(server, continuation_flood)
    yield "flood: malformed streams", lambda: flood(
        server, batches(lambda p, n: HeadersFrame(2 * n + 1, data=Encoder().encode(HEAD[:3]),
                                                  flags=["END_HEADERS", "END_STREAM"]).serialize()))
    yield "responses that are never read", lambda: stalled_windows(server)
    yield "silence", lambda: silent(server)
    # Last: the site's code never answers these, so they fill its mirrors until they time out.
    yield "130 streams at once", lambda: too_many_streams(server)


def empty_data(peer):
    yield peer.headers(1, POST, end=False).serialize(), 1
    while True:
        yield DataFrame(1).serialize() * 50, 50
