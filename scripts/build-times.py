#!/usr/bin/env python3
"""Builds Stockade from nothing and says where the time goes, by kind and by crate.

    scripts/build-times.py              prints the tables
    scripts/build-times.py --write      writes them into docs/internals/build.md, and docs/internals/build.json,
                                        from which `./x build` estimates what is left of a first build

V8's library must be in place (`./x setup`). The build happens in a temporary folder in `target`, which is removed
afterwards, so that nothing of an earlier one is used. CPU time of rustc, with the linker that it starts,
is what the kernel counted for each of its processes. What remains of the CPU time of the whole build belongs to
build scripts (compilers of C, startup snapshots) and to cargo; it is divided by the time that each script ran.
"""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs/internals/build.md"
BEGIN, END = "<!-- BEGIN scripts/build-times.py -->\n", "<!-- END scripts/build-times.py -->\n"
SNAPSHOTS = ("stockade-isolate", "stockade-host")

# Stands between cargo and rustc. The name of its record is unique, since processes of one build share the folder.
WRAPPER = """#!/usr/bin/env bash
TIMEFORMAT='%U %S'
{ time "$@" 2>&3 3>&-; } 3>&2 2>"$STOCKADE_BUILD_TIMES/$$.time"
status=$?
printf '%s %s' "${CARGO_PKG_NAME:--}" "${CARGO_CRATE_NAME:--}" >"$STOCKADE_BUILD_TIMES/$$.name"
exit $status
"""


def build(folder):
    """Seconds of CPU time of the whole build, and elapsed seconds."""
    wrapper, records = folder / "rustc-timed", folder / "records"
    records.mkdir()
    wrapper.write_text(WRAPPER)
    wrapper.chmod(0o755)
    environment = {**os.environ, "CARGO_TARGET_DIR": str(folder / "target"), "CARGO_INCREMENTAL": "0",
                   "RUSTC_WRAPPER": str(wrapper), "STOCKADE_BUILD_TIMES": str(records)}
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(["cargo", "build", "--release", "--locked", "--package", "stockade", "--timings"],
                   cwd=ROOT, env=environment, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return cpu, time.monotonic() - began


def compilers(folder):
    """{package: CPU seconds of rustc for it, the compiling of its build script included}"""
    seconds = defaultdict(float)
    for record in (folder / "records").glob("*.time"):
        name = record.with_suffix(".name")
        package = name.read_text().split()[0] if name.exists() else "-"
        times = re.findall(r"^(\d+\.\d+) (\d+\.\d+)$", record.read_text(), re.MULTILINE)
        seconds[package] += sum(float(value) for value in (times[-1] if times else ()))
    return seconds


def scripts(folder):
    """{package: elapsed seconds that its build script ran}"""
    page = (folder / "target/cargo-timings/cargo-timing.html").read_text()
    units = json.loads(re.search(r"UNIT_DATA = (\[.*?\]);\s*$", page, re.MULTILINE | re.DOTALL).group(1))
    seconds = defaultdict(float)
    for unit in units:
        if "run" in unit["target"] or unit["mode"] == "run-custom-build":
            seconds[unit["name"]] += unit["duration"]
    return seconds


def processor_speed():
    """Millions of bytes a second that one core hashes: what the times of another machine are scaled by."""
    result = subprocess.run(["openssl", "speed", "-seconds", "3", "-bytes", "16384", "-evp", "sha512"],
                            capture_output=True, text=True)
    found = re.search(r"([\d.]+)k\s*$", result.stdout.strip())
    return float(found.group(1)) / 1000 if found else None


def tables(result):
    kinds = "\n".join(f"| {kind} | {seconds:.0f} |" for kind, seconds in result["kinds"].items())
    crates = "\n".join(
        f"| {name} | {seconds['rustc']:.1f} | {seconds['script']:.1f} |" for name, seconds in list(result["crates"].items())[:30])
    speed = f"{result['openssl_sha512_mb_s']:.0f} MB/s" if result["openssl_sha512_mb_s"] else "unknown"
    return f"""Processor: {result["processor"]}, {result["cores"]} cores; `openssl speed -evp sha512` (16 KiB blocks, one core): {speed}.
The build compiled {result["packages"]} packages in {result["elapsed"] / 60:.1f} minutes and took {result["cpu"] / 60:.1f} minutes of CPU time.

| kind | CPU seconds |
|---|---|
{kinds}

The 30 packages that take longest, of {result["packages"]}:

| package | rustc | build script |
|---|---|---|
{crates}
"""


def main():
    (ROOT / "target").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="times-", dir=ROOT / "target", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        cpu, elapsed = build(folder)
        rustc, script = compilers(folder), scripts(folder)
    rest = max(0.0, cpu - sum(rustc.values()))
    share = rest / (sum(script.values()) or 1)
    crates = {
        package: {"rustc": round(rustc.get(package, 0.0), 2), "script": round(script.get(package, 0.0) * share, 2)}
        for package in sorted({*rustc, *script} - {"-"}, key=lambda p: -(rustc.get(p, 0.0) + script.get(p, 0.0) * share))
    }
    own = {package for package in crates if package.startswith("stockade")}
    result = {
        "processor": next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown"),
        "cores": os.cpu_count(),
        "openssl_sha512_mb_s": processor_speed(),
        "elapsed": round(elapsed, 1),
        "cpu": round(cpu, 1),
        "packages": len(crates),
        "kinds": {
            "rustc, dependencies": sum(rustc[p] for p in rustc if p not in own),
            "rustc and linker, Stockade's crates": sum(rustc[p] for p in own if p in rustc),
            "build scripts of dependencies: C, C++ and assembler": sum(script[p] * share for p in script if p not in own),
            "startup snapshots": sum(script[p] * share for p in script if p in SNAPSHOTS),
        },
        "crates": crates,
    }
    text = tables(result)
    print(text)
    if "--write" in sys.argv[1:]:
        head, _, rest = DOCUMENT.read_text().partition(BEGIN)
        _, _, tail = rest.partition(END)
        DOCUMENT.write_text(head + BEGIN + text + END + tail)
        DOCUMENT.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


main()
