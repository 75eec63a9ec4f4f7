"""`curl` over HTTP/1.1 and HTTP/2, with and without TLS."""

import json
import os
import subprocess


def curl(server, *arguments, data=None, tls=True):
    scheme, port = ("https", server.tls) if tls else ("http", server.plain)
    arguments = [part.replace("URL", f"{scheme}://127.0.0.1:{port}") for part in arguments]
    done = subprocess.run(
        ["curl", "-sk", "--max-time", "20", "-w", "\n%{stderr}%{http_code} %{http_version} %{size_download}", *arguments],
        input=data, capture_output=True, timeout=30,
    )
    last = done.stderr.decode().strip().splitlines()[-1:] or [""]
    return done.returncode, last[0], done.stdout[:-1] if done.stdout.endswith(b"\n") else done.stdout


def expect(wanted, *arguments, data=None, tls=True, body=None):
    def check(server):
        code, line, got = curl(server, *arguments, data=data, tls=tls)
        if code != 0 or not line.startswith(wanted):
            return f"exit {code}, {line!r}, not {wanted!r}"
        return None if body is None or body(got) else f"body {got[:200]!r}"
    return check


def fails(*arguments):
    def check(server):
        code, line, _ = curl(server, *arguments)
        return None if code != 0 else f"it succeeded: {line}"
    return check


def length(count):
    return lambda got: json.loads(got)["length"] == count


CHECKS = {
    "plain HTTP/1.1": expect("200 1.1", "--http1.1", "URL/", tls=False),
    "plain HTTP/2 by prior knowledge": expect("200 2", "--http2-prior-knowledge", "URL/", tls=False),
    "plain, asked to upgrade to HTTP/2": expect("200 1.1", "--http2", "URL/", tls=False),
    "HTTP/1.1 over TLS": expect("200 1.1", "--http1.1", "URL/"),
    "HTTP/2 over TLS": expect("200 2", "--http2", "URL/"),
    "HTTP/1.0": expect("200 1", "--http1.0", "URL/", tls=False),
    "TLS 1.2": expect("200 2", "--tlsv1.2", "--tls-max", "1.2", "URL/"),
    "TLS 1.3": expect("200 2", "--tlsv1.3", "URL/"),
    "TLS 1.1 is refused": fails("--tlsv1.1", "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0", "URL/"),
    "HEAD": expect("200 2 0", "-I", "-o", "/dev/null", "URL/"),
    "POST of 10 MB with a length": expect(
        "200 2", "--data-binary", "@-", "URL/up", data=b"a" * 10_000_000, body=length(10_000_000)),
    "PUT of 10 MB in chunks": expect(
        "200 1.1", "--http1.1", "-T", "-", "URL/up", data=b"a" * 10_000_000, body=length(10_000_000)),
    "POST with Expect: 100-continue": expect(
        "200 1.1", "--http1.1", "-H", "expect: 100-continue", "--data-binary", "@-", "URL/up",
        data=b"a" * 100_000, body=length(100_000)),
    "download of 50 MB": expect("200 2 50000000", "-o", "/dev/null", "URL/stream?bytes=50000000"),
    "a limited download": expect("200 2 200000", "--limit-rate", "100k", "-o", "/dev/null", "URL/stream?bytes=200000"),
    "an asset": expect("200 2 10000", "-o", "/dev/null", "URL/asset.txt"),
    "a range of an asset": expect("206 2 5", "-r", "10-14", "URL/asset.txt", body=lambda got: got == b"01234"),
    "a range at its end": expect("206 2 3", "-r", "-3", "URL/asset.txt", body=lambda got: got == b"789"),
    "a range beyond it": expect("416 2", "-r", "20000-", "URL/asset.txt"),
    "a compressed asset": expect(
        "200 2", "--compressed", "URL/asset.txt", body=lambda got: len(got) == 10_000),
    "paths outside the assets": expect("400 2", "--path-as-is", "URL/../../../../etc/passwd"),
    "a form": expect("200 2", "-F", "file=@/etc/hostname", "URL/up"),
    "unknown method": expect("200 2", "-X", "PURGE", "URL/up"),
    "two requests on one connection": expect("200 2", "URL/one", "URL/two"),
    "twenty requests in parallel": lambda server: parallel(server),
}


def parallel(server):
    code, line, got = curl(server, "--parallel", *[f"URL/{n}" for n in range(20)])
    return None if code == 0 and got.count(b'"method":"GET"') == 20 else f"exit {code}, {line}"


def checks(server):
    yield from ((name, lambda check=check: check(server)) for name, check in CHECKS.items())
