"""The package of Debian under a real systemd: its units, upgrades under constant load, backups, removal. A machine of its own
in qemu has Debian's systemd and a kernel with all controllers of cgroups and AppArmor; `STOCKADE_OUTSIDE_SUITE=trixie` takes
Debian 13 in place of 12. Emulated, it is some ten times slower than the machine around it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import machine
from docs import ROOT, Pages

PROGRAMS = ("stockade", "stockade-pgp", "stockade-peers")
SITE = """\
export default {
  async fetch(request: Request, env: any): Promise<Response> {
    const { pathname } = new URL(request.url);
    if (pathname === "/count") {
      const next = Number((await env.STATE.get("count")) ?? 0) + 1;
      await env.STATE.put("count", next);
      return new Response(String(next));
    }
    if (pathname === "/warn") console.warn("a warning of the site");
    if (pathname === "/slow") await new Promise((resolve) => setTimeout(resolve, 3000));
    return new Response(pathname === "/slow" ? "slow\\n" : "hello\\n");
  },
};
"""
CONFIG = """\
version: "1.0"
listeners:
  - address: 0.0.0.0:80
control: /run/stockade/control.sock
instances:
  hello:
    code: ./hello
    urls: ["*"]
    state: true
    # The machine is slow.
    limits: { cpu: 20s, timeout: 30s }
state:
  path: /var/lib/stockade/state.db
logging:
  access: { file: /var/log/stockade/access.log }
metrics:
  listen: 127.0.0.1:9900
drain_timeout: 20s
"""
# Passes every check, and does not serve.
BAD = "#!/bin/sh\n[ \"$1\" != serve ] || exit 3\necho 'stockade 0.1.0+bad'\n"
# The newest version that the sandbox of the unit may be open by, as `systemd-analyze security` counts.
EXPOSURE = 3.0


class Systemd(Pages):
    """In the place of a server: the machine, if there can be one."""

    def __enter__(self):
        super().__enter__()
        self.machine, self.missing = None, machine.missing()
        if self.missing:
            return self
        packages = self.packages()
        self.machine = machine.Machine(self.folder, {
            **{f"root/{name}.deb": path for name, path in packages.items()},
            "root/steady.py": Path(__file__).with_name("steady.py"),
            "root/stockade.yaml": CONFIG, "root/index.ts": SITE,
        })
        self.run = self.machine.run
        return self

    def __exit__(self, *rest):
        if self.machine:
            self.machine.stop()
        super().__exit__(*rest)

    def packages(self):
        """The package of this build, one that is newer, one whose server does not start, and one that refuses the configuration."""
        first = self.made() or self.make()
        unpacked = self.folder / "unpacked"
        subprocess.run(["dpkg-deb", "-R", first, unpacked], check=True)
        control = (unpacked / "DEBIAN/control").read_text()
        version = re.search(r"^Version: (.*)$", control, re.M)[1]
        made = {"first": first}
        for name, program in (("newer", None), ("bad", BAD), ("refuses", "#!/bin/sh\necho 'refused here' >&2; exit 2\n")):
            (unpacked / "DEBIAN/control").write_text(control.replace(f"Version: {version}", f"Version: {version}+{name}"))
            if program:
                (unpacked / "usr/bin/stockade").write_text(program)
                unit = unpacked / "usr/lib/systemd/system/stockade.service"
                unit.write_text(unit.read_text().rstrip() + "\n# of a version that does not serve\n")
            made[name] = self.folder / f"{name}.deb"
            subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", unpacked, made[name]], check=True,
                           stdout=subprocess.DEVNULL)
        self.version = version
        return made

    def made(self):
        """The package that `./x package` has made, if nothing has changed since."""
        found = next((ROOT / "target/packages").glob("stockade_*_amd64.deb"), None)
        sources = [self.binary, *(path for folder in ("deploy", "packaging") for path in (ROOT / folder).rglob("*"))]
        return found if found and all(path.stat().st_mtime <= found.stat().st_mtime for path in sources) else None

    def make(self):
        programs, out = self.folder / "programs", self.folder / "out"
        programs.mkdir()
        for name in PROGRAMS:
            built = self.binary.parent / name
            if not built.exists():
                raise RuntimeError(f"{built} is missing\n  fix: ./x build")
            subprocess.run(["strip", "--strip-all", built, "-o", programs / name], check=True)
        command = [sys.executable, "-B", ROOT / "packaging/package.py", "--built", programs, "--out", out, "--only", "deb"]
        subprocess.run(command, check=True, capture_output=True)
        return next(out.glob("*.deb"))

    def must(self, command, **options):
        """What a command prints that has to succeed."""
        status, printed = self.run(command, **options)
        if status:
            raise RuntimeError(f"`{command}` ended with {status}: {printed[-1500:]}")
        return printed

    def shown(self, name, unit="stockade.service"):
        return self.must(f"systemctl show --property {name} --value {unit}")

    def under_load(self, command):
        """The exit status of a command, what it printed, and what clients saw meanwhile."""
        # The rest of their requests comes when the command has ended.
        self.must("rm -f seen; python3 steady.py 80 seen >load.txt 2>&1 & echo $! >load; sleep 3")
        done = self.run(command, seconds=400)
        self.must("sleep 2; kill -TERM $(cat load)")
        if not self.machine.wait_for("test -s seen"):
            return (*done, {"lost": -1, "examples": self.run("cat load.txt")[1]})
        return (*done, json.loads(self.must("cat seen")))


def server(quick):
    return Systemd


def lost(seen):
    """What is wrong with what clients saw, or None."""
    if seen["lost"]:
        return f"{seen['lost']} requests were lost: {seen['examples']}"
    return None if seen["answers"] > 10 else f"only {seen['answers']} requests were answered"


def saw(seen):
    return (f"{seen['answers']} answers, none refused or lost; {seen['again']} requests on kept connections crossed their end and were "
            f"sent again; one waited {seen['longest']} s at most")


def checks(system):
    if system.missing:
        return [("a machine with systemd", lambda: (None, f"not here: {', '.join(system.missing)} is missing"))]
    run, must, shown = system.run, system.must, system.shown

    def installed():
        must("apt-get install -qy ./first.deb", seconds=300)
        state = run("systemctl is-enabled stockade.service stockade.socket stockade-backup.timer")[1].split()
        if state != ["disabled"] * 3:
            return f"units are {state} after the installation"
        if run("systemctl is-active stockade.service stockade.socket")[0] == 0:
            return "something runs after the installation"
        must("getent passwd stockade")

    def units():
        wrong = must("systemd-analyze verify --man=no stockade.service stockade.socket stockade-backup.service stockade-backup.timer")
        if wrong:
            return wrong
        exposure = float(re.search(r"exposure level.*?: ([0-9.]+)", must("systemd-analyze security stockade.service | tail -n 1"))[1])
        backup = re.search(r"exposure level.*?: ([0-9.]+)", must("systemd-analyze security stockade-backup.service | tail -n 1"))[1]
        if exposure > EXPOSURE:
            return f"the exposure is {exposure}, more than {EXPOSURE}"
        return None, f"`systemd-analyze security`: {exposure} for the server, {backup} for backups, of 10"

    def started():
        must("mkdir -p /etc/stockade/hello && cp index.ts /etc/stockade/hello/ && cp stockade.yaml /etc/stockade/")
        must("systemctl enable --now stockade.socket stockade.service")
        if shown("StatusText") != "serving" or shown("ActiveState") != "active":
            return must("systemctl status stockade.service")
        answer = must("curl -sf http://127.0.0.1/")
        if answer != "hello":
            return answer
        # The socket alone starts it.
        must("systemctl stop stockade.service")
        if must("curl -sf --max-time 60 http://127.0.0.1/") != "hello":
            return "the socket does not start the server"
        version = re.search(r"\d+", must("systemctl --version"))[0]
        return None, f"systemd {version}, Linux {must('uname -r')}"

    def cgroups():
        must("curl -sf http://127.0.0.1/")
        pattern = "/sys/fs/cgroup/system.slice/stockade.service/*/w*"
        limits = must(f"for one in {pattern}; do echo $(cat $one/memory.max $one/pids.max); done").splitlines()
        bounded = [line for line in limits if re.fullmatch(r"\d+ \d+", line)]
        if not bounded:
            return f"no worker has limits of a cgroup: {limits}"
        if shown("TasksMax") != "infinity":
            return f"TasksMax is {shown('TasksMax')}"
        return None, f"a worker's memory.max and pids.max: {bounded[0]}"

    def doctor():
        """Under the sandbox of the unit itself."""
        unit = "/run/systemd/system/doctor.service"
        must("sed -e '/^\\(ExecStartPre\\|ExecReload\\|WatchdogSec\\|Restart\\|Type\\)/d'"
             " -e 's,^ExecStart=.*,Type=oneshot\\nExecStart=/usr/bin/stockade doctor\\nStandardOutput=truncate:/run/doctor.txt,'"
             f" -e 's/Directory=stockade/Directory=stockade-doctor/' /usr/lib/systemd/system/stockade.service >{unit}; systemctl daemon-reload")
        status, printed = run("systemctl start doctor.service", seconds=300)
        said = must("cat /run/doctor.txt")
        # Three levels, the two with processes of their own also with `wx: strict`, and with cgroups that are required.
        if status or len(re.findall(r"^works +", said, re.M)) != 7:
            return f"{printed}\n{said[-3000:]}"
        # A user of its own for each worker needs root.
        absent = re.findall(r"^absent +(.*?)  ", said, re.M)
        return f"the unit takes layers away: {absent}" if absent != ["user id"] else (None, "every level and every layer works")

    def journal():
        must("curl -sf http://127.0.0.1/warn")
        if not system.machine.wait_for("journalctl -u stockade -p warning -o cat | grep -q 'a warning of the site'", 30):
            return "the warning of a site is not at the priority `warning`: " + must("journalctl -u stockade -o short -n 5")
        lines = must("journalctl -u stockade -p warning -o cat _COMM=stockade").splitlines()
        records = [json.loads(line) for line in lines if line.startswith("{")]
        wrong = [one for one in records if one["level"] not in ("warn", "error")]
        if wrong or not records:
            return f"at the priority `warning`: {wrong or lines}"
        if not must("journalctl -u stockade -p info -o cat").count('"level":"info"'):
            return "no line has the priority `info`"

    def reloaded():
        must("sed -i 's/hello.n/changed\\\\n/' /etc/stockade/hello/index.ts && systemctl reload stockade")
        if not system.machine.wait_for("curl -sf http://127.0.0.1/ | grep -q changed", 30):
            return "the new code does not answer"
        must("cp index.ts /etc/stockade/hello/ && systemctl reload stockade")
        must("echo 'instances: 3' >/etc/stockade/stockade.yaml")
        refused, printed = run("systemctl reload stockade")
        answer = must("curl -sf http://127.0.0.1/")
        must("cp stockade.yaml /etc/stockade/ && systemctl reload stockade")
        return None if refused and answer else f"a refused configuration: {refused} {printed} {answer}"

    def hangs():
        must("mkdir -p /run/systemd/system/stockade.service.d && printf '[Service]\\nWatchdogSec=10\\n' >/run/systemd/system/stockade.service.d/test.conf"
             " && systemctl daemon-reload && systemctl restart stockade")
        must("kill -STOP $(systemctl show --property MainPID --value stockade)")
        # A client that comes while it hangs is answered by the next server.
        status, printed = run("curl -s --max-time 100 http://127.0.0.1/")
        if status or printed != "hello" or shown("NRestarts") != "1":
            return f"{status} {printed}, {shown('NRestarts')} restarts"
        log = must("journalctl -u stockade -o cat")
        must("rm -r /run/systemd/system/stockade.service.d && systemctl daemon-reload && systemctl restart stockade")
        return None if "Watchdog timeout" in log else "the watchdog did not end it"

    def crashes():
        must("systemctl restart stockade")
        for number in range(7):
            must("systemctl kill --kill-who=main --signal=KILL stockade")
            again = f"systemctl is-active -q stockade && test $(systemctl show --property NRestarts --value stockade) = {number + 1}"
            if not system.machine.wait_for(again, 60):
                return must("systemctl status stockade stockade.socket; true")
        if must("systemctl is-active stockade.socket; curl -sf http://127.0.0.1/").split() != ["active", "hello"]:
            return must("systemctl status stockade stockade.socket; true")

    def drains():
        must("rm -f slow; (curl -s --max-time 60 http://127.0.0.1/slow >slow) & sleep 1; systemctl stop stockade.socket stockade.service; wait")
        if must("cat slow") != "slow":
            return f"the request that ran got {must('cat slow')!r}"
        if run("curl -s --max-time 5 http://127.0.0.1/")[0] != 7 or shown("Result") != "success":
            return f"after the stop: {shown('Result')}"
        must("systemctl start stockade.socket stockade.service")

    def by_apt():
        status, printed, seen = system.under_load("apt-get install -qy ./newer.deb")
        if status or must("dpkg-query -W -f '${Version}' stockade") != f"{system.version}+newer":
            return printed[-1500:]
        return lost(seen), saw(seen)

    def by_script():
        status, printed, seen = system.under_load("/usr/share/stockade/upgrade.sh ./first.deb")
        if status or "serves after" not in printed:
            return f"{status}: {printed[-1500:]}"
        must("test -s /var/backups/stockade/upgrade.tar")
        return lost(seen), saw(seen)

    def refused():
        before = must("systemctl show --property MainPID stockade; dpkg-query -W -f '${Version}' stockade")
        status, printed = run("/usr/share/stockade/upgrade.sh ./refuses.deb")
        after = must("systemctl show --property MainPID stockade; dpkg-query -W -f '${Version}' stockade")
        if not status or "nothing has changed" not in printed or before != after:
            return f"{status}: {printed[-600:]}"
        status, printed = run("READY=http://127.0.0.1:1/readyz /usr/share/stockade/upgrade.sh ./newer.deb")
        return None if status and "set READY" in printed else f"{status}: {printed[-600:]}"

    def rolled_back():
        count = int(must("curl -sf http://127.0.0.1/count"))
        status, printed, seen = system.under_load("/usr/share/stockade/upgrade.sh ./bad.deb")
        if status != 1 or "the old version serves again" not in printed:
            return f"{status}: {printed[-1500:]}"
        state = must("dpkg-query -W -f '${Version} ${db:Status-Status}' stockade")
        unit = run("grep 'of a version that does not serve' /usr/lib/systemd/system/stockade.service")[1]
        if state != f"{system.version} installed" or unit:
            return f"afterwards: {state} {unit}"
        if int(must("curl -sf http://127.0.0.1/count")) != count + 1:
            return "the state is not there"
        return lost(seen), saw(seen)

    def backed_up():
        must("printf 'KEEP=2\\n' >/etc/default/stockade-backup; rm -f /var/backups/stockade/*")
        for _ in range(3):
            must("systemctl start stockade-backup.service; sleep 1.1")
        names = must("ls /var/backups/stockade").split()
        if len(names) != 2:
            return f"with KEEP=2 there are {names}"
        if must("stat -c '%U %a' /var/backups/stockade/*").split("\n") != ["stockade 600"] * 2:
            return must("ls -l /var/backups/stockade")
        count = int(must("curl -sf http://127.0.0.1/count"))
        must("systemctl start stockade-backup.service && curl -sf http://127.0.0.1/count")
        # Where none can be written, the old ones stay.
        must("mount -t tmpfs -o size=64k none /var/backups && install -d -o stockade -g stockade /var/backups/stockade")
        status, _ = run("systemctl start stockade-backup.service")
        full = must("journalctl -u stockade-backup -o cat -n 5; ls -A /var/backups/stockade")
        must("umount /var/backups")
        if not status or "room" not in full and "space" not in full:
            return f"a full disk: {status} {full}"
        must("systemctl stop stockade.socket stockade.service")
        must("stockade restore --config /etc/stockade/stockade.yaml --replace $(ls -d /var/backups/stockade/2* | tail -n 1)")
        must("systemctl start stockade.socket stockade.service")
        if int(must("curl -sf http://127.0.0.1/count")) != count + 1:
            return "the state is not that of the backup"
        must("systemctl enable --now stockade-backup.timer")
        return None, "next: " + must("systemctl show --property NextElapseUSecRealtime --value stockade-backup.timer")

    def rotated():
        must("curl -sf http://127.0.0.1/ && logrotate --force /etc/logrotate.d/stockade")
        if not system.machine.wait_for("curl -sf http://127.0.0.1/ && test -s /var/log/stockade/access.log", 30):
            return must("ls -l /var/log/stockade; journalctl -u stockade -o cat -n 5")
        if not must("cat /var/log/stockade/access.log.1"):
            return "the rotated file is empty"

    def apparmor():
        if run("aa-status --enabled")[0] or run("apparmor_parser --version | grep -q 'version 4'")[0]:
            return None, f"not here: the profile needs AppArmor 4, and {machine.SUITE} has an older one"
        must("systemctl restart stockade")
        label = must("cat /proc/$(systemctl show --property MainPID --value stockade)/attr/current")
        if not label.startswith("stockade ") or must("curl -sf http://127.0.0.1/") != "hello":
            return f"the server has the label {label}"
        # The profile for containers of an engine, and that of an engine: the same without the three rules.
        shipped = "/usr/share/stockade/apparmor/stockade-container"
        must(f"sed -e 's/stockade-container/engine/' -e '/^  \\(userns\\|mount\\|pivot_root\\),/d' {shipped} >/run/engine")
        must(f"apparmor_parser --replace {shipped} /run/engine")
        must("echo 'export const add = (a: number, b: number): number => a + b;' >/tmp/math.ts")
        call = "cd /tmp && runuser -u stockade -- aa-exec -p {} -- stockade call --isolation container math.ts add 2 3"
        status, printed = run(call.format("stockade-container"))
        if status or printed != "5":
            return f"with stockade-container: {status} {printed[-1500:]}"
        status, printed = run(call.format("engine"))
        return None if status else "without its rules, level container works too, so this shows nothing"

    def removed():
        must("apt-get remove -qy stockade", seconds=300)
        left = run("systemctl is-active stockade.service stockade.socket stockade-backup.timer; pgrep stockade; ls /usr/bin/stockade*")[1]
        if re.search(r"^active|\d|^/usr", left, re.M):
            return f"after the removal: {left}"
        must("apt-get purge -qy stockade")
        found = must("find / -xdev -name '*stockade*' -not -path '/proc/*' -not -path '/root/*' -not -path '/sys/*' | sort").split()
        wanted = ["/etc/default/stockade-backup", "/etc/stockade", "/etc/stockade/stockade.yaml", "/var/backups/stockade",
                  "/var/lib/stockade", "/var/log/stockade"]
        odd = [path for path in found if path not in wanted and not path.startswith(("/var/lib/systemd/", "/var/lib/stockade-doctor", "/var/log/stockade-doctor", "/etc/stockade-doctor"))]
        return f"left behind: {odd}" if odd else None

    return [
        ("the package is installed, and nothing starts by itself", installed),
        ("the units are right", units),
        ("the server starts, by itself and by its socket", started),
        ("workers have cgroups with limits", cgroups),
        ("the doctor in the sandbox of the unit", doctor),
        ("the journal knows the level of each line", journal),
        ("a reload changes sites, and a refused one changes nothing", reloaded),
        ("a server that hangs is started again, and a client that waits is answered", hangs),
        ("a server that ends seven times in a row is started again", crashes),
        ("a stop lets a running request end", drains),
        ("apt installs a newer version under load", by_apt),
        ("upgrade.sh installs a version under load", by_script),
        ("upgrade.sh changes nothing if the new program refuses the configuration", refused),
        ("upgrade.sh goes back from a server that does not start, under load", rolled_back),
        ("backups by the timer's service, their retention, a full disk, and a restore", backed_up),
        ("logs are rotated", rotated),
        ("AppArmor: the profiles for the program and for containers", apparmor),
        ("the package is removed and purged", removed),
    ]
