//! Whether the time of a check depends on how much of a key is right. Asked for by name:
//!
//!     cargo test --release -p stockade-auth --test timing -- --ignored --nocapture
//!
//! The same wrong key, of which all but the last random character is right, is checked at a store that has the right key and
//! at one that has another key, in random order. The times are held against each other by Welch's t-test, as dudect does ("Dude,
//! is my code constant time?", 2017). A comparison of texts from their beginning is measured in the same way, so that the
//! measurement is known to find what it looks for: its t is to be far beyond that of a check.
//! Two stores lie at different places in memory, which is worth a few nanoseconds in either direction.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement shows what it found, and fails by panicking"
)]

use std::hint::black_box;
use std::time::{Instant, SystemTime};

use aws_lc_rs::rand;
use stockade_auth::{ApiKey, KeyFields, Keys, LastKey, Pepper, Store};

/// Checks of each class.
const SAMPLES: usize = 200_000;

/// Checks that are timed together: one takes less than a clock resolves.
const TOGETHER: usize = 4;

/// A key with the characters of another up to `right`, and its checksum made right again.
fn similar(key: &ApiKey, right: usize) -> Vec<u8> {
    loop {
        let other = ApiKey::generate().unwrap();
        let mut text = other.reveal().as_bytes().to_vec();
        text[..right].copy_from_slice(&key.reveal().as_bytes()[..right]);
        let length = text.len();
        // The checksum is that of the text before it: CRC-32 in base 62.
        let sum = crc32fast::hash(&text[..length - 6]);
        let digits = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        for (place, at) in (length - 6..length).rev().enumerate() {
            let digit = u64::from(sum) / 62_u64.pow(u32::try_from(place).unwrap()) % 62;
            text[at] = digits[usize::try_from(digit).unwrap()];
        }
        if ApiKey::check(&text).is_ok() {
            return text;
        }
    }
}

/// Mean, variance, and number of the faster nine tenths: interrupts are in the others.
fn summary(times: &mut Vec<f64>) -> (f64, f64, f64) {
    times.sort_by(f64::total_cmp);
    times.truncate(times.len() * 9 / 10);
    let count = times.len() as f64;
    let mean = times.iter().sum::<f64>() / count;
    let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, variance, count)
}

/// A way to check a text.
type Way<'a> = &'a dyn Fn(&[u8]) -> bool;

/// The t of Welch's test between the times of two ways to check a text.
fn t(ways: [Way<'_>; 2], text: &[u8]) -> f64 {
    let mut times = [Vec::new(), Vec::new()];
    let mut random = vec![0; 2 * SAMPLES];
    rand::fill(&mut random).unwrap();
    for byte in random {
        let class = usize::from(byte & 1);
        let began = Instant::now();
        for _ in 0..TOGETHER {
            black_box(ways[class](black_box(text)));
        }
        times[class].push(began.elapsed().as_nanos() as f64);
    }
    let [(a, of_a, in_a), (b, of_b, in_b)] = times.each_mut().map(summary);
    println!("  {a:.1} ns and {b:.1} ns for {TOGETHER}");
    (a - b) / (of_a / in_a + of_b / in_b).sqrt()
}

/// A store with one key.
fn store(folder: &std::path::Path) -> (Keys, ApiKey) {
    std::fs::create_dir(folder).unwrap();
    let pepper = Pepper::new(&[7; 32]).unwrap();
    let path = folder.join("keys.db");
    let mut store = Store::open(&path, pepper.clone()).unwrap();
    let fields = KeyFields {
        name: "a".to_owned(),
        ..KeyFields::default()
    };
    let made = store.create(&fields, SystemTime::now()).unwrap();
    (Keys::open(&path, pepper).unwrap(), made.key)
}

#[test]
#[ignore = "a measurement"]
fn time_of_a_check_does_not_show_how_much_of_a_key_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let (near, key) = store(&folder.path().join("near"));
    let (far, other) = store(&folder.path().join("far"));
    let wrong = similar(&key, 54);
    let checked = t(
        [&|text| near.check(text, now).is_ok(), &|text| {
            far.check(text, now).is_ok()
        }],
        &wrong,
    );
    // A connection that has shown the right key, or another one, and then shows a wrong one.
    let again = |keys: &Keys, key: &ApiKey, text: &[u8]| {
        let last = LastKey::default();
        let valid = keys.check_again(key.reveal().as_bytes(), now, &last);
        valid.is_ok() && keys.check_again(text, now, &last).is_ok()
    };
    let again = t(
        [&|text| again(&near, &key, text), &|text| {
            again(&far, &other, text)
        }],
        &wrong,
    );
    let naive = |key: &ApiKey, shown: &[u8]| {
        let pairs = shown.iter().zip(key.reveal().as_bytes());
        let same = pairs.take_while(|(a, b)| black_box(a) == b).count();
        same == shown.len()
    };
    let naive = t(
        [&|text| naive(&key, text), &|text| naive(&other, text)],
        &wrong,
    );
    println!(
        "t of a check: {checked:.1}; of a check with a connection's last key: {again:.1}; of a naive comparison: {naive:.1}"
    );
    assert!(naive.abs() > 100.0, "the measurement finds nothing here");
}
