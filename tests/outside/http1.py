"""Hand-written HTTP/1.1. The server must answer an ambiguous request with 4xx or 5xx and close the connection, even if
another request follows. It must answer a valid request and then read the following one as it was sent."""

import socket

HOST = b"host: localhost\r\n"
NEXT = b"GET /smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n"


def request(server, data, half_close=False, timeout=15):
    """Sends bytes, gives what comes until the server closes or is silent for longer than it waits for a client, and whether
    it closed."""
    with socket.create_connection(("127.0.0.1", server.plain), 5) as one:
        try:
            one.sendall(data)
            if half_close:
                one.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        one.settimeout(timeout)
        answer = b""
        while True:
            try:
                piece = one.recv(65536)
            except TimeoutError:
                return answer, False
            except OSError:
                return answer, True
            if not piece:
                return answer, True
            answer += piece


def statuses(answer):
    """Status of each response; bodies of the site never hold this text."""
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


def post(headers, body=b""):
    return b"POST /x HTTP/1.1\r\n" + HOST + headers + b"\r\n" + body


def get(headers=b"", target=b"/x", host=HOST):
    return b"GET " + target + b" HTTP/1.1\r\n" + host + headers + b"\r\n"


CHUNKED = b"transfer-encoding: chunked\r\n"

# name: what is sent. Each must be answered once, by a 4xx or 5xx, and the connection closed, so that
# nothing after it is ever read as a request.
REFUSED = {
    "CL and TE": post(b"content-length: 5\r\n" + CHUNKED, b"0\r\n\r\n"),
    "TE and CL": post(CHUNKED + b"content-length: 5\r\n", b"0\r\n\r\n"),
    "two lengths that differ": post(b"content-length: 3\r\ncontent-length: 5\r\n", b"abcde"),
    "two lengths that are equal": post(b"content-length: 3\r\ncontent-length: 3\r\n", b"abc"),
    "a list of lengths": post(b"content-length: 3, 3\r\n", b"abc"),
    "length +3": post(b"content-length: +3\r\n", b"abc"),
    "length -1": post(b"content-length: -1\r\n", b"abc"),
    "length 0x3": post(b"content-length: 0x3\r\n", b"abc"),
    "length 3 3": post(b"content-length: 3 3\r\n", b"abc"),
    "length 1e1": post(b"content-length: 1e1\r\n", b"abc"),
    "empty length": post(b"content-length: \r\n", b"abc"),
    "length beyond 64 bits": post(b"content-length: 99999999999999999999999\r\n", b"abc"),
    "TE with a space before the colon": post(b"transfer-encoding : chunked\r\n", b"0\r\n\r\n"),
    "CL with a space before the colon": post(b"content-length : 3\r\n", b"abc"),
    "TE xchunked": post(b"transfer-encoding: xchunked\r\n", b"0\r\n\r\n"),
    "TE identity": post(b"transfer-encoding: identity\r\n", b"0\r\n\r\n"),
    "TE chunked, identity": post(b"transfer-encoding: chunked, identity\r\n", b"0\r\n\r\n"),
    "TE identity, chunked": post(b"transfer-encoding: identity, chunked\r\n", b"0\r\n\r\n"),
    "TE gzip, chunked": post(b"transfer-encoding: gzip, chunked\r\n", b"0\r\n\r\n"),
    "TE twice": post(CHUNKED + CHUNKED, b"0\r\n\r\n"),
    "TE chunked, then x": post(CHUNKED + b"transfer-encoding: x\r\n", b"0\r\n\r\n"),
    "TE with a vertical tab": post(b"transfer-encoding: \x0bchunked\r\n", b"0\r\n\r\n"),
    "TE with a quote": post(b'transfer-encoding: "chunked"\r\n', b"0\r\n\r\n"),
    "TE with a null": post(b"transfer-encoding: chunked\0\r\n", b"0\r\n\r\n"),
    "TE in HTTP/1.0": b"POST /x HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n0\r\n\r\n",
    "bare LF ends lines": b"GET /x HTTP/1.1\nhost: localhost\n\n",
    "bare LF ends one header": b"GET /x HTTP/1.1\r\nhost: localhost\r\nx: y\nz: w\r\n\r\n",
    "bare LF ends the head": b"GET /x HTTP/1.1\r\nhost: localhost\r\n\n",
    "bare CR in a value": get(b"x: y\rz: w\r\n"),
    "bare CR before the colon": get(b"x\r: y\r\n"),
    "null in a value": get(b"x: a\0b\r\n"),
    "folded header": get(b"x: a\r\n b\r\n"),
    "folded with a tab": get(b"x: a\r\n\tb\r\n"),
    "first header begins with a space": b"GET /x HTTP/1.1\r\n x: y\r\nhost: localhost\r\n\r\n",
    "space in a name": get(b"x y: z\r\n"),
    "empty name": get(b": z\r\n"),
    "no colon": get(b"nothing\r\n"),
    "bad name": get(b"x(y): z\r\n"),
    "high byte in a name": get(b"x\xff: z\r\n"),
    "chunk size 0x3": post(CHUNKED, b"0x3\r\nabc\r\n0\r\n\r\n"),
    "chunk size +3": post(CHUNKED, b"+3\r\nabc\r\n0\r\n\r\n"),
    "chunk size -3": post(CHUNKED, b"-3\r\nabc\r\n0\r\n\r\n"),
    "chunk size with a space before": post(CHUNKED, b" 3\r\nabc\r\n0\r\n\r\n"),
    "chunk size of 17 digits": post(CHUNKED, b"10000000000000003\r\nabc\r\n0\r\n\r\n"),
    "empty chunk size": post(CHUNKED, b"\r\nabc\r\n0\r\n\r\n"),
    "chunk size ends in LF": post(CHUNKED, b"3\nabc\r\n0\r\n\r\n"),
    "chunk ends in LF": post(CHUNKED, b"3\r\nabc\n0\r\n\r\n"),
    "chunk longer than its size": post(CHUNKED, b"3\r\nabcd\r\n0\r\n\r\n"),
    "LF in a chunk extension": post(CHUNKED, b"3;a\nb\r\nabc\r\n0\r\n\r\n"),
    "CR in a chunk extension": post(CHUNKED, b"3;a\rb\r\nabc\r\n0\r\n\r\n"),
    "8 KiB of chunk extension": post(CHUNKED, b"3;" + b"a" * 8192 + b"\r\nabc\r\n0\r\n\r\n"),
    "folded trailer": post(CHUNKED, b"0\r\nx: a\r\n b\r\n\r\n"),
    "trailer ends in LF": post(CHUNKED, b"0\r\nx: a\n\r\n"),
    "no host": get(host=b""),
    "two hosts": get(b"host: other\r\n"),
    "empty host": get(host=b"host: \r\n"),
    "host with user": get(host=b"host: a@localhost\r\n"),
    "host with path": get(host=b"host: localhost/x\r\n"),
    "host with a space": get(host=b"host: local host\r\n"),
    "target and host differ": b"GET http://other/x HTTP/1.1\r\n" + HOST + b"\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/1.2": b"GET /x HTTP/1.2\r\n" + HOST + b"\r\n",
    "HTTP/2.0 in letters": b"GET /x HTTP/2.0\r\n" + HOST + b"\r\n",
    "http/1.1 in small letters": b"GET /x http/1.1\r\n" + HOST + b"\r\n",
    "two spaces in the first line": b"GET  /x HTTP/1.1\r\n" + HOST + b"\r\n",
    "tab in the first line": b"GET\t/x HTTP/1.1\r\n" + HOST + b"\r\n",
    "space at the end of the first line": b"GET /x HTTP/1.1 \r\n" + HOST + b"\r\n",
    "space in the target": b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
    "null in the target": b"GET /a\0b HTTP/1.1\r\n" + HOST + b"\r\n",
    "bad method": b"GE(T /x HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT": b"CONNECT localhost:80 HTTP/1.1\r\nhost: localhost:80\r\n\r\n",
    "TLS to the plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    "target of 9 KiB": get(target=b"/" + b"a" * 9 * 1024),
    "header of 40 KiB": get(b"x: " + b"a" * 40 * 1024 + b"\r\n"),
    "200 headers": get(b"".join(b"x%d: y\r\n" % n for n in range(200))),
    "10,000 empty headers": get(b"x:\r\n" * 10_000),
    "length of a terabyte": post(b"content-length: 1099511627776\r\n", b"abc"),
}

# Each may be answered with any status, but once, and what follows must be read as the next request.
EXACT = {
    "upgrade to h2c": (
        get(b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"),
        # What comes before the upgrade was answered may not be read as anything.
        {200, (200, 400)},
    ),
    "length of 3": (post(b"content-length: 3\r\n", b"abc"), {200}),
    "chunks with an extension": (post(CHUNKED, b"3;a=b\r\nabc\r\n0\r\n\r\n"), {200}),
    "chunks with a trailer": (post(CHUNKED, b"3\r\nabc\r\n0\r\nx: y\r\n\r\n"), {200}),
    "TE Chunked in large letters": (post(b"Transfer-Encoding: CHUNKED\r\n", b"3\r\nabc\r\n0\r\n\r\n"), {200}),
    "body of a GET": (get(b"content-length: 3\r\n") + b"abc", {200}),
    "an empty line before": (b"\r\n" + get(), {200}),
    "encoded slash": (get(target=b"/a%2fb"), {400}),
    "encoded null": (get(target=b"/a%00b"), {400}),
    "bad escape": (get(target=b"/a%zz"), {400}),
    "dots above the root": (get(target=b"/a/../../../etc/passwd"), {200, 400}),
    "encoded dots": (get(target=b"/%2e%2e/%2e%2e/etc/passwd"), {200, 400}),
    "backslashes": (get(target=b"/a\\..\\b"), {200, 400}),
    "unknown expectation": (get(b"expect: 200-ok\r\n"), {200, 417}),
    "TRACE": (b"TRACE /x HTTP/1.1\r\n" + HOST + b"\r\n", {405, 501}),
}


def refused(server, data):
    # What comes behind is on the way already, as an attacker sends it.
    answer, closed = request(server, data + NEXT)
    codes = statuses(answer)
    if not closed:
        return f"the connection stayed open: {codes} {answer[:80]!r}"
    if b"smuggled" in answer or len(codes) > 1:
        return f"what follows was read as a request: {codes}"
    if codes and codes[0] < 400:
        return f"answered {codes[0]}"
    return None


def exact(server, data, allowed):
    answer, _ = request(server, data + get(b"connection: close\r\n", target=b"/behind"))
    codes = [code for code in statuses(answer) if code != 100]
    if tuple(codes) in allowed:
        return None
    if not codes or codes[0] not in allowed:
        return f"answered {codes}, not one of {allowed}: {answer[:80]!r}"
    if len(codes) == 2 and (codes[1] != 200 or b"/behind" not in answer):
        return f"what follows was not read as it was sent: {codes}"
    if len(codes) > 2 or (len(codes) == 1 and codes[0] == 200):
        return f"{len(codes)} answers to two requests: {codes}"
    return None


def pipelined(server):
    wanted = [b"/one", b"/two", b"/three"]
    data = b"".join(get(target=target) for target in wanted[:-1]) + get(b"connection: close\r\n", target=wanted[-1])
    answer, _ = request(server, data)
    places = [answer.find(target + b'"') for target in wanted]
    return None if statuses(answer) == [200] * 3 and -1 not in places and places == sorted(places) else repr(answer)


def continued(server):
    """RFC 9110, 10.1.1: 100 before the body is sent, and the body then counts."""
    with socket.create_connection(("127.0.0.1", server.plain), 5) as one:
        one.sendall(post(b"content-length: 3\r\nexpect: 100-continue\r\nconnection: close\r\n"))
        first = one.recv(4096)
        if not first.startswith(b"HTTP/1.1 100"):
            return repr(first)
        one.sendall(b"abc")
        answer = first[first.find(b"\r\n\r\n") + 4:]
        while piece := one.recv(4096):
            answer += piece
        return None if b" 200 " in answer and b'"length":3' in answer else repr(answer)


def head(server):
    answer, _ = request(server, b"HEAD / HTTP/1.1\r\n" + HOST + b"connection: close\r\n\r\n")
    fine = b" 200 " in answer and b"content-length: 6" in answer.lower() and answer.endswith(b"\r\n\r\n")
    return None if fine else repr(answer)


def byte_by_byte(server):
    with socket.create_connection(("127.0.0.1", server.plain), 5) as one:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        data = post(CHUNKED + b"connection: close\r\n", b"3\r\nabc\r\n2;x\r\nde\r\n0\r\nt: u\r\n\r\n")
        for byte in data:
            one.sendall(bytes([byte]))
        answer = b""
        while piece := one.recv(4096):
            answer += piece
    return None if b" 200 " in answer and b'"length":5' in answer else repr(answer)


def checks(server):
    for name, data in REFUSED.items():
        yield name, lambda data=data: refused(server, data)
    for name, (data, allowed) in EXACT.items():
        yield name, lambda data=data, allowed=allowed: exact(server, data, allowed)
    yield "three requests at once", lambda: pipelined(server)
    yield "100 Continue", lambda: continued(server)
    yield "HEAD has no body", lambda: head(server)
    yield "a request byte by byte", lambda: byte_by_byte(server)
