//! Keys that the host holds: what guests do with them, what openssl says of it, and that no worker ever has one.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::bindings::{EVALUATES, evaluate};
use crate::client::run;
use crate::frameworks::bundle;
use crate::server::{PLAIN, Server, folder};

/// A key of its own for each algorithm, and shared secrets.
const GRANTS: &str = "    grants:
      RS256: {key: {secret: {file: ./rsa.pem}, algorithm: RS256, usages: [sign]}}
      PS256: {key: {secret: {file: ./rsa.jwk}, algorithm: PS256, usages: [sign]}}
      ES256: {key: {secret: {file: ./p256.pem}, algorithm: ES256, usages: [sign]}}
      ES384: {key: {secret: {file: ./p384.pem}, algorithm: ES384, usages: [sign]}}
      Ed25519: {key: {secret: {file: ./ed25519.pem}, algorithm: Ed25519, usages: [sign]}}
      HS256: {key: {secret: {file: ./shared.txt}, algorithm: HS256, usages: [sign, verify], encoding: text}}
      OAEP: {key: {secret: {file: ./rsa.pem}, algorithm: RSA-OAEP-256, usages: [decrypt, unwrapKey]}}
      GCM: {key: {secret: {file: ./shared.hex}, algorithm: A256GCM, usages: [encrypt, decrypt, wrapKey, unwrapKey], encoding: hex}}
      BOUND: {key: {secret: {file: ./p256.pem}, algorithm: ES256, usages: [sign], domain: 'invoice-v1:'}}
      FEW: {key: {secret: {file: ./shared.txt}, algorithm: HS256, usages: [verify], encoding: text, limits: {max_request: 4kb}}}
";

/// What is written into the files, and must be in no worker.
const SHARED: &str = "a-shared-secret-of-the-operator-1";
const SHARED_HEX: &str = "5f6e7d8c9baab9c8d7e6f504132231405f6e7d8c9baab9c8d7e6f50413223140";

fn openssl(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let reported = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {reported}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A server of this code, with keys that openssl has just made.
fn serve(code: &str) -> Server {
    let config = format!(
        "{PLAIN}instances:\n  site:\n    code: ./main.js\n    urls: [\"/*\"]\n    env: {{SEEN: planted-where-the-guest-sees-it}}\n{GRANTS}"
    );
    let jwk = include_str!("../../../../tests/testdata/keys/rsa.jwk");
    let files = [
        ("main.js", code),
        ("shared.txt", SHARED),
        ("shared.hex", SHARED_HEX),
        ("rsa.jwk", jwk),
    ];
    let folder = folder(&config, &files);
    let path = folder.path();
    openssl(path, &["genrsa", "-traditional", "-out", "rsa.pem", "2048"]);
    openssl(
        path,
        &["genpkey", "-algorithm", "ed25519", "-out", "ed25519.pem"],
    );
    for (curve, file) in [("prime256v1", "p256.pem"), ("secp384r1", "p384.pem")] {
        openssl(
            path,
            &["ecparam", "-genkey", "-noout", "-name", curve, "-out", file],
        );
    }
    Server::start_in(folder, &Default::default())
}

/// The bytes of base64 or base64url.
fn decode(server: &Server, text: &str) -> Vec<u8> {
    let mut text = text.replace('-', "+").replace('_', "/");
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    std::fs::write(server.path("base64"), text).unwrap();
    let arguments = ["base64", "-d", "-A", "-in", "base64", "-out", "bytes"];
    openssl(server.folder.path(), &arguments);
    std::fs::read(server.path("bytes")).unwrap()
}

/// Checks the signature of a JWS with openssl and the public half of a file.
fn verify(server: &Server, file: &str, jws: &str, options: &[&str]) {
    let (data, signature) = jws.rsplit_once('.').unwrap();
    let mut signature = decode(server, signature);
    if file.starts_with("p256") || file.starts_with("p384") {
        signature = der(&signature);
    }
    std::fs::write(server.path("data"), data).unwrap();
    std::fs::write(server.path("signature"), signature).unwrap();
    let folder = server.folder.path();
    let public = openssl(folder, &["pkey", "-in", file, "-pubout"]);
    std::fs::write(server.path("public.pem"), public).unwrap();
    let mut arguments = vec![
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        "public.pem",
        "-rawin",
        "-in",
        "data",
    ];
    arguments.extend(["-sigfile", "signature"]);
    arguments.extend(options);
    assert!(
        openssl(folder, &arguments).contains("Successfully"),
        "{file}"
    );
}

/// The two numbers of a signature as ASN.1, which openssl reads (SEC 1, appendix C.8).
fn der(signature: &[u8]) -> Vec<u8> {
    let number = |bytes: &[u8]| {
        let start = bytes.iter().position(|byte| *byte != 0).unwrap();
        let mut digits = bytes[start..].to_vec();
        if digits[0] >= 0x80 {
            digits.insert(0, 0);
        }
        let mut out = vec![2, u8::try_from(digits.len()).unwrap()];
        out.append(&mut digits);
        out
    };
    let (r, s) = signature.split_at(signature.len() / 2);
    let numbers = [number(r), number(s)].concat();
    [
        &[0x30, u8::try_from(numbers.len()).unwrap()],
        numbers.as_slice(),
    ]
    .concat()
}

#[test]
fn jose_signs_and_decrypts_with_keys_of_the_host() {
    let Some(bundle) = bundle("jose.js") else {
        return;
    };
    let server = serve(&bundle);
    run(async {
        let answer = server.get("a.example", "/").await;
        assert_eq!(
            answer.status,
            200,
            "{}\n{}",
            answer.text(),
            server.log_text()
        );
        let answer = answer.json();
        for algorithm in ["RS256", "PS256", "ES256", "ES384", "Ed25519", "HS256"] {
            let made = &answer[algorithm];
            assert_eq!(made["sub"], "ada", "{algorithm}");
            assert_eq!(made["plain"], "plain", "{algorithm}");
            assert_eq!(
                made["forged"], "ERR_JWS_SIGNATURE_VERIFICATION_FAILED",
                "{algorithm}"
            );
        }
        for sealed in ["oaep", "dir", "wrapped"] {
            assert_eq!(answer[sealed]["plaintext"], "for the host", "{sealed}");
            assert_eq!(
                answer[sealed]["broken"], "ERR_JWE_DECRYPTION_FAILED",
                "{sealed}"
            );
        }
        let token = |algorithm: &str| answer[algorithm]["token"].as_str().unwrap().to_owned();
        verify(&server, "rsa.pem", &token("RS256"), &["-digest", "sha256"]);
        verify(&server, "p256.pem", &token("ES256"), &["-digest", "sha256"]);
        verify(&server, "p384.pem", &token("ES384"), &["-digest", "sha384"]);
        verify(&server, "ed25519.pem", &token("Ed25519"), &[]);
        let public = openssl(
            server.folder.path(),
            &["pkey", "-in", "p256.pem", "-pubout"],
        );
        assert_eq!(
            answer["ES256"]["spki"].as_str().unwrap().trim(),
            public.trim()
        );
        let hs256 = token("HS256");
        let (data, code) = hs256.rsplit_once('.').unwrap();
        std::fs::write(server.path("data"), data).unwrap();
        let hmac = ["dgst", "-sha256", "-hmac", SHARED, "-r", "data"];
        let expected = openssl(server.folder.path(), &hmac);
        let code = decode(&server, code);
        let code: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(expected.starts_with(&code), "{expected} {code}");
    });
}

#[test]
fn key_of_the_host_is_a_crypto_key_whose_secret_cannot_be_taken() {
    let server = serve(EVALUATES);
    run(async {
        let facts = "const { ES256: key, HS256: secret, RS256: rsa } = env;
            return [key instanceof CryptoKey, Object.prototype.toString.call(key), key.type, key.extractable,
              key.algorithm.namedCurve, key.usages, secret.type, secret.algorithm.hash.name, secret.algorithm.length,
              rsa.algorithm.modulusLength, [...rsa.algorithm.publicExponent]]";
        let expected = json!([
            true,
            "[object CryptoKey]",
            "private",
            false,
            "P-256",
            ["sign"],
            "secret",
            "SHA-256",
            SHARED.len() * 8,
            2048,
            [1, 0, 1]
        ]);
        assert_eq!(evaluate(&server, facts).await, expected);
        // Names of errors, as Web Cryptography has them.
        for (code, name) in [
            (
                "crypto.subtle.exportKey('pkcs8', env.ES256)",
                "InvalidAccessError",
            ),
            (
                "crypto.subtle.exportKey('raw', env.HS256)",
                "InvalidAccessError",
            ),
            (
                "crypto.subtle.exportKey('jwk', env.HS256)",
                "InvalidAccessError",
            ),
            (
                "crypto.subtle.sign('HMAC', env.ES256, new Uint8Array(1))",
                "InvalidAccessError",
            ),
            (
                "crypto.subtle.sign('HMAC', env.FEW, new Uint8Array(1))",
                "InvalidAccessError",
            ),
            (
                "crypto.subtle.verify({name:'ECDSA',hash:'SHA-256'}, env.ES256, new Uint8Array(64), new Uint8Array(1))",
                "InvalidAccessError",
            ),
            (
                "crypto.subtle.sign({name:'ECDSA',hash:'SHA-384'}, env.ES256, new Uint8Array(1))",
                "NotSupportedError",
            ),
            (
                "crypto.subtle.sign({name:'RSA-PSS',saltLength:20}, env.PS256, new Uint8Array(1))",
                "NotSupportedError",
            ),
            (
                "crypto.subtle.encrypt({name:'AES-GCM',iv:new Uint8Array(16)}, env.GCM, new Uint8Array(1))",
                "NotSupportedError",
            ),
            (
                "crypto.subtle.decrypt({name:'AES-GCM',iv:new Uint8Array(12)}, env.GCM, new Uint8Array(20))",
                "OperationError",
            ),
            (
                "crypto.subtle.decrypt('RSA-OAEP', env.OAEP, new Uint8Array(256))",
                "OperationError",
            ),
            (
                "crypto.subtle.sign({name:'ECDSA',hash:'SHA-256'}, env.BOUND, new TextEncoder().encode('invoice-v2:'))",
                "InvalidAccessError",
            ),
            (
                "crypto.subtle.wrapKey('raw', env.HS256, env.GCM, {name:'AES-GCM',iv:new Uint8Array(12)})",
                "InvalidAccessError",
            ),
            (
                "crypto.subtle.verify('HMAC', env.FEW, new Uint8Array(32), new Uint8Array(5000))",
                "RangeError",
            ),
            ("crypto.subtle.sign('HMAC', env.HS256, 'text')", "TypeError"),
            (
                "crypto.subtle.sign.call({}, 'HMAC', env.HS256, new Uint8Array(1))",
                "TypeError",
            ),
            ("crypto.subtle.sign('HMAC', env.HS256)", "TypeError"),
        ] {
            let refused = evaluate(&server, &format!("return await {code}")).await;
            assert_eq!(refused["name"], name, "{code}: {refused}");
        }
        // What is allowed, in the same words.
        let works = "const bytes = (text) => new TextEncoder().encode(text);
            const { subtle } = crypto;
            const ecdsa = { name: 'ECDSA', hash: 'SHA-256' };
            const signature = await subtle.sign(ecdsa, env.BOUND, bytes('invoice-v1:7'));
            const half = await subtle.getPublicKey(env.BOUND, ['verify']);
            const jwk = await subtle.exportKey('jwk', env.BOUND);
            const spki = await subtle.exportKey('spki', env.BOUND);
            const again = await subtle.importKey('spki', spki, { name: 'ECDSA', namedCurve: 'P-256' }, true, ['verify']);
            const code = await subtle.sign('hmac', env.HS256, bytes('x'));
            const iv = new Uint8Array(12);
            const own = await subtle.generateKey({ name: 'AES-GCM', length: 128 }, true, ['encrypt']);
            const unwrapped = [];
            for (const format of ['raw', 'jwk']) {
              const wrapped = await subtle.wrapKey(format, own, env.GCM, { name: 'AES-GCM', iv });
              const key = await subtle.unwrapKey(format, wrapped, env.GCM, { name: 'AES-GCM', iv }, 'AES-GCM', true, ['encrypt']);
              unwrapped.push(String(new Uint8Array(await subtle.exportKey('raw', key))));
            }
            const raw = String(new Uint8Array(await subtle.exportKey('raw', own)));
            return [signature instanceof ArrayBuffer, signature.byteLength, 'd' in jwk, jwk.crv,
              await subtle.verify(ecdsa, half, signature, bytes('invoice-v1:7')),
              await subtle.verify(ecdsa, again, signature, bytes('invoice-v1:8')),
              await subtle.verify('HMAC', env.FEW, code, bytes('x')),
              await subtle.verify('HMAC', env.FEW, code, bytes('y')),
              unwrapped.every((key) => key === raw)]";
        let expected = json!([true, 64, false, "P-256", true, false, true, false, true]);
        assert_eq!(evaluate(&server, works).await, expected);
    });
}

#[test]
fn clone_of_a_key_stands_for_the_same_grant() {
    let server = serve(EVALUATES);
    run(async {
        let code = "const bytes = new Uint8Array([1]);
            const { port1, port2 } = new MessageChannel();
            const sent = new Promise((resolve) => { port2.onmessage = (event) => resolve(event.data.key); });
            port1.postMessage({ key: env.HS256 });
            const clones = [structuredClone(env.HS256), structuredClone([env.HS256])[0], await sent];
            port1.close();
            const code = String(new Uint8Array(await crypto.subtle.sign('HMAC', env.HS256, bytes)));
            const out = [];
            for (const clone of clones) {
              const own = String(new Uint8Array(await crypto.subtle.sign('HMAC', clone, bytes)));
              const taken = await crypto.subtle.exportKey('raw', clone).catch((error) => error.name);
              out.push(clone instanceof CryptoKey, clone !== env.HS256, own === code, taken);
            }
            return out";
        let one = [
            json!(true),
            json!(true),
            json!(true),
            json!("InvalidAccessError"),
        ];
        assert_eq!(
            evaluate(&server, code).await,
            json!([one.clone(), one.clone(), one].concat())
        );
        let code = "const brand = Symbol.for('Deno.core.hostObject');
            const forge = (binding) => structuredClone({ [brand]: () => ({ type: 'stockade.key', binding }) });
            let unknown;
            try { forge('NONE'); } catch (error) { unknown = error.name; }
            return [unknown, forge('FEW').usages]";
        assert_eq!(
            evaluate(&server, code).await,
            json!(["RangeError", ["verify"]])
        );
    });
}

#[test]
fn guest_that_changes_the_globals_gets_no_further() {
    let server = serve(EVALUATES);
    run(async {
        // Whatever a library of the realm could look up is replaced before the key is used.
        let code = "const { subtle } = crypto;
            const seen = [];
            const watch = (name) => ({
              configurable: true,
              get() { seen.push(name); },
              // What is assigned stays assigned, as without this property.
              set(value) { Object.defineProperty(this, name, { value, writable: true, enumerable: true, configurable: true }); },
            });
            for (const name of ['binding', 'type', 'usages', 'spki', 'half', 'hash', 'iv', 'data', 'method', 'args']) {
              Object.defineProperty(Object.prototype, name, watch(name));
            }
            WeakMap.prototype.get = () => ({ binding: 'HS256', usages: ['sign'], algorithm: { name: 'HMAC' } });
            Map.prototype.get = WeakMap.prototype.get;
            Array.prototype.includes = () => true;
            Uint8Array.prototype.slice = undefined;
            globalThis.CryptoKey = undefined;
            let refused;
            try { await subtle.sign('HMAC', env.FEW, new ArrayBuffer(1)); } catch (error) { refused = error.name; }
            const code = await subtle.sign('HMAC', env.HS256, new ArrayBuffer(1));
            const result = [refused, code.byteLength, seen];
            for (const name of ['binding', 'type', 'usages', 'spki', 'half', 'hash', 'iv', 'data', 'method', 'args']) {
              delete Object.prototype[name];
            }
            return JSON.stringify(result)";
        let code = format!("return await (async () => {{ {code} }})()");
        let answer = evaluate(&server, &code).await;
        assert_eq!(answer, "[\"InvalidAccessError\",32,[]]");
    });
}

/// How often the bytes are in the memory that a process can write to.
pub(crate) fn count_in_memory(pid: u32, bytes: &[u8]) -> usize {
    use std::os::unix::fs::FileExt as _;
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let pattern: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    let pattern = regex::bytes::RegexBuilder::new(&pattern)
        .unicode(false)
        .build()
        .unwrap();
    let mut count = 0;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let range = line.split(' ').next().unwrap();
        let (from, to) = range.split_once('-').unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        let (mut at, to) = (number(from), number(to));
        // A piece overlaps the next one, so that nothing is missed between two.
        let mut piece = vec![0; 64 << 10];
        while at < to {
            let length = piece.len().min(usize::try_from(to - at).unwrap());
            // Pages that cannot be read hold nothing of anybody.
            let read = memory.read_at(&mut piece[..length], at).unwrap_or(0);
            count += pattern.find_iter(&piece[..read]).count();
            at += (piece.len() - bytes.len()) as u64;
        }
    }
    count
}

#[test]
fn worker_never_has_the_secret_of_a_key() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let server = serve(EVALUATES);
    run(async {
        let used = "const data = new Uint8Array(100), out = [];
            for (const [name, algorithm] of Object.entries({ RS256: 'RSASSA-PKCS1-v1_5', Ed25519: 'Ed25519', HS256: 'HMAC',
                ES256: { name: 'ECDSA', hash: 'SHA-256' } })) {
              out.push((await crypto.subtle.sign(algorithm, env[name], data)).byteLength);
            }
            await crypto.subtle.encrypt({ name: 'AES-GCM', iv: new Uint8Array(12) }, env.GCM, data);
            return [out, env.SEEN.length]";
        let made = evaluate(&server, used).await;
        assert_eq!(made, json!([[256, 64, 32, 64], 31]));
    });
    let mut secrets: Vec<(String, Vec<u8>)> = vec![
        ("the shared secret".to_owned(), SHARED.as_bytes().to_vec()),
        (
            "the digits of the secret".to_owned(),
            SHARED_HEX.as_bytes().to_vec(),
        ),
        (
            "the bytes of the secret".to_owned(),
            bytes_of_hex(SHARED_HEX),
        ),
    ];
    for file in ["rsa.pem", "p256.pem", "ed25519.pem"] {
        // Any line in the middle of the PEM, and the bytes that it stands for.
        let text = std::fs::read_to_string(server.path(file)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let line = lines[lines.len() / 2];
        secrets.push((format!("a line of {file}"), line.as_bytes().to_vec()));
        let whole: String = lines[1..lines.len() - 1].concat();
        let der = decode(&server, &whole);
        // The private number: behind the head of 16 bytes in Ed25519, 7 in SEC 1, in the middle with RSA.
        let (from, length) = match file {
            "ed25519.pem" => (16, 32),
            "p256.pem" => (7, 32),
            _ => (der.len() / 2, 32),
        };
        secrets.push((
            format!("the private number of {file}"),
            der[from..from + length].to_vec(),
        ));
    }
    let workers = server.processes();
    let mut seen = 0;
    for pid in workers {
        seen += count_in_memory(pid, b"planted-where-the-guest-sees-it");
        for (what, bytes) in &secrets {
            assert_eq!(count_in_memory(pid, bytes), 0, "{what} is in process {pid}");
        }
    }
    // The search finds what is there.
    assert_ne!(seen, 0);
    assert_ne!(count_in_memory(server.pid(), SHARED.as_bytes()), 0);
    for secret in [SHARED, SHARED_HEX] {
        assert!(!server.log_text().contains(secret));
    }
}

#[test]
fn worker_of_a_guest_never_has_an_openpgp_key() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let config = format!(
        "{PLAIN}instances:\n  site:\n    code: ./main.js\n    urls: [\"/*\"]\n    env: {{SEEN: planted-where-the-guest-sees-it}}\n    grants:\n      PGP: {{pgp: {{secret: {{file: ./key.asc}}, usages: [sign, decrypt, encrypt]}}}}\n"
    );
    let key = include_str!("../../../../examples/grants/pgp/key.asc");
    let server = Server::start_in(
        folder(&config, &[("main.js", EVALUATES), ("key.asc", key)]),
        &Default::default(),
    );
    run(async {
        let used = "const message = await env.PGP.encrypt('text', { recipients: await env.PGP.publicKey(), sign: true });
            const { data, valid } = await env.PGP.decrypt(message, 'text');
            return [data, valid, env.SEEN.length]";
        assert_eq!(evaluate(&server, used).await, json!(["text", true, 31]));
    });
    // A line of the armor, and what it stands for, with the private number in it.
    let line = key.lines().nth(3).unwrap();
    let bytes = decode(&server, line);
    let (mut seen, mut helpers) = (0, 0);
    for pid in server.processes() {
        let title = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        // The process that works with the key, of which no guest is part.
        if title.starts_with(b"stockade-worker pgp") {
            helpers += 1;
            continue;
        }
        seen += count_in_memory(pid, b"planted-where-the-guest-sees-it");
        for secret in [line.as_bytes(), &bytes] {
            assert_eq!(
                count_in_memory(pid, secret),
                0,
                "the key is in process {pid}"
            );
        }
    }
    // The search finds what is there.
    assert_eq!(helpers, 1);
    assert_ne!(seen, 0);
    assert_ne!(count_in_memory(server.pid(), line.as_bytes()), 0);
}

fn bytes_of_hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn key_that_does_not_fit_keeps_the_server_from_starting() {
    for (key, part) in [
        (
            "{secret: {file: ./p256.pem}, algorithm: RS256, usages: [sign]}",
            "an elliptic curve key",
        ),
        (
            "{secret: {file: ./p256.pem}, algorithm: ES256, usages: [verify]}",
            "its usages are sign",
        ),
        (
            "{secret: {file: ./p256.pem}, algorithm: ES256, usages: []}",
            "usages",
        ),
        (
            "{secret: {file: ./missing.pem}, algorithm: ES256, usages: [sign]}",
            "missing.pem",
        ),
        (
            "{secret: planted-secret, algorithm: HS256, usages: [sign]}",
            "must not be written in this file",
        ),
    ] {
        let config = format!(
            "{PLAIN}instances:\n  site:\n    code: ./main.js\n    urls: [\"/*\"]\n    grants: {{K: {{key: {key}}}}}\n"
        );
        let pem = include_str!("../../../../tests/testdata/keys/p256.sec1.pem");
        let folder = folder(&config, &[("main.js", EVALUATES), ("p256.pem", pem)]);
        let mut command = crate::server::stockade();
        command
            .arg("serve")
            .arg(folder.path().join("stockade.yaml"));
        let output = command.stdin(Stdio::null()).output().unwrap();
        let reported = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && reported.contains(part),
            "{key}: {reported}"
        );
        assert!(
            !reported.contains("planted-secret") && !reported.contains(pem.lines().nth(1).unwrap()),
            "{reported}"
        );
    }
}

/// What the record of a call says: who, what and how it ended, and nothing of the data.
#[test]
fn every_use_of_a_key_is_recorded() {
    let server = serve(EVALUATES);
    run(async {
        let code = "await crypto.subtle.sign('HMAC', env.HS256, new TextEncoder().encode('private-data')); return 1";
        assert_eq!(evaluate(&server, code).await, 1);
    });
    let is_call = |line: &Value| {
        line.to_string().contains("\"HS256\"") && line.to_string().contains("\"sign\"")
    };
    let line = server.logged(is_call);
    assert!(!line.to_string().contains("private-data"));
}
