//! Whether the time of a check depends on how much of a key is right. Asked for by name:
//!
//!     cargo test --release -p stockade-auth --test timing -- --ignored --nocapture
//!
//! A valid key is compared with wrong ones whose first characters are right. The times of both classes are taken in random
//! order and held against each other by Welch's t-test, as dudect does ("Dude, is my code constant time?", 2017): beyond 10
//! there is a difference, below 4.5 none was found. A check that compares texts from their beginning is measured in the same
//! way, so that the measurement is known to find what it looks for.

#![expect(
    clippy::unwrap_used,
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

/// The t of Welch's test between the times of two texts.
fn t(texts: [&[u8]; 2], check: impl Fn(&[u8]) -> bool) -> f64 {
    let mut times = [Vec::new(), Vec::new()];
    let mut random = vec![0; 2 * SAMPLES];
    rand::fill(&mut random).unwrap();
    for byte in random {
        let class = usize::from(byte & 1);
        let began = Instant::now();
        for _ in 0..TOGETHER {
            black_box(check(black_box(texts[class])));
        }
        times[class].push(began.elapsed().as_nanos() as f64);
    }
    let [(a, of_a, in_a), (b, of_b, in_b)] = times.each_mut().map(summary);
    (a - b) / (of_a / in_a + of_b / in_b).sqrt()
}

#[test]
#[ignore = "a measurement"]
fn time_of_a_check_does_not_show_how_much_of_a_key_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let pepper = Pepper::new(&[7; 32]).unwrap();
    let path = folder.path().join("keys.db");
    let mut store = Store::open(&path, pepper.clone()).unwrap();
    let now = SystemTime::now();
    let fields = KeyFields {
        name: "a".to_owned(),
        ..KeyFields::default()
    };
    let made = store.create(&fields, now).unwrap();
    let keys = Keys::open(&path, pepper).unwrap();
    let text = made.key.reveal().as_bytes();
    // Of the random part, none and all but the last character.
    let (far, near) = (similar(&made.key, 12), similar(&made.key, 54));
    let wrong = [&far[..], &near[..]];
    let checked = t(wrong, |text| keys.check(text, now).is_ok());
    // A connection that has shown the valid key, and shows others.
    let again = t(wrong, |shown| {
        let last = LastKey::default();
        keys.check_again(text, now, &last).is_ok() && keys.check_again(shown, now, &last).is_ok()
    });
    let naive = t(wrong, |shown| {
        let same = shown
            .iter()
            .zip(text)
            .take_while(|(a, b)| black_box(a) == b);
        same.count() == text.len()
    });
    println!(
        "t of a check: {checked:.1}; of a check with a connection's last key: {again:.1}; of a naive comparison: {naive:.1}"
    );
    assert!(naive.abs() > 10.0, "the measurement finds nothing here");
}
