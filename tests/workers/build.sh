#!/usr/bin/env bash
# Bundles src/ into the folder $1, with what package-lock.json names. Ends with 3 where npm is missing.
set -euo pipefail
target=$1
sources=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if ! command -v npm >/dev/null; then
  echo "tests/workers: npm is missing; install Node.js 20 or later to test frameworks" >&2
  exit 3
fi
mkdir -p "$target"
# Tests are processes of their own, and run at the same time.
exec 9>"$target.lock"
flock 9
if [[ ! $target/node_modules/.package-lock.json -nt $sources/package-lock.json ]]; then
  cp "$sources/package.json" "$sources/package-lock.json" "$target"
  (cd "$target" && npm ci --no-audit --no-fund --loglevel=error)
  touch "$target/node_modules/.package-lock.json"
fi
cp -r "$sources/src" "$target"
cd "$target"
for name in hono.tsx itty.ts entrypoint.ts jose.ts nostr.ts; do
  node_modules/.bin/esbuild "src/$name" --bundle --format=esm --target=esnext --log-level=warning \
    --external:cloudflare:workers --external:node:async_hooks --conditions=workerd,worker,browser \
    --jsx=automatic --jsx-import-source=hono/jsx --outdir="$target"
done
