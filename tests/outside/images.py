"""The files for container engines: the AppArmor profiles, the seccomp profile, and the OCI image where podman and the packages of
`./x package` are there."""

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from docs import ROOT, Pages

PROFILES = ("stockade", "stockade-container")


def server(quick):
    return Pages


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=900, **options)
    return done.returncode, done.stdout + done.stderr


def checks(pages):
    folder = Path(pages.folder)
    packages = ROOT / "target/packages"
    missing = [tool for tool in ("podman", "mmdebstrap", "umoci", "skopeo") if not shutil.which(tool)]
    if not list(packages.glob("stockade_*_amd64.deb")):
        missing.append("a package (./x package)")

    def parsed(profile):
        parser = shutil.which("apparmor_parser") or "/usr/sbin/apparmor_parser"
        if not Path(parser).exists():
            return None, "not here: apparmor_parser is not installed"
        _, text = run(parser, "--version")
        major = int(re.search(r"(\d+)\.", text)[1])
        text = (ROOT / "deploy/apparmor" / profile).read_text()
        note = None
        if major < 4:
            # The package leaves the profile out there, because this fails.
            status, _ = run(parser, "--skip-kernel-load", "--skip-cache", ROOT / "deploy/apparmor" / profile)
            if status == 0:
                return "a parser before version 4 takes the profile"
            text = text.replace("abi <abi/4.0>,", "abi <abi/3.0>,").replace("  userns,\n", "")
            note = "refused as it is by AppArmor before version 4, and right without the rule `userns`"
        copy = folder / profile
        copy.write_text(text)
        status, printed = run(parser, "--skip-kernel-load", "--skip-cache", copy)
        return (printed, None) if status else (None, note)

    def seccomp():
        own = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["read", "mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 2114060288, "op": "SCMP_CMP_MASKED_EQ"}]},
        ]}
        engine = Path("/usr/share/containers/seccomp.json")
        for profile in [own] + ([json.loads(engine.read_text())] if engine.exists() else []):
            path = folder / "engine.json"
            path.write_text(json.dumps(profile))
            status, printed = run("python3", "-B", ROOT / "deploy/oci/seccomp.py", path)
            made = json.loads(printed)
            rules = [rule for rule in made["syscalls"] if "mount" in rule["names"]]
            if status or len(rules) != 1 or rules[0]["action"] != "SCMP_ACT_ALLOW" or "includes" in rules[0]:
                return f"{status}: {rules}"
        path.write_text("{}")
        status, printed = run("python3", "-B", ROOT / "deploy/oci/seccomp.py", path)
        return None if status else "a file without rules is taken"

    def image():
        if missing:
            return None, f"not here: {', '.join(missing)} is missing"
        out = folder / "stockade.oci.tar"
        status, printed = run(ROOT / "deploy/oci/build.sh", packages, out)
        if status:
            return printed
        if out.stat().st_size > 120 << 20:
            return f"the image has {out.stat().st_size >> 20} MiB"
        with tempfile.TemporaryDirectory(dir=folder) as place:
            podman = ["podman", "--root", f"{place}/root", "--runroot", f"{place}/run", "--storage-driver", "vfs"]
            status, printed = run(*podman, "load", "-i", out)
            if status:
                return None, f"not here: podman cannot load images: {printed.strip()[-200:]}"
            name = re.search(r"(\S*stockade:\S+)", printed)[1]
            # The user of the image reads it.
            code = folder / "code"
            code.mkdir(exist_ok=True, mode=0o755)
            (code / "math.ts").write_text("export const add = (a: number, b: number): number => a + b;\n")
            # Fewer descriptors and processes than by default, which a container around this one may forbid.
            options = ["run", "--rm", "--network", "none", "-v", f"{code}:/srv:ro", "--ulimit", "nofile=1024:1024",
                       "--ulimit", "nproc=1024:1024"]
            call = [name, "call", "--isolation"]
            try:
                # Not every runtime works on every machine.
                for runtime in ("crun", "runc"):
                    base = [*podman, "--runtime", runtime, *options]
                    status, printed = run(*base, "--entrypoint", "/usr/bin/stockade", name, "--version")
                    if status == 0:
                        break
                else:
                    return None, f"not here: podman cannot run a container: {printed.strip()[-200:]}"
                status, printed = run(*base, *call, "process", "math.ts", "add", "2", "3")
                if status or "5" not in printed:
                    return f"at level process: {printed[-500:]}"
                _, text = run("python3", "-B", ROOT / "deploy/oci/seccomp.py")
                (folder / "seccomp.json").write_text(text)
                status, printed = run(*base, "--security-opt", f"seccomp={folder}/seccomp.json", *call, "container",
                                      "math.ts", "add", "2", "3")
                if status or "5" not in printed:
                    return f"at level container: {printed[-500:]}"
            finally:
                run(*podman, "rm", "--all", "--force")
                run(*podman, "rmi", "--all", "--force")
        return None, f"{out.stat().st_size >> 20} MiB; levels process and container work in podman with {runtime}"

    return [
        *[(f"AppArmor: {profile}", lambda profile=profile: parsed(profile)) for profile in PROFILES],
        ("seccomp: the profile of an engine with what level container needs", seccomp),
        ("the OCI image", image),
    ]
