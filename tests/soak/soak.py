"""Mixed traffic on good and hostile sites, while workers are killed, configurations reloaded and
certificates swapped. What must hold: no good request is lost that may be asked again, nothing acknowledged is
lost, and after the first third the supervisor's memory, descriptors, threads and processes do not grow.

    ./x soak [--minutes 5] [--write]

`--write` renews docs/soak.md, docs/soak.json and docs/soak.svg.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import threading
import time

import report
from chaos import Certifier, Killer, Reloader
from setup import DEEDS, ROOT, Setup
from traffic import Client, Counter, Good, Hostile, Http2, Socket, Tally

# Kinds of requests that are asked again elsewhere when their mirror dies: none may fail.
NEVER_LOST = ["GET", "GET by another site", "GET state", *(["GET over HTTP/2"] if shutil.which("h2load") else [])]
# Kinds whose body or answer was already under way: a killed worker may cost those that it had.
MAY_BE_CUT = ["POST", "PUT state", "stream", "count", "socket"]
# Good requests that one worker may have at once, by all threads of this soak.
AT_ONCE = 8


class Sampler(Client):
    rest = 1.0

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.begun, self.samples = time.monotonic(), []

    def step(self):
        usage = self.setup.usage()
        if self.setup.ask("/healthz") != 200:
            self.tally.add("health: not 200")
        self.samples.append({"second": round(time.monotonic() - self.begun, 1), **usage})


def growth(samples, name):
    """Median of the second third and of the last."""
    values = [sample[name] for sample in samples]
    third = len(values) // 3
    return statistics.median(values[third:2 * third]), statistics.median(values[2 * third:])


def judge(tally, samples, counter, final, status):
    problems = []
    counts = tally.counts
    for name in NEVER_LOST:
        for fault in ("lost", "wrong"):
            if counts[f"{name}: {fault}"]:
                problems.append(f"{name}: {counts[f'{name}: {fault}']} {fault}: {tally.examples[f'{name}: {fault}']}")
        if not counts[f"{name}: right"]:
            problems.append(f"{name}: none was right")
    # The supervisor's own end, at last, cuts off what it counts then.
    bound = 8 + (counts["workers killed"] + counts["configurations reloaded"]) * AT_ONCE
    for name in MAY_BE_CUT:
        cut = sum(count for key, count in counts.items()
                  if key.startswith(f"{name}: ") and not key.endswith(("right", "opened")))
        if cut > bound:
            problems.append(f"{name}: {cut} were cut, more than {bound}")
        if not counts[f"{name}: right"]:
            problems.append(f"{name}: none was right")
    for key in counts:
        if key.endswith((": broke", "no answer in 15 s", "went back", "not 200", "after 30 s", "not refused")) \
                or key in ("reload: refused", "certificate: no handshake", "socket: wrong"):
            problems.append(f"{key}: {counts[key]} {tally.examples[key]}")
    if not counter.acknowledged <= final <= counter.acknowledged + counter.unknown:
        problems.append(f"the count is {final}, acknowledged were {counter.acknowledged}, unknown {counter.unknown}")
    for name, room in [("memory_mib", 16), ("descriptors", 24), ("threads", 8), ("processes", 8)]:
        middle, last = growth(samples, name)
        if last > middle * 1.1 + room:
            problems.append(f"{name} grew from {middle} to {last}")
    if status != 0:
        problems.append(f"it stopped with {status}")
    return problems


def clients(setup, tally, stop):
    arguments = (setup, tally, stop)
    return [
        *[Good(*arguments) for _ in range(3)],
        Good(*arguments, tls=True),
        *([Http2(*arguments)] if shutil.which("h2load") else []),
        *[Socket(*arguments) for _ in range(3)],
        *[Hostile(*arguments, deeds=DEEDS) for _ in range(3)],
        Killer(*arguments), Reloader(*arguments), Certifier(*arguments),
    ]


def count_at_end(setup, tally, stop):
    asker = Good(setup, tally, stop)
    for _ in range(20):
        try:
            status, data = asker.ask_once("GET", "/count")
            if status == 200:
                return json.loads(data)
        except Exception:
            pass
        time.sleep(0.5)
    return -1


def killed_supervisor(setup, tally, stop, counter):
    """Kills the supervisor itself while it counts: its workers must go with it, and a new one must find every
    increment that was acknowledged."""
    problems = []
    workers = [pid for pid, _, _ in setup.descendants()]
    halt = threading.Event()
    again = [Counter(setup, tally, halt) for _ in range(4)]
    for one in again:
        one.rest = 0
        one.start()
    time.sleep(1)
    setup.down = True
    setup.process.kill()
    setup.process.wait()
    halt.set()
    for one in again:
        one.join(30)
    until = time.monotonic() + 10
    while (left := [pid for pid in workers if alive(pid)]) and time.monotonic() < until:
        time.sleep(0.05)
    if left:
        problems.append(f"{len(left)} processes outlived the supervisor")
    setup.output.close()
    setup.start()
    counter.acknowledged += sum(one.acknowledged for one in again)
    counter.unknown += sum(one.unknown for one in again)
    return problems


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=5)
    options.add_argument("--write", action="store_true")
    options.add_argument("--keep", action="store_true", help="keep the folder of the server")
    options = options.parse_args()
    setup, tally, stop = Setup(), Tally(), threading.Event()
    setup.start()
    counter, sampler = Counter(setup, tally, stop), Sampler(setup, tally, stop)
    threads = [*clients(setup, tally, stop), counter, sampler]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    try:
        while (left := options.minutes * 60 - (time.monotonic() - began)) > 0 and setup.process.poll() is None:
            time.sleep(min(left, 15))
            last = sampler.samples[-1] if sampler.samples else {}
            print(f"{time.monotonic() - began:4.0f} s: {sum(v for k, v in tally.counts.items() if k.endswith('right'))} right, "
                  f"{tally.counts['workers killed']} killed, {last}", flush=True)
    finally:
        stop.set()
        died = setup.process.poll()
        for thread in threads:
            thread.join(30)
        killed = killed_supervisor(setup, tally, stop, counter) if died is None else []
        final = count_at_end(setup, tally, stop) if died is None else -1
        status = setup.stop() if died is None else f"{died}, by itself"
    problems = judge(tally, sampler.samples, counter, final, status) + killed
    output = (setup.folder / "output.txt").read_text(errors="replace")
    log = (setup.folder / "log.txt").read_text(errors="replace") if (setup.folder / "log.txt").exists() else ""
    if "panicked" in output + log:
        problems.append("something panicked: " + next(l for l in (output + log).splitlines() if "panicked" in l)[:300])
    result = {
        "minutes": options.minutes,
        "machine": f"{os.cpu_count()} cores, Linux {platform.release().split('-')[0]}",
        "passed": not problems,
        "problems": problems,
        "counts": dict(sorted(tally.counts.items())),
        "examples": {key: value for key, value in tally.examples.items()},
        "seconds": {name: {"p50": statistics.median(times), "p99": sorted(times)[int(len(times) * 0.99)], "most": max(times)}
                    for name, times in sorted(tally.times.items()) if times},
        "growth": {name: growth(sampler.samples, name) for name in ("memory_mib", "descriptors", "threads", "processes")},
        "count": {"acknowledged": counter.acknowledged, "unknown": counter.unknown, "final": final},
        "samples": sampler.samples,
    }
    print(json.dumps({key: value for key, value in result.items() if key != "samples"}, indent=1))
    if options.write:
        report.write(result, ROOT / "docs")
    if options.keep or problems:
        print(f"kept: {setup.folder}")
    else:
        shutil.rmtree(setup.folder, ignore_errors=True)
    print("soak: passed" if not problems else "soak: FAILED\n  " + "\n  ".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
