//! The text of a key: `sk_stockade_`, 43 random letters and digits, and 6 of a checksum.
//!
//! The prefix lets scanners of secrets find keys that leaked, and the checksum lets them, and the check of each
//! request, recognise a text that is not a key without asking anybody.

use std::borrow::Cow;
use std::fmt;

use aws_lc_rs::rand;

/// What every key begins with.
pub const PREFIX: &str = "sk_stockade_";

/// Random letters and digits: 62 to the power of 43 is more than 2 to the power of 256.
const RANDOM: usize = 43;

/// Letters and digits of the checksum: 62 to the power of 6 is more than 2 to the power of 32.
const CHECKSUM: usize = 6;

/// Bytes of a key.
const LENGTH: usize = PREFIX.len() + RANDOM + CHECKSUM;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A text with the form of a key, which `Debug` does not show. Whether it is a valid one is what a check finds out.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

/// Why a text is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFormatError {
    /// It does not begin with [`PREFIX`].
    #[error("it does not begin with {PREFIX}")]
    Prefix,
    /// It is longer or shorter than every key.
    #[error("it has {0} characters, and every key has {LENGTH}")]
    Length(usize),
    /// It has a character that no key has.
    #[error("it has a character other than letters and digits")]
    Character,
    /// The last characters do not fit the others.
    #[error("its checksum is wrong: a character is missing, added or changed")]
    Checksum,
}

impl ApiKey {
    /// Makes a key from 256 random bits of the operating system.
    ///
    /// # Errors
    /// When the operating system has no random numbers.
    pub fn generate() -> Result<Self, RandomError> {
        let mut text = String::with_capacity(LENGTH);
        text.push_str(PREFIX);
        while text.len() < PREFIX.len() + RANDOM {
            let mut bytes = [0; 64];
            rand::fill(&mut bytes).map_err(|_| RandomError)?;
            // 248 is the largest multiple of 62 in a byte: each digit is as probable as another one.
            let digits = bytes.iter().filter(|byte| **byte < 248);
            let room = PREFIX.len() + RANDOM - text.len();
            text.extend(digits.take(room).map(|byte| digit(u32::from(*byte))));
        }
        let checksum = checksum(text.as_bytes());
        text.extend(checksum.map(char::from));
        Ok(Self(text))
    }

    /// Takes a text with the form of a key, exactly: without white space, and with its own letters' case.
    ///
    /// # Errors
    /// [`KeyFormatError`] says what a key has and the text has not.
    pub fn parse(text: &str) -> Result<Self, KeyFormatError> {
        Self::check(text.as_bytes())?;
        Ok(Self(text.to_owned()))
    }

    /// Whether bytes have the form of a key.
    ///
    /// # Errors
    /// [`KeyFormatError`] says what a key has and the bytes have not.
    pub fn check(bytes: &[u8]) -> Result<(), KeyFormatError> {
        let rest = bytes
            .strip_prefix(PREFIX.as_bytes())
            .ok_or(KeyFormatError::Prefix)?;
        if bytes.len() != LENGTH {
            return Err(KeyFormatError::Length(bytes.len()));
        }
        if !rest.iter().all(u8::is_ascii_alphanumeric) {
            return Err(KeyFormatError::Character);
        }
        let (body, end) = bytes.split_at(LENGTH - CHECKSUM);
        if checksum(body) != end {
            return Err(KeyFormatError::Checksum);
        }
        Ok(())
    }

    /// The key itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// How the key begins, so that people find it again: 24 of its 256 bits.
    #[must_use]
    pub fn hint(&self) -> &str {
        self.0.get(..PREFIX.len() + 4).unwrap_or_default()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// The operating system gave no random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random numbers (getrandom(2))")]
pub struct RandomError;

/// The digit of a number's remainder by 62.
fn digit(number: u32) -> char {
    let at = usize::try_from(number % 62).unwrap_or(0);
    char::from(DIGITS.get(at).copied().unwrap_or(b'0'))
}

/// CRC-32 (ISO 3309) of bytes as six digits, the most significant first.
fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let mut rest = crc32fast::hash(bytes);
    let mut digits = [b'0'; CHECKSUM];
    for place in digits.iter_mut().rev() {
        *place = DIGITS
            .get((rest % 62) as usize)
            .copied()
            .unwrap_or_default();
        rest /= 62;
    }
    digits
}

/// A number as eleven digits, the most significant first.
pub(crate) fn write_digits(number: u64) -> String {
    let mut digits = [b'0'; 11];
    let mut rest = number;
    for place in digits.iter_mut().rev() {
        *place = DIGITS
            .get((rest % 62) as usize)
            .copied()
            .unwrap_or_default();
        rest /= 62;
    }
    String::from_utf8_lossy(&digits).into_owned()
}

/// Reads what [`write_digits`] wrote.
pub(crate) fn read_digits(text: &str) -> Option<u64> {
    if text.len() != 11 {
        return None;
    }
    text.bytes().try_fold(0_u64, |number, byte| {
        let digit = DIGITS.iter().position(|digit| *digit == byte)?;
        number.checked_mul(62)?.checked_add(digit as u64)
    })
}

/// A text without the keys in it, for logs: what follows a key's prefix is replaced by `***`.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    // Almost no text has a key. To find that out this way sets up no search.
    if !text.contains(PREFIX) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(PREFIX) {
        let (before, from) = rest.split_at(at + PREFIX.len());
        out.push_str(before);
        out.push_str("***");
        rest = from.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_has_its_form_and_no_other_key_is_made() {
        let keys: std::collections::BTreeSet<_> = (0..1000)
            .map(|_| ApiKey::generate().unwrap().reveal().to_owned())
            .collect();
        assert_eq!(keys.len(), 1000);
        for key in &keys {
            assert_eq!(ApiKey::parse(key).unwrap().reveal(), key);
            assert_eq!(key.len(), 61);
        }
        // Each letter and digit is used.
        let used: std::collections::BTreeSet<char> =
            keys.iter().flat_map(|key| key[12..55].chars()).collect();
        assert_eq!(used.len(), 62);
        let key = ApiKey::generate().unwrap();
        assert!(!format!("{key:?}").contains(&key.reveal()[12..]));
    }

    #[test]
    fn every_changed_character_is_found() {
        let key = ApiKey::generate().unwrap();
        for at in PREFIX.len()..LENGTH {
            let mut bytes = key.reveal().as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
            assert_eq!(ApiKey::check(&bytes), Err(KeyFormatError::Checksum));
        }
        for (text, error) in [
            (format!(" {}", key.reveal()), KeyFormatError::Prefix),
            (key.reveal().to_uppercase(), KeyFormatError::Prefix),
            (format!("{}\n", key.reveal()), KeyFormatError::Length(62)),
            (
                key.reveal().replacen("sk_stockade_", "sk_stockade_ ", 1)[..61].to_owned(),
                KeyFormatError::Character,
            ),
            (String::new(), KeyFormatError::Prefix),
        ] {
            assert_eq!(ApiKey::parse(&text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn checksum_is_that_of_the_documents() {
        // CRC-32 of "123456789" is 0xcbf43926 (its usual check value).
        assert_eq!(checksum(b"123456789"), *b"3jZRME");
    }

    #[test]
    fn digits_of_a_number_are_read_again() {
        for number in [0, 1, 61, 62, u64::MAX] {
            assert_eq!(read_digits(&write_digits(number)), Some(number));
        }
        for text in ["", "0", "zzzzzzzzzzz", "0000000000_", "00000000000 "] {
            assert_eq!(read_digits(text), None, "{text}");
        }
    }

    #[test]
    fn redacted_text_has_no_key() {
        let key = ApiKey::generate().unwrap();
        let key = key.reveal();
        let text = format!("a={key}&b={key}, {key}");
        assert_eq!(
            redact(&text),
            "a=sk_stockade_***&b=sk_stockade_***, sk_stockade_***"
        );
        assert!(matches!(redact("nothing"), Cow::Borrowed("nothing")));
    }
}
