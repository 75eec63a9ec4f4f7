#!/usr/bin/env python3
"""Adds to a container engine's seccomp profile what level `container` needs inside the engine's container.

    deploy/oci/seccomp.py [PROFILE] > stockade-seccomp.json
    podman run --security-opt seccomp=stockade-seccomp.json …

PROFILE is the engine's own: /usr/share/containers/seccomp.json of podman, unless given; Docker publishes its as
profiles/seccomp/default.json in the repository moby/profiles. The result allows what the engine allows, and the calls below to
processes without privileges: with them a process makes namespaces of its own, in which it has all capabilities and outside of
which it has none. Workers give all of these calls up before a byte of a guest reaches them.
"""

import json
import sys

# What makes namespaces, an empty root, and the name of a machine that says nothing.
CALLS = ["clone", "clone3", "unshare", "setns", "mount", "umount2", "pivot_root", "sethostname", "setdomainname"]


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else "/usr/share/containers/seccomp.json"
    try:
        with open(path, encoding="utf-8") as file:
            profile = json.load(file)
        for rule in profile["syscalls"]:
            rule["names"] = [name for name in rule["names"] if name not in CALLS]
        profile["syscalls"] = [rule for rule in profile["syscalls"] if rule["names"]]
        profile["syscalls"].append({"names": CALLS, "action": "SCMP_ACT_ALLOW", "comment": "level container of Stockade"})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        sys.exit(f"seccomp: {path} is not a seccomp profile of a container engine: {error!r}")
    json.dump(profile, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
