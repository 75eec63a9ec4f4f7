"""Writes V8's clusters: files that include several source files, so that a compiler parses their headers
once. V8's build files ask for it when v8_enable_cluster_build is set (v8/gni/cluster_build.gni, which also
sets the arguments); the crate `v8` leaves V8's own tool out.

    --compute-filenames   prints the clusters' names, one a line
    --generate            writes them into --output-dir

A cluster holds up to 25 neighbours of one folder, as V8's own builds have it: for other groups some names mean
two things. Files for Turboshaft's assembler (*-tsa.cc) stand apart for that reason.
"""

import argparse
import itertools
import os
import pathlib

# Folders of the library that work while scripts run. Each of their files is compiled alone: in clusters the
# compiler inlines differently, which made JSON.parse and new typed arrays 8 % slower.
LIBRARY = {"v8_base_without_compiler", "cppgc_base"}
AT_RUN_TIME = {
    "api", "base", "builtins", "common", "execution", "handles", "heap", "ic", "json", "numbers", "objects", "regexp",
    "roots", "runtime", "sandbox", "strings", "utils", "zone",
}

parser = argparse.ArgumentParser()
parser.add_argument("--compute-filenames", action="store_true")
parser.add_argument("--generate", action="store_true")
parser.add_argument("--cluster-size", type=int, required=True)
parser.add_argument("--small-cluster-size", type=int, default=5)
parser.add_argument("--small-cluster-dirs", action="append", default=[])
parser.add_argument("--prefix", required=True)
parser.add_argument("--output-dir", default="")
parser.add_argument("--strip-prefix", default="")
parser.add_argument("--include-prefix", default="")
parser.add_argument("sources", nargs="*")
args = parser.parse_args()


def place(source):
    """What a cluster has in common."""
    return os.path.dirname(source) + ("/tsa" if source.endswith("-tsa.cc") else "")


for folder, group in itertools.groupby(sorted(args.sources, key=lambda source: (place(source), source)), key=place):
    sources = list(group)
    small = any(f"/{name}/" in f"/{folder}/" for name in args.small_cluster_dirs)
    size = args.small_cluster_size if small else args.cluster_size
    if args.prefix in LIBRARY and AT_RUN_TIME & set(folder.split("/")):
        size = 1
    for first in range(0, len(sources), size):
        name = f"{args.prefix}-{folder.strip('./').replace('/', '-')}-{first // size + 1}.cc"
        if args.compute_filenames:
            print(name)
        if args.generate:
            text = "".join(
                f'#include "{args.include_prefix}{source.removeprefix(args.strip_prefix)}"\n'
                for source in sources[first : first + size]
            )
            path = pathlib.Path(args.output_dir, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            # one that stays as it was is not compiled once more
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8")
