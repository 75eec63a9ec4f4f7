#!/usr/bin/env python3
"""Checks that code and documents use the project's words.

    scripts/check-words.py [ROOT]            prints every use of a retired word as `path:line: word: say …`,
                                             exits 1 if there is one
    scripts/check-words.py --count [ROOT]    prints a table of the documents: words, retired words, per 1,000 words

A retired word has a standard term in this field, or is English that a reader has to translate. The table RETIRED
is the list; the glossary in ARCHITECTURE.md has the words that are ours on purpose. In code a word is found
in identifiers too: `seat` is found in `seat_of`, `openSeat` and `SEATS`. In documents only prose is checked:
text in backquotes and code blocks repeats names and output of the program, and follows the code.
"""

import re
import subprocess
import sys
from pathlib import Path

# forms of a retired word, and what to say instead
RETIRED = {
    # the parts of the runtime
    "seat seats": "guest context",
    "wall walls": "isolation level, layer or boundary; for time: elapsed",
    "breaker breakers": "interrupt handle",
    "meter meters": "limit watchdog",
    "convict convicts convicted": "terminate",
    "verdict verdicts": "termination reason, decision or result",
    "hub hubs": "event queue",
    "parcel parcels": "call payload",
    "purse purses": "quota or budget",
    "keeper keepers": "reconciler",
    "pulse pulses": "connection timers",
    "gate gates": "connection limiter",
    "conversation conversations": "connection",
    "exchange exchanges exchanged exchanging": "request; as a verb: replace, swap or reload",
    "spoil spoils spoilt spoiled": "reject",
    "mistake mistakes": "error or diagnostic",
    "remark remarks": "warning or diagnostic",
    "figures": "usage, measurements or numbers",
    "desk desks": "order client",
    "workplace workplaces": "thread runtime",
    "twin twins": "control, the harmless case that must work",
    "unasked": "unexpected",
    # English that has to be translated
    "hear hears heard hearing": "receive, be notified of, learn",
    "tell tells told telling untold": "report, say, state, notify, distinguish",
    "whoever": "anyone who, the client that",
    "anew": "again",
    "beside": "next to, along with, compared with",
    "likewise": "also",
    "wholly": "completely",
}

# retired phrases: (text that each use contains, pattern over lower-case text, what to say instead)
PHRASES = [
    ("be had", r"(?:to|can|cannot|not) be had", "is available, is not available"),
    (" no ", r"(?:what|that|which|text|it|value|file|line|address) (?:is|are) no (?!longer|more)", "is not a"),
    ("so many", r"so many", "a number, at most n"),
    ("what came of", r"what came of (?:it|them)", "the result"),
    ("look", r"look(?:s|ed)? (?:at|over|after|about|around)\b", "checks, inspects, reads"),
    ("is held to", r"is held to", "is limited to"),
    ("are held to", r"are held to", "are limited to"),
    ("holds", r"holds? (?:it|them) to", "limits"),
    ("right", r"\bputs? right\b", "fix"),
    ("but for", r"\bbut for\b", "except"),
    ("but where", r"\bbut where\b", "except"),
    ("whatever becomes", r"whatever becomes", "even if"),
]

# Names that users type or read, and terms of the field that contain a retired word.
NAMES = re.compile(
    r"GitHub|wall_limit_exceeded|wall\)_limit|beside_p99_us|X448|Diffie-Hellman exchange"
    r"|RenameFlags::EXCHANGE|\.wall\b|\bwall: |\bwall,$|\"wall\"|wall[ _-]?(?:limit|clock|time|ms|ns)\w*|[kK]ey[ _]exchange\w*|(?:figure|figures)\b\":|\"(?:verdict|twin|mistakes|walls|figures)\"",
    re.IGNORECASE,
)

# Where a retired word has another meaning: (start of a path, word): the reason.
EXCEPTIONS = {
    ("scripts/check-words.py", "*"): "the list itself",
    ("crates/stockade-attack/src", "gate"): "a call gate is a gate of the processor into the kernel",
    ("crates/stockade-attack/src", "gates"): "the same",
    ("types/stockade-serve.d.ts", "exchange"): "an MX record names a mail exchange",
    ("crates/stockade-grants/", "exchange"): "the same",
    ("crates/stockade-realm/js/node/dns/", "exchange"): "the same",
    ("crates/stockade/tests/serve/grants.rs", "exchange"): "the same",
    ("crates/stockade-broker/src/network.rs", "exchange"): "the same",
    ("examples/grants/dns/", "exchange"): "the same",
    ("crates/stockade-door/src/mongo/connect.rs", "exchange"): "a field of MongoDB's command saslStart",
    ("crates/stockade-door/src/mongo/connect.rs", "conversation"): "a field of MongoDB's command saslContinue",
    ("crates/stockade-door/tests/door/mongo.rs", "conversation"): "the same",
    ("tests/outside/wallets.py", "conversation"): "NIP-44 names its keys so",
    ("tests/types/site/", "exchange"): "the same",
    ("crates/stockade-door/src/mongo/", "conversation"): "a field of MongoDB's messages of a login",
    ("crates/stockade-door/src/mongo/", "exchange"): "the same",
    ("crates/stockade-door/tests/door/mongo.rs", "conversation"): "the same",
    ("crates/stockade-serve/dashboard/", "meter"): "an element of HTML",
    ("bench/", "figures"): "a figure is one measured number; the recorded JSON has this key",
}

CODE = {".rs", ".js", ".mjs", ".ts", ".tsx", ".py", ".sh", ".toml", ".yaml", ""}
SKIPPED = ("Cargo.lock", "LICENSE", "package-lock.json")
# Below this line docs/config.md is made from the tables of the configuration's reader.
GENERATED = "<!-- The rest is made from"


# The parts of identifiers and the words of prose: `openSeat`, `seat_of` and `SEATS` have a part `seat` or `seats`.
PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
SAY = {word: say for forms, say in RETIRED.items() for word in forms.split()}
PHRASE = [(needle, re.compile(pattern), say) for needle, pattern, say in PHRASES]


def files(root):
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        path = Path(name)
        skipped = path.name.startswith(SKIPPED) or "vendor" in path.parts or name.startswith("fuzz/corpus/")
        if path.suffix in CODE | {".md"} and not skipped and (root / path).is_file():
            yield name


def prose(text):
    """A document's lines without code blocks, names in backquotes, targets of links and what is generated."""
    fenced = False
    for number, line in enumerate(text.split(GENERATED)[0].splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith("    "):
            yield number, re.sub(r"`[^`]*`|\]\([^)]*\)|<[^>]*>", " ", line)


def hits(line):
    """(word, what to say) for each retired word of a line."""
    line = NAMES.sub(" ", line)
    for part in PART.findall(line):
        if say := SAY.get(part.lower()):
            yield part, say
    lowered = line.lower()
    for _, pattern, say in PHRASE:
        for found in pattern.finditer(lowered):
            yield found[0], say


def excepted(name, word):
    return any(name.startswith(start) and of in ("*", word.lower()) for start, of in EXCEPTIONS)


def check(name, text):
    # Most files have none: found out by what is fast over a whole file.
    lowered = text.lower()
    if SAY.keys().isdisjoint(part.lower() for part in set(PART.findall(text))) and not any(
        needle in lowered and pattern.search(lowered) for needle, pattern, _ in PHRASE
    ):
        return
    lines = prose(text) if name.endswith(".md") else enumerate(text.splitlines(), 1)
    for number, line in lines:
        for word, say in hits(line):
            if not excepted(name, word):
                yield number, word, say


def count(root):
    print("| document | words | retired | per 1,000 |\n|---|---|---|---|")
    for name in files(root):
        if name.endswith(".md"):
            text = (root / name).read_text()
            words = sum(len(line.split()) for _, line in prose(text))
            found = sum(1 for _, line in prose(text) for _ in hits(line))
            print(f"| {name} | {words:,} | {found} | {found / max(words, 1) * 1000:.1f} |")


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--count"]
    root = Path(arguments[0] if arguments else Path(__file__).resolve().parent.parent).resolve()
    if "--count" in sys.argv:
        count(root)
        return
    found = 0
    for name in files(root):
        for number, word, say in check(name, (root / name).read_text()):
            print(f"{name}:{number}: {word}: say {say}")
            found += 1
    sys.exit(1 if found else 0)


main()
