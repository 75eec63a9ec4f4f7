#!/usr/bin/env bash
# Runs TLS scanners that others made against `stockade serve`, and fails on what they find.
#
#   tests/outside/tls.sh [path to stockade]
#
# Needs openssl and curl; takes testssl and sslscan (Debian: testssl.sh, sslscan) and sslyze (PyPI) from
# PATH, and says which of them it went without. Prints a table; the reports stay in $OUT where it is set.
set -euo pipefail
cd "$(dirname "$0")/../.."

stockade=$(realpath "${1:-target/release/stockade}")
work=$(mktemp -d)
out=${OUT:-$work}
mkdir -p "$out"
server=
failed=0
finish() {
  [[ -z $server ]] || kill "$server" 2>/dev/null || true
  [[ -z $server ]] || wait "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

row() { # check, result, expected
  local result=ok
  [[ $2 == "$3" ]] || { result="FAILED, wanted $3"; failed=1; }
  printf '%-58s %-28s %s\n' "$1" "$2" "$result"
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# --- certificates: an authority, a server's with each kind of key, clients' good, revoked and foreign
cd "$work"
ca() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=$1" \
  -addext keyUsage=critical,keyCertSign,cRLSign -keyout "$1.key" -out "$1.crt" 2>/dev/null; }
sign() { # name, authority, key, extensions
  openssl req -newkey "${@:3:1}" ${5:+-pkeyopt "$5"} -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.csr" 2>/dev/null
  printf '%b' "basicConstraints=critical,CA:FALSE\n$4" >"$1.ext"
  openssl x509 -req -in "$1.csr" -CA "$2.crt" -CAkey "$2.key" -CAcreateserial -days 90 -extfile "$1.ext" -out "$1.crt" 2>/dev/null
}
names='subjectAltName=DNS:open.localhost,DNS:closed.localhost\nextendedKeyUsage=serverAuth\nkeyUsage=digitalSignature\n'
ca root; ca clients; ca strangers
sign server-ec root ec "$names" ec_paramgen_curve:P-256
sign server-rsa root rsa:2048 "$names"
for client in good revoked; do sign $client clients ec 'extendedKeyUsage=clientAuth\n' ec_paramgen_curve:P-256; done
sign foreign strangers ec 'extendedKeyUsage=clientAuth\n' ec_paramgen_curve:P-256
touch index.txt; echo 01 >crlnumber
printf '[ca]\ndefault_ca=c\n[c]\ndatabase=index.txt\ncrlnumber=crlnumber\ndefault_md=sha256\ndefault_crl_days=5\n' >ca.cnf
openssl ca -config ca.cnf -keyfile clients.key -cert clients.crt -revoke revoked.crt 2>/dev/null
openssl ca -config ca.cnf -keyfile clients.key -cert clients.crt -gencrl -out clients.crl 2>/dev/null
cat server-ec.crt root.crt >server-ec.pem
cat server-rsa.crt root.crt >server-rsa.pem
chmod 600 ./*.key

port=$(free_port)
cat >site.js <<'JS'
export default { fetch: (request) => Response.json(request.cf?.tlsClientAuth ?? {}) };
JS
cat >stockade.yaml <<YAML
version: "1.0"
listeners:
  - address: 127.0.0.1:$port
tls:
  certificates:
    - { cert: server-ec.pem, key: server-ec.key }
    - { cert: server-rsa.pem, key: server-rsa.key }
  strict_sni: true
limits: { connections_per_address: 2000, handshakes: 2000 }
instances:
  open: { code: ./site.js, urls: [open.localhost] }
  closed:
    code: ./site.js
    urls: [closed.localhost]
    client_auth: { mode: required, ca: clients.crt, crl: [clients.crl] }
YAML
"$stockade" serve stockade.yaml >"$out/serve.log" 2>&1 &
server=$!
for _ in $(seq 100); do
  curl -sk --max-time 5 -o "$work/first" "https://open.localhost:$port/" --resolve "open.localhost:$port:127.0.0.1" && break
  kill -0 $server 2>/dev/null || { cat "$out/serve.log"; exit 1; }
  sleep 0.1
done

# --- curl: who comes in
fetch() { # host, options: status, or curl's exit code where there is none
  local status
  if status=$(curl -s --max-time 10 --cacert root.crt -o answer -w '%{http_code}' \
    --resolve "open.localhost:$port:127.0.0.1" --resolve "closed.localhost:$port:127.0.0.1" "${@:2}" "https://$1:$port/"); then
    echo "$status"
  else
    # The end of a handshake reaches curl before or after it has begun to write.
    [[ $? =~ ^(35|55|56)$ ]] && echo 'no handshake' || echo 'other error'
  fi
}
row 'curl, open host' "$(fetch open.localhost)" 200
row 'curl, open host, TLS 1.2 only' "$(fetch open.localhost --tls-max 1.2)" 200
row 'curl, open host, HTTP/1.1' "$(fetch open.localhost --http1.1)" 200
row 'curl, closed host, good certificate' "$(fetch closed.localhost --cert good.crt --key good.key)" 200
row 'subject that the handler sees' "$(python3 -c 'import json; print(json.load(open("answer")).get("certSubjectDN"))')" CN=good
row 'curl, closed host, no certificate' "$(fetch closed.localhost)" 'no handshake'
row 'curl, closed host, revoked certificate' "$(fetch closed.localhost --cert revoked.crt --key revoked.key)" 'no handshake'
row "curl, closed host, other authority's certificate" "$(fetch closed.localhost --cert foreign.crt --key foreign.key)" 'no handshake'
row 'curl, SNI open, Host closed' "$(fetch open.localhost -H "Host: closed.localhost:$port")" 421
row 'curl, SNI closed with certificate, Host open' \
  "$(fetch closed.localhost --cert good.crt --key good.key -H "Host: open.localhost:$port")" 421
row 'curl, plain HTTP on the TLS port' "$(curl -s --max-time 5 -o /dev/null -w '%{http_code}' "http://127.0.0.1:$port/")" 400

# --- OpenSSL: what must not be spoken
speaks() { # options
  if echo | timeout 10 openssl s_client -connect "127.0.0.1:$port" -servername open.localhost "$@" 2>&1 | grep -q 'Cipher is [A-Z]'; then
    echo accepted
  else
    echo refused
  fi
}
row 'openssl, TLS 1.0' "$(speaks -tls1 -cipher ALL:@SECLEVEL=0)" refused
row 'openssl, TLS 1.1' "$(speaks -tls1_1 -cipher ALL:@SECLEVEL=0)" refused
row 'openssl, TLS 1.2 with CBC' "$(speaks -tls1_2 -cipher AES256-SHA256:ECDHE-RSA-AES256-SHA384:@SECLEVEL=0)" refused
row 'openssl, TLS 1.2' "$(speaks -tls1_2)" accepted
row 'openssl, TLS 1.3' "$(speaks -tls1_3)" accepted
row 'openssl, unknown name' "$(speaks -servername other.localhost)" refused

reused() { # options
  local session=$work/session
  rm -f "$session"
  # In TLS 1.3 tickets come after the handshake; the request makes the client read them.
  printf 'GET / HTTP/1.1\r\nHost: open.localhost:%s\r\nConnection: close\r\n\r\n' "$port" >"$work/request"
  { cat "$work/request"; sleep 1; } | timeout 10 openssl s_client -quiet -connect "127.0.0.1:$port" -servername open.localhost "$@" -sess_out "$session" >/dev/null 2>&1 || true
  echo | timeout 10 openssl s_client -connect "127.0.0.1:$port" -servername "${name:-open.localhost}" "$@" -sess_in "$session" >"$work/again" 2>&1 || true
  grep -q '^Reused' "$work/again" && echo resumed || echo 'not resumed'
}
row 'openssl, TLS 1.2 session resumed' "$(reused -tls1_2)" resumed
row 'openssl, TLS 1.3 session resumed' "$(reused -tls1_3)" resumed
row "openssl, TLS 1.2 session of the open host at the closed one" "$(name=closed.localhost reused -tls1_2)" 'not resumed'
row "openssl, TLS 1.3 session of the open host at the closed one" "$(name=closed.localhost reused -tls1_3)" 'not resumed'

# --- sslscan
if command -v sslscan >/dev/null; then
  sslscan --no-colour --xml="$out/sslscan.xml" --sni-name=open.localhost "127.0.0.1:$port" >"$out/sslscan.txt"
  enabled=$(grep -oE 'protocol type="[a-z]+" version="[0-9.]+" enabled="1"' "$out/sslscan.xml" | sed 's/.*version="\([0-9.]*\)".*/\1/' | sort | tr '\n' ' ')
  row 'sslscan, versions' "$enabled" '1.2 1.3 '
  row 'sslscan, accepted suites without forward secrecy or AEAD' \
    "$(grep 'status="' "$out/sslscan.xml" | grep -cvE 'cipher="(TLS_(AES|CHACHA20)|ECDHE-(RSA|ECDSA)-(AES(128|256)-GCM|CHACHA20))' || true)" 0
else
  echo 'sslscan: not installed, left out'
fi

# --- testssl.sh: nothing of severity MEDIUM or above, but what comes from a test authority
if command -v testssl >/dev/null; then
  rm -f "$out/testssl.json"
  testssl --quiet --color 0 --warnings batch --ip 127.0.0.1 --add-ca root.crt --jsonfile "$out/testssl.json" \
    "https://open.localhost:$port" >"$out/testssl.txt" 2>&1 || true
  # A private authority has no revocation service, no transparency log and no CAA record, and a test
  # certificate is not the operator's.
  findings=$(python3 - "$out/testssl.json" <<'PY'
import json, re, sys
own_authority = re.compile(r"^(cert_chain_of_trust|cert_revocation|cert_crlDistributionPoints|cert_ocspURL|OCSP_stapling|cert_caIssuers|certificate_transparency|DNS_CAA|cert_trust)")
# All suites are strong, so clients choose: one without AES in hardware takes ChaCha20. So does Mozilla's
# intermediate configuration.
by_choice = {"cipher_order"}
# Of the site's response, not of TLS: a handler sets them.
of_site = re.compile(r"^(HSTS|HPKP|security_headers|cookie|banner|HTTP_)")
bad = [f for f in json.load(open(sys.argv[1])) if f["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL")]
bad = [f for f in bad if not own_authority.match(f["id"]) and not of_site.match(f["id"])]
bad = [f for f in bad if f["id"] not in by_choice]
for f in bad:
    print(f["id"], f["severity"], f["finding"], file=sys.stderr)
print(len(bad))
PY
)
  row 'testssl.sh, findings of severity MEDIUM or above' "$findings" 0
else
  echo 'testssl: not installed, left out'
fi

# --- sslyze: Mozilla's intermediate configuration, and its own attacks
if command -v sslyze >/dev/null; then
  sslyze --sni open.localhost --certinfo_ca_file root.crt --certinfo --tlsv1 --tlsv1_1 --tlsv1_2 --tlsv1_3 --sslv2 --sslv3 \
    --reneg --robot --heartbleed --openssl_ccs --compression --fallback --early_data --ems --resum --elliptic_curves \
    --mozilla_config disable --json_out "$out/sslyze.json" "127.0.0.1:$port" >"$out/sslyze.txt" 2>&1 || true
  while IFS=$'\t' read -r check result wanted; do row "sslyze, $check" "$result" "$wanted"; done < <(python3 - "$out/sslyze.json" <<'PY'
import json, sys
scan = json.load(open(sys.argv[1]))["server_scan_results"][0]["scan_result"]
def of(name): return scan[name]["result"]
def suites(name): return len(of(name)["accepted_cipher_suites"])
def show(check, result, wanted): print(check, result, wanted, sep="\t")
for old in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"):
    show(f"suites of {old}", suites(f"{old}_cipher_suites"), 0)
show("suites of tls_1_2", suites("tls_1_2_cipher_suites"), 6)
show("suites of tls_1_3", suites("tls_1_3_cipher_suites"), 3)
show("Heartbleed", of("heartbleed")["is_vulnerable_to_heartbleed"], False)
show("CCS injection", of("openssl_ccs_injection")["is_vulnerable_to_ccs_injection"], False)
show("ROBOT", of("robot")["robot_result"], "NOT_VULNERABLE_RSA_NOT_SUPPORTED")
show("compression", of("tls_compression")["supports_compression"], False)
show("renegotiation by the client", of("session_renegotiation")["is_vulnerable_to_client_renegotiation_dos"], False)
show("secure renegotiation", of("session_renegotiation")["supports_secure_renegotiation"], True)
show("early data", of("tls_1_3_early_data")["supports_early_data"], False)
show("extended master secret", of("tls_extended_master_secret")["supports_ems_extension"], True)
# Its check of tickets cannot distinguish a server that renews them on use from one that ignores them; OpenSSL checks them above.
show("resumption by session id", of("session_resumption")["session_id_resumption_result"], "NOT_SUPPORTED")
deployments = of("certificate_info")["certificate_deployments"]
show("kinds of certificates", len(deployments), 2)
show("chains in order", all(d["received_chain_has_valid_order"] for d in deployments), True)
PY
)
else
  echo 'sslyze: not installed, left out'
fi

kill -0 $server || { echo 'the server ended'; failed=1; }
exit $failed
