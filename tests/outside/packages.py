"""The packages, made from the programs of this build, each installed where nothing else of Stockade is, and used:
`dpkg-deb`, `apt-get`, `npm`, `pip`. tests/packages/run.sh does this, in empty roots and folders."""

import re
import shutil
import subprocess
import sys

from docs import ROOT, Pages

PROGRAMS = ("stockade", "stockade-pgp", "stockade-peers")


class Packages(Pages):
    """In the place of a server: a folder with packages."""

    def __init__(self, *_, **__):
        super().__init__()
        self.built = self.binary.parent


def server(_quick):
    return Packages


def checks(place):
    out = place.folder / "out"

    def make():
        programs = place.folder / "programs"
        programs.mkdir(exist_ok=True)
        for name in PROGRAMS:
            if not (place.built / name).exists():
                return f"{place.built / name} is missing\n  fix: ./x build"
            subprocess.run(["strip", "--strip-all", place.built / name, "-o", programs / name], check=True)
        made = ROOT / "packaging/package.py"
        done = subprocess.run([sys.executable, "-B", made, "--built", programs, "--out", out], capture_output=True, text=True)
        if done.returncode:
            return done.stderr[-2000:]
        sums = subprocess.run(["sha256sum", "--quiet", "--check", "SHA256SUMS"], cwd=out, capture_output=True, text=True)
        return sums.stdout or None

    yield "all kinds are made, and their checksums hold", make

    def again():
        """Of the same programs: `./x package` states that they are the same, byte by byte."""
        second = place.folder / "second"
        command = [sys.executable, "-B", ROOT / "packaging/package.py", "--built", place.folder / "programs", "--out", second, "--only", "npm,wheel"]
        subprocess.run(command, check=True, capture_output=True)
        names = [path.relative_to(second) for path in second.rglob("*") if path.is_file() and path.name != "SHA256SUMS"]
        different = [str(name) for name in names if (second / name).read_bytes() != (out / name).read_bytes()]
        shutil.rmtree(second)
        return f"these differ: {', '.join(different)}" if different or not names else None

    yield "the same programs give the same packages", again

    def use():
        done = subprocess.run([ROOT / "tests/packages/run.sh", out], capture_output=True, text=True)
        failed = re.findall(r"^FAILED.*(?:\n(?!ok |FAILED).*)*", done.stdout, re.MULTILINE)
        passed = len(re.findall(r"^ok ", done.stdout, re.MULTILINE))
        if done.returncode == 0 and passed:
            return None, f"{passed} checks"
        return "\n".join(failed)[:4000] or (done.stdout + done.stderr)[-2000:]

    yield "each is installed and used", use
