//! Compiles the targets of `fuzz/` without what fuzzing needs, and runs each with small inputs and with those that
//! `./x fuzz --keep` and fixed bugs left in `fuzz/corpus`.

extern crate self as libfuzzer_sys;

use std::collections::BTreeSet;
use std::path::Path;

/// What a target takes: the bytes as they are, or as text if they are UTF-8.
trait Input<'a>: Sized {
    fn read(bytes: &'a [u8]) -> Option<Self>;
}

impl<'a> Input<'a> for &'a [u8] {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        Some(bytes)
    }
}

impl<'a> Input<'a> for &'a str {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok()
    }
}

impl Input<'_> for String {
    fn read(bytes: &[u8]) -> Option<Self> {
        Self::from_utf8(bytes.to_vec()).ok()
    }
}

/// A line, and the rest as one piece.
impl Input<'_> for (String, Vec<Vec<u8>>) {
    fn read(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let line = String::from_utf8(bytes[..end].to_vec()).ok()?;
        Some((line, vec![bytes[end + 1..].to_vec()]))
    }
}

/// Stands for libFuzzer's macro: the target becomes a function.
#[macro_export]
macro_rules! fuzz_target {
    (|$data:ident: $kind:ty| $body:expr) => {
        pub(crate) fn run(bytes: &[u8]) {
            let input: Option<$kind> = $crate::Input::read(bytes);
            if let Some($data) = input {
                $body;
            }
        }
    };
}

macro_rules! targets {
    ($($name:ident $path:literal)*) => {
        $(
            #[expect(unused_attributes, reason = "a target is the root of a crate for libFuzzer")]
            #[path = $path]
            mod $name;
        )*
        const TARGETS: &[(&str, fn(&[u8]))] = &[$((stringify!($name), $name::run)),*];
    };
}

targets! {
    bundle "../../../fuzz/fuzz_targets/bundle.rs"
    client_line "../../../fuzz/fuzz_targets/client_line.rs"
    config "../../../fuzz/fuzz_targets/config.rs"
    console_text "../../../fuzz/fuzz_targets/console_text.rs"
    door "../../../fuzz/fuzz_targets/door.rs"
    egress_host "../../../fuzz/fuzz_targets/egress_host.rs"
    from_worker "../../../fuzz/fuzz_targets/from_worker.rs"
    gateway "../../../fuzz/fuzz_targets/gateway.rs"
    guest_message "../../../fuzz/fuzz_targets/guest_message.rs"
    html "../../../fuzz/fuzz_targets/html.rs"
    marks "../../../fuzz/fuzz_targets/marks.rs"
    payload "../../../fuzz/fuzz_targets/payload.rs"
    profile "../../../fuzz/fuzz_targets/profile.rs"
    run_code "../../../fuzz/fuzz_targets/run_code.rs"
    state_call "../../../fuzz/fuzz_targets/state_call.rs"
    tls "../../../fuzz/fuzz_targets/tls.rs"
    to_worker "../../../fuzz/fuzz_targets/to_worker.rs"
    transpile "../../../fuzz/fuzz_targets/transpile.rs"
    wireguard "../../../fuzz/fuzz_targets/wireguard.rs"
}

#[test]
fn every_target_takes_small_inputs() {
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let inputs: &[&[u8]] = &[
        b"",
        b"\0",
        b"{}",
        b"[null, 1.5, \"\\u0000b0\"]",
        b"let a: number = 1;",
        b"instances: {site: {code: ./main.js, urls: [site.example]}}",
        b"p > a[href]\n<p><a href=x>text</a><!-- comment --></p>",
        b"{\"nodes\":[{\"id\":1,\"callFrame\":{\"functionName\":\"f\",\"scriptId\":\"1\",\"url\":\"a\",\"lineNumber\":0,\"columnNumber\":0},\"children\":[1,2]}],\"startTime\":0,\"endTime\":9,\"samples\":[1]}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":null}",
        b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n",
        b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
        &every_byte,
        &[0xff; 64],
    ];
    for (_, run) in TARGETS {
        for input in inputs {
            run(input);
        }
    }
}

#[test]
fn every_target_takes_its_kept_inputs() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let mut kept = 0;
    for folder in std::fs::read_dir(corpus).unwrap() {
        let folder = folder.unwrap();
        let name = folder.file_name().into_string().unwrap();
        let target = TARGETS.iter().find(|(target, _)| *target == name);
        let (_, run) = target.unwrap_or_else(|| panic!("fuzz/corpus/{name} belongs to no target"));
        for input in std::fs::read_dir(folder.path()).unwrap() {
            run(&std::fs::read(input.unwrap().path()).unwrap());
            kept += 1;
        }
    }
    assert!(kept > 0, "fuzz/corpus is empty");
}

/// Small inputs of the corpus with some of their bytes changed, moved or missing; the same ones each time.
#[test]
fn every_target_takes_changed_inputs() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for (name, run) in TARGETS {
        let files = std::fs::read_dir(corpus.join(name)).unwrap();
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        for file in files.iter().take(50) {
            let input = std::fs::read(file).unwrap();
            if input.is_empty() || input.len() > 4096 {
                continue;
            }
            for _ in 0..4 {
                let mut changed = input.clone();
                let at = next(changed.len());
                match next(4) {
                    0 => changed[at] ^= 1 << next(8),
                    1 => changed.truncate(at),
                    2 => changed.insert(at, b"\0\\\"{[(`$\n"[next(9)]),
                    _ => changed.extend_from_within(at..),
                }
                run(&changed);
            }
        }
    }
}

#[test]
fn every_target_is_compiled_here_and_known_to_cargo_fuzz() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let stem = |file: std::fs::DirEntry| file.path().file_stem()?.to_str().map(str::to_owned);
    let files: BTreeSet<String> = std::fs::read_dir(fuzz.join("fuzz_targets"))
        .unwrap()
        .filter_map(|file| stem(file.unwrap()))
        .collect();
    let here: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(here, files);
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for name in files {
        let bin = format!("[[bin]]\nname = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"\n");
        assert!(manifest.contains(&bin), "fuzz/Cargo.toml lacks {name}");
    }
}
