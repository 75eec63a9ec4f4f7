#!/usr/bin/env python3
"""Keeps `crates/workspace-hack/Cargo.toml`: with it every selection of crates compiles dependencies alike.

    scripts/unify-features.py             exits 1 if the list is out of date
    scripts/unify-features.py --write     writes the list, and its new state into Cargo.lock

Cargo enables the features that the selected crates ask for, so `cargo test -p stockade-config` would compile
serde, tokio and what stands on them once more, with fewer features than `cargo test --workspace` does. All
crates depend on `workspace-hack`, which asks for the features that the whole workspace asks for, of each
dependency where some crate alone would get other ones.
"""

import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HACK = "workspace-hack"
BEGIN, END = "# BEGIN scripts/unify-features.py\n", "# END scripts/unify-features.py\n"


def features(root, *selection):
    """{(name, version): set of features} of the dependencies that this selection compiles."""
    command = ["cargo", "tree", "--offline", "--prefix", "none", "--edges", "normal,build,dev",
               "--format", "{p}\t{f}", *selection]
    result = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    found = defaultdict(set)
    for line in result.stdout.splitlines():
        package, _, listed = line.removesuffix(" (*)").partition("\t")
        name, version, *rest = package.split() or ["", ""]
        if name and not any("(/" in part for part in rest):
            found[name, version.removeprefix("v")] |= set(filter(None, listed.split(",")))
    return found


def differing(root, crates, whole):
    """The dependencies that some crate alone would compile with other features than the workspace does."""
    return {
        package for crate in crates
        for package, enabled in features(root, "--package", crate).items() if enabled != whole[package]
    }


def list_of(packages, whole):
    versions = defaultdict(set)
    for name, version in packages:
        versions[name].add(version)
    lines = []
    for name, version in sorted(packages):
        key = name if len(versions[name]) == 1 else f"{name}-{version.replace('.', '-')}"
        package = "" if key == name else f'package = "{name}", '
        enabled = ", ".join(f'"{feature}"' for feature in sorted(whole[name, version]))
        lines.append(f'{key} = {{ {package}version = "{version}", default-features = false, features = [{enabled}] }}\n')
    return "".join(lines)


def without_list(manifest):
    head, begin, rest = manifest.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        sys.exit(f"crates/{HACK}/Cargo.toml: the lines '{BEGIN.strip()}' and '{END.strip()}' are missing")
    return head + begin, end + tail


def main():
    manifest = ROOT / "crates" / HACK / "Cargo.toml"
    before, after = without_list(manifest.read_text())
    subprocess.run(["cargo", "fetch", "--locked", "--quiet"], cwd=ROOT, check=True)
    # The features are asked for in a copy whose list is empty: what nobody else asks for must leave the list.
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("Cargo.toml", "Cargo.lock", "rust-toolchain.toml"):
            shutil.copy(ROOT / name, copy)
        for name in ("crates", "patches"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("target", "node_modules"))
        wanted = before + after
        (copy / "crates" / HACK / "Cargo.toml").write_text(wanted)
        crates = [tomllib.loads(path.read_text())["package"]["name"] for path in sorted(copy.glob("crates/*/Cargo.toml"))]
        whole, listed = features(copy, "--workspace"), set()
        # What is listed brings dependencies of its own, which can differ in their turn.
        while missing := differing(copy, crates, whole) - listed:
            listed |= missing
            wanted = before + list_of(listed, whole) + after
            (copy / "crates" / HACK / "Cargo.toml").write_text(wanted)
    if "--write" in sys.argv[1:]:
        manifest.write_text(wanted)
        subprocess.run(["cargo", "metadata", "--offline", "--format-version", "1"], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    elif manifest.read_text() != wanted:
        sys.exit(f"crates/{HACK}/Cargo.toml is out of date: run scripts/unify-features.py --write")


main()
