"""The supervisors of this process: found, started or connected to, shared by all sandboxes, and ended with the process."""

from __future__ import annotations

import atexit
import concurrent.futures
import io
import logging
import os
import shutil
import socket
import struct
import subprocess
import sys
import sysconfig
import threading
from collections import deque
from pathlib import Path
from typing import Any, Deque, Dict, Mapping, Optional, Tuple

from ._connection import Connection
from .errors import StockadeError

_log = logging.getLogger("stockade")

PROTOCOL = 1
# Seconds for which a supervisor goes on that no sandbox uses, so that the next sandbox need not start one.
# The client for Node has the same.
IDLE_SECONDS = 5.0
# Seconds for a supervisor to answer for the first time, and to end when its input ends.
START_SECONDS = 30.0
END_SECONDS = 5.0
# Bytes of a line of standard error.
MAX_SAID = 1 << 16


def find_program() -> str:
    """The path of the program `stockade`: that of the installed package, or else the first in `PATH`."""
    folders = [sysconfig.get_path("scripts"), sysconfig.get_path("scripts", f"{os.name}_user")]
    folders.append(str(Path(__file__).resolve().parent.parent / "bin"))  # of `pip install --target`
    for folder in folders:
        program = os.path.join(folder, "stockade")
        if os.path.isfile(program) and os.access(program, os.X_OK):
            return program
    if in_path := shutil.which("stockade"):
        return in_path
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        raise StockadeError(
            "no_program",
            f"there is no program stockade for {sys.platform}; packages have it for Linux on x86_64",
            fix="build it from source and put it into PATH, or connect to a supervisor: Sandbox(connect=PATH)",
        )
    raise StockadeError(
        "no_program",
        f"there is no program stockade in {', '.join(folders)}, and none in PATH",
        fix="pip install --force-reinstall stockade, or name the program: Sandbox(program=PATH)",
    )


class _Pipes:
    """Standard input and output of a supervisor."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert isinstance(process.stdin, io.FileIO) and isinstance(process.stdout, io.FileIO)
        self._process, self._input, self._output = process, process.stdin, process.stdout
        self._lines = io.BufferedReader(self._output, 1 << 16)

    def read_line(self, limit: int) -> bytes:
        return self._lines.readline(limit)

    def end_reading(self) -> None:
        self._lines.close()

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._input.write(rest) or 0 :]

    def close(self) -> None:
        self._input.close()

    def destroy(self) -> None:
        self._process.kill()

    def abandon(self) -> None:
        """In a fork: closes the descriptors, without locks that another thread may have held."""
        self._input.close()
        self._output.close()


class _Socket:
    """A Unix socket on which a supervisor listens."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            reason = error.strerror or str(error)
            raise StockadeError("no_supervisor", f"no supervisor answers at {path}: {reason}", fix=f"start one: stockade supervise --socket {path}") from None
        try:
            _check_owner(self._socket, path)
        except BaseException:
            self._socket.close()
            raise
        self._lines = self._socket.makefile("rb", buffering=1 << 16)

    def read_line(self, limit: int) -> bytes:
        return self._lines.readline(limit)

    def end_reading(self) -> None:
        self._lines.close()

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def close(self) -> None:
        self.destroy()
        self._socket.close()

    def destroy(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def abandon(self) -> None:
        """In a fork: closes the descriptor. The parent's connection goes on."""
        os.close(self._socket.detach())


def _check_owner(connected: socket.socket, path: str) -> None:
    """Refuses what another user of the machine listens with, who would get the code, the files and the tools."""
    if hasattr(socket, "SO_PEERCRED"):
        _, owner, _ = struct.unpack("3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    else:
        owner = os.stat(path).st_uid
    me = os.geteuid()
    if owner in (0, me):
        return
    # Root may use a supervisor of another user, which listens in that user's own folder.
    if me == 0 and _is_own(path, owner):
        return
    raise StockadeError(
        "foreign_socket",
        f"the socket {path} is not used: a process of the user {owner} listens there, and this process runs as {me}",
        fix="let a supervisor of your own user listen in a folder that only this user can write to",
    )


def _is_own(path: str, owner: int) -> bool:
    """Whether a socket is in a folder of this user, and others cannot write to that or to any above it: below `/tmp`, anybody may
    have made a folder of this name first, or a link."""
    real = os.path.realpath(path)
    folder = os.path.dirname(real)
    try:
        if real != os.path.abspath(path) or os.stat(folder).st_uid != owner:
            return False
        while not os.stat(folder).st_mode & 0o022:
            if folder == os.path.dirname(folder):
                return True
            folder = os.path.dirname(folder)
    except OSError:
        pass
    return False


class Supervisor:
    """A supervisor and the connection to it. Invariant: a process that this one started ends with it, because the other
    end of its standard input is nowhere else."""

    def __init__(self, program: Optional[str], connect: Optional[str]) -> None:
        self.users = 0
        # Ends it when nothing has used it for a while.
        self.timer: Optional[threading.Timer] = None
        self._forked = False
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._said: Deque[str] = deque(maxlen=10)
        self._stream: Any
        if connect is not None:
            self._name = f"the supervisor at {connect}"
            self._stream = _Socket(connect)
        else:
            path = program or find_program()
            self._name = f"the supervisor ({path} supervise)"
            self._process = self._start(path)
            self._stream = _Pipes(self._process)
        self.connection = Connection(self._stream, self._why_ended)
        try:
            self.info: Mapping[str, Any] = self.connection.request("initialize", {"client": "python"}).result(START_SECONDS)
            if self.info.get("protocol") != PROTOCOL:
                problem = f"{self._name} speaks version {self.info.get('protocol')} of the protocol, and this package version {PROTOCOL}"
                raise StockadeError("protocol", problem, fix="install the same version of both")
        except BaseException as error:
            self.close()
            if isinstance(error, (TimeoutError, concurrent.futures.TimeoutError)):
                raise StockadeError("no_supervisor", f"{self._name} does not answer within {START_SECONDS:.0f} s") from None
            raise

    def _start(self, path: str) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        try:
            # In a session of its own: Ctrl-C in a terminal reaches this process only, which cancels its runs itself.
            process = subprocess.Popen([path, "supervise"], stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, start_new_session=True)
        except OSError as error:
            raise StockadeError("no_program", f"{path} cannot be started: {error.strerror or error}", fix="name another: Sandbox(program=PATH)") from None
        self._listener = threading.Thread(target=self._listen, args=(process,), name="stockade-log", daemon=True)
        self._listener.start()
        return process

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        """Keeps the last lines of the supervisor for errors, and hands all of them to the logger `stockade`."""
        assert isinstance(process.stderr, io.FileIO)
        with io.BufferedReader(process.stderr) as lines:
            while line := lines.readline(MAX_SAID):
                text = line[:1000].decode("utf-8", "replace").rstrip()
                self._said.append(text)
                _log.info("%s", text)

    def _why_ended(self) -> StockadeError:
        if self._process is None:
            return StockadeError("supervisor_ended", f"{self._name} has closed the connection", fix="make a new sandbox")
        try:
            status = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            return StockadeError("supervisor_ended", f"{self._name} has closed the connection", fix="make a new sandbox")
        self._listener.join(END_SECONDS)
        said = "".join(f"\n  {line}" for line in self._said)
        return StockadeError("supervisor_ended", f"{self._name} has ended with the exit status {status}{said}", fix="make a new sandbox")

    def close(self) -> None:
        """Closes the connection, and waits until a supervisor of this process's own has ended."""
        if self._forked:
            return
        self.connection.close(StockadeError("closed", "the sandbox is closed", fix="make a new one"))
        if self._process is None:
            if not self.connection.wait_written(END_SECONDS):
                self._stream.destroy()
            return
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def abandon(self) -> None:
        """In a fork."""
        self._forked = True
        self.connection.abandon()
        self._stream.abandon()


# Taken again by a sandbox that the garbage collector ends while the thread has it.
_lock = threading.RLock()
_shared: Dict[Tuple[Optional[str], Optional[str]], Supervisor] = {}


def acquire(program: Optional[str], connect: Optional[str]) -> Supervisor:
    """The supervisor for a new sandbox: one that this process has already, or a new one. `release` gives it back."""
    if program is not None and connect is not None:
        raise TypeError("a sandbox either starts a program or connects to a supervisor: program and connect exclude each other")
    key = (program, connect)
    with _lock:
        supervisor = _shared.get(key)
        if supervisor is None or supervisor.connection.ended:
            supervisor = _shared[key] = Supervisor(program, connect)
        supervisor.users += 1
        if supervisor.timer:
            supervisor.timer.cancel()
            supervisor.timer = None
        return supervisor


def release(supervisor: Supervisor) -> None:
    """Gives a supervisor back. It ends if no sandbox has used it for a while, or now if it was replaced."""
    with _lock:
        supervisor.users -= 1
        if supervisor.users > 0:
            return
        replaced = supervisor not in _shared.values()
        if not replaced:
            supervisor.timer = threading.Timer(IDLE_SECONDS, _end_unused, (supervisor,))
            supervisor.timer.daemon = True
            try:
                supervisor.timer.start()
            except RuntimeError:  # the process is ending
                pass
    if replaced:
        supervisor.close()


def _end_unused(supervisor: Supervisor) -> None:
    with _lock:
        if supervisor.users > 0 or supervisor not in _shared.values():
            return
        for key in [key for key, one in _shared.items() if one is supervisor]:
            del _shared[key]
    supervisor.close()


@atexit.register
def _end_all() -> None:
    with _lock:
        every = list(_shared.values())
        _shared.clear()
    for supervisor in every:
        supervisor.close()


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()
    for supervisor in _shared.values():
        supervisor.abandon()
    _shared.clear()


os.register_at_fork(after_in_child=_after_fork)
