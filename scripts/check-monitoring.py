#!/usr/bin/env python3
"""Checks that alerts and dashboard of deploy/ name only metrics and labels that `stockade serve` has.

    scripts/check-monitoring.py       prints every one that is missing, exits 1 if there is one
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERIES = ROOT / "crates/stockade/tests/serve/metrics.txt"  # a test compares it with what a server shows
ONLY_WITH_TLS = {"stockade_tls_certificate_not_after_seconds"}  # the server of that test has no certificate
FILES = ("deploy/prometheus/stockade.rules.yaml", "deploy/grafana/stockade.json")


def main():
    known = {line.split("{")[0] for line in SERIES.read_text().split("\n") if line} | ONLY_WITH_TLS
    missing = 0
    for file in FILES:
        text = (ROOT / file).read_text()
        if file.endswith(".json"):
            json.loads(text)
        for name in sorted(set(re.findall(r"\b(?:stockade|process)_[a-z_]+[a-z]\b", text))):
            if name not in known:
                print(f"{file}: there is no metric {name}")
                missing += 1
    sys.exit(1 if missing else 0)


if __name__ == "__main__":
    main()
