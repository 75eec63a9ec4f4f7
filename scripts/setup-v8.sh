#!/usr/bin/env bash
# Puts V8's static library where the crate `v8` looks for it before it downloads: a file in
# $CARGO_HOME/.rusty_v8 named after the download's URL. Plain `cargo build`, `cargo test` and editors
# then work with no variable set.
#
#   scripts/setup-v8.sh                  takes the first that works:
#     1. it is already there
#     2. $STOCKADE_V8_DIR, a folder that holds librusty_v8_simdutf_release_<target>.a[.gz]
#     3. the official download (gives up within seconds where it cannot be reached; resumes)
#     4. a build from sources out of crates.io and Debian (scripts/v8/build.sh; resumes)
#   scripts/setup-v8.sh --from-source    goes from 1 straight to 4
#   scripts/setup-v8.sh --path           prints where the file belongs; exit status 1 if it is absent, or lacks patches
#
#   RUSTY_V8_MIRROR    replaces the download's base URL, as it does for the crate
#   STOCKADE_V8_PATCHES   a folder of files *.patch against V8's own sources: V8 is built from source with them, unless
#                         the library in place is of the same patches. `stockade --version` names them
#   STOCKADE_V8_WORK   the folder of the build from source; default $CARGO_HOME/.rusty_v8/build
#
# Needs nothing newer than bash 3.2, so that it also runs on macOS.
set -euo pipefail
export LC_ALL=C

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
say() { printf 'setup: %s\n' "$*" >&2; }
die() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

mode=${1:-}
case $mode in '' | --from-source | --path) ;; *) say "unknown argument '$mode'; the head of $0 lists them"; exit 2 ;; esac

version=$(awk '/^name = "v8"$/ { getline; gsub(/[^0-9.]/, ""); print; exit }' "$root/Cargo.lock")
target=$(cd "$root" && rustc -vV | sed -n 's/^host: //p')
[[ $version && $target ]] || die "cannot read V8's version from Cargo.lock ('$version') or the target from rustc ('$target')"

name=librusty_v8_simdutf_release_$target.a
url=${RUSTY_V8_MIRROR:-https://github.com/denoland/rusty_v8/releases/download}/v$version/$name.gz
cache=${CARGO_HOME:-$HOME/.cargo}/.rusty_v8
archive=$cache/$(printf %s "$url" | sed 's/[^A-Za-z0-9]/_/g')
# what the library in place was patched with: a line with the digest, and one with the names. Absent without patches
patched=$archive.patches

patches=''
if [[ ${STOCKADE_V8_PATCHES:-} ]]; then
  patches=$("$root/scripts/v8/patches.sh" digest "$STOCKADE_V8_PATCHES") || exit
  patch_names=$("$root/scripts/v8/patches.sh" names "$STOCKADE_V8_PATCHES") || exit
fi

if [[ $mode == --path ]]; then
  printf '%s\n' "$archive"
  [[ -s $archive && (! $patches || $(head -n 1 "$patched" 2>/dev/null) == "$patches") ]]
  exit
fi

# Whether FILE is a whole static library, plain or compressed.
is_library() {
  case $(head -c 7 "$1" 2>/dev/null | tr -d '\0') in
    '!<arch>') return 0 ;;
    $'\x1f\x8b'*) gzip -t "$1" 2>/dev/null && [[ $(gzip -dc "$1" 2>/dev/null | head -c 7 || true) == '!<arch>' ]] ;;
    *) return 1 ;;
  esac
}

# Moves the checked FILE into place in one step: the name never stands for half a file.
put_in_place() {
  is_library "$1" || die "$1 is damaged or not a static library"
  if [[ -e $archive ]]; then forget_compiled; fi
  rm -f "$patched"
  mv -f "$1" "$archive" || die "cannot write $archive"
  say "V8 $version is in place: $archive"
}

already_there() {
  [[ -e $archive ]] || return 1
  is_library "$archive" || { say "$archive is damaged and will be replaced"; return 1; }
  [[ ! $patches || $(head -n 1 "$patched" 2>/dev/null) == "$patches" ]] || { say "$archive is without the patches in $STOCKADE_V8_PATCHES"; return 1; }
}

# Says that the library is in place, and with which patches.
say_present() {
  say "V8 $version is there: $archive"
  [[ ! -s $patched ]] || say "  with the patches $(sed -n 2p "$patched"); remove the file to get V8 without them"
}

# Cargo does not see that the library is another one.
forget_compiled() { (cd "$root" && cargo clean --quiet --release -p v8) || say "run cargo clean --release -p v8, so that cargo takes the new library"; }

# One set-up at a time: a second one waits, then finds the first one's result. The lock ends with the
# last process that holds it, so a compiler outliving its killed script keeps a second build out.
take_lock() {
  mkdir -p "$cache"
  if command -v flock >/dev/null; then
    exec 9>"$cache/setup.lock"
    flock -n 9 && return
    say "another set-up is at work on $cache; waiting for it"
    flock 9
  else
    local holder
    while ! mkdir "$cache/setup.lock.d" 2>/dev/null; do
      holder=$(cat "$cache/setup.lock.d/pid" 2>/dev/null || true)
      if [[ $holder ]] && ! kill -0 "$holder" 2>/dev/null; then rm -rf "$cache/setup.lock.d"; fi
      sleep 1
    done
    echo $$ >"$cache/setup.lock.d/pid"
    trap 'rm -rf "$cache/setup.lock.d"' EXIT
  fi
}

from_folder() {
  [[ ${STOCKADE_V8_DIR:-} ]] || return 1
  local file
  for file in "$STOCKADE_V8_DIR/$name.gz" "$STOCKADE_V8_DIR/$name"; do
    [[ -e $file ]] || continue
    say "copying $file"
    cp "$file" "$archive.copy" || die "cannot copy $file to $cache"
    put_in_place "$archive.copy"
    return
  done
  say "STOCKADE_V8_DIR=$STOCKADE_V8_DIR holds no $name.gz and no $name"
  return 1
}

from_download() {
  command -v curl >/dev/null || { say "no curl: skipping the download"; return 1; }
  local part=$archive.part status
  say "downloading $url"
  fetch() {
    curl --fail --location --show-error --progress-bar --connect-timeout 5 \
      --speed-limit 1000 --speed-time 15 --continue-at - --output "$part" "$url"
  }
  fetch && status=0 || status=$?
  # 22, 33: the server refuses the range, as it does once nothing is left to fetch
  if [[ -e $part && ($status == 22 || $status == 33) ]] && ! is_library "$part"; then
    rm -f "$part"
    fetch && status=0 || status=$?
  fi
  if [[ -e $part ]] && is_library "$part"; then put_in_place "$part"; return; fi
  if [[ $status == 0 ]]; then
    rm -f "$part"
    say "what was downloaded is not a static library"
  else
    say "the download failed (curl's exit status $status)"
  fi
  return 1
}

from_source() {
  local work=${STOCKADE_V8_WORK:-$cache/build}/v8-$version
  mkdir -p "$work" && work=$(cd "$work" && pwd) || die "cannot make the folder $work"
  "$root/scripts/v8/build.sh" "$version" "$target" "$work" "$archive.built" || exit
  put_in_place "$archive.built"
  if [[ $patches ]]; then printf '%s\n%s\n' "$patches" "$patch_names" >"$patched"; fi
  rm -rf "$work"
}

if [[ ${RUSTY_V8_ARCHIVE:-} ]]; then
  say "RUSTY_V8_ARCHIVE is set: the crate v8 takes $RUSTY_V8_ARCHIVE, nothing to do"
elif already_there; then
  say_present
else
  take_lock
  if already_there; then
    say_present
  elif [[ $mode == --from-source || $patches ]]; then
    from_source
  else
    from_folder || from_download || from_source
  fi
fi
