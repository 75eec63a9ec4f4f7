"""What is linked into the programs: a list of parts for CycloneDX, and their licences."""

import hashlib
import json
import subprocess
from pathlib import Path

LICENCE_FILES = ("LICEN", "COPYING", "UNLICENSE", "NOTICE")
# Built from the sources inside the crate `v8`, which name their licences and do not contain all of the texts.
V8_PARTS = {
    "V8": ("BSD-3-Clause", "v8.txt"),
    "ICU": ("Unicode-3.0", None),
    "libc++ and libc++abi": ("Apache-2.0 WITH LLVM-exception", None),
    "Abseil": ("Apache-2.0", None),
    "Highway": ("Apache-2.0 OR BSD-3-Clause", None),
    "simdutf": ("Apache-2.0 OR MIT", None),
    "fast_float": ("Apache-2.0 OR MIT OR BSL-1.0", None),
    "dragonbox": ("Apache-2.0 WITH LLVM-exception OR BSL-1.0", None),
}


class Inventory:
    """The crates that the programs link for one target, by the lock files."""

    def __init__(self, root, target):
        self.root = root
        self.crates = {}
        for manifest in [root / "Cargo.toml", *sorted(root.glob("helpers/*/Cargo.toml"))]:
            command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target, "--manifest-path", manifest]
            metadata = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout)
            self.crates |= {(crate["name"], crate["version"]): crate for crate in linked(metadata)}
        self.v8 = next(version for name, version in self.crates if name == "v8")

    def licences(self):
        """One text with the licence of every part; the same text of many parts stands once."""
        texts = {}  # {words: (text, names of parts)}

        def add(text, name):
            texts.setdefault(" ".join(text.split()).lower(), (text, []))[1].append(name)

        for (name, version), crate in sorted(self.crates.items()):
            if crate["source"] is None and crate["license"] == "MIT OR Apache-2.0" and name.startswith("stockade"):
                continue
            folder = Path(crate["manifest_path"]).parent
            found = [file for file in sorted(folder.iterdir()) if file.is_file() and file.name.upper().startswith(LICENCE_FILES)]
            text = "\n\n".join(file.read_text(errors="replace").strip() for file in found)
            if not text:
                authors = ", ".join(crate["authors"]) or "its authors"
                text = f"The package contains no licence text. Its manifest names the licence above and these authors: {authors}."
            add(text, f"{name} {version}: {crate['license'] or 'see the text'}")
        for name, (licence, file) in V8_PARTS.items():
            text = (Path(__file__).parent / "licences" / file).read_text().strip() if file else "The texts stand at the end, or with other parts under the same licence."
            add(text, f"{name}, in the crate v8 {self.v8}: {licence}")
        vendored = self.root / "crates/stockade-realm/js/node/vendor/LICENSES.txt"
        add(vendored.read_text().strip(), "packages of npm that guests import as modules of Node")
        assertions = self.root / "crates/stockade-project/test-library/LICENSES.txt"
        add(assertions.read_text().strip(), "packages of npm with the assertions of `stockade test`")
        blocks = ["\n".join(names) + "\n\n" + text for text, names in sorted(texts.values(), key=lambda item: item[1])]
        for name in ("LICENSE-APACHE", "LICENSE-MIT"):
            blocks.append(f"{name}\n\n{(self.root / name).read_text().strip()}")
        return ("\n\n" + "-" * 100 + "\n\n").join(blocks) + "\n"

    def sbom(self, release):
        """CycloneDX 1.6 as JSON."""
        components = []
        for (name, version), crate in sorted(self.crates.items()):
            part = {
                "type": "library",
                "bom-ref": f"pkg:cargo/{name}@{version}",
                "name": name,
                "version": version,
                "purl": f"pkg:cargo/{name}@{version}",
            }
            if crate["license"]:
                part["licenses"] = [{"expression": crate["license"].replace("/", " OR ")}]
            if crate["repository"]:
                part["externalReferences"] = [{"type": "vcs", "url": crate["repository"]}]
            components.append(part)
        for name, (licence, _) in V8_PARTS.items():
            components.append(
                {"type": "library", "bom-ref": f"v8:{name}", "name": name, "version": self.v8, "licenses": [{"expression": licence}]}
            )
        described = {
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": {
                "component": {
                    "type": "application",
                    "bom-ref": "stockade",
                    "name": "stockade",
                    "version": release.version,
                    "licenses": [{"expression": "MIT OR Apache-2.0"}],
                    "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(release.programs["stockade"].read_bytes()).hexdigest()}],
                    "properties": [{"name": "commit", "value": release.commit}],
                },
            },
            "components": components,
        }
        return json.dumps(described, indent=1) + "\n"


def linked(metadata):
    """The crates that a program of the workspace links: reached by dependencies that are not of tests or build scripts."""
    crates = {crate["id"]: crate for crate in metadata["packages"]}
    edges = {node["id"]: node["deps"] for node in metadata["resolve"]["nodes"]}
    ends = [crate["id"] for crate in crates.values() if crate["source"] is None and any("bin" in target["kind"] for target in crate["targets"])]
    seen = set()
    while ends:
        crate = ends.pop()
        if crate in seen:
            continue
        seen.add(crate)
        for edge in edges[crate]:
            if any(kind["kind"] is None for kind in edge["dep_kinds"]) and not is_macro(crates[edge["pkg"]]):
                ends.append(edge["pkg"])
    return [crates[crate] for crate in seen]


def is_macro(crate):
    """Whether it only runs inside the compiler."""
    return any("proc-macro" in target["kind"] for target in crate["targets"])
