#!/usr/bin/env bash
# The build scripts that make the startup snapshots make the same bytes in each run: those of the last build, run twice in
# folders of their own, agree with each other and with what the build made. The build comes before this test.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=${CARGO_TARGET_DIR:-$root/target}/release/build
work=$(mktemp -d "${TMPDIR:-/tmp}/stockade-snapshots.XXXXXX")
trap 'rm -rf "$work"' EXIT

# newest PATTERN: the file that was written last
newest() { ls -t -- $1 2>/dev/null | head -n 1; }

for name in isolate:worker host:host; do
  crate=stockade-${name%:*} file=${name#*:}.snapshot
  script=$(newest "$build/$crate-*/build-script-build")
  built=$(newest "$build/$crate-*/out/$file")
  [[ $script && $built ]] || { printf 'snapshots: %s is not built\n  fix: ./x build\n' "$crate" >&2; exit 1; }
  for run in 1 2; do
    mkdir -p "$work/$crate/$run"
    (cd "$root/crates/$crate" && OUT_DIR=$work/$crate/$run "$script" >"$work/log" 2>&1) || { cat "$work/log" >&2; exit 1; }
    cmp "$built" "$work/$crate/$run/$file" || { echo "snapshots: $file of run $run is not that of the build" >&2; exit 1; }
  done
  diff -r "$work/$crate/1" "$work/$crate/2" >&2
done
