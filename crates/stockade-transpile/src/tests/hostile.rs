//! Sources that would overflow a stack, or keep a parser busy for ever, if they were let.

use std::time::{Duration, Instant};

use super::shapes::{SHAPES, Shape};
use crate::compile::compile_unconfined;
use crate::weigh::{BYTES_PER_LEVEL, weigh};
use crate::{Language, MAX_WORK, Options, TranspileError, Transpiled, transpile};

/// What may be used however flat the source is.
const BASE: usize = 64 * 1024;

/// What takes longer is taken for endless. Each takes a moment on a machine with nothing else to do.
const ENDLESS: Duration = Duration::from_secs(120);

fn options(shape: &Shape) -> Options<'static> {
    let language = if shape.jsx {
        Language::Tsx
    } else {
        Language::TypeScript
    };
    Options {
        specifier: "a.ts",
        language,
        module: true,
    }
}

fn run(shape: &Shape, depth: usize) -> Result<Transpiled, TranspileError> {
    transpile(&shape.source(depth), &options(shape))
}

/// The deepest nesting of a shape that is let through.
fn deepest(shape: &Shape) -> usize {
    let passes = |depth: &usize| weigh(&shape.source(*depth), shape.jsx).is_ok();
    let (mut low, mut high) = (1, 30_000);
    while low + 1 < high {
        let middle = (low + high) / 2;
        if passes(&middle) {
            low = middle
        } else {
            high = middle
        }
    }
    low
}

#[test]
fn every_shape_at_depth_8_compiles() {
    for shape in SHAPES {
        if let Err(error) = run(shape, 8) {
            panic!("{}: {error}", shape.name);
        }
    }
}

#[test]
fn every_shape_that_is_read_once_compiles_at_depth_50() {
    for shape in SHAPES {
        if let Err(error) = run(shape, 50) {
            let ambiguous = error.message.contains("ambiguous");
            assert!(ambiguous, "{}: {error}", shape.name);
            eprintln!("{}: {}", shape.name, error.message);
        }
    }
}

#[test]
fn every_shape_at_any_depth_ends_in_time() {
    for shape in SHAPES {
        for depth in [1_000, 100_000] {
            let start = Instant::now();
            let result = run(shape, depth);
            let took = start.elapsed();
            assert!(took < ENDLESS, "{} at {depth} took {took:?}", shape.name);
            if took > Duration::from_millis(500) {
                eprintln!(
                    "{} at {depth}: {took:?}, ok: {}",
                    shape.name,
                    result.is_ok()
                );
            }
        }
    }
}

#[test]
fn every_shape_left_open_is_an_error() {
    for shape in SHAPES {
        let source = shape.source(100_000);
        let cut = source.len() / 3;
        let _ = transpile(source.get(..cut).unwrap_or_default(), &options(shape));
    }
}

/// Tokens to make patterns of: what opens, closes, and goes on.
const SOUP: &[&str] = &[
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "<",
    ">",
    "`",
    "`${",
    "=>",
    "?",
    ":",
    ",",
    ";",
    "=",
    "!",
    "/",
    "...",
    "|",
    "&",
    ".",
    "?.",
    "+",
    "++",
    "@",
    "#",
    "a",
    "A",
    "1",
    "'s'",
    "\n",
    "/*c*/",
    "/r/",
    "// c\n",
    "as ",
    "satisfies ",
    "infer ",
    "extends ",
    "keyof ",
    "typeof ",
    "async ",
    "await ",
    "yield ",
    "new ",
    "function ",
    "class ",
    "interface ",
    "type ",
    "enum ",
    "namespace ",
    "import ",
    "export ",
    "return ",
    "if ",
    "else ",
    "for ",
    "while ",
    "do ",
    "in ",
    "of ",
    "is ",
    "get ",
    "static ",
    "public ",
    "const ",
    "implements ",
    "declare ",
    "abstract ",
    "(a",
    "a(",
    "a<",
    "({",
    "([",
    "{a:",
    "(a:",
    "{[",
    "[a=",
    "(a=",
    "=a as ",
    ")=>",
    "):",
    ">(",
    "<T>(",
    "`a`",
    "case a:",
    "let ",
    "throw ",
    "void ",
    "asserts ",
];

/// Finds repeated patterns that a parser reads more often than was foreseen, as memory and time.
#[test]
fn repeated_random_patterns_end_in_time() {
    let rounds = std::env::var("STOCKADE_SOUP")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(4_000);
    let seed = std::env::var("STOCKADE_SEED")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1u64);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut pick = |most: usize| -> String {
        let count = 1 + random(most);
        let one = |random: &mut dyn FnMut(usize) -> usize| match random(3) {
            0 => SHAPES[random(SHAPES.len())].parts[random(5)],
            _ => SOUP[random(SOUP.len())],
        };
        (0..count).map(|_| one(&mut random)).collect()
    };
    for round in 0..rounds {
        let (start, open, middle, close) = (pick(3), pick(6), pick(2), pick(4));
        for depth in [12, 24, 48, 2_000] {
            let source = [&start, &*open.repeat(depth), &middle, &close.repeat(depth)].concat();
            let begin = Instant::now();
            let _ = super::ts(&source);
            let took = begin.elapsed();
            assert!(
                took < ENDLESS,
                "round {round} took {took:?}: {start:?} {open:?}*{depth} {middle:?} {close:?}*{depth}"
            );
        }
    }
}

/// Only Linux reports how much of a stack was used.
#[cfg(target_os = "linux")]
#[test]
fn stack_of_every_shape_stays_below_half_of_what_it_gets() {
    let mut worst = (0.0, "");
    for shape in SHAPES {
        let depth = deepest(shape).min(6_000);
        let source = shape.source(depth);
        let weight = weigh(&source, shape.jsx).unwrap();
        if weight.work > MAX_WORK / 4 {
            continue;
        }
        let options = options(shape);
        let used = std::thread::Builder::new()
            .stack_size(1 << 30)
            .spawn(move || {
                let mark = 0u8;
                let _ = compile_unconfined(&source, &options);
                resident(&raw const mark as usize)
            })
            .unwrap()
            .join()
            .unwrap();
        let per_level = used.saturating_sub(BASE) as f64 / weight.levels as f64;
        if per_level > worst.0 {
            worst = (per_level, shape.name);
        }
        eprintln!(
            "{:28} depth {depth:6} levels {:6} {per_level:6.0} B/level",
            shape.name, weight.levels
        );
        assert!(
            used <= BASE + weight.levels * BYTES_PER_LEVEL / 2,
            "{} at {depth}: {used} bytes for {} levels",
            shape.name,
            weight.levels
        );
    }
    eprintln!("worst: {worst:?}");
}

/// Resident bytes of the mapping around an address.
#[cfg(target_os = "linux")]
fn resident(address: usize) -> usize {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in maps.lines() {
        let range = line
            .split_once(' ')
            .and_then(|(range, _)| range.split_once('-'));
        let hex = |text| usize::from_str_radix(text, 16).ok();
        if let Some((Some(from), Some(to))) = range.map(|(from, to)| (hex(from), hex(to))) {
            inside = (from..to).contains(&address);
        } else if let (true, Some(rest)) = (inside, line.strip_prefix("Rss:")) {
            return rest
                .trim()
                .trim_end_matches(" kB")
                .parse::<usize>()
                .unwrap()
                * 1024;
        }
    }
    panic!("no mapping around the address");
}
