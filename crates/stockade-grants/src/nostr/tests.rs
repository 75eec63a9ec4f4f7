//! What is signed, what is refused, and the vectors of NIP-44.

use nostr::SECP256K1;
use stockade_protocol::Payload;

use super::*;

/// Of NIP-19's examples.
const NSEC: &str = "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5";

fn signer(permissions: &[NostrPermission]) -> Signer {
    Signer {
        keys: Keys::parse(NSEC).unwrap(),
        permissions: permissions.to_vec(),
        window: Duration::from_secs(600),
        max_content: 1000,
        windows: Mutex::new([
            (Window::new(MINUTE, 3), "minute"),
            (Window::new(DAY, 5), "day"),
        ]),
    }
}

fn arguments(value: &Value) -> CallPayload {
    CallPayload::from(Payload {
        json: json!([value]).to_string(),
        ..Payload::default()
    })
}

const NOW: Duration = Duration::from_secs(1_700_000_000);

fn sign_at(
    signer: &Signer,
    kind: u16,
    created_at: u64,
    content: &str,
    instant: Instant,
) -> Result<Event, GuestError> {
    let event = json!({ "kind": kind, "createdAt": created_at, "tags": [["t", "ä\u{1}\"\\"], ["p"]], "content": content });
    let (template, attachments) = arguments(&event).read::<Template>(MAX_ARGUMENTS).unwrap();
    signer.sign(&CallNotes::default(), &template, &attachments, NOW, instant)
}

#[test]
fn event_is_signed_as_it_was_given() {
    let signer = signer(&[NostrPermission::SignEvent(1)]);
    let event = sign_at(
        &signer,
        1,
        NOW.as_secs(),
        "hello\n\u{7f}\u{2028}",
        Instant::now(),
    )
    .unwrap();
    assert!(event.verify_with_ctx(SECP256K1).is_ok());
    assert_eq!(event.content, "hello\n\u{7f}\u{2028}");
    let tags: Vec<_> = event
        .tags
        .iter()
        .map(|tag| tag.as_slice().to_vec())
        .collect();
    assert_eq!(tags, [vec!["t", "ä\u{1}\"\\"], vec!["p"]]);
    assert_eq!(event.pubkey, signer.keys.public_key());
}

#[test]
fn event_of_another_kind_time_or_length_is_refused() {
    let signer = signer(&[NostrPermission::SignEvent(1), NostrPermission::Nip44Decrypt]);
    let (now, instant) = (NOW.as_secs(), Instant::now());
    for (kind, created_at, content, name) in [
        (0, now, "x", "TypeError"),
        (10_002, now, "x", "TypeError"),
        (1, now - 601, "x", "RangeError"),
        (1, now + 601, "x", "RangeError"),
        (1, 0, "x", "RangeError"),
        (1, u64::MAX, "x", "RangeError"),
        (1, now, &"x".repeat(1001), "RangeError"),
    ] {
        let error = sign_at(&signer, kind, created_at, content, instant).unwrap_err();
        assert_eq!(error.name, name, "{kind} {created_at}: {error}");
    }
    // None of these took a place.
    for _ in 0..3 {
        sign_at(&signer, 1, now - 600, "x", instant).unwrap();
    }
}

#[test]
fn events_are_bounded_in_a_minute_and_in_a_day() {
    let signer = signer(&[NostrPermission::SignEvent(1)]);
    let start = Instant::now();
    let sign = |seconds| {
        sign_at(
            &signer,
            1,
            NOW.as_secs(),
            "",
            start + Duration::from_secs(seconds),
        )
    };
    for second in [0, 1, 2] {
        sign(second).unwrap();
    }
    assert_eq!(sign(59).unwrap_err().name, "QuotaExceededError");
    sign(60).unwrap();
    assert_eq!(sign(60).unwrap_err().name, "QuotaExceededError");
    sign(61).unwrap();
    // Five of a day.
    assert!(sign(4000).unwrap_err().message.contains("day"));
    sign(24 * 60 * 60).unwrap();
}

#[test]
fn argument_that_is_no_event_is_refused() {
    let signer = signer(&[NostrPermission::SignEvent(1)]);
    for event in [
        json!({}),
        json!({ "kind": 65_536, "createdAt": 1, "tags": [], "content": "" }),
        json!({ "kind": 1.5, "createdAt": 1, "tags": [], "content": "" }),
        json!({ "kind": 1, "createdAt": -1, "tags": [], "content": "" }),
        json!({ "kind": 1, "createdAt": 1, "tags": [1], "content": "" }),
        json!({ "kind": 1, "createdAt": 1, "tags": {}, "content": "" }),
        json!(null),
    ] {
        let error = signer
            .call(&CallNotes::default(), "signEvent", arguments(&event))
            .unwrap_err();
        assert_eq!(error.name, "TypeError", "{event}");
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let empty = json!({ "kind": 1, "createdAt": now, "tags": [[]], "content": "" });
    assert!(
        signer
            .call(&CallNotes::default(), "signEvent", arguments(&empty))
            .unwrap_err()
            .message
            .contains("tag")
    );
}

#[test]
fn messages_go_both_ways_with_permission_alone() {
    let all = [
        NostrPermission::Nip04Encrypt,
        NostrPermission::Nip04Decrypt,
        NostrPermission::Nip44Encrypt,
        NostrPermission::Nip44Decrypt,
    ];
    let other = Keys::generate();
    let one = signer(&all);
    let two = Signer {
        keys: other.clone(),
        ..signer(&all)
    };
    let text = "a \u{0}text: ü";
    for version in ["nip04", "nip44"] {
        let message = |pubkey: &PublicKey, text: &str| {
            arguments(&json!({ "pubkey": pubkey.to_hex(), "text": text }))
        };
        let sealed = one
            .call(
                &CallNotes::default(),
                &format!("{version}.encrypt"),
                message(&other.public_key(), text),
            )
            .unwrap();
        let sealed: String = serde_json::from_str(&sealed.payload.json).unwrap();
        let opened = two
            .call(
                &CallNotes::default(),
                &format!("{version}.decrypt"),
                message(&one.keys.public_key(), &sealed),
            )
            .unwrap();
        assert_eq!(
            serde_json::from_str::<String>(&opened.payload.json).unwrap(),
            text
        );
        let broken = two.call(
            &CallNotes::default(),
            &format!("{version}.decrypt"),
            message(&one.keys.public_key(), &sealed[1..]),
        );
        assert_eq!(broken.unwrap_err().message, "decryption failed");
        let none = signer(&[NostrPermission::SignEvent(4)]);
        for method in ["encrypt", "decrypt"] {
            let refused = none.call(
                &CallNotes::default(),
                &format!("{version}.{method}"),
                message(&other.public_key(), text),
            );
            assert!(
                refused
                    .unwrap_err()
                    .message
                    .contains(&format!("{version}_{method}"))
            );
        }
    }
    let nobody = json!({ "pubkey": "f".repeat(64), "text": "x" });
    assert!(
        one.call(&CallNotes::default(), "nip44.encrypt", arguments(&nobody))
            .is_err()
    );
    let long = json!({ "pubkey": other.public_key().to_hex(), "text": "x".repeat(1001) });
    assert_eq!(
        one.call(&CallNotes::default(), "nip44.encrypt", arguments(&long))
            .unwrap_err()
            .name,
        "RangeError"
    );
}

#[test]
fn message_of_the_standard_is_read() {
    // The first vector of NIP-44: keys 1 and 2, the text "a".
    let two = Signer {
        keys: Keys::parse(&format!("{:064x}", 2)).unwrap(),
        ..signer(&[NostrPermission::Nip44Decrypt])
    };
    let one = Keys::parse(&format!("{:064x}", 1)).unwrap().public_key();
    let payload = "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABee0G5VSK0/9YypIObAtDKfYEAjD35uVkHyB0F4DwrcNaCXlCWZKaArsGrY6M9wnuTMxWfp1RTN9Xga8no+kF5Vsb";
    let message = arguments(&json!({ "pubkey": one.to_hex(), "text": payload }));
    let opened = two
        .call(&CallNotes::default(), "nip44.decrypt", message)
        .unwrap();
    assert_eq!(opened.payload.json, "\"a\"");
}
