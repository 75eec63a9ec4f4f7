#!/usr/bin/env bash
# The operator's patches of V8: the files FOLDER/*.patch, in the order of their names.
#
#   patches.sh names FOLDER            their names, joined by `+`: what V8's version carries
#   patches.sh digest FOLDER           a hash of names and contents
#   patches.sh apply FOLDER TREE       applies them to TREE, V8's own source folder (paths as `git diff` writes them)
#
# A patch that does not apply completely is an error, and nothing of it is applied.
set -euo pipefail
export LC_ALL=C

longest=160   # characters of all names: V8's version stands in logs and in answers of the API

die() {
  printf 'setup: error: %s\n' "$1" >&2
  shift
  if (($#)); then printf '  %s\n' "$@" >&2; fi
  exit 1
}

command=${1:-} folder=${2:-}
[[ -d $folder ]] || die "STOCKADE_V8_PATCHES=$folder is not a folder" "fix: name a folder of files *.patch, or unset it"
folder=$(cd "$folder" && pwd)
files=()
for file in "$folder"/*.patch; do
  if [[ -f $file ]]; then files+=("$file"); fi
done
((${#files[@]})) || die "STOCKADE_V8_PATCHES=$folder holds no file *.patch" "fix: put patches there, or unset it"

names() {
  local file name all=''
  for file in "${files[@]}"; do
    name=${file##*/} name=${name%.patch}
    # what gn and a line of text take without quotes; `+` separates the names
    [[ $name =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] ||
      die "the name of the patch $file has other characters than letters, digits, dots, hyphens and underscores" "fix: rename it"
    all+=${all:++}$name
  done
  ((${#all} <= longest)) || die "the names of the patches in $folder have ${#all} characters, more than $longest" "fix: shorten them"
  printf '%s\n' "$all"
}

digest() {
  local file
  for file in "${files[@]}"; do
    printf '%s\n' "${file##*/}"
    sha256sum <"$file"
  done | sha256sum | cut -c 1-64
}

apply() {
  local tree=$1 file
  [[ -d $tree ]] || die "there is no folder $tree to apply the patches to"
  # not the repository that the folder may lie in: git would apply nothing there, and say nothing
  GIT_CEILING_DIRECTORIES=$(cd "$tree/.." && pwd)
  export GIT_CEILING_DIRECTORIES
  for file in "${files[@]}"; do
    git -C "$tree" apply --whitespace=nowarn "$file" ||
      die "the patch $file does not apply to this version of V8, in $tree" \
        "fix: take a version of the patch for this V8, or remove it if this V8 contains the change"
    printf 'setup: applied %s\n' "$file" >&2
  done
}

case $command in
  names) names ;;
  digest) digest ;;
  apply) apply "${3:?apply needs the folder of the sources}" ;;
  *) die "unknown command '$command'; the head of $0 lists them" ;;
esac
