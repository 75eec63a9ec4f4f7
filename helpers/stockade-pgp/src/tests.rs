use std::time::SystemTime;

use pgp::composed::{
    ArmorOptions, EncryptionCaps, KeyType, SecretKeyParamsBuilder, SignedSecretKey,
    SubkeyParamsBuilder,
};
use pgp::crypto::ecc_curve::ECCCurve;
use pgp::types::{EncryptionKey as _, EskType, KeyDetails as _, KeyVersion, PkeskBytes};
use rand::rngs::OsRng;

use crate::keys::Keys;
use crate::message::{self, Failure, Request, Settings, SignatureForm};
use crate::operations::perform;
use crate::worker::read;

/// A key with a key for encryption, as armor.
fn secret(version: KeyVersion, passphrase: &str) -> SignedSecretKey {
    let (primary, encryption) = match version {
        KeyVersion::V6 => (KeyType::Ed25519, KeyType::X25519),
        _ => (
            KeyType::Ed25519Legacy,
            KeyType::ECDH(ECCCurve::Curve25519Legacy),
        ),
    };
    let locked = (!passphrase.is_empty()).then(|| passphrase.to_owned());
    let subkey = SubkeyParamsBuilder::default()
        .version(version)
        .key_type(encryption)
        .can_encrypt(EncryptionCaps::All)
        .passphrase(locked.clone())
        .build()
        .unwrap();
    let mut key = SecretKeyParamsBuilder::default();
    key.version(version)
        .key_type(primary)
        .can_sign(true)
        .can_certify(true)
        .primary_user_id("Test <test@example.com>".to_owned())
        .passphrase(locked)
        .subkey(subkey);
    if version == KeyVersion::V6 {
        key.feature_seipd_v2(true);
    }
    key.build().unwrap().generate(OsRng).unwrap()
}

/// An RSA key with a key for encryption.
fn rsa() -> SignedSecretKey {
    let subkey = SubkeyParamsBuilder::default()
        .key_type(KeyType::Rsa(2048))
        .can_encrypt(EncryptionCaps::All)
        .build()
        .unwrap();
    let mut key = SecretKeyParamsBuilder::default();
    key.key_type(KeyType::Rsa(2048))
        .can_sign(true)
        .can_certify(true)
        .primary_user_id("Test <test@example.com>".to_owned())
        .subkey(subkey);
    key.build().unwrap().generate(OsRng).unwrap()
}

fn keys(secret: &SignedSecretKey, passphrase: &str) -> Keys {
    let armored = secret.to_armored_bytes(ArmorOptions::default()).unwrap();
    let settings = Settings {
        passphrase: passphrase.to_owned(),
        recipients: Vec::new(),
        most_result: 1 << 20,
    };
    Keys::read(&armored, settings).unwrap()
}

fn certificate(keys: &Keys) -> Vec<u8> {
    perform(keys, Request::PublicKey, Vec::new()).unwrap().1
}

fn encrypted(keys: &Keys, recipients: Vec<Vec<u8>>, data: &[u8]) -> Vec<u8> {
    let request = Request::Encrypt {
        recipients,
        sign: true,
        armor: false,
    };
    perform(keys, request, data.to_vec()).unwrap().1
}

fn decrypted(keys: &Keys, message: &[u8], of: &Keys) -> (Vec<u8>, bool) {
    let request = Request::Decrypt {
        keys: vec![certificate(of)],
    };
    let (signatures, data) = perform(keys, request, message.to_vec()).unwrap();
    (
        data,
        signatures.iter().all(|one| one.valid) && signatures.len() == 1,
    )
}

#[test]
fn keys_of_versions_4_and_6_understand_each_other() {
    let versions = [KeyVersion::V4, KeyVersion::V6];
    let all = versions.map(|version| keys(&secret(version, ""), ""));
    for from in &all {
        for to in &all {
            let message = encrypted(from, vec![certificate(to)], b"data");
            assert_eq!(decrypted(to, &message, from), (b"data".to_vec(), true));
        }
        for form in [SignatureForm::Inline, SignatureForm::Cleartext] {
            let request = Request::Sign { form, armor: true };
            let (_, message) = perform(from, request, b"text\n".to_vec()).unwrap();
            let verify = Request::Verify {
                signature: None,
                keys: Vec::new(),
            };
            let (signatures, data) = perform(from, verify, message).unwrap();
            assert!(signatures[0].valid, "{form:?}");
            assert_eq!(data, b"text\n");
        }
    }
    // Both at once: the one that cannot read authenticated encryption decides.
    let recipients = all.iter().map(certificate).collect();
    let message = encrypted(&all[0], recipients, b"data");
    for to in &all {
        assert_eq!(decrypted(to, &message, &all[0]), (b"data".to_vec(), true));
    }
}

#[test]
fn rsa_with_blinding_gives_what_rsa_gives() {
    let secret = rsa();
    let own = keys(&secret, "");
    for form in [
        SignatureForm::Inline,
        SignatureForm::Cleartext,
        SignatureForm::Detached,
    ] {
        let detached = matches!(form, SignatureForm::Detached);
        let request = Request::Sign { form, armor: true };
        let (_, signed) = perform(&own, request, b"text\n".to_vec()).unwrap();
        let (signature, data) = match detached {
            true => (Some(signed), b"text\n".to_vec()),
            false => (None, signed),
        };
        let verify = Request::Verify {
            signature,
            keys: Vec::new(),
        };
        assert!(perform(&own, verify, data).unwrap().0[0].valid);
    }
    let message = encrypted(&own, vec![certificate(&own)], b"data");
    assert_eq!(decrypted(&own, &message, &own), (b"data".to_vec(), true));

    // A number of the guest's choice in front of the session key is not one, and the message is decrypted.
    let public = secret.secret_subkeys[0].key.public_key();
    let packet = |plain: &[u8]| {
        let PkeskBytes::Rsa { mpi } = public.encrypt(OsRng, plain, EskType::V3_4).unwrap() else {
            panic!("the key is RSA");
        };
        let id = public.legacy_key_id();
        let head = [&[3][..], id.as_ref(), &[1]].concat();
        let bits = u16::try_from(mpi.len() * 8).unwrap();
        let body = [&head, &bits.to_be_bytes()[..], mpi.as_ref()].concat();
        let length = u16::try_from(body.len() - 192 + (192 << 8)).unwrap();
        [&[0xc1], &length.to_be_bytes()[..], &body].concat()
    };
    let wrong_sum = [&[9][..], &[7; 32], &[0, 0]].concat();
    let short_key = [&[9][..], &[7; 3], &[0, 21]].concat();
    for plain in [
        &[][..],
        &[0],
        &[0; 2],
        &[0; 3],
        &[99, 0, 0],
        &wrong_sum,
        &short_key,
    ] {
        let both = [packet(plain), message.clone()].concat();
        let read = decrypted(&own, &both, &own);
        assert_eq!(read, (b"data".to_vec(), true), "{plain:?}");
        // In its place, it is one refusal.
        let length = (usize::from(message[1]) - 192) * 256 + usize::from(message[2]) + 192;
        let rest = &message[3 + length..];
        let request = Request::Decrypt { keys: Vec::new() };
        let alone = [&packet(plain), rest].concat();
        let failed = perform(&own, request, alone).unwrap_err();
        assert_eq!(failed.failure, Failure::Decryption, "{plain:?}");
    }
}

#[test]
fn messages_for_version_6_have_authenticated_encryption() {
    let [old, new] = [KeyVersion::V4, KeyVersion::V6].map(|version| keys(&secret(version, ""), ""));
    // The version of the packet for the session key: 6 belongs to SEIPD v2, 3 to v1.
    let version = |message: &[u8]| message[2];
    assert_eq!(
        version(&encrypted(&new, vec![certificate(&new)], b"data")),
        6
    );
    assert_eq!(
        version(&encrypted(&new, vec![certificate(&old)], b"data")),
        3
    );
}

#[test]
fn locked_keys_need_their_passphrase() {
    for version in [KeyVersion::V4, KeyVersion::V6] {
        let secret = secret(version, "sesame");
        let armored = secret.to_armored_bytes(ArmorOptions::default()).unwrap();
        for passphrase in ["", "wrong"] {
            let settings = Settings {
                passphrase: passphrase.to_owned(),
                recipients: Vec::new(),
                most_result: 1,
            };
            let failed = Keys::read(&armored, settings).err().unwrap();
            assert_eq!(failed.failure, Failure::Grant);
            assert!(!failed.message.contains("sesame"), "{}", failed.message);
        }
        let keys = keys(&secret, "sesame");
        let message = encrypted(&keys, vec![certificate(&keys)], b"data");
        assert_eq!(decrypted(&keys, &message, &keys), (b"data".to_vec(), true));
    }
}

#[test]
fn subkeys_that_another_key_has_bound_do_not_count() {
    let [ours, theirs] = [(); 2].map(|()| secret(KeyVersion::V4, ""));
    // Their certificate, with our key for encryption, and its binding by us.
    let mut forged = theirs.to_public_key();
    forged.public_subkeys = ours.to_public_key().public_subkeys;
    let forged = forged.to_armored_bytes(ArmorOptions::default()).unwrap();
    let request = Request::Encrypt {
        recipients: vec![forged],
        sign: false,
        armor: false,
    };
    let failed = perform(&keys(&ours, ""), request, b"data".to_vec()).unwrap_err();
    assert_eq!(failed.failure, Failure::Input);
    assert!(
        failed.message.contains("none of its keys"),
        "{}",
        failed.message
    );
}

#[test]
fn every_change_of_an_encrypted_message_is_the_same_failure() {
    let keys = keys(&secret(KeyVersion::V6, ""), "");
    let message = encrypted(&keys, vec![certificate(&keys)], &[7; 300]);
    for at in 0..message.len() {
        let mut changed = message.clone();
        changed[at] ^= 1;
        let request = Request::Decrypt { keys: Vec::new() };
        let failed = perform(&keys, request, changed).unwrap_err();
        assert_eq!(
            (failed.failure, &*failed.message),
            (Failure::Decryption, ""),
            "{at}"
        );
    }
    assert_eq!(decrypted(&keys, &message, &keys), (vec![7; 300], true));
}

#[test]
fn requests_come_back_with_their_data() {
    let request = Request::Verify {
        signature: Some(b"signature".to_vec()),
        keys: vec![b"key".to_vec()],
    };
    let mut bytes = Vec::new();
    message::write(&mut bytes, &request, b"data").unwrap();
    let mut from = &bytes[..];
    let (again, data) = read(&mut from).unwrap().unwrap();
    assert_eq!(format!("{again:?}"), format!("{request:?}"));
    assert_eq!(data, b"data");
    assert!(read(&mut from).unwrap().is_none());
    for end in 4..bytes.len() {
        read(&mut &bytes[..end]).unwrap_err();
    }
}

#[test]
fn signatures_say_when_they_were_made() {
    let keys = keys(&secret(KeyVersion::V4, ""), "");
    let request = Request::Sign {
        form: SignatureForm::Detached,
        armor: false,
    };
    let (_, signature) = perform(&keys, request, b"data".to_vec()).unwrap();
    let verify = Request::Verify {
        signature: Some(signature),
        keys: Vec::new(),
    };
    let (signatures, _) = perform(&keys, verify, b"data".to_vec()).unwrap();
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    assert!(signatures[0].created.unwrap().abs_diff(now.as_secs()) < 600);
    assert_eq!(signatures[0].fingerprint.len(), 40);
}
