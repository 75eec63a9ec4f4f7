#!/usr/bin/env bash
# Upgrades Stockade under systemd without a refused connection:
#
#   /usr/share/stockade/upgrade.sh PACKAGE.deb
#
# 1. The new program checks the configuration.   3. The package is installed, which restarts the service.
# 2. A backup is taken.                           4. The new server must become ready, else the old package is installed again.
#
# CONFIG (/etc/stockade/stockade.yaml) and BACKUP (/var/backups/stockade/upgrade.tar) are variables of the environment; READY is
# the address of /readyz, http://127.0.0.1:9900/readyz unless given; READY=none relies on what the server reports to systemd.
# Needs root, curl, and stockade.socket to hold the ports.
set -euo pipefail
package=$(realpath "${1:?a package is needed, as in: upgrade.sh ./stockade_0.2.0_amd64.deb}")
config=${CONFIG:-/etc/stockade/stockade.yaml}
backup=${BACKUP:-/var/backups/stockade/upgrade.tar}
ready=${READY:-http://127.0.0.1:9900/readyz}
fail() { printf 'upgrade: %s\n' "$*" >&2; exit 1; }
is_ready() { [[ $ready == none ]] || curl --silent --fail --max-time 5 --output /dev/null "$ready"; }

[[ $(id -u) == 0 ]] || fail "root is needed to install a package; run it with sudo"
[[ $ready == none ]] || command -v curl >/dev/null || fail "curl is not installed; install it with: apt-get install curl"
systemctl is-active --quiet stockade.service || fail "stockade.service does not run; install the package with: apt-get install $package"
if ! systemctl is-active --quiet stockade.socket; then
  fail "stockade.socket does not hold the ports, so connections would be refused; start it with: systemctl enable --now stockade.socket"
fi
is_ready || fail "$ready does not say that the running server is ready; set READY to the /readyz of metrics.listen, or to none"
work=$(mktemp -d /var/tmp/stockade-upgrade.XXXXXX)
trap 'rm -rf "$work"' EXIT

dpkg-deb -x "$package" "$work/new"
chmod 755 "$work"
runuser -u stockade -- "$work/new/usr/bin/stockade" check --files "$config" ||
  fail "the new program refuses the configuration; nothing has changed"
rm -rf "$work/new"

# A folder that is there keeps its owner.
[[ -e $(dirname "$backup") ]] || install -d -m 700 -o stockade -g stockade "$(dirname "$backup")"
runuser -u stockade -- stockade backup --config "$config" "$backup" || fail "there is no backup; nothing has changed"

# The installed package as a file, made of what it has installed. `set -e` does not hold here: bash leaves it out before `||`.
repack() {
  local old=$work/old path script
  mkdir -p "$old/DEBIAN" || return
  while read -r path; do
    if [[ -L $path || -f $path ]]; then (cd / && cp -a --parents ".$path" "$old") || return; fi
  done < <(dpkg-query --listfiles stockade)
  dpkg-query --status stockade | awk '/^[^ ]/ { kept = !/^(Status|Conffiles):/ } kept' >"$old/DEBIAN/control" || return
  for script in $(dpkg-query --control-list stockade); do
    [[ $script == md5sums ]] || cp "$(dpkg-query --control-path stockade "$script")" "$old/DEBIAN/$script" || return
  done
  # A file of the configuration that the operator removed is not in the package either.
  if [[ -e $old/DEBIAN/conffiles ]]; then
    while read -r path; do if [[ -e $old$path ]]; then printf '%s\n' "$path"; fi; done <"$old/DEBIAN/conffiles" >"$work/conffiles" || return
    mv "$work/conffiles" "$old/DEBIAN/conffiles" || return
  fi
  dpkg-deb --root-owner-group -Znone --build "$old" "$work/old.deb" >/dev/null && rm -rf "$old"
}
repack || fail "the installed package cannot be kept for the way back; nothing has changed"

# A server that cannot start is started again and again: at its third time it counts as one that will not.
wait_until_ready() {
  local until=$((SECONDS + 120))
  while ((SECONDS < until)); do
    if systemctl is-active --quiet stockade.service && is_ready; then return 0; fi
    systemctl is-failed --quiet stockade.service && return 1
    (($(systemctl show --property NRestarts --value stockade.service) < 3)) || return 1
    sleep 0.2
  done
  return 1
}
began=$SECONDS
# The package restarts the service.
if apt-get install -qy --reinstall --allow-downgrades "$package" && wait_until_ready; then
  printf 'upgrade: %s serves after %d s; the backup is %s\n' "$(stockade --version | head -n 1)" $((SECONDS - began)) "$backup"
  exit 0
fi
journalctl -u stockade.service -n 40 --no-pager >&2 || true
dpkg --force-confold --install "$work/old.deb" >&2 || fail "the old package cannot be installed again; the backup is $backup"
systemctl reset-failed stockade.service || true
systemctl restart stockade.service && wait_until_ready ||
  fail "neither the new nor the old version serves; the backup is $backup"
fail "the new server did not become ready, and the old version serves again; the lines above are its log"
