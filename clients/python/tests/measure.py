"""Measures `Sandbox.run` from Python: PYTHONPATH=clients/python python clients/python/tests/measure.py [RUNS]

`STOCKADE` names the program. Each line has the median and the 99th percentile in milliseconds, for runs one after the
other and, in runs a second, for four threads.
"""

import os
import sys
import threading
import time
from typing import Any, Dict, List

from stockade import Sandbox

CASES: Dict[str, Dict[str, Any]] = {
    "1 + 1": {"code": "1 + 1"},
    "one tool": {"code": "await tools.add({ a: 1, b: 2 })", "tools": {"add": lambda a, b: a + b}},
}


def measure(sandbox: Sandbox, runs: int, given: Dict[str, Any]) -> List[float]:
    """Milliseconds of each run."""
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        sandbox.run(**given)
        times.append((time.perf_counter() - begin) * 1000)
    return sorted(times)


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    for level in ("thread", "process", "container"):
        with Sandbox(level=level, pool=4, program=os.environ.get("STOCKADE")) as sandbox:
            for name, given in CASES.items():
                measure(sandbox, 10, given)
                times = measure(sandbox, runs, given)
                threads = [threading.Thread(target=measure, args=(sandbox, runs // 4, given)) for _ in range(4)]
                begin = time.perf_counter()
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                each = runs // 4 * 4 / (time.perf_counter() - begin)
                print(f"{level:10} {name:9} p50 {times[runs // 2]:6.2f} ms  p99 {times[runs * 99 // 100]:6.2f} ms  4 threads {each:5.0f}/s")


if __name__ == "__main__":
    main()
