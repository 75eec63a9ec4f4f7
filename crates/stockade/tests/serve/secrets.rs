//! No secret of a grant is ever in the memory of a worker, whatever kind it is of and however it is used.

use serde_json::json;

use crate::bindings::{EVALUATES, evaluate};
use crate::client::run;
use crate::held_keys::count_in_memory;
use crate::server::{PLAIN, Server, folder};

const PASSWORD: &str = "planted-Password-of-a-database-1";
const LNBITS: &str = "planted0lnbits0key0of0the0operator";
/// Of NIP-19's examples.
const NSEC: &str = "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5";
const NSEC_HEX: &str = "67dea2ed018072d675f5415ecfaed7d2597555e202d85b3d65ea4e58d2d92ffa";
/// The secret of a connection to a wallet.
const NWC: &str = "71a8c14c1407c113601079c4302dab36460f0ccd0ad506f1f2dc73b5100e4f3c";
/// What the guest itself has.
const SEEN: &str = "planted-where-the-guest-sees-it-2";

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// A server with a grant of each kind that has a secret. Nothing listens where the databases and wallets are said to be.
fn serve() -> Server {
    let config = format!(
        "{PLAIN}instances:
  site:
    code: ./main.js
    urls: [\"/*\"]
    env: {{SEEN: {SEEN}}}
    grants:
      PG: {{postgres: {{url: {{file: ./postgres.txt}}}}}}
      MY: {{mysql: {{url: {{file: ./mysql.txt}}}}}}
      RE: {{redis: {{url: {{file: ./redis.txt}}}}}}
      PEM: {{key: {{secret: {{file: ./p256.pem}}, algorithm: ES256, usages: [sign]}}}}
      JWK: {{key: {{secret: {{file: ./p256.jwk}}, algorithm: ES256, usages: [sign]}}}}
      ME: {{nostr: {{key: {{file: ./nsec.txt}}, permissions: [\"sign_event:1\"]}}}}
      NWC:
        lightning: {{nwc: {{file: ./nwc.txt}}, network: regtest, limits: {{timeout: 5s}}}}
      LNBITS:
        lightning: {{lnbits: {{url: \"http://127.0.0.1:1\", key: {{file: ./lnbits.txt}}}}, network: regtest}}
"
    );
    let of = |scheme: &str, path: &str| format!("{scheme}://app:{PASSWORD}@127.0.0.1:1/{path}");
    let public = "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e";
    let nwc = format!("nostr+walletconnect://{public}?relay=ws%3A%2F%2F127.0.0.1%3A1&secret={NWC}");
    let files = [
        ("main.js", EVALUATES),
        ("postgres.txt", &of("postgres", "shop")),
        ("mysql.txt", &of("mysql", "shop")),
        ("redis.txt", &of("redis", "0")),
        (
            "p256.pem",
            include_str!("../../../../tests/testdata/keys/p256.pkcs8.pem"),
        ),
        (
            "p256.jwk",
            include_str!("../../../../tests/testdata/keys/p256.jwk"),
        ),
        ("nsec.txt", NSEC),
        ("nwc.txt", &nwc),
        ("lnbits.txt", LNBITS),
    ];
    Server::start_in(folder(&config, &files), &Default::default())
}

#[test]
fn no_worker_has_a_secret_of_any_kind_of_grant() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let server = serve();
    run(async {
        // Each grant is used; those whose server is not there fail, with a message that has no secret in it either.
        let code = "const data = new Uint8Array(100), out = [];
            for (const name of ['PEM', 'JWK']) {
              const algorithm = { name: 'ECDSA', hash: 'SHA-256' };
              out.push((await crypto.subtle.sign(algorithm, env[name], data)).byteLength);
            }
            const created_at = Math.floor(Date.now() / 1000);
            const event = await env.ME.signEvent({ kind: 1, created_at, tags: [], content: '' });
            out.push(event.sig.length);
            globalThis.kept = [];
            const fails = async (work) => {
              try { kept.push(await work()); return 'worked'; } catch (error) { kept.push(String(error.message)); return 'failed'; }
            };
            for (const name of ['PG', 'MY', 'RE']) {
              out.push(await fails(async () => {
                const socket = env[name].connect();
                await socket.opened;
                const writer = socket.writable.getWriter();
                await writer.write('\\0\\0\\0\\x09\\0\\x03\\0\\0\\0');
                for await (const chunk of socket.readable) kept.push(new TextDecoder().decode(chunk));
                throw new Error('it ended');
              }));
            }
            for (const name of ['NWC', 'LNBITS']) out.push(await fails(() => env[name].makeInvoice({ amount: 1000 })));
            return [out, env.SEEN.length]";
        let used = evaluate(&server, code).await;
        let failed = "failed";
        let expected = json!([
            [64, 64, 128, failed, failed, failed, failed, failed],
            SEEN.len()
        ]);
        assert_eq!(used, expected, "{}", server.log_text());
    });
    let pem = include_str!("../../../../tests/testdata/keys/p256.pkcs8.pem");
    let line = pem.lines().nth(1).unwrap();
    let jwk: serde_json::Value =
        serde_json::from_str(include_str!("../../../../tests/testdata/keys/p256.jwk")).unwrap();
    let secrets: Vec<(&str, Vec<u8>)> = vec![
        ("a database's password", PASSWORD.into()),
        ("a line of the PEM", line.into()),
        (
            "the private number of the JWK",
            jwk["d"].as_str().unwrap().into(),
        ),
        ("the nsec", NSEC.into()),
        ("the digits of the nsec", NSEC_HEX.into()),
        ("the bytes of the nsec", bytes(NSEC_HEX)),
        ("the secret of NWC", NWC.into()),
        ("the bytes of the secret of NWC", bytes(NWC)),
        ("the key of LNbits", LNBITS.into()),
    ];
    let mut seen = 0;
    for pid in server.processes() {
        seen += count_in_memory(pid, SEEN.as_bytes());
        for (what, bytes) in &secrets {
            let texts: Vec<u8> = bytes.iter().flat_map(|byte| [*byte, 0]).collect();
            assert_eq!(count_in_memory(pid, bytes), 0, "{what} is in process {pid}");
            // As the engine keeps texts that have other characters in them.
            assert_eq!(
                count_in_memory(pid, &texts),
                0,
                "{what} is in process {pid}"
            );
        }
    }
    // The search finds what is there.
    assert_ne!(seen, 0);
    for secret in [PASSWORD, LNBITS] {
        assert_ne!(count_in_memory(server.pid(), secret.as_bytes()), 0);
        assert!(!server.log_text().contains(secret));
    }
}
