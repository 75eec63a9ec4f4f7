"""The commands of README.md and docs/*.md, typed as they stand there into a shell in a folder of its own, with the program on
the path and no network but loopback. Files that a page shows under their name are written first. Each command must succeed,
and print what the comment behind it promises."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

# Programs that this machine should not run, or that are tried elsewhere.
ELSEWHERE = {
    "apt-get": "installs on the machine",
    "systemctl": "needs systemd as the first process; the group `systemd` has one",
    "systemd-run": "needs systemd as the first process; the group `systemd` has one",
    "journalctl": "needs systemd as the first process; the group `systemd` has one",
    "podman": "needs an engine; the group `images` runs it where there is one",
    "docker": "needs an engine; the group `images` runs podman where there is one",
    "deploy/oci/build.sh": "needs packages; the group `images` runs it where there are some",
    "kubectl": "needs a cluster; the group `kubernetes` checks the manifests",
    "helm": "needs a cluster; the group `kubernetes` renders the chart",
    "apparmor_parser": "changes the kernel's policy; the group `images` only parses the profiles",
    "sudo": "needs to be root on the machine",
    "cargo": "compiles for minutes; `./x test` does it",
    "npm": "tests/packages/run.sh installs the packages",
    "npx": "tests/packages/run.sh installs the packages",
    "pip": "tests/packages/run.sh installs the packages",
    "pip3": "tests/packages/run.sh installs the packages",
}
# Commands that are not typed, whatever they start.
NEVER = [
    (re.compile(r"^(\w+=\S+ )*\./x (?!run\b)"), "compiles for minutes; `./x test` and CI do it"),
    (re.compile(r"https?://[\w.]*\bexample\.(com|net|org)"), "names a server elsewhere"),
    (re.compile(r"…"), "is not a whole command"),
]
if not Path("/usr/share/containers/seccomp.json").exists():
    NEVER.append((re.compile(r"^deploy/oci/seccomp\.py >"), "needs the profile of an engine"))
if os.geteuid() != 0:
    # Who is root in a namespace alone may inspect the workers of it, which the attacks report.
    NEVER.append((re.compile(r"doctor --attack"), "needs root here"))
# What is typed in place of a command, by its page and beginning. One that is on no page any more is an error.
INSTEAD = {
    # What the unit starts.
    ("docs/bare-metal.md", "systemctl enable --now"):
        ["mkdir -p /run/stockade /var/lib/stockade", "stockade serve /etc/stockade/stockade.yaml"],
    # Nothing was deployed before.
    ("docs/incidents.md", "stockade rollback"):
        ["stockade deploy ./shop-next --instance shop", "stockade rollback --instance shop"],
    # The site of `stockade init` has no such handler.
    ("docs/dev.md", 'curl "http://localhost:8787/.stockade/dev/scheduled"'):
        ["sed -i 's/^export default {/&\\n  scheduled() {},/' src/index.ts",
         'curl --retry 20 --retry-delay 1 "http://localhost:8787/.stockade/dev/scheduled"'],
}
# These go on until they are ended. A server stays for the rest of its page; the others are watched for a moment.
SERVES = re.compile(r"^\S+ (run serve|serve|supervise .*--socket|mcp .*--listen|dev|rpc)(\s|$)")
FOLLOWS = re.compile(r"^stockade (logs|audit tail) (.* )?-f\b|^stockade (top|inspect)\b")

# Seconds that a command may take which does not go on.
LONGEST = 60
# What they print when they answer.
READY = re.compile(r"^ready in|listening on |http://", re.M | re.I)

# What a reader of most pages has: two versions of a site, and a server that runs the first of them.
SITE = """\
export default {
  async fetch(request: Request, env: any): Promise<Response> {
    const visits = Number((await env.STATE.get("visits")) ?? 0) + 1;
    await env.STATE.put("visits", visits);
    console.log("visit", visits);
    return new Response(`visit ${visits} of VERSION\\n`);
  },
};
"""
CONFIG = """\
version: "1.0"
listeners: [{ address: 127.0.0.1:8080 }]
instances:
  shop:
    code: ./shop
    urls: ["shop.localhost"]
    state: true
admin: { listen: 127.0.0.1:9901 }
audit: { folder: ./audit }
usage: { path: ./usage.db, interval: 1s }
deployments: { folder: ./deployments }
metrics: { listen: 127.0.0.1:9900 }
"""
FILES = {
    "shop/index.ts": SITE.replace("VERSION", "one"),
    "shop-next/index.ts": SITE.replace("VERSION", "two"),
    "stockade.yaml": CONFIG,
    "upstream.json": '{"mcpServers": {}}\n',
    "new.yaml": CONFIG + "# changed\n",
    "math.ts": "export const add = (a: number, b: number): number => a + b;\n",
    "tool.ts": "export {};\nlet sum = 0;\nfor (let i = 0; i < 1e6; i++) sum += i;\nconsole.log(sum);\n",
    "shop.ts": "export const total = (items: { price: number }[]): number => items.reduce((sum, item) => sum + item.price, 0);\n",
}
# Pages that begin with an empty folder.
EMPTY = {"docs/dev.md", "docs/install.md"}
# Pages whose commands ask a server that runs already.
WITH_SERVER = {"docs/admin.md", "docs/audit.md", "docs/backup.md", "docs/deploy.md", "docs/keys.md", "docs/observability.md",
               "docs/profiling.md", "docs/usage.md", "docs/incidents.md", "docs/hardening.md", "docs/sizing.md"}


class Pages:
    """Has the place of the server of other groups: a folder for all pages, and what was printed in it."""

    def __init__(self, *_, **__):
        self.folder = Path(tempfile.mkdtemp(prefix="stockade-docs-"))
        self.binary = Path(os.environ.get("STOCKADE", str(ROOT / "target/release/stockade"))).resolve()

    def __enter__(self):
        (self.folder / "output.txt").write_text("")
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder, ignore_errors=True)

    def alive(self):
        return True


def server(quick):
    return Pages


def blocks(text):
    """(line, language, text) of each fenced block."""
    for found in re.finditer(r"^( *)```([\w-]*)\n(.*?)^\1```", text, re.S | re.M):
        indent = len(found[1])
        lines = [line[indent:] for line in found[3].split("\n")]
        yield text.count("\n", 0, found.start()) + 2, found[2], "\n".join(lines).rstrip() + "\n"


def file_of(block):
    """The name that a block gives itself in its first line: `// shop/index.ts`, `# stockade.yaml`."""
    first = block.split("\n", 1)[0]
    named = re.fullmatch(r"(?://|#) ((?:[\w.-]+/)*[\w-]+\.[a-z]+)", first)
    return named[1] if named else None


def commands(block, line):
    """(line, command) of each command of a block."""
    begun, gathered = line, []
    for number, text in enumerate(block.rstrip("\n").split("\n"), line):
        if not gathered:
            begun = number
        gathered.append(text)
        command = "\n".join(gathered)
        if not command.strip() or command.strip().startswith("#"):
            gathered = []
            continue
        parsed = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
        if parsed.returncode == 0 and not parsed.stderr and not text.endswith("\\"):
            yield begun, command
            gathered = []
    if gathered:
        yield begun, "\n".join(gathered)


def promised(command):
    """The output that the comment behind a command promises. One that begins with a small letter only explains."""
    found = re.search(r"\s{2,}#\s+(.*)$", command)
    if not found:
        return None
    text = re.sub(r"^prints ", "", found[1].strip())
    return None if re.match(r"[a-z]", text) else text


def program(command):
    """The program that a command starts, after variables and redirections."""
    words = re.sub(r"^\w+=(\$\(|\S*\s+)", "", command.strip()).split()
    return words[0].rstrip(")") if words else ""


class Shell:
    """A shell in a folder, without a network but loopback."""

    def __init__(self, folder, binary):
        self.folder = folder
        tools = folder / ".bin"
        tools.mkdir()
        (tools / "stockade").symlink_to(binary)
        # An answer that is an error fails the command.
        (folder / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\nmax-time = 20\n")
        environment = {
            **{name: os.environ[name] for name in ("LANG", "LC_ALL", "CARGO_TARGET_DIR") if name in os.environ},
            "PATH": f"{tools}:{os.environ['PATH']}", "HOME": str(folder), "CURL_HOME": str(folder), "NO_COLOR": "1",
        }
        alone = ["unshare", "--net", "--mount"]
        if os.geteuid() != 0:
            alone.append("--map-root-user")
        self.process = subprocess.Popen([*alone, "bash", "--norc"], cwd=folder, env=environment, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        start_new_session=True)
        self.number, self.server = 0, None
        self.run("set -o pipefail; ip link set lo up")
        # What a page writes there is seen by its shell alone.
        layers = folder / ".layers"
        layers.mkdir()
        self.run(f"mount -t tmpfs none {layers}")
        self.run("mount -t tmpfs none /run")
        for place in ("/etc", "/var/lib"):
            upper, work = (layers / f"{place[1:].replace('/', '-')}-{what}" for what in ("upper", "work"))
            status, printed = self.run(
                f"mkdir {upper} {work} && mount -t overlay none -o lowerdir={place},upperdir={upper},workdir={work} {place}")
            if status:
                raise RuntimeError(f"{place} cannot be covered: {printed}")

    def run(self, command):
        """The exit status of a command, and what it printed."""
        self.number += 1
        mark = f"--- {self.number} of {os.getpid()}:"
        # What a command leaves running has a log of its own.
        if self.process.poll() is not None:
            return 255, "the shell has ended"
        self.process.stdin.write(f"{{ {command}\n}} </dev/null\nprintf '\\n%s %d\\n' '{mark}' $?\n")
        self.process.stdin.flush()
        printed = []
        # A command that should not go on is ended with its shell.
        timer = threading.Timer(LONGEST, lambda: os.killpg(self.process.pid, signal.SIGKILL))
        timer.start()
        try:
            for line in self.process.stdout:
                if line.startswith(mark):
                    return int(line.rsplit(" ", 1)[1]), "".join(printed).strip()
                printed.append(line)
        finally:
            timer.cancel()
        self.process.wait()
        return 255, f"the shell ended, or the command took more than {LONGEST} s\n" + "".join(printed)

    def serve(self, command, stays=False):
        """Starts a command that goes on, and waits until it answers. What is wrong, or None. The one before it ends, unless
        it stays."""
        if self.server:
            self.run(f"kill {self.server}; wait {self.server}")
        log = self.folder / f".server-{self.number}.log"
        status, printed = self.run(f"( exec {command}\n) >{log} 2>&1 &\necho $!")
        process = printed.strip()
        self.server = None if stays else process
        begun = time.monotonic()
        while time.monotonic() < begun + 60:
            ended = self.run(f"kill -0 {process}")[0] != 0
            text = log.read_text() if log.exists() else ""
            if ended:
                return f"ended: {text[-600:]}"
            # Those that print nothing when they are ready are given some seconds to fail.
            if READY.search(text) or time.monotonic() > begun + 8 and not text:
                return None
            time.sleep(0.05)
        return f"is not ready after a minute: {log.read_text()[-600:]}"

    def end(self):
        if self.process.poll() is None:
            self.run("for job in $(jobs -p); do kill $job; done; wait")
            self.process.stdin.close()
        self.process.wait(60)


def prepare(name, folder, binary):
    """The files that a reader of a page has."""
    if name == "README.md" or name == "docs/api.md":
        # A clone of the repository.
        for entry in ("x", "crates", "scripts", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"):
            (folder / entry).symlink_to(ROOT / entry)
        shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("*.db*", "*.sock", "*.pepper"))
        (folder / "target/release").mkdir(parents=True)
        (folder / "target/release/stockade").symlink_to(binary)
        return
    for path, text in ({} if name in EMPTY else FILES).items():
        if name == "docs/keys.md":
            text = text.replace("    state: true\n", "    state: true\n    auth: true\n")
        path = folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if name not in EMPTY:
        (folder / "docs").mkdir()
        shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("*.db*", "*.sock", "*.pepper"))
        shutil.copytree(ROOT / "deploy", folder / "deploy")


def reason(command):
    """Why a command is not typed here, or None."""
    for pattern, why in NEVER:
        if pattern.search(command):
            return why
    starts = program(command)
    if starts in ELSEWHERE:
        return ELSEWHERE[starts]
    for name in [starts, *re.findall(r"\|\s*([\w-]+)", command)]:
        known = "/" in name or name == "stockade" or subprocess.run(["bash", "-c", f"type -- '{name}'"], capture_output=True).returncode == 0
        if not known:
            return f"{name} is not installed"
    return None


def in_place(name, command, used):
    """What is typed: the command, or what stands for it here."""
    for (page, begins), others in INSTEAD.items():
        if page == name and command.startswith(begins):
            used.add((page, begins))
            return others
    return None


def type_page(name, pages, used):
    """Types the commands of one page. What is wrong, or None, and a note."""
    text = (ROOT / name).read_text()
    found = list(blocks(text))
    if not any(language == "sh" for _, language, _ in found):
        return None, "no commands"
    folder = Path(tempfile.mkdtemp(prefix=name.replace("/", "-"), dir=pages.folder))
    prepare(name, folder, pages.binary)
    shell = Shell(folder, pages.binary)
    wrong, left_out, typed = [], [], 0
    try:
        if name in WITH_SERVER:
            problem = shell.serve("stockade serve stockade.yaml", stays=True)
            if problem:
                return f"the server of this page {problem}"
            shell.run("curl http://shop.localhost:8080/; curl http://shop.localhost:8080/")
        for line, language, block in found:
            if language == "yaml" and re.search(r"^version:", block, re.M):
                (folder / ".shown.yaml").write_text(block)
                status, printed = shell.run("stockade check .shown.yaml")
                if status:
                    wrong.append(f"{name}:{line}: the configuration is refused:\n{printed}")
            if language != "sh":
                path = file_of(block)
                if path:
                    (folder / path).parent.mkdir(parents=True, exist_ok=True)
                    (folder / path).write_text(block)
                continue
            for at, command in commands(block, line):
                instead, why = in_place(name, command, used), reason(command)
                if why and not instead:
                    shown = re.split(r"\s{2,}#", command.splitlines()[0])[0]
                    left_out.append(f"{at}: `{shown[:60]}` {why}")
                    continue
                for one in instead or [command]:
                    typed += 1
                    problem = type_command(shell, one)
                    if problem:
                        wrong.append(f"{name}:{at}: `{one.splitlines()[0]}` {problem}")
    finally:
        shell.end()
        with open(pages.folder / "output.txt", "a") as all_output:
            for log in folder.glob(".*.log"):
                all_output.write(log.read_text(errors="replace"))
    note = f"{typed} typed" + (f"; not here: {'; '.join(left_out)}" if left_out else "")
    shutil.rmtree(folder, ignore_errors=True)
    return "\n".join(wrong) or None, note


def type_command(shell, command):
    """What is wrong with a command, or None."""
    if SERVES.search(command.replace("\\\n", " ")) and program(command) in ("stockade", "./x"):
        return shell.serve(command)
    if FOLLOWS.match(command):
        typed = re.split(r"\s{2,}#", command)[0]
        watched, right = f"timeout 2 {typed}", {124}
        if typed.startswith("stockade top"):
            # It wants a terminal, and may end with its input, which has an end here.
            watched, right = f"env TERM=xterm script --quiet --return --command 'timeout --foreground 2 {typed}' /dev/null", {0, 124}
        status, printed = shell.run(f"timeout 20 {watched}")
        return None if status in right else f"ended with {status}: {printed[-500:]}"
    status, printed = shell.run(command)
    if status:
        return f"ended with {status}: {printed[-800:]}"
    expected = promised(command)
    if expected and expected not in printed:
        return f"should print {expected!r}, and printed {printed[-500:]!r}"
    return None


def checks(pages):
    used = set()
    names = ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))]
    listed = []
    for name in names:
        if re.search(r"^ *```sh$", (ROOT / name).read_text(), re.M):
            listed.append((name, lambda name=name: type_page(name, pages, used)))

    def stale():
        unused = [f"{page}: {begins}" for page, begins in INSTEAD if (page, begins) not in used]
        return f"tests/outside/docs.py names commands that are on no page: {unused}" if unused else None

    return [*listed, ("each command with something in its place is on a page", stale)]
