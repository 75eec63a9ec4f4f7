#!/usr/bin/env bash
# Checks types/*.d.ts with the TypeScript compiler: the declarations themselves, the cases in host/,
# worker/, site/ and clients/ (right uses compile; wrong ones are marked @ts-expect-error, which fails if they compile),
# and all examples and specs that are TypeScript.
#
# Needs node and npm. Without them it says so and passes, unless CI is set.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if ! command -v npm >/dev/null; then
  echo "tests/types: npm is missing; install Node.js 20 or later to check the declarations" >&2
  [[ -z ${CI:-} ]] || exit 1
  exit 0
fi
# Installed and no older than what the lock file names?
if [[ ! node_modules/.package-lock.json -nt package-lock.json ]]; then
  npm ci --no-audit --no-fund --loglevel=error
  touch node_modules/.package-lock.json
fi

failed=0
count=0
for config in host worker site clients examples; do
  count=$((count + 1))
  if node_modules/.bin/tsc --project "tsconfig.$config.json"; then
    echo "tests/types: $config: ok"
  else
    failed=$((failed + 1))
    echo "tests/types: $config: failed" >&2
  fi
done
echo "$((count - failed)) passed, $failed failed"
((failed == 0))
