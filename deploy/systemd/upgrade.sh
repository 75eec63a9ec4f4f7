#!/usr/bin/env bash
# Upgrades Stockade under systemd without a refused connection:
#
#   deploy/systemd/upgrade.sh PACKAGE.deb
#
# 1. The new program checks the configuration.   3. The package is installed, which restarts the service.
# 2. A backup is taken.                           4. The new server must become ready, else the old program is put back.
#
# CONFIG (/etc/stockade/stockade.yaml) and BACKUP (/var/backups/stockade/upgrade.tar) are variables of the environment; READY is
# the address of /readyz, http://127.0.0.1:9900/readyz unless given. Needs root, and stockade.socket to hold the ports.
set -euo pipefail
package=$(realpath "${1:?a package is needed, as in: deploy/systemd/upgrade.sh ./stockade_0.2.0_amd64.deb}")
config=${CONFIG:-/etc/stockade/stockade.yaml}
backup=${BACKUP:-/var/backups/stockade/upgrade.tar}
ready=${READY:-http://127.0.0.1:9900/readyz}
fail() { printf 'upgrade: %s\n' "$*" >&2; exit 1; }

[[ $(id -u) == 0 ]] || fail "root is needed to install a package; run it with sudo"
systemctl is-active --quiet stockade.service || fail "stockade.service does not run; install the package with: apt-get install $package"
if ! systemctl is-active --quiet stockade.socket; then
  fail "stockade.socket does not hold the ports, so connections would be refused; start it with: systemctl enable --now stockade.socket"
fi
work=$(mktemp -d /var/tmp/stockade-upgrade.XXXXXX)
trap 'rm -rf "$work"' EXIT

dpkg-deb -x "$package" "$work/new"
chmod 755 "$work"
runuser -u stockade -- "$work/new/usr/bin/stockade" check --files "$config" ||
  fail "the new program refuses the configuration; nothing has changed"

install -d -m 700 -o stockade -g stockade "$(dirname "$backup")"
runuser -u stockade -- stockade backup --config "$config" "$backup" || fail "there is no backup; nothing has changed"

mkdir "$work/old"
cp -p /usr/bin/stockade /usr/bin/stockade-* "$work/old/" 2>/dev/null || [[ -e $work/old/stockade ]]
began=$SECONDS
wait_until_ready() {
  local until=$((SECONDS + 120))
  while ((SECONDS < until)); do
    if systemctl is-active --quiet stockade.service && curl --silent --fail --max-time 5 --output /dev/null "$ready"; then return 0; fi
    systemctl is-failed --quiet stockade.service && return 1
    sleep 0.2
  done
  return 1
}
# The package restarts the service.
if apt-get install -qy --reinstall --allow-downgrades "$package" && wait_until_ready; then
  printf 'upgrade: %s serves after %d s; the backup is %s\n' "$(stockade --version | head -n 1)" $((SECONDS - began)) "$backup"
  exit 0
fi
journalctl -u stockade.service -n 40 --no-pager >&2 || true
# By a rename, since the programs may be running.
for program in "$work"/old/*; do
  cp -p "$program" "/usr/bin/.${program##*/}.old" && mv -f "/usr/bin/.${program##*/}.old" "/usr/bin/${program##*/}"
done
systemctl reset-failed stockade.service || true
systemctl restart stockade.service && wait_until_ready ||
  fail "neither the new nor the old program serves; the backup is $backup"
fail "the new server did not become ready, and the old program serves again; the lines above are its log"
