#!/usr/bin/env python3
"""Measures runs of code in fresh isolates over `stockade supervise`: from the message of a client to the outcome.

    bench/run-code.py [PROGRAM] [--level LEVEL] [--runs N] [--clients N]

Prints the time of one run (TypeScript in, JSON out), the same of `open` with a run of nothing for comparison with the start
of the isolate alone, and the runs in a second with several at the same time.
"""

import argparse
import json
import statistics
import subprocess
import time

CODE = """
interface Row { name: string; n: number }
const rows: Row[] = [{ name: "a", n: 1 }, { name: "b", n: 2 }];
const total: number = rows.reduce((sum, row) => sum + row.n, 0);
({ total, names: rows.map((row) => row.name) })
"""


class Client:
    def __init__(self, program):
        command = [program, "supervise"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.lines = self.process.stdout
        self.buffer = b""
        self.next = 0

    def send(self, method, params):
        self.next += 1
        message = {"jsonrpc": "2.0", "id": self.next, "method": method, "params": params}
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        return self.next

    def receive(self):
        while b"\n" not in self.buffer:
            self.buffer += self.lines.read(1 << 16)
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def call(self, method, params):
        self.send(method, params)
        answer = self.receive()
        if "error" in answer or "error" in answer["result"]:
            raise SystemExit(f"{method}: {answer}")
        return answer["result"]


def percentile(times, share):
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


def one_after_another(client, sandbox, runs, code):
    """Milliseconds of each run, with a pause in which the next isolate is made ready."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        client.call("run", {"sandbox": sandbox, "code": code})
        times.append((time.perf_counter() - began) * 1e3)
        time.sleep(0.02)
    return times


def at_once(client, sandbox, runs, places):
    """Runs in a second, with this many at the same time."""
    began, sent, done = time.perf_counter(), 0, 0
    while done < runs:
        while sent < runs and sent - done < places:
            client.send("run", {"sandbox": sandbox, "code": CODE})
            sent += 1
        client.receive()
        done += 1
    return runs / (time.perf_counter() - began)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", nargs="?", default="target/release/stockade")
    parser.add_argument("--level", default="container")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--clients", type=int, default=4)
    args = parser.parse_args()
    client = Client(args.program)
    for pool in (0, 4):
        sandbox = client.call("open", {"level": args.level, "pool": pool})["sandbox"]
        # The template is made after the second worker.
        one_after_another(client, sandbox, 10, "1")
        for name, code in (("1", "1"), ("TypeScript to JSON", CODE)):
            times = one_after_another(client, sandbox, args.runs, code)
            print(f"{args.level}, {pool} kept ready, {name}: p50 {statistics.median(times):.2f} ms, "
                  f"p99 {percentile(times, 0.99):.2f} ms")
        rate = at_once(client, sandbox, args.runs, args.clients)
        print(f"{args.level}, {pool} kept ready, {args.clients} at the same time: {rate:.0f} runs in a second")
    client.process.stdin.close()
    client.process.wait()


if __name__ == "__main__":
    main()
