"""`slowhttptest`: the four slow attacks from one address, with more connections than one address may have. Another
address sends requests at the same time, and the server must answer them meanwhile."""

import re
import subprocess
import threading
import time

LIMITS = {"connections": 2000}
# A response that is read slowly holds its place in a mirror. 4 mirrors have 400 places, more than one address
# may have connections (256).
MIRRORS = 4


def attack(server, *arguments, tls=False, most_wait=5.0, most_memory=64):
    scheme, port = ("https", server.tls) if tls else ("http", server.plain)
    def check():
        slowest, failed, stop = 0.0, 0, threading.Event()
        def probe():
            nonlocal slowest, failed
            while not stop.wait(0.2):
                took = server.alive()
                failed += took is None
                slowest = max(slowest, took or 0)
        thread = threading.Thread(target=probe)
        thread.start()
        before = server.memory()
        done = subprocess.run(
            ["slowhttptest", "-c", "1000", "-r", "500", "-l", "15", "-i", "2", "-p", "2",
             "-u", f"{scheme}://127.0.0.1:{port}/", *arguments],
            capture_output=True, text=True, timeout=90,
        )
        grown = (server.memory() - before) >> 20
        stop.set()
        thread.join()
        text = re.sub(r"\x1b\[[\d;]*m", "", done.stdout)
        ends = re.findall(r"Exit status:\s*(.+)", text)
        until = time.monotonic() + 60
        while server.descriptors() > 200 and time.monotonic() < until:
            time.sleep(0.1)
        if failed or slowest > most_wait:
            return f"another address: {failed} failed, the slowest took {slowest:.2f} s"
        if grown > most_memory:
            return f"memory grew by {grown} MiB"
        if server.descriptors() > 200:
            return f"{server.descriptors()} descriptors are open a minute later"
        return None, f"others waited {slowest * 1e3:.0f} ms at most, memory +{max(grown, 0)} MiB; {ends[-1] if ends else 'ended'}"
    return check


def checks(server):
    yield "slow head (slowloris, -H)", attack(server, "-H")
    yield "slow body (R.U.D.Y., -B)", attack(server, "-B", "-s", "100000")
    yield "many ranges (Apache killer, -R)", attack(server, "-R")
    # 256 responses at once; of each, half a megabyte is read ahead before the guest has to wait.
    yield "slow read (-X)", attack(
        server, "-X", "-w", "10", "-y", "20", "-n", "3", "-z", "16", "-k", "3",
        "-u", f"http://127.0.0.1:{server.plain}/stream?bytes=10000000", most_wait=5.0, most_memory=192)
    yield "slow head over TLS", attack(server, "-H", tls=True)
