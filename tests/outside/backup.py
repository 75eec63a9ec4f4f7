"""`stockade backup` and `stockade restore`: backups of a server under load, that are killed, cut and changed."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

from docs import Pages
from server import free_port

# Both counters grow in one commit: in a backup as of one instant they are equal.
SITE = """\
const padding = "x".repeat(4000);
export default {
  async fetch(request: Request, env: any): Promise<Response> {
    const read = async () => [(await env.STATE.get("a")) ?? 0, (await env.STATE.get("b")) ?? 0];
    if (new URL(request.url).pathname === "/read") return Response.json(await read());
    for (;;) {
      const { value, version } = await env.STATE.getWithVersion("a");
      const next = Number(value ?? 0) + 1;
      const done = await env.STATE.atomic().check("a", version).put("a", next).put("b", next)
        .put("pad" + (next % 500), padding + next).commit();
      if (done.ok) return new Response(String(next));
    }
  },
};
"""


class Site:
    """A server with every kind of store, in a folder of its own."""

    def __init__(self, folder, binary):
        self.folder, self.binary, self.port, self.process = folder, binary, free_port(), None
        (folder / "shop").mkdir(parents=True)
        (folder / "shop/index.ts").write_text(SITE)
        (folder / "stockade.yaml").write_text(f"""\
version: "1.0"
listeners: [{{ address: "127.0.0.1:{self.port}" }}]
instances: {{ shop: {{ code: ./shop, urls: ["*"], state: true }} }}
rate_limits: [{{ by: address, requests: 1000000/month }}]
admin: {{ listen: "127.0.0.1:{free_port()}" }}
audit: {{ folder: ./audit }}
usage: {{ path: ./usage.db, interval: 1s }}
deployments: {{ folder: ./deployments }}
logging: {{ access: false, level: warn }}
""")

    def start(self, **options):
        self.log = open(self.folder / "log.txt", "ab")
        self.process = subprocess.Popen([self.binary, "serve", "stockade.yaml"], cwd=self.folder, stdout=self.log,
                                        stderr=subprocess.STDOUT, **options)
        until = time.monotonic() + 60
        while time.monotonic() < until and self.process.poll() is None:
            try:
                return self.get("/read")
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("the server did not start:\n" + (self.folder / "log.txt").read_text()[-1000:])

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            return json.loads(answer.read())

    def run(self, *arguments, **options):
        return subprocess.run([self.binary, *arguments], cwd=self.folder, capture_output=True, text=True, timeout=120, **options)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)


class Load:
    """Writes all the time."""

    def __init__(self, site):
        self.site, self.stopped, self.answers, self.failures, self.longest = site, threading.Event(), 0, [], 0.0
        self.threads = [threading.Thread(target=self.write) for _ in range(4)]
        for thread in self.threads:
            thread.start()

    def write(self):
        while not self.stopped.is_set():
            begun = time.monotonic()
            try:
                self.site.get("/")
                self.answers += 1
            except OSError as error:
                self.failures.append(repr(error))
            self.longest = max(self.longest, time.monotonic() - begun)

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()


def server(quick):
    return Pages


def checks(pages):
    folder = Path(pages.folder)
    one, other = Site(folder / "one", str(pages.binary)), Site(folder / "other", str(pages.binary))
    known = {}

    def under_load():
        if not one.process:
            one.start()
        known["key"] = one.run("keys", "create", "ci").stdout.strip()
        (one.folder / "next").mkdir(exist_ok=True)
        (one.folder / "next/index.ts").write_text(SITE + "// next\n")
        deployed = one.run("deploy", "./next", "--instance", "shop")
        if deployed.returncode:
            return deployed.stderr
        load = Load(one)
        taken = []
        try:
            until = time.monotonic() + 60
            while time.monotonic() < until and not json.loads(one.run("usage", "--json").stdout)["rows"]:
                time.sleep(0.1)
            for _ in range(5):
                before = one.get("/read")[0]
                begun = time.monotonic()
                done = one.run("backup", "backup.tar")
                if done.returncode:
                    return done.stderr
                taken.append(time.monotonic() - begun)
                known["taken"] = taken[-1]
                known["before"] = before
            known["after"] = one.get("/read")[0]
            answers = load.answers
        finally:
            load.stop()
        if load.failures:
            log = (one.folder / "log.txt").read_text()[-1500:]
            return f"{len(load.failures)} requests failed: {load.failures[:3]}\n{log}"
        mode = (one.folder / "backup.tar").stat().st_mode & 0o777
        if mode != 0o600:
            return f"the backup has the mode {mode:o}"
        return None, f"5 backups in {max(taken):.1f} s at most, with {answers} writes; one waited {load.longest:.2f} s at most"

    def restored():
        backup = one.folder / "backup.tar"
        other.stop()
        done = other.run("restore", "--replace", str(backup))
        if done.returncode:
            return done.stderr
        a, b = other.start()
        if a != b or not known["before"] <= a <= known["after"]:
            return f"the counters are {a} and {b}, and were {known['before']} to {known['after']}"
        verified = other.run("keys", "verify", input=known["key"] + "\n")
        if verified.returncode:
            return f"the key is not valid: {verified.stdout}{verified.stderr}"
        versions = other.run("versions", "--instance", "shop")
        if versions.returncode or not re.search(r"100\s*%", versions.stdout):
            return f"the deployed version is not there: {versions.stdout}{versions.stderr}"
        usage = other.run("usage", "--json")
        if usage.returncode or not json.loads(usage.stdout)["rows"]:
            return f"the usage is not there: {usage.stdout}{usage.stderr}"
        audit = other.run("audit", "verify")
        if audit.returncode:
            return f"the audit log is not whole: {audit.stdout}{audit.stderr}"
        return None, f"counters at {a} of {known['before']} to {known['after']}; key, version, usage and audit log are there"

    def running_is_refused():
        done = other.run("restore", "--replace", str(one.folder / "backup.tar"))
        return None if done.returncode == 1 and "a server is running" in done.stderr else f"{done.returncode}: {done.stderr}"

    def existing_is_kept():
        other.stop()
        done = other.run("restore", str(one.folder / "backup.tar"))
        if done.returncode != 1 or "--replace" not in done.stderr:
            return f"without --replace: {done.returncode}: {done.stderr}"
        before = (other.folder / "state.db").read_bytes()
        done = other.run("restore", "--replace", str(one.folder / "backup.tar"))
        if done.returncode:
            return done.stderr
        if (other.folder / "state.db.replaced").read_bytes() != before:
            return "what was replaced is not kept"
        a, b = other.start()
        other.stop()
        return None if a == b and a >= known["before"] else f"the counters are {a} and {b}"

    def other_layout():
        """Onto a machine whose server has another user, and whose stores are elsewhere."""
        if os.geteuid() != 0:
            return None, "not here: files of another user need root"
        user = 54321
        third = Site(folder / f"third-{time.monotonic_ns()}", str(pages.binary))
        # the other user may not reach the folder in which the program was built
        third.binary = shutil.copy2(pages.binary, third.folder / "stockade")
        config = third.folder / "stockade.yaml"
        text = config.read_text().replace("./audit", "./data/logs/audit").replace("./usage.db", "./data/used.db")
        text = text.replace("./deployments", "./data/versions")
        config.write_text(text + "state: { path: ./data/shared.db }\nlimits: { quotas: ./data/counted.db }\n"
                          "api_keys: { path: ./data/k.db, pepper: ./data/k.pepper }\ncontrol: ./data/control\n")
        (third.folder / "data").mkdir()
        for path in [third.folder, *third.folder.rglob("*")]:
            os.chown(path, user, user)
        # On the way to the folder.
        folder.chmod(0o711)
        done = third.run("restore", str(one.folder / "backup.tar"))
        if done.returncode:
            return done.stderr
        others = [str(path) for path in third.folder.rglob("*") if path.stat().st_uid != user]
        if others:
            return f"files of another user: {others}"
        try:
            a, b = third.start(user=user, group=user, extra_groups=[])
            verified = third.run("keys", "verify", input=known["key"] + "\n")
        finally:
            third.stop()
        found = sorted(path.name for path in (third.folder / "data").iterdir())
        if verified.returncode or a != b or a < known["before"] or not {"shared.db", "used.db", "k.pepper"} <= set(found):
            return f"the counters are {a} and {b}, the key {verified.stdout}{verified.stderr}, the files {found}"

    def killed():
        """A kill at any instant leaves the old backup or the new one."""
        backup = one.folder / "backup.tar"
        generator, whole, changed = random.Random(7), 0, 0
        load = Load(one)
        try:
            for _ in range(20):
                before = backup.read_bytes()
                process = subprocess.Popen([one.binary, "backup", "backup.tar"], cwd=one.folder, stderr=subprocess.DEVNULL)
                try:
                    process.wait(generator.uniform(0.0, 1.2 * known["taken"]))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                changed += backup.read_bytes() != before
                done = one.run("restore", "--check", "backup.tar")
                if done.returncode:
                    return done.stderr
                whole += 1
        finally:
            load.stop()
        done = one.run("backup", "backup.tar")
        left = [path.name for path in one.folder.iterdir() if "backup" in path.name and path.name != "backup.tar"]
        if done.returncode or left:
            return f"the next backup: {done.stderr} {left}"
        return None, f"{whole} kills, {changed} of them after the new one was complete"

    def damaged_is_refused():
        whole = (one.folder / "backup.tar").read_bytes()
        target = one.folder / "damaged.tar"
        generator = random.Random(8)
        for name, text in [
            ("cut in half", whole[: len(whole) // 2]), ("cut before its digests", whole[: whole.rindex(b"SHA256SUMS") - 100]),
            ("empty", b""), ("text", b"not a tar archive" * 100),
            *[(f"byte {at} changed", whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1:])
              for at in (generator.randrange(2048, len(whole) * 9 // 10) for _ in range(10))
              if whole[at]],
        ]:
            target.write_bytes(text)
            done = one.run("restore", "--check", "damaged.tar")
            if done.returncode != 1 or "cannot be used" not in done.stderr:
                return f"{name}: {done.returncode}: {done.stdout}{done.stderr}"

    def piped():
        """Through a pipe, and readable by tar."""
        typed = 'set -o pipefail; "$0" backup - | tee piped.tar | "$0" restore --check -'
        done = subprocess.run(["bash", "-c", typed, one.binary], cwd=one.folder, capture_output=True, text=True)
        if done.returncode:
            return done.stderr
        listed = subprocess.run(["tar", "tf", "piped.tar"], cwd=one.folder, capture_output=True, text=True).stdout.split()
        wanted = ["stockade-backup.json", "state.db", "keys.pepper", "keys.db", "quotas.db", "usage.db", "SHA256SUMS"]
        missing = [name for name in wanted if name not in listed]
        one.stop()
        return f"{missing} are missing" if missing else None

    return [
        ("backups under load fail no request", under_load),
        ("a backup is restored elsewhere, as of one instant", restored),
        ("a restore under a running server is refused", running_is_refused),
        ("a restore keeps what it replaces", existing_is_kept),
        ("a backup is restored for another user, at other places", other_layout),
        ("a backup that is killed leaves the old or the new one", killed),
        ("a damaged backup is refused", damaged_is_refused),
        ("a backup goes through a pipe", piped),
    ]
