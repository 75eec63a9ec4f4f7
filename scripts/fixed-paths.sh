#!/usr/bin/env bash
# Runs a command with this repository and cargo's folder at paths that are the same for everyone, because compilers write
# paths into programs:
#
#   scripts/fixed-paths.sh COMMAND...      in /tmp/stockade-build/source, with CARGO_HOME=/tmp/stockade-build/cargo
#
# They are mounted there for the command alone, in namespaces of its own. Needs Linux with user namespaces.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
place=/tmp/stockade-build
cargo=${CARGO_HOME:-$HOME/.cargo}

mkdir -p "$place/source" "$place/cargo"
# a folder of someone else could be changed while the command runs
[[ -O $place && ! -L $place ]] || { echo "fixed-paths: $place belongs to another user" >&2; exit 1; }
unshare --user --map-root-user --mount true 2>/dev/null || {
  printf 'fixed-paths: this machine allows no user namespaces, which the mounts need\n  fix: stockade doctor says how\n' >&2
  exit 1
}
export CARGO_HOME=$place/cargo
exec unshare --user --map-root-user --mount --propagation private bash -c '
  mount --bind "$1" "$3/source" && mount --bind "$2" "$3/cargo" && cd "$3/source" && shift 3 && exec "$@"
' fixed-paths "$root" "$cargo" "$place" "$@"
