"""The files for container engines: the AppArmor profiles, the seccomp profile, and the OCI image where podman and the packages of
`./x package` are there: by each runtime, with each profile, and as the pod of the manifests for Kubernetes. `STOCKADE_DOCKER_SECCOMP`
names Docker's own profile, where that should be tried too."""

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import yaml

from docs import ROOT, Pages
from kubernetes import chart
from server import free_port

PROFILES = ("stockade", "stockade-container")
# Fewer descriptors and processes than by default, which a container around this one may forbid.
BOUNDS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
# The sandbox of docs/containers.md and of the manifests.
CONFINED = ["--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges"]
SLOW = """\
export default {
  async fetch(request: Request): Promise<Response> {
    if (new URL(request.url).pathname === "/slow") await new Promise((resolve) => setTimeout(resolve, 3000));
    return new Response("answered\\n");
  },
};
"""


def promised():
    """The table of docs/containers.md: what levels do with the engine's own profile and with that of deploy/oci/seccomp.py."""
    text = (ROOT / "docs/containers.md").read_text()
    rows = re.findall(r"^\| the default one.*?\| (\w+)[^|]*\| (\w+)[^|]*\|$", text, re.M)
    return [{"process": process, "container": container} for process, container in rows]


class Engine:
    """podman with the image, and storage of its own."""

    def __init__(self, folder, image):
        self.podman = ["podman", "--root", f"{folder}/engine", "--runroot", f"{folder}/engine-run", "--storage-driver", "vfs"]
        status, printed = run(*self.podman, "load", "-i", image)
        self.problem = f"podman cannot load images: {printed.strip()[-200:]}" if status else None
        if not self.problem:
            self.name = re.search(r"(\S*stockade:\S+)", printed)[1]

    def run(self, runtime, *arguments):
        return run(*self.podman, "--runtime", runtime, "run", *BOUNDS, *arguments)

    def runtimes(self):
        """Those that work on this machine, and why others do not."""
        working, others = [], []
        for runtime in ("crun", "runc"):
            status, printed = self.run(runtime, "--rm", "--network", "none", self.name, "--version")
            if status == 0:
                working.append(runtime)
            else:
                others.append(f"{runtime}: {printed.strip().splitlines()[-1][-160:]}")
        return working, others

    def clear(self):
        run(*self.podman, "rm", "--all", "--force", "--time", "0")
        run(*self.podman, "rmi", "--all", "--force")


def get(port, path):
    """The status and the text of an answer; the status 0 where there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        return 0, repr(error)
    finally:
        connection.close()


def pod(engine, runtime, isolation, place):
    """Runs the pod of the chart as a container: same user, root, capabilities, profile, volumes, arguments, probes and end. What is
    wrong, or None."""
    objects = chart({"isolation": isolation, "code": {"hello": {"index.ts": SLOW}}})
    spec = next(one for one in objects if one["kind"] == "StatefulSet")["spec"]["template"]["spec"]
    maps = {one["metadata"]["name"]: one["data"] for one in objects if one["kind"] == "ConfigMap"}
    [container], context = spec["containers"], spec["securityContext"]
    # Step 1: the pod's volumes as folders.
    options, volumes = [], {volume["name"]: volume for volume in spec["volumes"]}
    for mount in container["volumeMounts"]:
        volume, at = volumes.get(mount["name"], {}), mount["mountPath"]
        if "emptyDir" in volume:
            options += ["--tmpfs", f"{at}:size={volume['emptyDir']['sizeLimit'].removesuffix('i').lower()},mode=1777"]
            continue
        source = place / mount["name"]
        source.mkdir(parents=True)
        source.chmod(0o755)
        for name, text in maps.get(volume.get("configMap", {}).get("name"), {}).items():
            (source / name).write_text(text)
            (source / name).chmod(0o644)
        if not mount.get("readOnly"):
            os.chown(source, context["runAsUser"], context["fsGroup"])
        options += ["-v", f"{source}:{at}{':ro' if mount.get('readOnly') else ''}"]
    # Step 2: its sandbox.
    own = container["securityContext"]
    if context["seccompProfile"]["type"] == "Localhost":
        profile = place / "profile.json"
        profile.write_text(run("python3", "-B", ROOT / "deploy/oci/seccomp.py")[1])
        options += ["--security-opt", f"seccomp={profile}"]
    options += ["--read-only"] * own["readOnlyRootFilesystem"] + ["--security-opt", "no-new-privileges"] * (not own["allowPrivilegeEscalation"])
    options += ["--user", f"{context['runAsUser']}:{context['runAsGroup']}"]
    options += [word for name in own["capabilities"]["drop"] for word in ("--cap-drop", name)]
    # Step 3: its configuration, at ports of this machine.
    ports = {port["name"]: free_port() for port in container["ports"]}
    config = yaml.safe_load((place / "config/stockade.yaml").read_text())
    for listener in config["listeners"]:
        listener["address"] = f"127.0.0.1:{ports['http']}"
    config["metrics"]["listen"] = f"127.0.0.1:{ports['metrics']}"
    (place / "config/stockade.yaml").write_text(yaml.safe_dump(config))
    status, printed = engine.run(runtime, "--detach", "--network", "host", *options, engine.name, *container["args"])
    if status:
        return f"{isolation}: {printed[-500:]}"
    name = printed.strip().splitlines()[-1]
    # Step 4: its probes.
    until = time.monotonic() + container["startupProbe"]["failureThreshold"]
    while get(ports["metrics"], container["startupProbe"]["httpGet"]["path"])[0] != 200:
        if time.monotonic() > until:
            return f"{isolation}: the startup probe failed: {run(*engine.podman, 'logs', name)[1][-800:]}"
        time.sleep(0.1)
    while get(ports["metrics"], container["readinessProbe"]["httpGet"]["path"])[0] != 200 and time.monotonic() < until:
        time.sleep(0.1)
    if get(ports["metrics"], container["livenessProbe"]["httpGet"]["path"])[0] != 200:
        return f"{isolation}: the liveness probe failed"
    if get(ports["http"], "/") != (200, "answered\n"):
        return f"{isolation}: {get(ports['http'], '/')} {run(*engine.podman, 'logs', name)[1][-800:]}"
    # Step 5: its end. A request that runs is answered.
    answers = []
    asking = threading.Thread(target=lambda: answers.append(get(ports["http"], "/slow")))
    asking.start()
    time.sleep(1)
    begun = time.monotonic()
    run(*engine.podman, "stop", "--time", spec["terminationGracePeriodSeconds"], name)
    took = time.monotonic() - begun
    asking.join()
    state = run(*engine.podman, "inspect", "--format", "{{.State.ExitCode}}", name)[1].strip()
    if answers != [(200, "answered\n")] or state != "0" or took > spec["terminationGracePeriodSeconds"] - 1:
        return f"{isolation}: the end took {took:.0f} s, exit code {state}, a running request got {answers}"
    return None


def composed(engine, runtime, place):
    """Starts deploy/oci/compose.yaml by podman-compose, at a port of this machine. What is wrong, or None."""
    (place / "sites/hello").mkdir(parents=True)
    (place / "sites/hello/index.ts").write_text(SLOW)
    port = free_port()
    (place / "stockade.yaml").write_text(f"""\
version: "1.0"
listeners: [{{ address: "127.0.0.1:{port}" }}]
instances: {{ hello: {{ code: /srv/hello, urls: ["*"], state: true }} }}
state: {{ path: /var/lib/stockade/state.db }}
control: /tmp/stockade.sock
""")
    (place / "stockade-seccomp.json").write_text(run("python3", "-B", ROOT / "deploy/oci/seccomp.py")[1])
    file = yaml.safe_load((ROOT / "deploy/oci/compose.yaml").read_text())
    service = file["services"]["stockade"]
    # What this machine may not give: a network of the engine, and descriptors.
    del service["ports"]
    service |= {"network_mode": "host", "ulimits": {"nofile": 1024, "nproc": 1024}, "image": engine.name}
    (place / "compose.yaml").write_text(yaml.safe_dump(file))
    podman = place / "podman"
    podman.write_text(f"#!/bin/sh\nexec {' '.join(engine.podman)} --runtime {runtime} \"$@\"\n")
    podman.chmod(0o755)
    run("chmod", "-R", "a+rX", place)
    compose = [Path(sys.executable).with_name("podman-compose"), "--podman-path", podman]
    try:
        status, printed = run(*compose, "up", "--detach", cwd=place)
        until = time.monotonic() + 60
        while get(port, "/")[0] != 200 and time.monotonic() < until and status == 0:
            time.sleep(0.1)
        if get(port, "/") != (200, "answered\n"):
            return f"{status} {printed[-800:]}"
        name = run(podman, "ps", "--quiet")[1].strip()
        status, printed = run(podman, "healthcheck", "run", name)
        return f"the health check ended with {status}: {printed}" if status else None
    finally:
        run(*compose, "down", "--volumes", cwd=place)


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

    known = {}

    def image():
        if missing:
            return None, f"not here: {', '.join(missing)} is missing"
        out = folder / "stockade.oci.tar"
        status, printed = run(ROOT / "deploy/oci/build.sh", packages, out)
        if status:
            return printed
        if out.stat().st_size > 120 << 20:
            return f"the image has {out.stat().st_size >> 20} MiB"
        engine = Engine(folder, out)
        if engine.problem:
            return None, f"not here: {engine.problem}"
        working, others = engine.runtimes()
        known.update(engine=engine, working=working, others=others)
        return None, f"{out.stat().st_size >> 20} MiB"

    def absent():
        """Why the image cannot be run, or None."""
        return None if known.get("working") else f"not here: {'; '.join(known.get('others', missing)) or 'there is no image'}"

    def levels():
        if absent():
            return None, absent()
        engine, wanted, tried = known["engine"], promised(), []
        if [sorted(one) for one in wanted] != [["container", "process"]] * 2:
            return f"the table of docs/containers.md is not understood: {wanted}"
        own = {"podman": Path("/usr/share/containers/seccomp.json")}
        if named := os.environ.get("STOCKADE_DOCKER_SECCOMP"):
            own["Docker"] = Path(named)
        for runtime in known["working"]:
            for of, profile in own.items():
                made = folder / "made.json"
                made.write_text(run("python3", "-B", ROOT / "deploy/oci/seccomp.py", profile)[1])
                for path, expected in zip((profile, made), wanted):
                    _, said = engine.run(runtime, "--rm", "--network", "none", *CONFINED, "--security-opt", f"seccomp={path}",
                                         engine.name, "doctor")
                    found = {level: state for state, level in re.findall(r"^(\w+) +(process|container)  ", said, re.M)}
                    if found != expected:
                        return f"{runtime} with {of}'s {path}: {found}, and docs/containers.md says {expected}\n{said[-1500:]}"
                tried.append(f"{runtime} with {of}'s profile")
        return None, "; ".join(tried + known["others"])

    def pods():
        if absent() or os.geteuid() != 0:
            return None, absent() or "not here: the volumes of the pod need root"
        tried = []
        for runtime in known["working"]:
            for isolation in ("process", "container"):
                place = folder / f"pod-{runtime}-{isolation}-{time.monotonic_ns()}"
                if problem := pod(known["engine"], runtime, isolation, place):
                    return f"{runtime}: {problem}"
            tried.append(runtime)
        return None, f"levels process and container, by {', '.join(tried)}"

    def composes():
        if absent():
            return None, absent()
        for runtime in known["working"]:
            if problem := composed(known["engine"], runtime, folder / f"composed-{runtime}-{time.monotonic_ns()}"):
                return f"{runtime}: {problem}"

    def clear():
        if "engine" in known:
            known.pop("engine").clear()

    return [
        *[(f"AppArmor: {profile}", lambda profile=profile: parsed(profile)) for profile in PROFILES],
        ("seccomp: the profile of an engine with what level container needs", seccomp),
        ("the OCI image", image),
        ("the levels in containers are those of docs/containers.md", levels),
        ("the pod of the chart: sandbox, probes, and an end without loss", pods),
        ("the file for compose starts a server at level container", composes),
        ("the engine is left empty", clear),
    ]
