#!/usr/bin/env python3
"""Where the bytes of the program `stockade` are, by the names in `stockade.debug` next to it.

    packaging/sizes.py [--write]     prints the table; writes it into docs/internals/build.md

`./x package` prints the table too. A function that is generic over a type of another crate counts for the crate that wrote
it; a function of Rust's own library for the first other crate in its name.
"""

import re
import subprocess
import sys
from bisect import bisect
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/internals/build.md"
BEGIN, END = "<!-- BEGIN packaging/sizes.py -->\n", "<!-- END packaging/sizes.py -->\n"
OWN_LIBRARY = ("core", "alloc", "std")
# The first expression that matches at the beginning decides.
C_AND_CPP = (
    (r"_R", "Rust's own library"),
    (r"anon\.", "constants without a name"),
    (r"Builtins_|_ZN?[A-Z]*2v8|.*v8(8internal|4base)|v8_", "V8, code and tables"),
    (r".*icu_\d|icudt\d*_dat|u[a-z]+_\d\d$", "ICU of V8"),
    (r"aws_lc|.*aws_lc_\d|ecp_|L?p\d\d\d_|bn_|aes|sha\d|.*25519|mldsa|ring_core|chacha", "AWS-LC and ring"),
    (r"sqlite3", "SQLite"),
    (r"rustsecp256k1", "secp256k1"),
    (r"_rjem", "jemalloc"),
    (r"_Z", "V8, code and tables"),
)
CRATES = (
    (r"stockade", "Stockade's crates"),
    (r"deno_|serde_v8|v8$", "Deno's crates"),
    (r"oxc", "oxc (TypeScript)"),
    (r"tokio|hyper|h2$|http|tower|axum|futures|quinn|rustls|webpki|tungstenite|fastwebsockets", "tokio, hyper, rustls, axum"),
    (r"serde|granit|ryu|zmij", "serde, JSON and YAML"),
    (r"rmcp|schemars", "rmcp (MCP)"),
    (r"brotli|zlib_rs|zstd|miniz|compression|async_compression", "compression"),
    (r"hickory", "hickory (DNS)"),
    (r"clap|annotate", "clap"),
    (r"regex|aho|memchr", "regex"),
)
# Sections that consist of one kind of bytes.
SECTIONS = {
    ".eh_frame": "tables for unwinding",
    ".eh_frame_hdr": "tables for unwinding",
    ".gcc_except_table": "tables for unwinding",
    ".rela.dyn": "addresses for the loader",
    ".data.rel.ro": "tables of addresses",
}
# What has no name there: startup snapshots, scripts, texts of messages.
NAMELESS = {".text": "code without a name", ".rodata": "constants without a name"}


def crate_of(symbol):
    """The crate that wrote a function of Rust, from its mangled name; None if it is not Rust's."""
    if not re.search(r"17h[0-9a-f]{16}E", symbol):
        return None
    # `_ZN4core3ptr49drop_in_place$LT$tokio..net..TcpStream$GT$17h…E` has the parts core, ptr, drop_in_place…
    parts, rest = [], symbol.removeprefix("_ZN")
    while found := re.match(r"\d+", rest):
        start, length = found.end(), int(found[0])
        parts.append(rest[start : start + length])
        rest = rest[start + length :]
    # the first part, unless it is a type, and the beginnings of all paths
    names = [parts[0]] if parts and "$" not in parts[0] else []
    for part in parts:
        names += [piece.split("..")[0].lstrip("_") for piece in re.split(r"\$\w+?\$", part) if ".." in piece]
    return next((name for name in names if name and name not in OWN_LIBRARY), "core")


def group_of(symbol):
    crate = crate_of(symbol)
    if crate is None:
        return next((group for pattern, group in C_AND_CPP if re.match(pattern, symbol)), "C, others")
    if crate in OWN_LIBRARY:
        return "Rust's own library"
    return next((group for pattern, group in CRATES if re.match(pattern, crate)), "other crates")


def words_of(*command):
    """The lines of a command of binutils, as lists of words."""
    return [line.split() for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()]


def parts(built):
    """{group: its bytes} of the program in the folder `built`."""
    image = (built / "stockade").read_bytes()
    names = []  # address, length and name; what has no length, as tables in assembler, goes on until the next name
    for line in words_of("nm", "-S", "--defined-only", built / "stockade.debug"):
        if len(line) in (3, 4):
            names.append((int(line[0], 16), int(line[1], 16) if len(line) == 4 else None, line[-1]))
    names.sort(key=lambda name: name[0])
    found = defaultdict(list)
    for line in words_of("objdump", "-h", built / "stockade"):
        if not line or not line[0].isdigit() or line[1] in (".bss", ".tbss"):
            continue
        section, (length, address, _, offset) = line[1], (int(word, 16) for word in line[2:6])
        if section not in NAMELESS:
            found[SECTIONS.get(section, "other sections")].append(image[offset : offset + length])
            continue
        at = address
        inside = names[bisect(names, address - 1, key=lambda name: name[0]) : bisect(names, address + length - 1, key=lambda name: name[0])]
        for (start, size, name), (following, *_) in zip(inside, [*inside[1:], (address + length,)]):
            end = following if size is None else start + size
            found[NAMELESS[section]].append(image[at - address + offset : start - address + offset])
            found[group_of(name)].append(image[max(at, start) - address + offset : end - address + offset])
            at = max(at, end)
        found[NAMELESS[section]].append(image[at - address + offset : address + length - address + offset])
    return {group: b"".join(pieces) for group, pieces in found.items()}


def table(built, compress):
    """One row for each group, the largest first; `compress` packs bytes as packages do."""
    rows = [(group, len(data), len(compress(data))) for group, data in parts(built).items()]
    rows.sort(key=lambda row: -row[2])
    rows.append(("all", *(sum(row[column] for row in rows) for column in (1, 2))))
    lines = [f"| {group} | {raw / 1e6:.1f} | {packed / 1e6:.1f} |" for group, raw, packed in rows]
    return "\n".join(["| part of `stockade` | MB | packed, MB |", "|---|---|---|", *lines])


def main():
    from package import compressed  # next to this file

    text = table(ROOT / "target/release", compressed)
    print(text)
    if "--write" in sys.argv[1:]:
        page = PAGE.read_text()
        before, rest = page.split(BEGIN)
        PAGE.write_text(before + BEGIN + text + "\n" + END + rest.split(END)[1])


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    main()
