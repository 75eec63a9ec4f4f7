#!/usr/bin/env python3
"""Checks docs/internals/promises.md, which names for each promise the tests that hold it.

    scripts/check-promises.py [ROOT]      prints every breach as `path:line: rule`, exits 1 if there is one

A test is named as `path::name`: a test function of that name in a file of Rust or Python, or a trial or an attempt with
that name as its text. `path::*` is a file with attempts to get out. `tests/specs/area/case` is a script with its
expected output. Each row names a test; each numbered promise of SECURITY.md has a row; each document that
promises something has a section.
"""

import re
import sys
from pathlib import Path

ROOT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent).resolve()
PAGE = ROOT / "docs/internals/promises.md"

# Sections of SECURITY.md whose numbered lists are promises, and the sections of the page that hold them.
NUMBERED = {
    "What is promised": "SECURITY.md: what is promised",
    "Sites: `stockade serve`": "SECURITY.md: sites",
}
# Documents that record measurements or list features, and promise nothing of their own.
RECORDS = {"bench.md", "outside.md", "sizing.md", "soak.md", "status.md"}

breaches = []


def breach(path, rule, line=1):
    breaches.append(f"{path.relative_to(ROOT)}:{line}: {rule}")


def has_test(path, name):
    """Whether the file has this test: a function with an attribute, an entry of `cases!`, or a text that names a trial."""
    text = path.read_text()
    function = rf"#\[(?:tokio::)?test\b[^\]]*\](?:\s*#\[[^\]]*\])*\s*(?:pub(?:\([a-z]+\))?\s+)?(?:async\s+)?fn {re.escape(name)}\("
    case = rf"\bcases!\[[^\]]*\b{re.escape(name)}\b"
    method = path.suffix == ".py" and re.search(rf"^ +(?:async )?def {re.escape(name)}\(self", text, re.M)
    return bool(re.search(function, text) or re.search(case, text) or method) or f'"{name}"' in text


def check_test(token, line):
    """A token of the column with tests."""
    if token.startswith("tests/specs/"):
        case = ROOT / token
        if not any((case / main).is_file() for main in ("main.js", "main.ts")) and not (case / "spec.json").is_file():
            breach(PAGE, f"names {token}, which is not a case of tests/specs", line)
        return
    path, _, name = token.partition("::")
    file = ROOT / path
    if not name or not file.is_file():
        breach(PAGE, f"names {token}, whose file does not exist", line)
    elif name == "*":
        if "static ATTACKS" not in file.read_text():
            breach(PAGE, f"names {token}, and {path} has no attempts", line)
    elif not has_test(file, name):
        breach(PAGE, f"names {token}, and {path} has no such test", line)


def read_page():
    """Sections of the page: their rows as (line, cells)."""
    sections, current = {}, None
    for number, line in enumerate(PAGE.read_text().splitlines(), 1):
        if line.startswith("## "):
            heading = line[3:].strip()
            if heading in sections:
                breach(PAGE, f"has a second section {heading}", number)
            current = sections.setdefault(heading, [])
        elif line.startswith("|") and current is not None:
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if set(line) - set("|- ") and cells[-1] != "held by":
                current.append((number, cells))
    return sections


def numbered_promises(heading):
    """The numbers of the first list below a heading of SECURITY.md."""
    numbers, inside = [], False
    for line in (ROOT / "SECURITY.md").read_text().splitlines():
        if line.startswith("## "):
            inside = line[3:].strip() == heading
        elif inside and (found := re.match(r"(\d+)\. ", line)):
            numbers.append(found[1])
    return numbers


def main():
    sections = read_page()
    for rows in sections.values():
        for line, cells in rows:
            tests = re.findall(r"`([^`]+)`", cells[-1])
            if not tests:
                breach(PAGE, "a promise that no test holds", line)
            for token in tests:
                check_test(token, line)
    for heading, section in NUMBERED.items():
        wanted = numbered_promises(heading)
        if not wanted:
            breach(ROOT / "SECURITY.md", f"has no numbered promises below `{heading}`")
        given = [cells[0] for _, cells in sections.get(section, [])]
        for number in wanted:
            if number not in given:
                breach(PAGE, f"has no row for promise {number} of SECURITY.md, `{heading}`")
        for number in given:
            if number not in wanted:
                breach(PAGE, f"has a row for promise {number} of `{heading}`, which SECURITY.md has not")
    documents = ["README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))]
    for document in documents:
        if Path(document).name not in RECORDS and not sections.get(document):
            breach(PAGE, f"has no section for {document}")
    for line in breaches:
        print(line)
    sys.exit(1 if breaches else 0)


main()
