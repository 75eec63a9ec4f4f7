"""A machine of its own with Debian and its systemd, in qemu: its kernel has cgroups and AppArmor, whatever the one around it has.
It has no disk and no network, and all its files are in its memory."""

import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

TOOLS = Path(os.environ.get("STOCKADE_OUTSIDE_TOOLS", Path.home() / ".cache/stockade/outside"))
# What the machine has of Debian. The kernel must have Landlock of Linux 6.7, which that of Debian 12 has not.
SUITE = os.environ.get("STOCKADE_OUTSIDE_SUITE", "bookworm")
KERNEL_OF = "trixie"
PACKAGES = "systemd,systemd-sysv,dbus,curl,ca-certificates,libgcc-s1,procps,iproute2,python3,logrotate,apt,apparmor"
INIT = """\
#!/bin/bash
# The first file system cannot be left by pivot_root, which level `container` and systemd do: a mount of it can.
mkdir -p /newroot && mount --bind / /newroot && cd /newroot && mount --move . / && exec chroot . /usr/lib/systemd/systemd
"""
SHELL = """\
[Unit]
DefaultDependencies=no
After=dbus.service
[Service]
ExecStartPre=/bin/stty -F /dev/ttyS1 raw -echo
ExecStart=/bin/bash --norc
StandardInput=tty-force
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS1
Environment=HOME=/root TERM=dumb SYSTEMD_COLORS=0 SYSTEMD_PAGER=cat PS1= PS2=
WorkingDirectory=/root
Restart=always
"""


def missing():
    """What this needs and is not here."""
    return [tool for tool in ("qemu-system-x86_64", "mmdebstrap", "cpio", "dpkg-deb") if not shutil.which(tool)]


def archive(folder, out):
    """The files of a folder, all of them root's, for the kernel to unpack."""
    with open(out, "wb") as file:
        found = subprocess.run(["find", ".", "-print0"], cwd=folder, capture_output=True, check=True).stdout
        subprocess.run(["cpio", "--null", "--create", "--format=newc", "--owner=0:0", "--quiet"], cwd=folder, input=found,
                       stdout=file, check=True)


def put(root, files):
    """Writes {path: text or the path of a file}."""
    for path, content in files.items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copy(content, place)
        else:
            place.write_text(content)
            place.chmod(0o755 if content.startswith("#!") else 0o644)


def debian():
    """The kernel and the files of Debian, from the cache or made."""
    kernel, files = TOOLS / f"machine/{KERNEL_OF}.vmlinuz", TOOLS / f"machine/{SUITE}.cpio"
    files.parent.mkdir(parents=True, exist_ok=True)
    mode = f"--mode={'root' if os.geteuid() == 0 else 'unshare'}"
    work = files.parent / f"{os.getpid()}"
    work.mkdir()
    try:
        if not kernel.exists():
            subprocess.run(["mmdebstrap", "--quiet", mode, "--variant=extract", "--include=linux-image-cloud-amd64", KERNEL_OF,
                            work / "kernel.tar"], check=True)
            subprocess.run(["tar", "-xf", work / "kernel.tar", "-C", work, "--wildcards", "./boot/vmlinuz-*"], check=True)
            next(work.glob("boot/vmlinuz-*")).rename(kernel)
        if not files.exists():
            subprocess.run(["mmdebstrap", "--quiet", mode, "--variant=minbase", f"--include={PACKAGES}",
                            "--aptopt=Acquire::Languages none", SUITE, work / "root.tar"], check=True)
            root = work / "root"
            root.mkdir()
            subprocess.run(["tar", "-xf", work / "root.tar", "-C", root, "--exclude=./dev/*", "--exclude=./usr/share/doc/*",
                            "--exclude=./usr/share/man/*", "--exclude=./usr/share/locale/*", "--exclude=./var/lib/apt/lists/*",
                            "--exclude=./var/cache/*"], check=True)
            wants = root / "etc/systemd/system/multi-user.target.wants"
            wants.mkdir(parents=True, exist_ok=True)
            (wants / "shell.service").symlink_to("../shell.service")
            (root / "etc/systemd/system/serial-getty@ttyS0.service").symlink_to("/dev/null")
            (root / "etc/hostname").write_text("machine\n")
            archive(root, work / "done.cpio")
            (work / "done.cpio").rename(files)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return kernel, files


class Machine:
    """Runs until it is stopped."""

    def __init__(self, folder, files, memory=4096):
        kernel, base = debian()
        self.folder, self.number = folder, 0
        put(folder / "more", {"init": INIT, "etc/systemd/system/shell.service": SHELL, **files})
        archive(folder / "more", folder / "more.cpio")
        # The kernel unpacks one behind the other.
        with open(folder / "all.cpio", "wb") as out:
            for part in (base, folder / "more.cpio"):
                with open(part, "rb") as file:
                    shutil.copyfileobj(file, out)
        self.console = folder / "console.txt"
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", str(memory), "-display", "none",
             "-no-reboot", "-nodefaults", "-serial", f"file:{self.console}",
             "-serial", f"unix:{folder}/shell,server=on,wait=off", "-kernel", kernel, "-initrd", folder / "all.cpio",
             "-append", "console=ttyS0 panic=-1 quiet"],
            stdin=subprocess.DEVNULL, stdout=open(folder / "qemu.txt", "wb"), stderr=subprocess.STDOUT)
        self.shell, until = None, time.monotonic() + 180
        while self.process.poll() is None and not (folder / "shell").exists():
            time.sleep(0.1)
        self.shell = socket.socket(socket.AF_UNIX)
        self.shell.connect(str(folder / "shell"))
        # What is typed before the shell is there is lost.
        while self.run("ip link set lo up && systemctl is-system-running --wait", 10)[1] not in ("running", "degraded"):
            if time.monotonic() > until or self.process.poll() is not None:
                self.stop()
                raise RuntimeError(f"the machine did not start:\n{(folder / 'qemu.txt').read_text()}")

    def run(self, command, seconds=180):
        """The exit status of a command, and what it printed."""
        self.number += 1
        mark = f"--- {self.number} of {os.getpid()}:"
        # The line that asks for the mark has it in two parts, in case the terminal echoes.
        asked = f"{{ {command}\n}} </dev/null 2>&1\nprintf '\\n%s%s %d\\n' '--- ' '{mark[4:]}' $?\n"
        self.shell.sendall(asked.encode())
        self.shell.settimeout(seconds)
        printed = b""
        while not (found := re.search(rb"\n" + re.escape(mark.encode()) + rb" (\d+)\r?\n", printed)):
            try:
                piece = self.shell.recv(1 << 16)
            except TimeoutError:
                return 255, f"it took more than {seconds} s: {printed.decode(errors='replace')}"
            if not piece:
                return 255, "the machine has ended: " + self.console.read_text(errors="replace")[-2000:]
            printed += piece
        return int(found[1]), printed[:found.start()].decode(errors="replace").strip()

    def wait_for(self, command, seconds=120):
        """Whether a command succeeds at last."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.run(command)[0] == 0:
                return True
            time.sleep(0.5)
        return False

    def stop(self):
        if self.shell:
            self.shell.close()
        self.process.terminate()
        self.process.wait()
