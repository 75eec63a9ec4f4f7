#!/usr/bin/env python3
"""Checks the rules of layout that neither the compiler nor clippy checks.

    scripts/check-layout.py [ROOT]      prints every breach as `path:line: rule`, exits 1 if there is one

Which crate may depend on which, which may use `unsafe` and which may name V8's types is stated here,
in the three tables below, and nowhere else: a new crate or edge is a decision to write down.
"""

import re
import sys
import tomllib
from pathlib import Path

from circles import circles

# crate: the crates of this workspace that it may depend on
EDGES = {
    # every crate depends on it: it holds no code, and makes every selection of crates compile dependencies alike
    "workspace-hack": set(),
    "stockade-limits": set(),
    "stockade-transpile": {"stockade-limits"},
    "stockade-protocol": {"stockade-limits"},
    "stockade-jail": set(),
    "stockade-attack": {"stockade-jail"},
    "stockade-supervisor": {"stockade-jail", "stockade-limits", "stockade-protocol"},
    "stockade-rpc": {
        "stockade-audit", "stockade-callers", "stockade-http", "stockade-limits", "stockade-protocol", "stockade-supervisor",
    },
    "stockade-sqlite": {"stockade-jail"},
    "stockade-state": {"stockade-limits"},
    "stockade-audit": set(),
    "stockade-auth": {"stockade-limits"},
    "stockade-usage": {"stockade-audit", "stockade-auth"},
    "stockade-http": set(),
    "stockade-callers": {"stockade-auth", "stockade-http", "stockade-limits"},
    "stockade-wireguard": set(),
    "stockade-broker": {"stockade-http", "stockade-limits", "stockade-wireguard"},
    "stockade-door": set(),
    "stockade-config": {"stockade-http", "stockade-limits"},
    "stockade-capability": {"stockade-http", "stockade-protocol"},
    "stockade-grants": {
        "stockade-broker", "stockade-capability", "stockade-config", "stockade-door", "stockade-http", "stockade-jail",
        "stockade-limits", "stockade-protocol", "stockade-sqlite", "stockade-state", "stockade-wireguard",
    },
    "stockade-instance": {
        "stockade-capability", "stockade-http", "stockade-limits", "stockade-protocol", "stockade-supervisor", "stockade-trace",
    },
    "stockade-watch": set(),
    "stockade-trace": set(),
    "stockade-tls": {"stockade-http", "stockade-watch"},
    "stockade-gateway": {"stockade-auth", "stockade-http", "stockade-limits", "stockade-tls", "stockade-trace"},
    "stockade-project": {"stockade-config", "stockade-http", "stockade-limits", "stockade-transpile"},
    "stockade-serve": {
        "stockade-audit", "stockade-auth", "stockade-broker", "stockade-capability", "stockade-config", "stockade-door", "stockade-gateway",
        "stockade-grants",
        "stockade-html", "stockade-http", "stockade-instance", "stockade-limits", "stockade-profile", "stockade-protocol", "stockade-state", "stockade-supervisor", "stockade-tls",
        "stockade-trace", "stockade-transpile", "stockade-usage", "stockade-watch", "stockade-wireguard",
    },
    "stockade-mcp": {"stockade-auth", "stockade-callers", "stockade-http", "stockade-limits"},
    "stockade-html": set(),
    "stockade-profile": set(),
    "stockade-realm": {"stockade-html", "stockade-protocol"},
    "stockade-host-realm": {
        "stockade-config", "stockade-gateway", "stockade-grants", "stockade-http", "stockade-instance", "stockade-limits", "stockade-profile", "stockade-protocol", "stockade-realm",
        "stockade-supervisor",
    },
    "stockade-inspector": {"stockade-protocol"},
    "stockade-snapshot": set(),
    "stockade-isolate": {
        "stockade-inspector", "stockade-jail", "stockade-limits", "stockade-profile", "stockade-protocol",
        "stockade-realm", "stockade-snapshot", "stockade-supervisor", "stockade-transpile",
    },
    "stockade-host": {
        "stockade-host-realm", "stockade-inspector", "stockade-limits",
        "stockade-protocol", "stockade-realm", "stockade-snapshot", "stockade-supervisor", "stockade-transpile",
    },
    "stockade": {
        "stockade-attack", "stockade-audit", "stockade-auth", "stockade-broker", "stockade-capability", "stockade-config", "stockade-grants",
        "stockade-host",
        "stockade-http", "stockade-inspector", "stockade-instance", "stockade-isolate", "stockade-jail", "stockade-limits", "stockade-mcp", "stockade-profile",
        "stockade-project", "stockade-protocol", "stockade-rpc", "stockade-serve", "stockade-sqlite", "stockade-supervisor", "stockade-transpile", "stockade-usage",
        "stockade-watch", "stockade-wireguard",
    },
}

# crates that may name `v8::` and `deno_core::`, and have them as dependencies
KNOWS_V8 = {
    "stockade-host", "stockade-host-realm", "stockade-inspector", "stockade-isolate", "stockade-realm",
    "stockade-snapshot",
}

# crate: the folder in it that may hold `unsafe`; all others forbid it through the workspace's lints
MAY_USE_UNSAFE = {
    "stockade-attack": "src/sys",
    "stockade-isolate": "src/sys",
    "stockade-jail": "src/sys",
    "stockade-snapshot": "src/sys",
    "stockade-sqlite": "src/sys",
}

# a program that linked it would have no random numbers: build scripts only
BUILD_ONLY = "stockade-snapshot"

# crate: modules that stand in circles, which are to become fewer; a module and its submodule form no circle
CIRCLES = {
    "stockade-instance": [
        {"mirror", "pool", "queue"},
    ],
    "stockade-isolate": [
        {"sys::buffers", "sys::guard", "sys::interrupt"},
    ],
}

# the modules of Node for guests have the names that Node gave them
NODE = "crates/stockade-realm/js/node"
# packages of npm, bundled by scripts/vendor-node
VENDOR = f"{NODE}/vendor"

MOST_LINES = 800
VAGUE_NAMES = {"util", "utils", "common", "helper", "helpers", "manager", "misc"}
V8_PACKAGES = ("v8", "deno_core", "serde_v8")
SOURCES = {".rs", ".js", ".ts"}

breaches = []


def breach(path, rule, line=1):
    breaches.append(f"{path.relative_to(ROOT)}:{line}: {rule}")


def dependencies(manifest):
    """All dependencies of a crate, whatever they are for: normal, build, dev, by target."""
    for table in [manifest, *manifest.get("target", {}).values()]:
        for kind in ("dependencies", "build-dependencies", "dev-dependencies"):
            for name, spec in table.get(kind, {}).items():
                yield spec.get("package", name) if isinstance(spec, dict) else name


def check_manifest(crate, path, workspace):
    manifest = tomllib.loads(path.read_text())
    name = manifest["package"]["name"]
    if name != crate.name:
        breach(path, f"package {name} lies in folder {crate.name}: the names must be equal")
    if name not in EDGES:
        breach(path, f"{name} is not in the table EDGES of scripts/check-layout.py")
    present = set(dependencies(manifest))
    for unused in sorted(EDGES.get(name, set()) - present):
        breach(ROOT / "scripts/check-layout.py", f"{name} does not depend on {unused}: correct EDGES")
    for dependency in sorted(present):
        if dependency.startswith("stockade") and dependency not in EDGES.get(name, ()):
            breach(path, f"{name} may not depend on {dependency}")
        if dependency in V8_PACKAGES and name not in KNOWS_V8:
            breach(path, f"{name} may not depend on {dependency}: only {sorted(KNOWS_V8)} know V8")
    if BUILD_ONLY in manifest.get("dependencies", {}) or BUILD_ONLY in manifest.get("dev-dependencies", {}):
        breach(path, f"{BUILD_ONLY} is for build scripts only")
    if name != "workspace-hack" and "workspace-hack" not in manifest.get("dependencies", {}):
        breach(path, "must depend on workspace-hack: scripts/unify-features.py says why")
    lints = manifest.get("lints", {})
    if lints == {"workspace": True}:
        return
    if name not in MAY_USE_UNSAFE:
        breach(path, "must have `[lints] workspace = true`")
        return
    expected = {tool: dict(levels) for tool, levels in workspace["lints"].items()}
    expected["rust"]["unsafe_code"] = "deny"
    if lints != expected:
        breach(path, 'lints must equal the workspace\'s, except `unsafe_code = "deny"`')


def code_lines(path):
    """(number, line) of a file without comment lines and without its trailing test module."""
    lines = path.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        if line.startswith("#[cfg(test)]") and number < len(lines) and lines[number].startswith("mod ") \
                and lines[number].endswith("{"):
            return
        if not line.lstrip().startswith("//"):
            yield number, line


def is_test(path):
    return "tests" in path.parts or path.stem == "tests"


def check_source(crate, path):
    inside = path.relative_to(crate)
    whole = path.relative_to(ROOT).as_posix()
    for part in (*inside.parts[:-1], path.stem):
        if part.lower() in VAGUE_NAMES and not whole.startswith(NODE):
            breach(path, f"`{part}` says nothing about its duty: name it for what it does")
    if path.suffix not in SOURCES:
        return
    if not is_test(inside) and not whole.startswith(VENDOR):
        lines = path.read_text().splitlines()
        last = max((number for number, _ in code_lines(path)), default=0)
        if last > MOST_LINES:
            breach(path, f"{last} lines of {len(lines)} are not tests; at most {MOST_LINES} may be", last)
    if path.suffix == ".js" and inside.parts[0] == "js":
        # The engine takes the bytes of these scripts as Latin-1.
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if not line.isascii():
                breach(path, "a realm's script is ASCII: write other characters as `\\u{...}`", number)
    if path.suffix != ".rs":
        return
    if any(path.with_suffix("").glob("*.rs")):
        breach(path, f"a module with files of its own is {path.stem}/mod.rs")
    folder = MAY_USE_UNSAFE.get(crate.name)
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.lstrip().startswith("//"):
            continue
        if re.search(r"#!?\[(cfg_attr\(.*,\s*)?allow\s*\(", line):
            breach(path, 'a bare `allow(…)`: use `#[expect(lint, reason = "…")]`', number)
        if crate.name not in KNOWS_V8 and re.search(r"\b(v8|deno_core|serde_v8)\s*::", line):
            breach(path, f"only {sorted(KNOWS_V8)} name V8's types", number)
        if re.search(r"\bunsafe\s*(\{|fn\b|impl\b|extern\b|trait\b)", line) and (
            folder is None or not inside.as_posix().startswith(folder + "/")
        ):
            breach(path, f"`unsafe` outside {folder or 'the crates that may use it'}", number)


def check_circles(crate):
    allowed = CIRCLES.get(crate.name, [])
    found = circles(crate / "src")
    for circle in found:
        if circle not in allowed:
            breach(crate / "src", f"modules in a circle: {', '.join(sorted(circle))}")
    for known in allowed:
        if known not in found:
            breach(ROOT / "scripts/check-layout.py", f"{crate.name} has no circle of {', '.join(sorted(known))}: correct CIRCLES")


def anchors(document):
    """The anchors of a document's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def check_named_paths():
    """Every path and heading that a document of the project names exists."""
    top = {entry.name for entry in ROOT.iterdir()} - {"target"}
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    for document in documents:
        for number, line in enumerate(document.read_text().splitlines(), 1):
            for link, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)", line):
                target = document.parent / link if link else document
                if not target.exists():
                    breach(document, f"links to {link}, which does not exist", number)
                elif anchor and target.suffix == ".md" and anchor not in anchors(target):
                    breach(document, f"links to {link}#{anchor}, and there is no such heading", number)
            if document.name != "ARCHITECTURE.md" and document.parent.name != "internals":
                continue
            for token in re.findall(r"`(?:\./)?([\w.+-]+(?:/[\w.+-]+)*/?)`", line):
                first = token.split("/")[0]
                is_path = "/" in token and (first in top or Path(token).suffix in SOURCES)
                is_path |= token.endswith((".md", ".toml")) or token.startswith("stockade-")
                if is_path and not ((ROOT / token).exists() or (ROOT / "crates" / token).exists()):
                    breach(document, f"names {token}, which does not exist", number)


def main():
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]
    if workspace["lints"]["rust"].get("unsafe_code") != "forbid":
        breach(ROOT / "Cargo.toml", 'the workspace\'s lints must have `unsafe_code = "forbid"`')
    for crate in sorted(entry for entry in (ROOT / "crates").iterdir() if entry.is_dir()):
        manifest = crate / "Cargo.toml"
        if not manifest.exists():
            breach(crate, "a folder in crates/ without a Cargo.toml")
            continue
        check_manifest(crate, manifest, workspace)
        check_circles(crate)
        for path in sorted(crate.rglob("*")):
            if path.is_file() and not {"target", "node_modules"} & set(path.parts[len(ROOT.parts):]):
                check_source(crate, path)
    for name in sorted(EDGES):
        if not (ROOT / "crates" / name).is_dir():
            breach(ROOT / "scripts/check-layout.py", f"there is no crate {name}: correct EDGES")
    check_named_paths()
    for line in breaches:
        print(line)
    sys.exit(1 if breaches else 0)


ROOT = Path(sys.argv[1] if len(sys.argv) > 1 else __file__).resolve()
if len(sys.argv) < 2:
    ROOT = ROOT.parent.parent
main()
