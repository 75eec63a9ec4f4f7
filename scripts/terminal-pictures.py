#!/usr/bin/env python3
"""Draws docs/pictures/terminal-*.svg: runs commands with the built program and draws what they print.

    scripts/terminal-pictures.py [PROGRAM [PICTURE ...]]      PROGRAM is target/release/stockade unless given

Each picture is a list of lines typed into a shell, in an empty folder. Files are written first and shown by `cat`.
"""

import fcntl
import os
import pty
import select
import shutil
import struct
import subprocess
import sys
import termios
import textwrap
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path("/tmp/stockade-demo")
COLUMNS = 104

STYLE = """
  .page { fill: #f6f8fa; stroke: #d1d9e0 } text { fill: #1f2328; white-space: pre } .typed { fill: #0550ae; font-weight: 600 }
  @media (prefers-color-scheme: dark) { .page { fill: #151b23; stroke: #3d444d } text { fill: #e6edf3 } .typed { fill: #79c0ff } }
"""

SITE = "export default { fetch: () => new Response('Hello\\n') };\n"
CONFIG = """version: "1.0"
listeners: [{address: "127.0.0.1:8080"}]
logging: {file: ./stockade.log}
instances:
  shop:
    code: ./shop
    urls: [shop.localhost]
    limits: {memory: MEMORY}
"""

LOGGED = """type Order = { tea: string };
const pounds = (order: Order): number => {
  throw new RangeError(`no number: ${order.tea}`);
};
export default { fetch(request: Request): Response {
  if (new URL(request.url).pathname === "/order") {
    try { pounds({ tea: "x" }); } catch (cause) { throw new Error("bad order", { cause }); }
  }
  console.log("a visit");
  return new Response("Hello\\n");
} };
"""

# name: title, files, typed lines
PICTURES = {
    "exec": (
        "Two guests under stockade exec",
        {
            "loop.js": "for (;;);\n",
            "peek.js": "console.log(typeof Deno, typeof process, typeof require);\n"
            "await import('node:fs').catch((error) => console.log(String(error)));\n",
        },
        ["cat loop.js", "stockade exec loop.js", "echo $?", "cat peek.js", "stockade exec peek.js"],
    ),
    "serve": (
        "stockade check reports an error, then stockade serve starts",
        {"shop/index.js": SITE, "stockade.yaml": CONFIG.replace("MEMORY", "512")},
        [
            "stockade check",
            "sed -i 's/memory: 512/memory: 512mb/' stockade.yaml",
            "stockade check --files",
            "stockade serve &",
            "curl -s http://shop.localhost:8080/",
        ],
    ),
    "log": (
        "stockade serve on a terminal: requests, a line of a guest, and an error with its stack and its cause",
        {
            "shop/index.ts": LOGGED,
            "stockade.yaml": CONFIG.replace("MEMORY", "512mb").replace("logging: {file: ./stockade.log}\n", ""),
        },
        ["stockade serve &", "curl -s http://shop.localhost:8080/", "curl -s http://shop.localhost:8080/order >/dev/null"],
    ),
}


class OnTerminal:
    """A command that goes on, on a terminal of its own."""

    def __init__(self, command):
        master, slave = pty.openpty()
        # Nothing is wrapped before it is drawn, and nothing is coloured.
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 500, 0, 0))
        environment = {**os.environ, "NO_COLOR": "1", "TERM": "xterm"}
        self.process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], cwd=FOLDER, stdout=slave, stderr=slave, env=environment
        )
        os.close(slave)
        self.master = master

    def lines(self, until=None):
        """What it has printed since the last time: up to a line with this text, or until it is quiet."""
        text = ""
        while not (until and until in text):
            if not select.select([self.master], [], [], 20 if until else 1)[0]:
                break
            text += os.read(self.master, 1 << 16).decode()
        return text.splitlines()

    def end(self):
        self.process.terminate()
        self.process.wait(60)
        os.close(self.master)


def run(files, typed):
    """What a terminal shows: (whether it was typed, line)."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    for name, content in files.items():
        (FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / name).write_text(content)
    FOLDER.mkdir(exist_ok=True)
    shown, status, running = [], 0, None

    def show(lines):
        for text in lines:
            shown.extend((False, part) for part in textwrap.wrap(text, COLUMNS, drop_whitespace=False) or [""])

    for line in typed:
        shown.append((True, f"$ {line}"))
        if line.endswith(" &"):
            running = OnTerminal(line.removesuffix(" &"))
            show(running.lines("ready in"))
            continue
        process = subprocess.run(
            ["bash", "-c", f"exec {line.replace('$?', str(status))}"],
            cwd=FOLDER, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "NO_COLOR": "1"}, timeout=60,
        )
        status = process.returncode
        show(process.stdout.decode().splitlines())
        if running:
            show(running.lines())
    if running:
        running.end()
    shutil.rmtree(FOLDER)
    return shown


def draw(title, shown):
    width, height = COLUMNS * 7.83 + 40, len(shown) * 19 + 32
    lines = "\n".join(
        f'<text x="20" y="{34 + row * 19}" class="{"typed" if typed else "printed"}">{escape(line)}</text>'
        for row, (typed, line) in enumerate(shown)
    )
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}" \
role="img" aria-labelledby="title" font-family="ui-monospace, SFMono-Regular, Menlo, 'DejaVu Sans Mono', monospace" font-size="13">
<title id="title">{escape(title)}</title>
<style>{STYLE}</style>
<rect class="page" x="0.5" y="0.5" width="{width - 1:.0f}" height="{height - 1}" rx="8"/>
{lines}
</svg>
"""


def main():
    program = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/release/stockade").resolve()
    only = sys.argv[2:]
    os.environ["PATH"] = f"{program.parent}:{os.environ['PATH']}"
    for name, (title, files, typed) in PICTURES.items():
        if only and name not in only:
            continue
        (ROOT / f"docs/pictures/terminal-{name}.svg").write_text(draw(title, run(files, typed)))


main()
