#!/usr/bin/env bash
# Builds V8's static library on Debian from package registries alone: V8's sources are in the crate that Cargo.lock names, and
# ICU's data in deno_core_icudata; clang, lld and ninja come from Debian, gn from Debian unstable, run under that release's
# own libc. Every step is kept, so an interrupted build goes on where it stopped.
#
#   build.sh VERSION TARGET WORK_FOLDER OUTPUT.a.gz      (called by scripts/setup-v8.sh)
#
# The operator's patches in STOCKADE_V8_PATCHES, if that is set, are applied to the sources, and V8's version names them.
set -euo pipefail
export LC_ALL=C

version=$1 target=$2 work=$3 output=$4
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
here=$root/scripts/v8
llvm_release=22      # the first that accepts V8's sources; its unknown flags are taken out below
disk_mb=2500         # what the work folder grows to: 1.2 GB measured, and room for the archive and a temporary copy
memory_mb=1500       # what one compiler needs
# SHA-256 of ICU's data in deno_core_icudata 0.RELEASE.0, by ICU's release: no Cargo.lock names that crate.
declare -A icu_sums=([77]=1cf67874b5a87a8363a86fb3f81e3cbbed54d389062dab8fb52308d5cf8c8612)

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
  printf 'setup: error: %s\n' "$1" >&2
  shift
  if (($#)); then printf '  %s\n' "$@" >&2; fi
  exit 1
}

check_platform() {
  local others="put the library into a folder yourself and name it: STOCKADE_V8_DIR=<folder> ./x setup"
  case $target in
    x86_64-unknown-linux-gnu | aarch64-unknown-linux-gnu) ;;
    *) die "building V8 from source works only on Linux with glibc, x86_64 or aarch64; this is $target" \
      "fix: let this machine reach the download above, or $others" ;;
  esac
  # shellcheck disable=SC1091
  local id; id=$(. /etc/os-release 2>/dev/null && echo "${ID:-}")
  [[ $id == debian ]] || die "building V8 from source needs Debian 12's packages; this is '${id:-unknown}'" \
    "fix: let this machine reach the download above, or $others"
}

check_disk() {
  mkdir -p "$work"
  local used free
  used=$(du -sm "$work" | cut -f1)
  free=$(df -Pm "$work" | awk 'NR == 2 { print $4 }')
  ((free + used >= disk_mb)) || die "not enough disk for building V8 in $work" \
    "needed: $disk_mb MB, of which $used MB are already there; free: $free MB" \
    "fix: free $((disk_mb - used - free)) MB, or name a folder elsewhere: STOCKADE_V8_WORK=<folder> ./x setup"
}

install_packages() {
  local package missing=()
  for package in "clang-$llvm_release" "lld-$llvm_release" "llvm-$llvm_release" "libclang-rt-$llvm_release-dev" \
    ninja-build python3 libc6-dev; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  local install="apt-get install -y --no-install-recommends ${missing[*]}"
  [[ $(id -u) == 0 ]] || die "building V8 from source needs packages that are not installed: ${missing[*]}" \
    "fix: sudo apt-get update && sudo $install" "then start this again"
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q >"$work/apt.log" 2>&1 && $install >>"$work/apt.log" 2>&1 || {
    tail -n 5 "$work/apt.log" >&2
    die "installing Debian packages failed; the whole log: $work/apt.log"
  }
}

# Debian 12 and 13 have a gn too old for this V8. Unstable's runs here when started by its own loader.
fetch_gn() {
  local gn=$work/gn lists=() list mirror loader
  "$gn/gn" --version >/dev/null 2>&1 && return
  say "fetching gn from Debian unstable"
  rm -rf "$gn"
  mkdir -p "$gn"/{state/lists/partial,cache/archives/partial,unpacked}
  for list in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
    if [[ -e $list ]]; then lists+=("$list"); fi
  done
  mirror=$(sed -nE 's/^URIs: *([^ ]+).*/\1/p; s/^deb (\[[^]]*\] )?([^ ]+) .*/\2/p' "${lists[@]}" /dev/null |
    grep -v security | head -n 1 || true)
  [[ $mirror ]] || die "no Debian mirror is named in /etc/apt" \
    "fix: name one in /etc/apt/sources.list, or take a ready archive: STOCKADE_V8_DIR=<folder> ./x setup"
  printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s sid main\n' \
    "$mirror" >"$gn/sources.list"
  local apt=(apt-get -q -o "Dir::Etc::sourcelist=$gn/sources.list" -o Dir::Etc::sourceparts=/dev/null
    -o "Dir::State=$gn/state" -o Dir::State::status=/var/lib/dpkg/status -o "Dir::Cache=$gn/cache"
    -o APT::Sandbox::User=root)
  { "${apt[@]}" update && (cd "$gn" && "${apt[@]}" download generate-ninja libc6 libgcc-s1 libstdc++6); } \
    >"$work/gn.log" 2>&1 || { tail -n 5 "$work/gn.log" >&2; die "fetching gn failed; the whole log: $work/gn.log"; }
  for list in "$gn"/*.deb; do dpkg -x "$list" "$gn/unpacked"; done
  loader=$(echo "$gn/unpacked/usr/lib/${target%%-*}-linux-gnu"/ld-linux-*.so.*)
  printf '#!/bin/sh\nexec %q --library-path %q %q "$@"\n' \
    "$loader" "${loader%/*}" "$gn/unpacked/usr/bin/gn" >"$gn/gn"
  chmod +x "$gn/gn"
  "$gn/gn" --version >/dev/null || die "gn from Debian unstable does not start; remove $gn and try again"
}

# folder_of CRATE MANIFEST_FOLDER OPTIONS...: where cargo keeps the sources of a dependency of that manifest.
folder_of() {
  local crate=$1 folder=$2
  shift 2
  cd "$folder" && cargo metadata --format-version 1 "$@" | python3 -c '
import json, os, sys
print(*(os.path.dirname(p["manifest_path"]) for p in json.load(sys.stdin)["packages"] if p["name"] == sys.argv[1]))' "$crate"
}

copy_sources() {
  local v8 icu_data icu_release icu_sum
  # sources with other patches are copied afresh
  [[ -e $work/source/.ready && $(cat "$work/source/.ready") == "$patches" ]] && return
  say "fetching V8's sources from the crate registry"
  v8=$(folder_of v8 "$root" --locked --filter-platform "$target") || die "cargo could not fetch the crate v8 that Cargo.lock names"
  # The data must fit the library: deno_core_icudata 0.77.x is for ICU 77. No program links that crate.
  icu_release=$(awk '/define U_ICU_VERSION_MAJOR_NUM/ { print $3 }' "$v8/third_party/icu/source/common/unicode/uvernum.h")
  icu_sum=${icu_sums[$icu_release]:-}
  mkdir -p "$work/icu-data"
  printf '[package]\nname = "icu-data"\nedition = "2024"\n[lib]\npath = "none.rs"\n[dependencies]\ndeno_core_icudata = "%s"\n[workspace]\n' \
    "${icu_sum:+=}0.$icu_release${icu_sum:+.0}" >"$work/icu-data/Cargo.toml"
  icu_data=$(folder_of deno_core_icudata "$work/icu-data") || die "cargo could not fetch deno_core_icudata 0.$icu_release, the data of V8's ICU"
  if [[ $icu_sum ]]; then
    sha256sum --check --status <<<"$icu_sum  $icu_data/src/icudtl.dat" ||
      die "$icu_data/src/icudtl.dat is not the data of ICU $icu_release that $0 knows"
  else
    say "the data of ICU $icu_release is taken as the registry has it: $0 knows no checksum"
  fi

  rm -rf "$work/source"
  cp -r "$v8" "$work/source"
  mkdir -p "$work/source/third_party/icu/common"
  cp "$icu_data/src/icudtl.dat" "$work/source/third_party/icu/common/"
  # flags of Chromium's clang that Debian's does not know
  sed -i 's/"-fdiagnostics-show-inlining-chain"//; s/"-fno-lifetime-dse"//' "$work/source/build/config/compiler/BUILD.gn"
  sed -i 's/"-fsanitize-ignore-for-ubsan-feature=${invoker.sanitizer}",//' "$work/source/build/config/sanitizers/sanitizers.gni"
  if [[ $patches ]]; then "$here/patches.sh" apply "$STOCKADE_V8_PATCHES" "$work/source/v8" || exit; fi
  printf '%s\n' "$patches" >"$work/source/.ready"
}

# Copies FILE to TARGET unless it is there: a newer one would have what depends on it made once more.
keep_copy() { cmp -s "$1" "$2" || cp "$1" "$2"; }

# A folder laid out like Chromium's clang, of links to Debian's, with our clang++ in front; and our other tools.
lay_out_compiler() {
  local debian=/usr/lib/llvm-$llvm_release llvm=$work/llvm file runtime
  runtime=lib/clang/$llvm_release/lib/$target
  rm -rf "$llvm"
  mkdir -p "$llvm/bin" "$llvm/$runtime" "$work/pch"
  for file in "$debian"/bin/*; do ln -s "$file" "$llvm/bin/"; done
  ln -s "$debian/lib/clang/$llvm_release/include" "$llvm/lib/clang/$llvm_release/include"
  ln -s "$debian/lib/clang/$llvm_release/lib/linux/libclang_rt.builtins-${target%%-*}.a" "$llvm/$runtime/libclang_rt.builtins.a"
  for file in "$here"/pch/*.h; do keep_copy "$file" "$work/pch/${file##*/}"; done
  keep_copy "$here/cluster_files.py" "$work/source/v8/tools/cluster_files.py"
  rm "$llvm/bin/clang++"
  cp "$here/clang++" "$llvm/bin/clang++"
}

# Sets `cost` to what the step in ninja's line LINE costs, in shares of a small one (half a second), as measured.
weigh() {
  case $1 in
    *' obj/v8/v8_compiler/'*) cost=35 ;;
    *' obj/v8/'*-csa-* | *' obj/v8/v8_base_without_compiler/'* | *' obj/v8/v8_initializers/'*) cost=9 ;;
    *' obj/v8/'*) cost=4 ;;
    *:run_torque*) cost=40 ;;
    *) cost=1 ;;
  esac
}

# Turns ninja's "[done/total]" lines into a percentage and an estimate; the rest goes to the log. All steps that
# are left cost LEFT; those of an interrupted build are the rest of what $work/cost holds.
show_progress() {
  local line cost left=$1 begin=$SECONDS shown=-60 finished=0 all last text
  all=$(cat "$work/cost" 2>/dev/null || echo 0)
  if ((left > all)); then all=$left; echo "$all" >"$work/cost"; fi
  while IFS= read -r line; do
    printf '%s\n' "$line"
    [[ $line =~ ^\[([0-9]+)/([0-9]+)\] ]] || continue
    weigh "$line"
    # the last step may come early: ninja leaves out those whose input turns out to be what it was
    last=$((BASH_REMATCH[1] == BASH_REMATCH[2])) finished=$((finished + cost))
    left=$((last || left < cost ? 0 : left - cost))
    if [[ -t 2 ]]; then ((SECONDS > shown)) || continue; else ((SECONDS >= shown + 60 || last)) || continue; fi
    shown=$SECONDS text=''
    if ((SECONDS - begin >= 30 && left > 0)); then
      text=", about $(((SECONDS - begin) * left / finished / 60 + 1)) min left"
    fi
    text="setup: compiling V8: $((100 * (all - left) / all)) % (step ${BASH_REMATCH[1]} of ${BASH_REMATCH[2]}$text)"
    if [[ -t 2 ]]; then printf '\r%s\033[K' "$text" >&2; else printf '%s\n' "$text" >&2; fi
  done >>"$work/ninja.log"
  if [[ -t 2 ]]; then echo >&2; fi
}

# Prints what the steps that are left cost.
plan() {
  local line cost sum=0
  while IFS= read -r line; do
    if [[ $line == \[* ]]; then weigh "$line" && ((sum += cost)); fi
  done < <(ninja -C "$work/out" -n rusty_v8)
  echo "$sum"
}

compile() {
  local settings jobs by_memory left
  # The crate's archive lacks the Rust sources of V8's Temporal: that one feature is off.
  # V8's cluster build has the compiler parse the headers of up to 25 source files once (cluster_files.py).
  settings="is_debug=false symbol_level=0 use_custom_libcxx=true treat_warnings_as_errors=false use_glib=false
    v8_enable_sandbox=false v8_enable_pointer_compression=false v8_enable_v8_checks=false
    v8_monolithic_for_shared_library=true v8_enable_cluster_build=true rusty_v8_enable_simdutf=true
    enable_rust=false enable_rust_cxx=false v8_enable_temporal_support=false
    v8_embedder_string=\"-rusty$patch_names\"
    clang_base_path=\"$work/llvm\" clang_version=\"$llvm_release\""
  export PYTHONDONTWRITEBYTECODE=1
  (cd "$work/source" && "$work/gn/gn" --root="$work/source" --script-executable="$(command -v python3)" \
    gen "$work/out" --args="${settings//$'\n'/ }") >"$work/gn.log" 2>&1 || {
    tail -n 20 "$work/gn.log" >&2
    die "gn could not lay out the build; the whole log: $work/gn.log"
  }
  jobs=$(nproc)
  by_memory=$(($(awk '/^MemAvailable/ { print $2 }' /proc/meminfo) / 1024 / memory_mb))
  if ((by_memory < jobs)); then jobs=$((by_memory > 0 ? by_memory : 1)); fi
  say "compiling V8 with $jobs compilers at once; it may be interrupted and started again (log: $work/ninja.log)"
  : >"$work/ninja.log"
  left=$(plan)
  if ! NINJA_STATUS='[%f/%t] ' ninja -C "$work/out" -j "$jobs" rusty_v8 2>&1 | show_progress "$left"; then
    grep -A 20 -m 1 '^FAILED' "$work/ninja.log" >&2 || tail -n 20 "$work/ninja.log" >&2
    die "compiling V8 failed; the whole log: $work/ninja.log" "started again, it goes on where it stopped"
  fi
}

patches='' patch_names=''
if [[ ${STOCKADE_V8_PATCHES:-} ]]; then
  patches=$("$here/patches.sh" digest "$STOCKADE_V8_PATCHES") || exit
  patch_names=$("$here/patches.sh" names "$STOCKADE_V8_PATCHES") || exit
  patch_names=+$patch_names
fi
trap 'say "stopped; started again, it goes on where it stopped"; exit 130' INT TERM
check_platform
say "building V8 $version from source in $work: about 22 minutes on 2 cores, $disk_mb MB of disk"
check_disk
install_packages
fetch_gn
copy_sources
lay_out_compiler
compile
say "packing the library ($(du -sm "$work" | cut -f1) MB used in $work)"
gzip -9 -c "$work/out/obj/librusty_v8.a" >"$output"
