"""Runs the outside tools against a `stockade serve` of its own and says what came of it.

    tests/outside/run.sh [--quick] [--only TEXT] [--write]

`--quick` leaves out what takes long or needs installing; `--write` renews docs/outside.md.
"""

import argparse
import importlib
import json
import sys
import time

from server import ROOT, Server

QUICK = ["http1", "http2", "websocket", "curl"]
ALL = [*QUICK, "load", "slow", "smuggle"]
TITLES = {
    "http1": "HTTP/1.1 by hand, over a socket",
    "http2": "HTTP/2 frame by frame, python `h2` and `hyperframe`",
    "websocket": "WebSocket frame by frame, python `wsproto`",
    "curl": "`curl`",
    "load": "`h2load` and `wrk`",
    "slow": "`slowhttptest`",
    "smuggle": "`smugglex`",
}
# Short ones, so that the slow attacks end within seconds; the rest are the defaults.
LIMITS = {"header_timeout": "3s", "body_timeout": "3s", "idle_timeout": "6s", "write_timeout": "4s"}


def run(group, only, rows):
    module = importlib.import_module(group)
    failed = 0
    mirrors = getattr(module, "MIRRORS", 2)
    with Server({**LIMITS, **getattr(module, "LIMITS", {})}, mirrors=mirrors) as server:
        for name, check in module.checks(server):
            if only and only not in f"{group} {name}":
                continue
            begun = time.monotonic()
            note = None
            try:
                problem = check()
                if isinstance(problem, tuple):
                    problem, note = problem
            except Exception as error:  # a check that breaks has failed
                problem = f"{type(error).__name__}: {error}"
            took = time.monotonic() - begun
            failed += problem is not None
            rows.append({"group": group, "name": name, "problem": problem, "note": note, "seconds": round(took, 2)})
            print(f"{'FAIL' if problem else 'ok  '} {group}: {name}"
                  + (f": {problem}" if problem else f" ({note})" if note else ""), flush=True)
        after = server.alive()
        rows.append({
            "group": group, "name": "the server answers afterwards", "seconds": 0, "note": None,
            "problem": None if after else "it does not",
        })
        if not after:
            failed += 1
            print(f"FAIL {group}: the server does not answer afterwards; exit status {server.process.poll()}")
            print((server.folder / "output.txt").read_text()[-2000:])
        log = (server.folder / "log.txt").read_text() if (server.folder / "log.txt").exists() else ""
        if "panick" in log + (server.folder / "output.txt").read_text():
            failed += 1
            print(f"FAIL {group}: something panicked")
    return failed


def write(rows):
    lines = [
        "# Outside tools", "",
        "Tools and clients that others wrote, run against a real `stockade serve` on loopback by `./x outside`.",
        "This file is made by it (`./x outside --write`). Timeouts are shortened so that the slow attacks end soon:",
        f"`{json.dumps(LIMITS)}`; all else are the defaults.", "",
        "TLS is looked at by `testssl.sh` and `sslyze`: [tls.md](tls.md)." if (ROOT / "docs/tls.md").exists() else "",
        "",
    ]
    for group in ALL:
        mine = [row for row in rows if row["group"] == group]
        if not mine:
            continue
        passed = sum(row["problem"] is None for row in mine)
        lines += [f"## {TITLES[group]}", "", f"{passed} of {len(mine)} as they must be.", ""]
        if any(row["note"] for row in mine):
            lines += ["| check | result |", "|---|---|"]
            lines += [f"| {row['name']} | {row['problem'] or row['note'] or 'as it must be'} |" for row in mine]
        else:
            bad = [row for row in mine if row["problem"]]
            lines.append(", ".join(row["name"] for row in mine) + ".")
            lines += [f"- **{row['name']}**: {row['problem']}" for row in bad]
        lines.append("")
    (ROOT / "docs/outside.md").write_text("\n".join(lines).rstrip() + "\n")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--only", default="")
    arguments.add_argument("--write", action="store_true")
    options = arguments.parse_args()
    rows, failed = [], 0
    groups = QUICK if options.quick else ALL
    for group in groups:
        if not options.only or options.only.split(" ")[0] == group:
            failed += run(group, options.only, rows)
    if options.write:
        write(rows)
    print(f"{len(rows) - failed} passed, {failed} failed")
    return 1 if failed or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
