#!/usr/bin/env python3
"""Fuzzes the targets of fuzz/fuzz_targets with libFuzzer.

    ./x fuzz [TARGET...] [--seconds 30] [--jobs N] [--keep]

Every target runs for --seconds, as many at once as there are processors. It starts from the inputs in
fuzz/corpus/TARGET, which are part of the repository, and from those that earlier runs found, which lie in
target/fuzz/corpus/TARGET. With --keep, inputs that reach code which no kept input reaches move to fuzz/corpus/TARGET.

The compiler is the pinned one: it counts which code runs, with assertions and overflow checks, and without a sanitizer.
`cargo +nightly fuzz run TARGET` in this repository adds AddressSanitizer.

Exit status 1 if a target failed. The input that made it fail stays in target/fuzz/failures; a fix puts it, with a name
that says what it was, into fuzz/corpus/TARGET, where the test `fuzz_targets` runs it from then on.
"""

import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FUZZ = ROOT / "fuzz"
# What a target may cost: bytes of an input, MiB of memory, seconds for one input.
MAX_INPUT, MAX_MEMORY, MAX_SECONDS = 8192, 1024, 10
# What is kept is small in the repository: bytes of an input, and inputs of a target.
MAX_KEPT, MAX_INPUTS = 1024, 40
# Those that cargo-fuzz sets without a sanitizer.
FLAGS = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Coverflow-checks",
]


def build(folder, targets):
    """The programs of the targets: {name: path}."""
    host = re.search(r"^host: (.*)$", subprocess.check_output(["rustc", "-vV"], cwd=ROOT, text=True), re.M)[1]
    # The versions that the product is made of; cargo adds what only the targets need.
    shutil.copyfile(ROOT / "Cargo.lock", FUZZ / "Cargo.lock")
    command = ["cargo", "build", "--release", "--manifest-path", FUZZ / "Cargo.toml", "--target", host, "--target-dir", folder]
    command += [f"--bin={target}" for target in targets]
    environment = {**os.environ, "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(FLAGS)}
    if subprocess.run(command, env=environment, cwd=ROOT).returncode:
        sys.exit("fuzz: the targets cannot be built")
    return {target: folder / host / "release" / target for target in targets}


def fuzz(program, folder, seconds, keep):
    """Runs one target. Returns whether it held, and a line about it."""
    target = program.name
    found, kept, failures = folder / "corpus" / target, FUZZ / "corpus" / target, folder / "failures"
    for place in (found, failures, *([kept] if keep else [])):
        place.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_len={MAX_INPUT}", f"-rss_limit_mb={MAX_MEMORY}", f"-timeout={MAX_SECONDS}"]
    limits.append(f"-artifact_prefix={failures}/{target}-")
    corpora = [found, *([kept] if kept.is_dir() else [])]
    command = [program, *limits, f"-max_total_time={seconds}", "-print_final_stats=1", *corpora]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace")
    log = folder / f"{target}.log"
    log.write_text(done.stdout)
    if done.returncode:
        reason = re.findall(r"panicked at .*(?:\n.*)?|ERROR: libFuzzer: .*", done.stdout)
        artifact = re.findall(r"written to (.*)", done.stdout)
        return False, f"{(reason or ['failed'])[0].strip()}\n  input: {(artifact or ['none'])[-1]}\n  log: {log}"
    if keep:
        keep_inputs(program, limits, kept, found)
    runs = re.findall(r"stat::number_of_executed_units: *(\d+)", done.stdout)
    covered = re.findall(r"cov: (\d+)", done.stdout)
    inputs = sum(1 for _ in kept.iterdir()) if kept.is_dir() else 0
    return True, f"{int((runs or ['0'])[-1]):,} runs, {(covered or ['0'])[-1]} places in the code, {inputs} inputs kept"


def keep_inputs(program, limits, kept, found):
    """Adds inputs that reach code which no kept one reaches: the shortest of them, up to the bound."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        merge = [program, *limits, f"-max_len={MAX_KEPT}", "-merge=1", folder, found]
        subprocess.run(merge, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        new = sorted((file for file in Path(folder).iterdir() if not (kept / file.name).exists()), key=lambda file: file.stat().st_size)
        for file in new[: max(0, MAX_INPUTS - sum(1 for _ in kept.iterdir()))]:
            shutil.copyfile(file, kept / file.name[:12])


def main():
    every = sorted(file.stem for file in (FUZZ / "fuzz_targets").glob("*.rs"))
    parser = argparse.ArgumentParser(usage="./x fuzz [TARGET...] [--seconds 30] [--jobs N] [--keep]")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(every)}; all of them unless given")
    parser.add_argument("--seconds", type=int, default=30, help="how long each target runs (30)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="targets at once (one for each processor)")
    parser.add_argument("--keep", action="store_true", help="adds what was found to fuzz/corpus")
    given = parser.parse_args()
    if unknown := set(given.targets) - set(every):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(every)}")
    if given.seconds < 1 or given.jobs < 1:
        parser.error("--seconds and --jobs have to be at least 1")

    folder = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "fuzz"
    programs = build(folder, given.targets or every)
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        runs = {pool.submit(fuzz, program, folder, given.seconds, given.keep): name for name, program in programs.items()}
        for run in concurrent.futures.as_completed(runs):
            held, line = run.result()
            failed += not held
            print(f"{'ok    ' if held else 'FAILED'}  {runs[run]}: {line}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
