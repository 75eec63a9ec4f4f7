#!/usr/bin/env python3
"""Moves to the newest Deno crates of the registry, and with them to their V8.

    ./x update-v8           changes the versions, builds, runs the whole suite, and takes the change back if that fails
    ./x update-v8 --check   only reports; exit status 3 if there is a newer set

Deno's crates are released together and name each other's versions exactly, and deno_core names the versions of V8 that it
works with. So V8 moves when Deno's crates do: a newer V8 alone in the registry is reported and not taken.

The update writes Cargo.toml, Cargo.lock, crates/workspace-hack/Cargo.toml and the version and day in
crates/stockade/src/version.rs. They have to be without changes before. Nothing is committed.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = "crates/stockade/src/version.rs"
WRITTEN = ("Cargo.toml", "Cargo.lock", "crates/workspace-hack/Cargo.toml", VERSIONS)
STEPS = (["./x", "setup"], ["./x", "build"], ["./x", "test"])
SHOWN = 40  # lines of a failed step
NEWER = 3  # exit status of --check


class Problem(Exception):
    """Why there is no update, and what to do."""


def pinned(manifest):
    """{name: version} of Deno's crates that a manifest names exactly."""
    return dict(re.findall(r'^(deno_\w+) = (?:\{ version = )?"=([0-9.]+)"', manifest, re.M))


def pin(manifest, versions):
    """The manifest with these versions of Deno's crates, and otherwise as it was."""
    for name, version in versions.items():
        manifest, times = re.subn(rf'^({name} = (?:\{{ version = )?"=)[0-9.]+"', rf'\g<1>{version}"', manifest, flags=re.M)
        if times != 1:
            raise Problem(f"Cargo.toml names {name} {times} times with an exact version, not once")
    return manifest


def locked(lock, name):
    """The versions of a crate in a lock file."""
    return re.findall(rf'^name = "{name}"\nversion = "([^"]+)"', lock, re.M)


def key(version):
    """Orders versions."""
    return tuple(int(part) for part in re.findall(r"\d+", version.split("-")[0].split("+")[0]))


def newest(name):
    """The newest version of a crate in the registry that is not yanked."""
    # From outside the workspace, in which cargo reports the version of its lock file.
    done = subprocess.run(["cargo", "info", "--color", "never", name], cwd="/", capture_output=True, text=True)
    found = re.search(r"^version: (\S+)(?: \(latest (\S+)\))?", done.stdout, re.M)
    if done.returncode or not found:
        raise Problem(f"cargo info {name} failed, so the newest version is not known:\n{done.stderr.strip()[-1000:]}")
    return found[2] or found[1]


def index_entry(name, version, home):
    """What the registry's index says of one version, from cargo's copy of the index."""
    place = f"{len(name)}/{name}" if len(name) < 3 else f"{name[:2]}/{name[2:4]}/{name}"
    for copy in Path(home, "registry/index").glob(f"*/.cache/{place}"):
        for part in copy.read_bytes().split(b"\0"):
            if part.startswith(b"{") and (entry := json.loads(part)).get("vers") == version:
                return entry
    raise Problem(f"cargo's copy of the registry's index has no {name} {version}")


def newest_set(names, home):
    """{name: version} of the newest release of deno_core and the crates around it: the newest version of each, or the
    version that the others of them name."""
    there = {name: newest(name) for name in names}
    named = {}
    for name, version in there.items():
        for needed in index_entry(name, version, home)["deps"]:
            least = re.fullmatch(r"[=^]?([0-9.]+)", needed["req"])
            if needed["name"] in there and least and needed["kind"] == "normal":
                named.setdefault(needed["name"], []).append(least[1])
    return {name: max(named.get(name, [version]), key=key) for name, version in there.items()}


def state_release(source, version, day):
    """version.rs with another version and day of V8."""
    text, times = re.subn(r'(V8_CRATE: \(&str, &str\) = )\("[^"]+", "[^"]+"\)', rf'\g<1>("{version}", "{day}")', source)
    if times != 1:
        raise Problem(f"{VERSIONS} has no V8_CRATE")
    return text


def require_unchanged(root):
    """Refuses to write over changes that are not committed."""
    status = subprocess.run(["git", "status", "--porcelain", "--", *WRITTEN], cwd=root, capture_output=True, text=True, check=True)
    if status.stdout.strip():
        raise Problem(f"these files have changes that are not committed:\n{status.stdout.rstrip()}\n  fix: commit or stash them")


def step(command, root, log):
    """Runs one command; its output goes to the terminal's log file."""
    print(f"update-v8: {' '.join(command)}", file=sys.stderr, flush=True)
    with log.open("wb") as output:
        done = subprocess.run(command, cwd=root, stdout=output, stderr=subprocess.STDOUT)
    if done.returncode:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-SHOWN:])
        raise Problem(f"{' '.join(command)} failed (exit status {done.returncode}); the whole log: {log}\n{end}")


def update(root, versions, log, steps=STEPS, resolve=None):
    """Moves to these versions, or leaves every file as it was and says why."""
    require_unchanged(root)
    before = {name: (root / name).read_bytes() for name in WRITTEN}
    try:
        (root / "Cargo.toml").write_text(pin(before["Cargo.toml"].decode(), versions))
        (resolve or resolve_crates)(root, versions, log)
        for command in steps:
            step(command, root, log)
    except BaseException:
        for name, data in before.items():
            (root / name).write_bytes(data)
        print("update-v8: all files are as they were", file=sys.stderr)
        raise


def resolve_crates(root, versions, log):
    """Renews the lock file, the features of dependencies, and what the program says of its V8."""
    step(["cargo", "update", "--workspace"], root, log)
    lock = (root / "Cargo.lock").read_text()
    for name in (*versions, "v8"):
        if len(found := locked(lock, name)) != 1:
            raise Problem(f"the newest crates need several versions of {name} ({', '.join(found)}): they are not one set yet")
    replaced = re.search(r'^name = "deno_crypto_provider"\nversion = "([^"]+)"\nsource', lock, re.M)
    if replaced:
        raise Problem(
            f"Deno's crates need deno_crypto_provider {replaced[1]}, which patches/deno_crypto_provider replaces in another version\n"
            "  fix: make the patch from that version, as its first lines describe"
        )
    step([sys.executable, "-B", "scripts/unify-features.py", "--write"], root, log)
    (version,) = locked(lock, "v8")
    day = index_entry("v8", version, cargo_home()).get("pubtime", "")[:10]
    if not day:
        raise Problem(f"the registry's index does not say when v8 {version} was published")
    (root / VERSIONS).write_text(state_release((root / VERSIONS).read_text(), version, day))


def cargo_home():
    """Where cargo keeps its copy of the index."""
    return os.environ.get("CARGO_HOME") or Path.home() / ".cargo"


def main():
    parser = argparse.ArgumentParser(usage="./x update-v8 [--check]", description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help=f"only reports; exit status {NEWER} if there is a newer set")
    given = parser.parse_args()

    have = pinned((ROOT / "Cargo.toml").read_text())
    there = newest_set(have, cargo_home())
    newer = {name: version for name, version in there.items() if key(version) > key(have[name])}
    (v8,) = locked((ROOT / "Cargo.lock").read_text(), "v8")
    newest_v8 = newest("v8")
    for name, version in newer.items():
        print(f"{name}: {have[name]} -> {version}")
    if key(newest_v8) > key(v8):
        print(f"v8: {v8}; the registry has {newest_v8}" + ("" if newer else ", which no release of deno_core works with yet"))
    if not newer:
        print(f"Deno's {len(have)} crates are the newest ones of the registry (deno_core {have['deno_core']}, V8's crate {v8})")
        return
    if given.check:
        sys.exit(NEWER)
    log = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "update-v8.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    update(ROOT, newer, log)
    (now,) = locked((ROOT / "Cargo.lock").read_text(), "v8")
    print(f"V8's crate is {now} (it was {v8}), and the whole suite passes with it. Read `git diff`, and commit it.")


if __name__ == "__main__":
    try:
        main()
    except Problem as problem:
        print(f"update-v8: {problem}", file=sys.stderr)
        sys.exit(1)
