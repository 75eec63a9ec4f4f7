#!/usr/bin/env bash
# Applies patches to a small tree as the build of V8 from source does, and names them. Needs no V8.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/stockade-v8-patches.XXXXXX")
trap 'rm -rf "$work"' EXIT
patches=$root/scripts/v8/patches.sh
failures=0

# expect NAME EXPECTED COMMAND...: the output of the command, whether or not it succeeds, contains EXPECTED.
expect() {
  local name=$1 expected=$2 output
  shift 2
  output=$("$@" 2>&1) && output+=' [succeeded]' || output+=' [failed]'
  [[ $output == *"$expected"* ]] || { printf 'FAILED  %s: expected "%s", got: %s\n' "$name" "$expected" "$output"; failures=$((failures + 1)); }
}

# A tree inside a repository, as $CARGO_HOME may be inside one.
git -C "$work" init -q
mkdir -p "$work/tree/src" "$work/patches"
printf 'one\ntwo\nthree\n' >"$work/tree/src/a.cc"
cp -r "$work/tree" "$work/before"
cat >"$work/patches/0002-three.patch" <<'P'
--- a/src/a.cc
+++ b/src/a.cc
@@ -1,3 +1,3 @@
 ONE
 two
-three
+THREE
P
cat >"$work/patches/0001-one.patch" <<'P'
--- a/src/a.cc
+++ b/src/a.cc
@@ -1,3 +1,3 @@
-one
+ONE
 two
 three
P
echo 'not a patch' >"$work/patches/README"

expect "names in order" "0001-one+0002-three [succeeded]" "$patches" names "$work/patches"
expect "applied in order" "[succeeded]" "$patches" apply "$work/patches" "$work/tree"
expect "the result" "ONE
two
THREE [succeeded]" cat "$work/tree/src/a.cc"
expect "applied twice" "does not apply to this version of V8" "$patches" apply "$work/patches" "$work/tree"
rm "$work/patches/0001-one.patch"
first=$("$patches" digest "$work/patches")
expect "one that does not apply" "[failed]" "$patches" apply "$work/patches" "$work/before"
expect "and changed nothing" "one
two
three [succeeded]" cat "$work/before/src/a.cc"
echo >>"$work/patches/0002-three.patch"
[[ $("$patches" digest "$work/patches") != "$first" ]] || { echo "FAILED  the digest of changed patches is the same"; failures=$((failures + 1)); }
touch "$work/patches/a+b.patch"
expect "a name with a separator" "fix: rename it [failed]" "$patches" names "$work/patches"
expect "no folder" "is not a folder" "$patches" names "$work/nothing"
mkdir "$work/empty"
expect "an empty folder" "holds no file *.patch" "$patches" names "$work/empty"

if ((failures)); then exit 1; fi
