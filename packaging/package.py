#!/usr/bin/env python3
"""Makes the packages of Stockade from the release build in target/release.

    ./x package [--out FOLDER] [--only tarball,deb,npm,wheel]

    out/stockade-VERSION-linux-x86_64.tar.gz   program, types, completions, documents
    out/stockade_VERSION_amd64.deb             the same, for Debian 12 and newer
    out/npm/*.tgz                              `stockade` and the package with the program for each platform
    out/stockade-VERSION-….whl                 a wheel for `pip install`, with the module `stockade`
    out/sbom.cdx.json                          every linked crate and C++ library (CycloneDX 1.6)
    out/LICENCES.txt                           their licences
    out/PROVENANCE.txt                         what they were made from and by
    out/SHA256SUMS                             of all of these

Two runs with the same program give the same bytes: files are sorted, belong to root, and have the time of the commit.
The script needs python3, libdeflate-gzip, and dpkg-deb for the package of Debian. It needs no network. At the end it prints
where the bytes of the program are, if its symbols are next to it, and the size of each package, in MB of 1,000,000 bytes.
"""

import argparse
import base64
import hashlib
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TARGET = "x86_64-unknown-linux-gnu"
KINDS = ("tarball", "deb", "npm", "wheel")
PROGRAMS = ("stockade", "stockade-pgp", "stockade-peers")
DOCUMENTS = ("README.md", "SECURITY.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE")
TYPES = (*sorted(path.name for path in (ROOT / "types").glob("*.d.ts")), "README.md")
COMPLETIONS = {
    "bash": "share/bash-completion/completions/stockade",
    "zsh": "share/zsh/site-functions/_stockade",
    "fish": "share/fish/vendor_completions.d/stockade.fish",
}
# What Debian's package has of deploy/, and where.
DEPLOYED = {
    "systemd/stockade.service": "usr/lib/systemd/system/stockade.service",
    "systemd/stockade.socket": "usr/lib/systemd/system/stockade.socket",
    "systemd/stockade-backup.service": "usr/lib/systemd/system/stockade-backup.service",
    "systemd/stockade-backup.timer": "usr/lib/systemd/system/stockade-backup.timer",
    "systemd/sysusers.conf": "usr/lib/sysusers.d/stockade.conf",
    "systemd/logrotate.conf": "etc/logrotate.d/stockade",
    "systemd/backup.sh": "usr/share/stockade/backup.sh",
    "systemd/upgrade.sh": "usr/share/stockade/upgrade.sh",
    "oci/seccomp.py": "usr/share/stockade/seccomp.py",
    "grafana/stockade.json": "usr/share/stockade/grafana/stockade.json",
    "prometheus/stockade.rules.yaml": "usr/share/stockade/prometheus/stockade.rules.yaml",
    "apparmor/stockade": "usr/share/stockade/apparmor/stockade",
    "apparmor/stockade-container": "usr/share/stockade/apparmor/stockade-container",
}
LIMIT = 60_000_000  # bytes of one package, as docs/install.md promises


class Problem(Exception):
    """Why there is no package, and what to do."""


def run(*command, **options):
    """The standard output of a command that has to succeed."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout
    except FileNotFoundError:
        raise Problem(f"{command[0]} is not installed") from None
    except subprocess.CalledProcessError as error:
        raise Problem(f"{' '.join(map(str, command))} failed:\n{error.stderr.strip()}") from None


class Release:
    """What is packaged: programs, version, and the commit with its time."""

    def __init__(self, built):
        self.programs = {name: built / name for name in PROGRAMS}
        for program in self.programs.values():
            if not program.is_file():
                raise Problem(f"{program} is missing\n  fix: ./x build")
        if b".debug_info" in self.programs["stockade"].read_bytes()[-65536:]:
            raise Problem(f"{self.programs['stockade']} contains its symbols\n  fix: ./x build, which separates them")
        self.version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
        self.commit = run("git", "-C", ROOT, "rev-parse", "HEAD").strip()
        self.changed = bool(run("git", "-C", ROOT, "status", "--porcelain", "--untracked-files=no").strip())
        self.time = int(run("git", "-C", ROOT, "log", "-1", "--format=%ct").strip())
        self.glibc = self.newest_glibc()

    def newest_glibc(self):
        """The version of the GNU C library that the programs need, as (2, 35)."""
        needed = set()
        for program in self.programs.values():
            symbols = run("objdump", "-T", program)
            needed |= {tuple(map(int, found.split("."))) for found in re.findall(r"GLIBC_([0-9.]+)", symbols)}
        return max(needed)[:2]

    def files(self, licences):
        """{path below the prefix: bytes} of what every package contains, without the programs."""
        files = {f"share/doc/stockade/{name}": (ROOT / name).read_bytes() for name in DOCUMENTS}
        files["share/doc/stockade/LICENCES.txt"] = licences
        files |= {f"share/stockade/types/{name}": (ROOT / "types" / name).read_bytes() for name in TYPES}
        for shell, place in COMPLETIONS.items():
            files[place] = run(self.programs["stockade"], "completions", shell).encode()
        return files


def archive(entries, time):
    """A .tar.gz of {path: (bytes, mode)} that is the same for the same input."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, (data, mode) in sorted(entries.items()):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode, entry.mtime = len(data), mode, time
            entry.uname = entry.gname = "root"
            tar.addfile(entry, io.BytesIO(data))
    return compressed(raw.getvalue())


def compressed(data):
    """As gzip, in 3 to 4 % fewer bytes than zlib needs."""
    try:
        return subprocess.run(["libdeflate-gzip", "-12", "-c"], input=data, check=True, capture_output=True).stdout
    except FileNotFoundError:
        raise Problem("libdeflate-gzip is not installed\n  fix: apt-get install libdeflate-tools") from None


def zipped(entries):
    """A .zip of {path: (bytes, mode)} that is the same for the same input: APPNOTE.TXT 4.3, with the time 1980-01-01."""
    files, directory = b"", b""
    for path, (data, mode) in sorted(entries.items()):
        name = path.encode("ascii")
        packed = compressed(data)[10:-8]  # without gzip's header, which has no optional field, and its sums
        about = struct.pack("<5H3L2H", 20, 0, 8, 0, 0x21, zlib.crc32(data), len(packed), len(data), len(name), 0)
        attributes = struct.pack("<3H2L", 0, 0, 0, (0o100000 | mode) << 16, len(files))
        directory += b"PK\1\2" + struct.pack("<H", 3 << 8 | 20) + about + attributes + name  # made by Unix
        files += b"PK\3\4" + about + name + packed
    end = struct.pack("<4H2LH", 0, 0, len(entries), len(entries), len(directory), len(files), 0)
    return files + directory + b"PK\5\6" + end


def tarball(release, files, out):
    name = f"stockade-{release.version}-linux-x86_64"
    entries = {f"{name}/{path}": (data, 0o644) for path, data in files.items()}
    entries |= {f"{name}/bin/{program}": (path.read_bytes(), 0o755) for program, path in release.programs.items()}
    (out / f"{name}.tar.gz").write_bytes(archive(entries, release.time))


def deb(release, files, out):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        for path, data in files.items():
            place = root / "usr" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        (root / "usr/bin").mkdir()
        for program, path in release.programs.items():
            shutil.copyfile(path, root / "usr/bin" / program)
        for source, place in DEPLOYED.items():
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / "deploy" / source, root / place)
        sizes = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
        values = {
            "VERSION": release.version,
            "ARCHITECTURE": "amd64",
            "SIZE": str(sizes // 1024 + 1),
            "GLIBC": ".".join(map(str, release.glibc)),
        }
        control = re.sub(r"@(\w+)@", lambda found: values[found[1]], (HERE / "debian/control").read_text())
        (root / "DEBIAN").mkdir()
        (root / "DEBIAN/control").write_text(control)
        scripts = ("postinst", "prerm", "postrm")
        for script in (*scripts, "conffiles"):
            shutil.copyfile(HERE / "debian" / script, root / "DEBIAN" / script)
        programs = {"bin", "backup.sh", "upgrade.sh", "seccomp.py", *scripts}
        for place in [root, *root.rglob("*")]:
            place.chmod(0o755 if place.is_dir() or {place.parent.name, place.name} & programs else 0o644)
        package = out / f"stockade_{release.version}_amd64.deb"
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(release.time)}
        run("dpkg-deb", "--root-owner-group", "-Zxz", "--build", root, package, env=environment)


def npm_package(manifest, entries, release, out):
    """What `npm pack` makes, with fixed times."""
    entries = {f"package/{path}": value for path, value in entries.items()}
    text = json.dumps({**manifest, "version": release.version, "license": "MIT OR Apache-2.0"}, indent=2) + "\n"
    entries["package/package.json"] = (text.encode(), 0o644)
    name = manifest["name"].replace("@", "").replace("/", "-")
    (out / f"{name}-{release.version}.tgz").write_bytes(archive(entries, release.time))


def npm(release, files, out):
    out = out / "npm"
    out.mkdir()
    licences = {name: (ROOT / name).read_bytes() for name in ("LICENSE-MIT", "LICENSE-APACHE")}
    common = {name: (data, 0o644) for name, data in licences.items()}
    platform = "@stockade/linux-x64"
    npm_package(
        {"name": platform, "description": "The program stockade for Linux on x86_64", "os": ["linux"], "cpu": ["x64"], "libc": ["glibc"]},
        {
            **common,
            "LICENCES.txt": (files["share/doc/stockade/LICENCES.txt"], 0o644),
            **{f"bin/{program}": (path.read_bytes(), 0o755) for program, path in release.programs.items()},
        },
        release,
        out,
    )
    client = ROOT / "clients/node"
    manifest = json.loads((client / "package.json").read_text())
    del manifest["scripts"]
    npm_package(
        {**manifest, "optionalDependencies": {platform: release.version}},
        {
            **common,
            **{path: ((client / path).read_bytes(), 0o755 if path.startswith("bin/") else 0o644) for path in client_files(client)},
            **{f"types/{name}": ((ROOT / "types" / name).read_bytes(), 0o644) for name in TYPES},
        },
        release,
        out,
    )


def client_files(client):
    """The paths of the client for Node that its package contains."""
    places = ["README.md", "index.js", "index.d.ts", "bin/stockade", *(f"{folder}/**/*.{kind}" for folder in ("bin", "lib", "drivers") for kind in ("js", "ts"))]
    return sorted({str(path.relative_to(client)) for place in places for path in client.glob(place)})


def wheel(release, files, out):
    tag = f"py3-none-manylinux_{release.glibc[0]}_{release.glibc[1]}_x86_64"
    name = f"stockade-{release.version}"
    entries = {f"{name}.data/scripts/{program}": (path.read_bytes(), 0o755) for program, path in release.programs.items()}
    client = ROOT / "clients/python"
    for file in [*(client / "stockade").glob("*.py"), client / "stockade/py.typed"]:
        entries[str(file.relative_to(client))] = (file.read_bytes(), 0o644)
    info = f"{name}.dist-info"
    readme = (client / "README.md").read_text()
    entries[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.4\nName: stockade\nVersion: {release.version}\n"
        "Summary: A sandbox for untrusted JavaScript and TypeScript\nLicense-Expression: MIT OR Apache-2.0\n"
        "License-File: LICENSE-MIT\nLicense-File: LICENSE-APACHE\nLicense-File: LICENCES.txt\n"
        f"Requires-Python: >=3.9\nClassifier: Typing :: Typed\nDescription-Content-Type: text/markdown\n\n{readme}".encode(),
        0o644,
    )
    entries[f"{info}/WHEEL"] = (f"Wheel-Version: 1.0\nGenerator: stockade\nRoot-Is-Purelib: false\nTag: {tag}\n".encode(), 0o644)
    for licence in ("LICENSE-MIT", "LICENSE-APACHE", "LICENCES.txt"):
        entries[f"{info}/licenses/{licence}"] = (files[f"share/doc/stockade/{licence}"], 0o644)
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}\n"
        for path, (data, _) in sorted(entries.items())
    )
    entries[f"{info}/RECORD"] = (f"{record}{info}/RECORD,,\n".encode(), 0o644)
    (out / f"{name}-{tag}.whl").write_bytes(zipped(entries))


def main():
    parser = argparse.ArgumentParser(usage="./x package [--out FOLDER] [--only KINDS]", description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "target/packages", help="where the packages go (target/packages)")
    parser.add_argument("--only", default=",".join(KINDS), help=f"of {', '.join(KINDS)}")
    parser.add_argument("--built", type=Path, default=ROOT / "target/release", help="the folder with the programs")
    given = parser.parse_args()
    kinds = given.only.split(",")
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"no such kind of package: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")

    from inventory import Inventory  # next to this file
    from sizes import table

    release = Release(given.built)
    inventory = Inventory(ROOT, TARGET)
    shutil.rmtree(given.out, ignore_errors=True)
    given.out.mkdir(parents=True)
    licences = inventory.licences().encode()
    files = release.files(licences)
    for kind in kinds:
        print(f"package: {kind}", file=sys.stderr)
        {"tarball": tarball, "deb": deb, "npm": npm, "wheel": wheel}[kind](release, files, given.out)
    (given.out / "LICENCES.txt").write_bytes(licences)
    (given.out / "sbom.cdx.json").write_text(inventory.sbom(release))
    (given.out / "PROVENANCE.txt").write_text(provenance(release))
    made = sorted(file for file in given.out.rglob("*") if file.is_file())
    sums = "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(given.out)}\n" for file in made)
    (given.out / "SHA256SUMS").write_text(sums)
    if (given.built / "stockade.debug").is_file():
        print(table(given.built, compressed))
    for file in made:
        print(f"{file.stat().st_size / 1e6:7.1f} MB  {file.relative_to(given.out)}")
    if large := [file for file in made if file.stat().st_size > LIMIT]:
        raise Problem(
            f"{', '.join(file.name for file in large)}: more than {LIMIT / 1e6:.0f} MB\n"
            "  fix: the table above says where the bytes are, docs/internals/build.md where they were"
        )


def provenance(release):
    """What the programs were made from and by, as text."""
    sums = "".join(f"  {name}: sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}\n" for name, path in release.programs.items())
    locks = "".join(
        f"  {lock.relative_to(ROOT)}: sha256 {hashlib.sha256(lock.read_bytes()).hexdigest()}\n"
        for lock in [ROOT / "Cargo.lock", *sorted(ROOT.glob("helpers/*/Cargo.lock"))]
    )
    return (
        f"{run(release.programs['stockade'], '--version').splitlines()[0]}\n"
        f"commit: {release.commit}{' with changes that are not in it' if release.changed else ''}\n"
        f"target: {TARGET}, glibc {'.'.join(map(str, release.glibc))} or newer\n"
        f"compiler: {run('rustc', '--version', cwd=ROOT).strip()}\n"
        f"{re.sub(r', [0-9]+ days old', '', run(release.programs['stockade'], '--version').splitlines()[1])}\n"
        f"programs:\n{sums}dependencies:\n{locks}"
        f"packed by: libdeflate-gzip {re.search('[0-9.]+', run('libdeflate-gzip', '-V'))[0]}\n"
        "command: ./x package\n"
    )


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    sys.dont_write_bytecode = True
    try:
        main()
    except Problem as problem:
        print(f"package: {problem}", file=sys.stderr)
        sys.exit(1)
