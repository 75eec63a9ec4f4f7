#!/usr/bin/env bash
# Builds an OCI image of Stockade from Debian's packages and the package of ./x package. No base image is downloaded.
#
#   deploy/oci/build.sh [PACKAGES] [OUT]      target/packages, and stockade-VERSION.oci.tar in it, unless given
#
#   podman load -i OUT                        or docker, through: skopeo copy oci-archive:OUT docker-daemon:stockade:VERSION
#
# The image has the C library, root certificates and Stockade: no shell, no package manager. It runs as user 10001.
# The same packages give the same image. Needs mmdebstrap, umoci and skopeo, all in Debian.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
packages=$(realpath "${1:-$root/target/packages}")
deb=$(echo "$packages"/stockade_*_amd64.deb)
[[ -e $deb ]] || { echo "build: no stockade_*_amd64.deb in $packages; make it with ./x package" >&2; exit 1; }
for tool in mmdebstrap umoci skopeo; do
  command -v "$tool" >/dev/null || { echo "build: $tool is missing; install it with: apt-get install $tool" >&2; exit 1; }
done
version=$(dpkg-deb --field "$deb" Version)
out=$(realpath -m "${2:-$packages/stockade-$version.oci.tar}")
work=$(mktemp -d "${TMPDIR:-/tmp}/stockade-image.XXXXXX")
trap 'rm -rf "$work"' EXIT
export SOURCE_DATE_EPOCH
SOURCE_DATE_EPOCH=$(dpkg-deb --fsys-tarfile "$deb" | tar -tv --full-time --utc -f - | awk '$1 ~ /^-/ && !found++ { print $4 "T" $5 "Z" }' | xargs date +%s -d)

# Step 1: the root file system. Packages are unpacked, and no script of theirs runs.
users=$work/users
mkdir -p "$users"
printf 'root:x:0:0::/root:/sbin/nologin\nstockade:x:10001:10001::/srv:/sbin/nologin\n' >"$users/passwd"
printf 'root:x:0:\nstockade:x:10001:\n' >"$users/group"
mmdebstrap --quiet --mode="$([[ $(id -u) == 0 ]] && echo root || echo unshare)" --variant=extract --format=tar \
  --include=libc6,libgcc-s1,ca-certificates \
  --extract-hook="dpkg-deb -x '$deb' \"\$1\"" \
  --extract-hook="copy-in '$users/passwd' '$users/group' /etc" \
  --extract-hook='cat "$1"/usr/share/ca-certificates/mozilla/*.crt >"$1/etc/ssl/certs/ca-certificates.crt"' \
  --extract-hook='mkdir -p "$1/srv" "$1/etc/stockade" "$1/var/lib/stockade" && chown 10001:10001 "$1/srv" "$1/var/lib/stockade"' \
  --extract-hook='cd "$1" && rm -rf var/lib/dpkg var/lib/apt var/cache var/log usr/share/locale usr/share/man usr/share/doc-base usr/share/lintian' \
  bookworm "$work/root.tar"

# Step 2: one layer and its configuration.
image=$work/image
umoci init --layout "$image"
umoci new --image "$image:$version"
umoci raw add-layer --image "$image:$version" "$work/root.tar"
umoci config --image "$image:$version" --no-history --created "$(date -u -d "@$SOURCE_DATE_EPOCH" +%FT%TZ)" \
  --os linux --architecture amd64 \
  --config.user 10001:10001 --config.workingdir /srv --config.volume /var/lib/stockade \
  --config.exposedports 8080/tcp --config.exposedports 8443/tcp \
  --config.entrypoint /usr/bin/stockade --config.cmd serve --config.cmd /etc/stockade/stockade.yaml \
  --config.label "org.opencontainers.image.title=stockade" --config.label "org.opencontainers.image.version=$version" \
  --config.label "org.opencontainers.image.licenses=MIT OR Apache-2.0"
umoci gc --layout "$image"
mkdir -p "${out%/*}"
skopeo copy --quiet "oci:$image:$version" "oci-archive:$out:stockade:$version"
printf '%s: %d MB\n' "$out" $(($(stat -c %s "$out") >> 20))
