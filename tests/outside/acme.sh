#!/usr/bin/env bash
# Lets `stockade serve` get its certificates from pebble, Let's Encrypt's test server, by both challenges,
# and fetches from it with curl.
#
#   tests/outside/acme.sh [path to stockade]
#
# Needs pebble (Debian: pebble), openssl, curl and python3.
set -euo pipefail
cd "$(dirname "$0")/../.."

stockade=$(realpath "${1:-target/release/stockade}")
work=$(mktemp -d)
started=()
failed=0
finish() {
  for process in "${started[@]}"; do kill "$process" 2>/dev/null || true; done
  wait "${started[@]}" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

row() { # check, result, expected
  local result=ok
  [[ $2 == "$3" ]] || { result="FAILED, wanted $3"; failed=1; }
  printf '%-58s %-28s %s\n' "$1" "$2" "$result"
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
until_works() { # command
  for _ in $(seq 150); do "$@" >/dev/null 2>&1 && return; sleep 0.2; done
  echo "gave up waiting for: $*" >&2
  return 1
}

cd "$work"
command -v pebble >/dev/null || { echo 'pebble is not installed: apt-get install pebble' >&2; exit 1; }
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=ca \
  -keyout ca.key -out ca.crt 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=pebble -keyout pebble.key -out pebble.csr 2>/dev/null
openssl x509 -req -in pebble.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out pebble.crt \
  -extfile <(echo subjectAltName=IP:127.0.0.1) 2>/dev/null
http=$(free_port) tls=$(free_port) dns=$(free_port) directory=$(free_port) management=$(free_port)
cat >pebble.json <<JSON
{"pebble": {"listenAddress": "127.0.0.1:$directory", "managementListenAddress": "127.0.0.1:$management",
  "certificate": "pebble.crt", "privateKey": "pebble.key", "httpPort": $http, "tlsPort": $tls,
  "externalAccountBindingRequired": false}}
JSON
pebble-challtestsrv -http01 '' -https01 '' -tlsalpn01 '' -defaultIPv6 '' -dns01 "127.0.0.1:$dns" \
  -management "127.0.0.1:$(free_port)" >dns.log 2>&1 &
started+=($!)
PEBBLE_VA_NOSLEEP=1 pebble -strict -config pebble.json -dnsserver "127.0.0.1:$dns" >pebble.log 2>&1 &
started+=($!)
until_works curl -sf --cacert ca.crt "https://127.0.0.1:$directory/dir"
curl -sf --cacert ca.crt "https://127.0.0.1:$management/roots/0" -o root.pem

echo "export default { fetch: () => new Response('hello\\n') };" >site.js
serve() { # challenge
  cat >stockade.yaml <<YAML
version: "1.0"
listeners:
  - { address: "127.0.0.1:$http", tls: false }
  - { address: "127.0.0.1:$tls" }
tls:
  strict_sni: true
  acme:
    enabled: true
    accept_terms: true
    contact: [admin@shop.example]
    directory: https://127.0.0.1:$directory/dir
    ca: ca.crt
    challenge: $1
    cache: ./cache-$1
control: ./$1.sock
instances:
  shop: { code: ./site.js, urls: ["https://shop.example"] }
YAML
  "$stockade" serve stockade.yaml >"serve-$1.log" 2>&1 &
  server=$!
  started+=("$server")
}
get() { curl -sf --max-time 5 --cacert root.pem --resolve "shop.example:$tls:127.0.0.1" "https://shop.example:$tls/"; }
stop() { kill "$server"; wait "$server" 2>/dev/null || true; }

for challenge in tls-alpn-01 http-01; do
  serve $challenge
  until_works get || { cat "serve-$challenge.log"; exit 1; }
  row "$challenge, curl that trusts pebble's root" "$(get)" hello
  row "$challenge, mode of the cache" "$(stat -c %a "cache-$challenge")" 700
  row "$challenge, mode of its files" "$(stat -c %a "cache-$challenge"/* | sort -u)" 600
  stop
  orders=$(grep -c 'POST /finalize' pebble.log || true)
  serve $challenge
  until_works get
  row "$challenge, restarted: certificate from the cache" "$(get)" hello
  row "$challenge, restarted: no new order" "$(($(grep -c 'POST /finalize' pebble.log || true) - orders))" 0
  stop
done
exit $failed
