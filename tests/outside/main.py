"""Runs third-party tools against a `stockade serve` of its own and reports the results.

    tests/outside/run.sh [--quick] [--only TEXT] [--write]

`--quick` leaves out what takes long or needs installing; `--write` renews docs/outside.md. A check whose note begins with
`skipped` has not run, and fails where `CI` is set; one with `not here` needs what a machine may lack.
"""

import argparse
import importlib
import json
import os
import re
import subprocess
import sys
import textwrap
import time
from importlib import metadata

from server import ROOT, Server

QUICK = [
    "http1", "http2", "websocket", "curl", "drivers", "dev", "admin", "dashboard", "traces",
    "docs", "kubernetes", "images", "backup", "upgrade",
    "clients-node", "clients-python", "mcp",
]
ALL = [*QUICK, "load", "slow", "smuggle", "wallets", "packages", "systemd"]
SKIPPED = ("skipped", "not here")
TITLES = {
    "http1": "HTTP/1.1 by hand, over a socket",
    "http2": "HTTP/2 frame by frame, python `h2` and `hyperframe`",
    "websocket": "WebSocket frame by frame, python `wsproto`",
    "curl": "`curl`",
    "drivers": "Clients of npm in sites",
    "dev": "A site of `hono` and `zod`, from an empty folder",
    "traces": "Traces, received by `grpcio` and `opentelemetry-proto`",
    "admin": "The admin API: `schemathesis`",
    "docs": "The commands of the documents",
    "kubernetes": "Kubernetes: kustomize, Helm and `kubernetes-validate`",
    "images": "Container engines, AppArmor",
    "backup": "Backups under load",
    "upgrade": "A restart behind sockets of a service manager",
    "systemd": "The package under systemd, in a machine of its own",
    "load": "`h2load` and `wrk`",
    "slow": "`slowhttptest`",
    "smuggle": "`smugglex`",
    "dashboard": "The dashboard in Chromium, by `playwright` and `axe-core`",
    "packages": "Packages: `dpkg`, `npm`, `pip`",
    "clients-python": "The client for Python, and `mypy`",
    "clients-node": "The client for Node, `@cloudflare/codemode`, TanStack AI, AI SDK and Mastra",
    "mcp": "`stockade mcp`: `@modelcontextprotocol/sdk`, `@modelcontextprotocol/client`, `inspector-cli`, python `mcp`",
    "wallets": "Nostr, Electrum and Lightning: `nostr-relay`, `ElectrumX`, `bcoin`, `@getalby/sdk`, `LNbits`",
}
# Short ones, so that the slow attacks end within seconds; the rest are the defaults.
LIMITS = {"header_timeout": "3s", "body_timeout": "3s", "idle_timeout": "6s", "write_timeout": "4s"}


def attempt(check):
    """What is wrong, or None, and a note."""
    try:
        problem = check()
    except Exception as error:  # a check that breaks has failed
        problem = f"{type(error).__name__}: {error}"
    return problem if isinstance(problem, tuple) else (problem, None)


def run(group, only, rows, quick, renew):
    module = importlib.import_module(group)
    failed = 0
    mirrors = getattr(module, "MIRRORS", 2)
    kind = module.server(quick) if hasattr(module, "server") else Server
    with kind({**LIMITS, **getattr(module, "LIMITS", {})}, mirrors=mirrors) as server:
        for name, check in module.checks(server):
            if only and only not in f"{group} {name}":
                continue
            begun = time.monotonic()
            problem, note = attempt(check)
            if problem:
                # Once more: on a machine that does other work a time may be missed.
                first = problem
                problem, note = attempt(check)
                problem = problem and f"{problem}; at the first try: {first}"
                note = note if problem else f"{note or 'as it must be'}, at the second try; at the first: {first}"
            took = time.monotonic() - begun
            skipped = not problem and (note or "").startswith(SKIPPED)
            if skipped and note.startswith("skipped") and os.environ.get("CI"):
                problem = note
            failed += problem is not None
            rows.append({"group": group, "name": name, "problem": problem, "note": note, "seconds": round(took, 2)})
            print(f"{'FAIL' if problem else 'skip' if skipped else 'ok  '} {group}: {name}"
                  + (f": {problem}" if problem else f" ({note})" if note else ""), flush=True)
        if renew and hasattr(module, "write"):
            module.write(server)
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


def versions():
    """What the tools call themselves."""
    asked = {"curl": "--version", "h2load": "--version", "wrk": "-v", "slowhttptest": "-v"}
    named = []
    for tool, flag in asked.items():
        try:
            done = subprocess.run([tool, flag], capture_output=True, text=True, timeout=10)
        except OSError:
            continue
        number = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
        named.append(f"{tool} {number.group(0)}" if number else tool)
    named += [f"{name} {metadata.version(name)}" for name in ("h2", "hyperframe", "wsproto", "schemathesis")]
    return ", ".join([*named, "smugglex 0.4.0"])


def write(rows):
    """Renews the groups that were run; the others stay as they were."""
    kept = ROOT / "docs/outside.json"
    before = json.loads(kept.read_text()) if kept.exists() else []
    fresh = {row["group"] for row in rows}
    rows = rows + [row for row in before if row["group"] not in fresh]
    rows.sort(key=lambda row: ALL.index(row["group"]))
    kept.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    lines = [
        "# Third-party tools", "",
        "`./x outside` runs tools and clients of other projects against a real `stockade serve` on loopback, and",
        "`./x outside --write` writes this page. These timeouts are shortened so that slow attacks end soon:",
        f"`{json.dumps(LIMITS)}`. All other settings have their defaults.", "",
        f"Versions: {versions()}.", "",
        "`./x outside --suite deno|wpt|workerd|hono FOLDER` runs the test suites of other projects in guests.",
        "[tests/outside/suites](../tests/outside/suites/README.md) describes which parts, and which tests are expected to fail.", "",
        "`testssl.sh` and `sslyze` test TLS: [tls.md](tls.md#results-of-scanners)." if (ROOT / "docs/tls.md").exists() else "",
        "",
    ]
    for group in ALL:
        mine = [row for row in rows if row["group"] == group]
        if not mine:
            continue
        passed = sum(row["problem"] is None for row in mine)
        about = " ".join(importlib.import_module(group).__doc__.split())
        lines += [f"## {TITLES[group]}", "", *textwrap.wrap(about, 112), "",
                  f"**{passed} of {len(mine)}** passed.", ""]
        notable = [row for row in mine if row["problem"] or row["note"]]
        if notable:
            lines += ["| check | result |", "|---|---|"]
            lines += [f"| {row['name']} | {'**' + row['problem'] + '**' if row['problem'] else row['note']} |" for row in notable]
            lines.append("")
        quiet = [row["name"] for row in mine if row not in notable]
        lines += textwrap.wrap(" · ".join(quiet), 112, break_long_words=False, break_on_hyphens=False)
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
            failed += run(group, options.only, rows, options.quick, options.write)
    if options.write:
        write(rows)
    skipped = [row for row in rows if not row["problem"] and (row["note"] or "").startswith(SKIPPED)]
    print(f"{len(rows) - failed - len(skipped)} passed, {failed} failed, {len(skipped)} skipped")
    for row in skipped:
        print(f"     {row['group']}: {row['name']} ({row['note']})")
    return 1 if failed or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
