#!/usr/bin/env bash
# Runs the outside tools against this build of `stockade serve`: tests/outside/main.py says with which
# arguments. Installs what is missing, Python's packages and smugglex into a cache folder of their own.
# With --suite: the test suite of another project, as tests/outside/suites/README.md says.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${STOCKADE_OUTSIDE_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/stockade/outside}
export STOCKADE_OUTSIDE_TOOLS=$cache

if [[ " $* " == *" --suite"* ]]; then
  suites=$here/suites
  if ! command -v npm >/dev/null; then
    echo "outside: npm is missing; install Node.js 20 or later to run the suites of other projects" >&2
    exit 3
  fi
  if ! cmp -s "$suites/package-lock.json" "$cache/suites/installed.json"; then
    mkdir -p "$cache/suites"
    cp "$suites/package.json" "$suites/package-lock.json" "$cache/suites"
    (cd "$cache/suites" && npm ci --no-audit --no-fund --loglevel=error >&2)
    cp "$suites/package-lock.json" "$cache/suites/installed.json"
  fi
  exec python3 -B "$suites/main.py" "$@"
fi

packages=()
add() { PATH=$PATH:/usr/sbin command -v "$1" >/dev/null || packages+=("$2"); }
# what the clients of npm and their servers need
add npm npm
add redis-server redis-server
compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || packages+=(postgresql)
add curl curl
# the browser of the tests of the dashboard
add chromium chromium
add openssl openssl
add python3 python3
# the packages
add libdeflate-gzip libdeflate-tools
# what documented commands use, and the parser of AppArmor's profiles
add jq jq
add gpg gpg
add ip iproute2
add apparmor_parser apparmor
python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)
if [[ " $* " != *" --quick "* ]]; then
  add slowhttptest slowhttptest
  add h2load nghttp2-client
  add wrk wrk
  add mariadbd mariadb-server
  # the machine with systemd
  add qemu-system-x86_64 qemu-system-x86
  add mmdebstrap mmdebstrap
  add cpio cpio
fi
if ((${#packages[@]})); then
  root=()
  [[ $(id -u) == 0 ]] || root=(sudo -n)
  echo "installing ${packages[*]}" >&2
  "${root[@]}" apt-get update -q >&2
  "${root[@]}" apt-get install -qy --no-install-recommends "${packages[@]}" >&2
fi

# npm_packages GROUP: the files of its folder, and what its package-lock.json names, in the cache
npm_packages() {
  local place=$cache/$1
  mkdir -p "$place"
  cp "$here/$1"/* "$place"
  cmp -s "$place/package-lock.json" "$place/installed.json" && return
  (cd "$place" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2)
  cp "$place/package-lock.json" "$place/installed.json"
}
npm_packages drivers
npm_packages clients-node
npm_packages mcp

# The clients need Node 20.19, and the texts of the console are those of Node 20. Debian 12 has Node 18.
if ! [[ $(node --version) =~ ^v20\.(19|[2-9][0-9])\. ]]; then
  npm_packages node
  STOCKADE_OUTSIDE_NODE=$(compgen -G "$cache/node/node_modules/node-linux-*/bin") || {
    echo "outside: npm has no Node.js 20 for $(uname -sm); install Node.js 20.19 or a later 20" >&2
    exit 3
  }
  export STOCKADE_OUTSIDE_NODE
fi

installed=$cache/venv/ready-$(sha256sum <"$here/requirements.txt" | head -c 16)
if ! [[ -e $installed ]]; then
  python3 -m venv "$cache/venv"
  "$cache/venv/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt"
  touch "$installed"
fi
if [[ " $* " != *" --quick "* ]] && ! command -v smugglex >/dev/null && ! [[ -x $cache/bin/smugglex ]]; then
  (cd / && cargo install --quiet --locked --root "$cache" --version 0.4.0 smugglex) ||
    echo "smugglex could not be installed; its checks are skipped" >&2
fi

exec "$cache/venv/bin/python" -B "$here/main.py" "$@"
