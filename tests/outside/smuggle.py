"""`smugglex`, a scanner for request smuggling."""

import json
import os
import shutil
import subprocess

LIMITS = {"connections_per_address": 2000}


def binary():
    here = os.environ.get("STOCKADE_OUTSIDE_TOOLS", "")
    return shutil.which("smugglex") or shutil.which(os.path.join(here, "bin/smugglex"))


def scan(server, *arguments, tls=False):
    def check():
        tool = binary()
        if tool is None:
            return None, "skipped: smugglex is not installed"
        scheme, port = ("https", server.tls) if tls else ("http", server.plain)
        report = server.folder / "smugglex.json"
        report.unlink(missing_ok=True)
        done = subprocess.run(
            [tool, f"{scheme}://127.0.0.1:{port}/up", "-t", "3", "-k", "-f", "json", "-o", str(report), *arguments],
            capture_output=True, text=True, timeout=570,
        )
        if not report.exists():
            return f"no report: {done.stdout[-300:]} {done.stderr[-300:]}"
        text = report.read_text()
        checks = found(json.loads(text))
        suspected = [one for one in checks if one.get("vulnerable")]
        bad = [one for one in suspected if not merely_slow(one)]
        if bad:
            return f"found: {json.dumps(bad)[:600]}"
        slow = f"; {len(suspected)} requests without their body were waited for, then answered 408" if suspected else ""
        return None, f"{len(checks)} checks, nothing found{slow}"
    return check


def merely_slow(one):
    """A request whose body never comes is waited for, then answered 408; the scanner takes the wait for a sign."""
    status = str(one.get("attack_status"))
    return status == "Connection Timeout" or " 408 " in status


def found(value):
    """All objects of the report that say whether something is vulnerable."""
    if isinstance(value, dict):
        own = [value] if "vulnerable" in value else []
        return own + [one for part in value.values() for one in found(part)]
    if isinstance(value, list):
        return [one for part in value for one in found(part)]
    return []


def checks(server):
    yield "all checks", scan(server)
    yield "random changes (--fuzz)", scan(server, "--fuzz", "--max-payloads", "60")
    yield "over TLS", scan(server, tls=True)
