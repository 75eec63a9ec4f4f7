//! A signer of Nostr events: what a guest receives, and what it is refused.

use serde_json::json;

use crate::bindings::{EVALUATES, evaluate};
use crate::client::run;
use crate::server::{PLAIN, Server, folder};

/// Of NIP-19's examples, and its public half.
const NSEC: &str = "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5";
const PUBLIC: &str = "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e";

fn serve() -> Server {
    let config = format!(
        "{PLAIN}instances:
  site:
    code: ./main.js
    urls: [\"/*\"]
    grants:
      ME:
        nostr:
          key: {{file: ./nsec.txt}}
          permissions: [\"sign_event:1\", nip44_encrypt, nip44_decrypt]
          relays: [\"wss://relay.example\"]
          events_per_minute: 2
"
    );
    let files = [("main.js", EVALUATES), ("nsec.txt", NSEC)];
    Server::start_in(folder(&config, &files), &Default::default())
}

#[test]
fn signer_has_the_members_of_nip_07_and_signs_what_it_is_given() {
    let server = serve();
    run(async {
        let code = "globalThis.nostr = env.ME;
            const created_at = Math.floor(Date.now() / 1000);
            const template = { kind: 1, created_at, tags: [['t', 'a\\u0001\"'], ['p', '\\0b0', '']], content: '\\0\\ufeffhello\\n' };
            const event = await nostr.signEvent(template);
            const text = JSON.stringify([0, event.pubkey, event.created_at, event.kind, event.tags, event.content]);
            const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text)));
            const id = [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('');
            const sealed = await nostr.nip44.encrypt(event.pubkey, 'to myself');
            return [await nostr.getPublicKey(), event.pubkey, event.id === id, event.sig.length,
              JSON.stringify([event.tags, event.content, event.kind]) === JSON.stringify([template.tags, template.content, 1]),
              await nostr.getRelays(), await nostr.nip44.decrypt(event.pubkey, sealed), Object.keys(nostr)]";
        let expected = json!([
            PUBLIC, PUBLIC, true, 128, true,
            { "wss://relay.example": { "read": true, "write": true } }, "to myself", ["nip04", "nip44"]
        ]);
        assert_eq!(evaluate(&server, code).await, expected);
    });
}

#[test]
fn guest_is_refused_what_the_grant_does_not_say() {
    let server = serve();
    run(async {
        let now = "Math.floor(Date.now() / 1000)";
        for (code, name, part) in [
            (
                format!(
                    "env.ME.signEvent({{ kind: 0, created_at: {now}, tags: [], content: '' }})"
                ),
                "TypeError",
                "sign_event:0",
            ),
            (
                format!(
                    "env.ME.signEvent({{ kind: 1, created_at: {now} - 700, tags: [], content: '' }})"
                ),
                "RangeError",
                "created_at",
            ),
            (
                format!(
                    "env.ME.signEvent({{ kind: 1, created_at: {now}, tags: [], content: 'x'.repeat(70000) }})"
                ),
                "RangeError",
                "content",
            ),
            (
                format!(
                    "env.ME.signEvent({{ kind: 1, created_at: {now}, tags: [], content: '', pubkey: '00' }})"
                ),
                "TypeError",
                "pubkey",
            ),
            (
                format!(
                    "env.ME.signEvent({{ kind: 1.5, created_at: {now}, tags: [], content: '' }})"
                ),
                "TypeError",
                "kind",
            ),
            (
                format!(
                    "env.ME.signEvent({{ kind: 1, created_at: {now}, tags: [[1]], content: '' }})"
                ),
                "TypeError",
                "tag",
            ),
            (
                format!(
                    "env.ME.signEvent({{ kind: 1, created_at: {now}, tags: [], content: 'a\\ud800' }})"
                ),
                "TypeError",
                "surrogate",
            ),
            ("env.ME.signEvent(null)".to_owned(), "TypeError", "object"),
            (
                format!("env.ME.nip04.decrypt('{PUBLIC}', 'x')"),
                "TypeError",
                "nip04_decrypt",
            ),
            (
                format!("env.ME.nip44.decrypt('{PUBLIC}', 'x')"),
                "OperationError",
                "decryption failed",
            ),
            (
                "env.ME.nip44.encrypt('00', 'x')".to_owned(),
                "TypeError",
                "public key",
            ),
            (
                "new env.ME.constructor()".to_owned(),
                "TypeError",
                "constructor",
            ),
        ] {
            let refused = evaluate(&server, &format!("return await {code}")).await;
            assert_eq!(refused["name"], name, "{code}: {refused}");
            assert!(
                refused["message"].as_str().unwrap().contains(part),
                "{code}: {refused}"
            );
        }
        let code = format!(
            "const out = []; for (let i = 0; i < 3; i++)
               out.push(await env.ME.signEvent({{ kind: 1, created_at: {now}, tags: [], content: '' }}).then(() => 'signed', (error) => error.name));
             return out"
        );
        assert_eq!(
            evaluate(&server, &code).await,
            json!(["signed", "signed", "QuotaExceededError"])
        );
    });
    assert!(!server.log_text().contains("nsec1"));
}
