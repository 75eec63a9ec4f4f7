"""Runs the test suites of other projects in guests and compares what fails with what is expected to.

    ./x outside --suite deno|wpt|workerd|hono FOLDER [--only TEXT] [--shrink] [--failures FILE]

FOLDER is a checkout of that project. README.md says what is run, how, and what is left out.
"""

import argparse
import fnmatch
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import run
import site_realm
import workerd
import wpt

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ["STOCKADE_OUTSIDE_TOOLS"])
ENV = {**os.environ, "STOCKADE_OUTSIDE_TOOLS": str(CACHE)}


def files(name_of_suite, root, suite):
    """The files of the suite's tests, and how many are left out, by reason. A pattern that matches nothing is an error."""
    chosen, left_out = [], Counter()
    patterns = [(pattern, reason) for reason, all in suite["left_out"].items() for pattern in all]
    used = set()
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in suite["tests"]) or not path.is_file():
            continue
        found = next(((pattern, reason) for pattern, reason in patterns if fnmatch.fnmatchcase(name, pattern)), None)
        if found:
            used.add(found[0])
            left_out[found[1]] += 1
        elif name_of_suite == "wpt" and wpt.needs_server(root, name):
            left_out["needs WPT's own server"] += 1
        else:
            chosen.append(name)
    return chosen, left_out, [pattern for pattern, _ in patterns if pattern not in used]


def build(root, kind, suite, tasks):
    plan = {"root": str(root), "kind": kind, "realm": suite["realm"], "seconds": suite["seconds"], "tasks": tasks}
    done = subprocess.run(["node", HERE / "build.mjs"], input=json.dumps(plan), capture_output=True, text=True, env=ENV)
    if done.returncode:
        sys.exit(f"bundling failed:\n{done.stderr}")
    return json.loads(done.stdout)


def results(name, root, chosen, suite, folder):
    """Each result as it comes: `{file, name, ok, error?, missing?}`."""
    if name == "wpt":
        yield from run.results(folder, root, "wpt", [{"file": file, "scripts": wpt.scripts(root, file, folder)} for file in chosen])
        return
    tasks = [{"file": file, "out": str(folder / f"{file.replace('/', '+')}.js")} for file in chosen]
    if name == "workerd":
        for task in tasks:
            task.update(workerd.settings(root, task["file"]))
    problems = build(root, name, suite, tasks)
    for file, problem in problems.items():
        yield {"file": file, "name": "(builds)", "ok": False, "error": problem}
    tasks = [task for task in tasks if task["file"] not in problems]
    if suite["realm"] == "run":
        plan = [{"file": task["file"], "bundle": task["out"]} for task in tasks]
        yield from run.results(folder, root, name, plan)
    else:
        yield from site_realm.results(folder, tasks)


def listed(suite):
    """What is expected to fail: (file, test) to its reason."""
    found = {}
    for group in suite["expected"]:
        if not group["reason"].strip():
            sys.exit("a group of expected failures has no reason")
        for file, names in group["tests"].items():
            for name in names:
                if (file, name) in found:
                    sys.exit(f"listed twice: {file}: {name}")
                found[file, name] = group["reason"]
    return found


def shrink(path, suite, gone):
    """Takes out of the list what did not fail. Nothing is ever added here."""
    for group in suite["expected"]:
        for file in list(group["tests"]):
            group["tests"][file] = [name for name in group["tests"][file] if (file, name) not in gone]
            if not group["tests"][file]:
                del group["tests"][file]
    suite["expected"] = [group for group in suite["expected"] if group["tests"]]
    path.write_text(json.dumps(suite, indent=2, ensure_ascii=False) + "\n")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--suite", required=True, choices=["deno", "wpt", "workerd", "hono"])
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--only", default="", help="the files whose names contain this")
    arguments.add_argument("--shrink", action="store_true", help="take out of the list what passes")
    arguments.add_argument("--failures", type=Path, help="write what failed and is not listed into this file, as JSON")
    options = arguments.parse_args()

    path = HERE / f"{options.suite}.json"
    suite = json.loads(path.read_text())
    root = (options.folder / suite["under"]).resolve()
    if not root.is_dir():
        sys.exit(f"{root} is not a folder: give the root of a checkout of {suite['project']}")
    expected = listed(suite)
    chosen, left_out, unused = files(options.suite, root, suite)
    chosen = [file for file in chosen if options.only in file]

    seen, counts = set(), Counter()
    passing, unexpected = [], []
    needs = defaultdict(int)
    with tempfile.TemporaryDirectory(prefix="stockade-suites-") as folder:
        for result in results(options.suite, root, chosen, suite, Path(folder)):
            key = (result["file"], result["name"])
            lacks = re.search(r"not in a guest: (.*)", result.get("error", ""))
            if lacks and result["name"] == "(loads)":
                result["missing"] = lacks.group(1)
            seen.add(key)
            if result.get("missing"):
                counts["left out"] += 1
                needs[result["missing"].split(".")[0]] += 1
                if key in expected:
                    passing.append((*key, "is left out by itself"))
            elif result["ok"]:
                counts["passed"] += 1
                if key in expected:
                    passing.append((*key, "passes"))
            elif key in expected:
                counts["failed as expected"] += 1
            else:
                counts["failed"] += 1
                unexpected.append(result)
                print(f"FAIL {key[0]}: {key[1]}: {result['error'].splitlines()[0][:300]}", flush=True)
    for file, name in expected:
        if file in chosen and (file, name) not in seen:
            passing.append((file, name, "is not there any more"))
        elif file not in chosen and not options.only:
            passing.append((file, name, "is in a file that is not run"))
    if options.failures:
        options.failures.write_text(json.dumps(unexpected, indent=1, ensure_ascii=False) + "\n")
    if options.shrink and passing:
        shrink(path, suite, {(file, name) for file, name, _ in passing})
        print(f"{len(passing)} taken out of {path.name}")
        passing = []
    for file, name, why in passing:
        print(f"LISTED {file}: {name}: {why}; `--shrink` takes it out of the list")
    for pattern in unused:
        print(f"note: nothing is left out by {pattern!r}")
    print(f"left out: {sum(left_out.values())} files by the list, and tests that need what only {suite['project']} has: "
          + (", ".join(f"{count} {what}" for what, count in sorted(needs.items(), key=lambda one: -one[1])[:12]) or "none"))
    print(f"{len(chosen)} files: " + ", ".join(f"{count} {what}" for what, count in counts.items()))
    return 1 if unexpected or passing or not seen else 0


if __name__ == "__main__":
    sys.exit(main())
