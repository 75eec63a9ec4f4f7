#!/usr/bin/env bash
# Installs the packages of ./x package where nothing else of Stockade is, and uses them:
#
#   tests/packages/run.sh [FOLDER OF PACKAGES]        target/packages, unless given
#
# The tarball and Debian's package are unpacked into an empty root with nothing but the C library, npm's into an empty
# folder without network, and the wheel into a new virtual environment. Each of them answers a call of a guest in a
# container, runs the quick start, and reports on the machine. Needs Debian's apt-get and bubblewrap, node, npm and python3.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
packages=$(realpath "${1:-$root/target/packages}")
work=$(mktemp -d "${TMPDIR:-/tmp}/stockade-packages.XXXXXX")
trap 'rm -rf "$work"' EXIT
failures=0

say() { printf '%s\n' "$*"; }

# check NAME EXPECTED COMMAND...: the command succeeds and its output contains EXPECTED.
check() {
  local name=$1 expected=$2 output
  shift 2
  if output=$("$@" 2>&1) && [[ $output == *"$expected"* ]]; then
    say "ok      $name"
  else
    say "FAILED  $name: expected '$expected', got: $output"
    failures=$((failures + 1))
  fi
}

# try_all NAME COMMAND...: what a user of a package does first. The command starts stockade with further arguments.
try_all() {
  local name=$1
  shift
  check "$name: version" "stockade 0." "$@" --version
  check "$name: a guest in a container" 5 "$@" call "$guest/math.ts" add 2 3
  check "$name: quick start" "Result: { answer: 15 }" "$@" run "$guest/quickstart.js" --isolation container
  check "$name: levels of this machine" "works" "$@" doctor --level container --wx jit
}

# try_helpers NAME FOLDER COMMAND...: the programs in that folder that Stockade starts say so when others start them.
try_helpers() {
  local name=$1 folder=$2 program
  shift 2
  for program in stockade-pgp stockade-peers; do
    check "$name: $program" "is started by Stockade" exits_with_2 "$@" "$folder/$program"
  done
}

exits_with_2() {
  local status=0
  "$@" || status=$?
  ((status == 2))
}

# An empty root with the C library, /proc and the example programs, at $1.
empty_root() {
  local place=$1 package
  mkdir -p "$place"/{proc,tmp,dev,examples}
  for package in "$work"/libraries/*.deb; do dpkg-deb -x "$package" "$place"; done
  [[ -e $place/lib64 ]] || ln -s usr/lib64 "$place/lib64"
  cp "$root"/examples/quickstart.js "$root"/examples/guest/math.ts "$place/examples"
}

# in_root PLACE COMMAND...: runs a program of that root, in namespaces of its own. Not by chroot, in which the kernel
# allows no user namespaces.
in_root() {
  local place=$1
  shift
  bwrap --bind "$place" / --proc /proc --dev /dev --tmpfs /tmp --unshare-pid --clearenv -- "$@"
}

mkdir "$work/libraries" "$work/examples"
(cd "$work/libraries" && apt-get -qq -o APT::Sandbox::User=root download libc6 libgcc-s1)

guest=/examples
empty_root "$work/tarball"
tar -xzf "$packages"/stockade-*-linux-x86_64.tar.gz -C "$work/tarball" --strip-components 1
try_all tarball in_root "$work/tarball" /bin/stockade
try_helpers tarball /bin in_root "$work/tarball"

empty_root "$work/deb"
dpkg-deb -x "$packages"/stockade_*_amd64.deb "$work/deb"
try_all deb in_root "$work/deb" /usr/bin/stockade
try_helpers deb /usr/bin in_root "$work/deb"
check "deb: dependencies" "Inst stockade" apt-get install --simulate "$packages"/stockade_*_amd64.deb

guest=$work/examples
cp "$root"/examples/quickstart.js "$root"/examples/guest/math.ts "$guest"
mkdir "$work/npm"
(cd "$work/npm" && npm install --offline --no-audit --no-fund --loglevel=error "$packages"/npm/*.tgz)
in_npm() { (cd "$work/npm" && npx --no-install "$@"); }
try_all npm in_npm stockade
try_helpers npm "$work/npm/node_modules/@stockade/linux-x64/bin"
check "npm: path of the program" "/bin/stockade" node -e 'process.chdir(process.argv[1]); console.log(require(process.argv[1] + "/node_modules/stockade").program())' "$work/npm"
cat >"$work/npm/client.mjs" <<'E'
import { Sandbox } from "stockade";
const sandbox = new Sandbox();
const { result, level } = await sandbox.run("await tools.twice(21)", { tools: { twice: (n) => n * 2 } });
console.log(result, level);
await sandbox.close();
E
check "npm: the client runs code in a container" "42 container" node "$work/npm/client.mjs"
check "npm: exit code of a guest that exceeds its CPU limit" "exit 121" bash -c '
  cd "$1" && echo "for (;;);" >endless.ts && npx --no-install stockade exec endless.ts; echo "exit $?"' - "$work/npm"

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-index "$packages"/*.whl
try_all wheel "$work/venv/bin/stockade"
try_helpers wheel "$work/venv/bin"
check "wheel: module" 5 "$work/venv/bin/python" -c '
import stockade
with stockade.Sandbox() as sandbox:
    print(sandbox.run("await tools.add({ a: 2, b: 3 })", tools={"add": lambda a, b: a + b}).result)'

(cd "$packages" && check "checksums" OK sha256sum --check SHA256SUMS)
if ((failures)); then say "$failures failed"; exit 1; fi
