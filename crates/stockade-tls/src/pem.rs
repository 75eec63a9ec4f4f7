//! Reading PEM files (RFC 7468) so that an error can be named with its line.
//!
//! The text around blocks is ignored, as `openssl x509 -text` writes it. Files are the operator's, yet
//! bounded: a wrong path may name anything.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::problem::{TlsProblem, Wrong};

/// Most bytes of a file of certificates or a key.
pub(crate) const CERTIFICATES_LIMIT: u64 = 4 * 1024 * 1024;
/// Most bytes of a file of revocation lists.
pub(crate) const LISTS_LIMIT: u64 = 64 * 1024 * 1024;

/// One `-----BEGIN …-----` block.
#[derive(Debug)]
pub(crate) struct Block {
    /// Such as `CERTIFICATE`.
    pub(crate) label: String,
    /// Where it begins, from 1.
    pub(crate) line: usize,
    /// What it holds.
    pub(crate) der: Vec<u8>,
    /// It has headers that say it is encrypted (RFC 1421, as OpenSSL's old keys).
    pub(crate) encrypted: bool,
}

/// Reads at most `limit` bytes.
pub(crate) fn read(file: &Path, limit: u64, kind: &'static str) -> Result<Vec<u8>, TlsProblem> {
    let unreadable = |e| TlsProblem::of(file, Wrong::Unreadable(e));
    // Opening a pipe would wait for a writer.
    if !std::fs::metadata(file).map_err(unreadable)?.is_file() {
        let e = std::io::Error::other("it is not a regular file");
        return Err(unreadable(e));
    }
    let mut bytes = Vec::new();
    File::open(file)
        .map_err(unreadable)?
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > limit {
        return Err(TlsProblem::of(file, Wrong::TooLong { limit, kind }));
    }
    Ok(bytes)
}

/// Takes a file apart. An empty result means that it holds no block at all.
pub(crate) fn blocks(file: &Path, bytes: &[u8]) -> Result<Vec<Block>, TlsProblem> {
    let mut blocks = Vec::new();
    let mut open: Option<(Block, String)> = None;
    for (i, line) in bytes.split(|&b| b == b'\n').enumerate() {
        let number = i + 1;
        let line = line.trim_ascii();
        let marker = line
            .strip_prefix(b"-----")
            .and_then(|rest| rest.strip_suffix(b"-----"));
        match (marker, &mut open) {
            (Some(marker), None) => {
                let Some(label) = marker.strip_prefix(b"BEGIN ") else {
                    return Err(TlsProblem::at(
                        file,
                        number,
                        Wrong::Pem("an END without its BEGIN"),
                    ));
                };
                let block = Block {
                    label: String::from_utf8_lossy(label).into_owned(),
                    line: number,
                    der: Vec::new(),
                    encrypted: false,
                };
                open = Some((block, String::new()));
            }
            (Some(marker), Some((block, _))) => {
                if marker.strip_prefix(b"END ") != Some(block.label.as_bytes()) {
                    let why = "a block is not closed by the END that belongs to it";
                    return Err(TlsProblem::at(file, block.line, Wrong::Pem(why)));
                }
                if let Some((mut block, text)) = open.take() {
                    block.der = BASE64_STANDARD.decode(&text).map_err(|_| {
                        TlsProblem::at(file, block.line, Wrong::Pem("the block is not base64"))
                    })?;
                    blocks.push(block);
                }
            }
            (None, Some((block, text))) => {
                if line.contains(&b':') {
                    block.encrypted |=
                        line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED");
                } else {
                    text.push_str(&String::from_utf8_lossy(line));
                }
            }
            (None, None) => {}
        }
    }
    match open {
        Some((block, _)) => {
            let why = "the block is cut off: its END is missing";
            Err(TlsProblem::at(file, block.line, Wrong::Pem(why)))
        }
        None => Ok(blocks),
    }
}

/// Says what a file without the wanted block holds instead.
pub(crate) fn found(bytes: &[u8], blocks: &[Block]) -> String {
    match blocks.first() {
        Some(block) => format!("a block {:?}", block.label),
        None if bytes.trim_ascii().is_empty() => "nothing".to_owned(),
        None if bytes.starts_with(&[0x30]) => "DER, the binary form,".to_owned(),
        None => "no PEM block".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Block>, String> {
        blocks(Path::new("f"), text.as_bytes()).map_err(|p| p.to_string())
    }

    #[test]
    fn blocks_with_text_around_names_lines() {
        let text = "hello\n-----BEGIN A-----\r\nAAEC\r\n-----END A-----\n\n-----BEGIN B C-----\nAA==\n-----END B C-----";
        let found = parse(text).unwrap();
        let view: Vec<_> = found
            .iter()
            .map(|b| (b.label.as_str(), b.line, b.der.as_slice()))
            .collect();
        assert_eq!(view, [("A", 2, &[0u8, 1, 2][..]), ("B C", 6, &[0][..])]);
    }

    #[test]
    fn blocks_broken_names_line_of_begin() {
        for (text, expect) in [
            (
                "\n-----BEGIN A-----\nAA==\n",
                "f:2: is not PEM: the block is cut off: its END is missing",
            ),
            (
                "-----BEGIN A-----\n!!\n-----END A-----",
                "f:1: is not PEM: the block is not base64",
            ),
            (
                "-----END A-----",
                "f:1: is not PEM: an END without its BEGIN",
            ),
            (
                "-----BEGIN A-----\n-----END B-----",
                "f:1: is not PEM: a block is not closed by the END that belongs to it",
            ),
            (
                "-----BEGIN A-----\nAA==\n-----BEGIN A-----\n",
                "f:1: is not PEM: a block is not closed by the END that belongs to it",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), expect);
        }
    }

    #[test]
    fn blocks_of_old_encrypted_key_are_marked() {
        let text = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAA==\n-----END RSA PRIVATE KEY-----";
        assert!(parse(text).unwrap()[0].encrypted);
    }

    #[test]
    fn read_of_folder_or_long_file_fails() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path(), 10, "key").is_err());
        let file = folder.path().join("long");
        std::fs::write(&file, [0; 11]).unwrap();
        let text = read(&file, 10, "key").unwrap_err().to_string();
        assert!(text.contains("more than 10 bytes"), "{text}");
    }
}
