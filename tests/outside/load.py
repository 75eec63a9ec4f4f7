"""`h2load` and `wrk`: the server must answer every request, and must not have grown afterwards."""

import re
import subprocess

LIMITS = {"requests_per_connection": 10_000_000}


def h2load(server, *arguments, tls=True):
    scheme, port = ("https", server.tls) if tls else ("http", server.plain)
    def check():
        done = subprocess.run(
            ["h2load", *[part.replace("URL", f"{scheme}://127.0.0.1:{port}") for part in arguments]],
            capture_output=True, text=True, timeout=120,
        )
        text = done.stdout
        counts = re.search(r"requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed", text)
        rate = re.search(r"finished in [\d.]+\w+, ([\d.]+) req/s", text)
        codes = re.search(r"status codes: (\d+) 2xx", text)
        if not counts or not codes:
            return f"no result: {text[-300:]} {done.stderr[-200:]}"
        total, _, succeeded, failed = map(int, counts.groups())
        if succeeded != total or failed or int(codes.group(1)) != total:
            return f"{counts.group(0)}; {codes.group(0)}"
        return None, f"{total} requests, all 2xx, {float(rate.group(1)):.0f} a second"
    return check


def wrk(server, path, *arguments):
    def check():
        done = subprocess.run(
            ["wrk", "-t2", "-d5s", "--latency", *arguments, f"http://127.0.0.1:{server.plain}{path}"],
            capture_output=True, text=True, timeout=60,
        )
        text = done.stdout
        rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
        p99 = re.search(r"99%\s+(\S+)", text)
        if not rate or "Socket errors" in text or "Non-2xx" in text:
            return text
        return None, f"{float(rate.group(1)):.0f} a second, p99 {p99.group(1)}"
    return check


def steady(server):
    grown = (server.memory() - server.before) >> 20
    waited = server.alive()
    if waited is None:
        return "others got no answer"
    return f"memory grew by {grown} MiB" if grown > 200 else (None, f"memory grew by {grown} MiB, {server.descriptors()} descriptors")


def checks(server):
    server.before = server.memory()
    body = server.folder / "body"
    body.write_bytes(b"a" * 16_384)
    yield "h2load, HTTP/2, 50 connections of 20 streams", h2load(server, "-n", "50000", "-c", "50", "-m", "20", "URL/")
    yield "h2load, HTTP/1.1 over TLS, 50 connections", h2load(server, "--h1", "-n", "30000", "-c", "50", "URL/")
    yield "h2load, HTTP/2 without TLS, one connection of 100 streams", h2load(
        server, "-n", "30000", "-c", "1", "-m", "100", "URL/", tls=False)
    yield "h2load, POST of 16 KiB", h2load(
        server, "-n", "5000", "-c", "20", "-m", "10", "-d", str(body), "URL/up")
    yield "h2load, windows of 16 KiB", h2load(
        server, "-n", "200", "-c", "10", "-m", "5", "-w", "14", "-W", "16", "URL/stream?bytes=300000")
    yield "wrk, 64 connections", wrk(server, "/", "-c64")
    yield "wrk, 64 connections, an asset", wrk(server, "/asset.txt", "-c64")
    yield "wrk, 200 connections, a stream of 64 KiB", wrk(server, "/stream?bytes=65536", "-c200")
    yield "afterwards", lambda: steady(server)
