#!/bin/sh
# What stockade-backup.service runs: a backup of the server of CONFIG in FOLDER, named by its time in UTC, after which all but the
# newest KEEP of these are removed. Where there is no new backup, the old ones stay.
set -eu
case $KEEP in '' | *[!0-9]* | 0*) echo "backup: KEEP is '$KEEP'; it is a number from 1 on" >&2; exit 2 ;; esac
[ -d "$FOLDER" ] || mkdir -m 700 -- "$FOLDER"
/usr/bin/stockade backup --config "$CONFIG" "$FOLDER/$(date -u +%Y-%m-%dT%H-%M-%SZ).tar"
find "$FOLDER" -maxdepth 1 -type f -name '????-??-??T??-??-??Z.tar' -printf '%f\n' | sort -r | tail -n "+$((KEEP + 1))" |
  while read -r old; do rm -- "$FOLDER/$old"; done
