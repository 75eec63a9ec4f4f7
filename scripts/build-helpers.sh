#!/usr/bin/env bash
# Builds the programs of helpers/, each with its own Cargo.lock, and puts them next to the release binary:
#
#   scripts/build-helpers.sh             builds them
#   scripts/build-helpers.sh test        checks their format, lints and tests them, and builds them
#   scripts/build-helpers.sh tidy        removes what their own crates left in the target folder
#
# A helper has dependencies that the workspace cannot have. They are compiled in `helpers` of the target folder.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
export CARGO_TARGET_DIR=$target/helpers
# what .ci/run sets is for the workspace
unset "${!CARGO_PROFILE_RELEASE_@}"

for helper in "$root"/helpers/*/; do
  name=$(basename "$helper")
  manifest=(--manifest-path "$helper/Cargo.toml")
  case ${1:-build} in
    build) ;;
    test)
      cargo fmt "${manifest[@]}" --check
      cargo clippy --release --quiet "${manifest[@]}" --all-targets -- -D warnings
      cargo test --release --quiet "${manifest[@]}"
      ;;
    tidy)
      own=(-p "$name")
      ! grep -q '^name = "stockade-jail"' "$helper/Cargo.lock" || own+=(-p stockade-jail)
      cargo clean --release "${manifest[@]}" "${own[@]}"
      continue
      ;;
    *) echo "build-helpers: unknown command '$1'" >&2; exit 2 ;;
  esac
  cargo build --release --quiet "${manifest[@]}"
  mkdir -p "$target/release"
  cmp -s "$CARGO_TARGET_DIR/release/$name" "$target/release/$name" ||
    { cp "$CARGO_TARGET_DIR/release/$name" "$target/release/$name.new" && mv -f "$target/release/$name.new" "$target/release/$name"; }
done
