"""One connection to a supervisor: JSON-RPC 2.0 in both directions, one object a line, for all threads of the process."""

from __future__ import annotations

import json
import re
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Callable, Dict, Mapping, Optional, Protocol, Tuple, Union

from .errors import StockadeError

# Bounds of the supervisor, of which a breach would end the connection and not only the request.
MAX_LINE = 16 << 20
# Bytes of a line of the supervisor, whose largest contains a console of 16 MiB with escapes.
MAX_RECEIVED = 64 << 20
MAX_DEPTH = 120
# Digits of an integer that Python reads. Larger ones, which no number of JavaScript needs, are read as floats.
MAX_DIGITS = 4000
# Older Python takes minutes for an integer of millions of digits.
READS_LONG_INTEGERS_AS_ERRORS = hasattr(sys, "get_int_max_str_digits")
MAX_TOOL_THREADS = 32
# Bytes of the input of calls of one run that wait for a result, beyond the first: a guest may call a slow tool often.
MAX_OPEN = 8 << 20


class Fail(Protocol):
    """Answers a call with an error: its name, its message and perhaps its code."""

    def __call__(self, kind: str, message: str, code: Optional[str] = None) -> None: ...


class RunSink(Protocol):
    """What a run does with messages about it. Called by the reading thread, so nothing here may wait."""

    def console(self, level: str, text: str) -> None: ...

    def tool(self, name: str, given: bool, value: Any, answer: Callable[[Any], None], fail: Fail) -> None: ...


class Stream(Protocol):
    """A pair of pipes, or a socket."""

    def read_line(self, limit: int) -> bytes: ...

    def write(self, data: bytes) -> None: ...

    def end_reading(self) -> None:
        """Closes the way from the other end. Called by the thread that reads."""

    def close(self) -> None:
        """Says that nothing more is written."""

    def destroy(self) -> None:
        """Ends what is at the other end, which may never end by itself, or the way to it."""


class Connection:
    """Sends requests and dispatches what comes back. A fault of the stream fails everything that waits."""

    def __init__(self, stream: Stream, why_ended: Callable[[], StockadeError]) -> None:
        self._stream = stream
        self._why_ended = why_ended
        self._lock = threading.Lock()
        self._pending: Dict[int, Future[Any]] = {}
        self._runs: Dict[str, RunSink] = {}
        self._open: Dict[str, int] = {}
        self._next = 0
        self._outgoing: SimpleQueue[Optional[bytes]] = SimpleQueue()
        self._error: Optional[StockadeError] = None
        self.tool_threads = ThreadPoolExecutor(MAX_TOOL_THREADS, thread_name_prefix="stockade-tool")
        self._writer = threading.Thread(target=self._write, name="stockade-write", daemon=True)
        self._writer.start()
        threading.Thread(target=self._read, name="stockade-read", daemon=True).start()

    @property
    def ended(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._error is not None

    def request(self, method: str, params: Mapping[str, Any], run: Optional[Tuple[str, RunSink]] = None) -> Future[Any]:
        """Sends a request. `run` names a run and what receives its tool calls and console until the answer."""
        future: Future[Any] = Future()
        with self._lock:
            self._next += 1
            number = self._next
        data = encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        with self._lock:
            if self._error is not None:
                raise self._error.again()
            self._pending[number] = future
            if run:
                self._runs[run[0]] = run[1]
        if run:
            name = run[0]
            future.add_done_callback(lambda _: self._over(name))
        self._outgoing.put(data)
        return future

    def notify(self, method: str, params: Mapping[str, Any]) -> None:
        """Sends a request whose answer nobody needs."""
        if not self.ended:
            self._outgoing.put(encode({"jsonrpc": "2.0", "method": method, "params": params}))

    def close(self, error: StockadeError) -> None:
        """Ends the connection; what still waits fails with the error."""
        self._fail(error)
        self._outgoing.put(None)
        self.tool_threads.shutdown(wait=False, cancel_futures=True)

    def wait_written(self, seconds: float) -> bool:
        """After `close`: whether all that was to be sent was taken by the other end."""
        self._writer.join(seconds)
        return not self._writer.is_alive()

    def abandon(self) -> None:
        """In a forked process, which has none of the threads: fails what is asked from now on."""
        self._lock = threading.Lock()
        self._error = StockadeError("forked", "the run belongs to the parent of this process")

    def _write(self) -> None:
        while True:
            data = self._outgoing.get()
            if data is None:
                self._stream.close()
                return
            try:
                self._stream.write(data)
            except (OSError, ValueError):
                self._fail(None)
                self._stream.close()
                return

    def _read(self) -> None:
        problem = None
        try:
            while line := self._stream.read_line(MAX_RECEIVED + 1):
                if len(line) > MAX_RECEIVED:
                    raise StockadeError("protocol", "the supervisor sent a line of more than 64 MiB", limit=MAX_RECEIVED)
                self._receive(line)
        except (OSError, ValueError):
            pass
        except StockadeError as error:
            problem = error
        except Exception as error:  # a message in another form: nothing that follows can be trusted
            problem = StockadeError("protocol", f"the supervisor sent a message that this package does not know ({error!r})")
        self._fail(problem)
        self._outgoing.put(None)
        if problem:
            self._stream.destroy()
        self._stream.end_reading()

    def _receive(self, line: bytes) -> None:
        try:
            message = decode(line)
        except (ValueError, RecursionError):
            self._refuse(line)
            return
        method = message.get("method")
        if method == "tool":
            self._tool(message["id"], message["params"], len(line))
        elif method == "console":
            params = message["params"]
            if run := self._runs.get(params["run"]):
                run.console(params["level"], params["text"])
        elif method is None:
            self._answered(message)

    def _answered(self, message: Mapping[str, Any]) -> None:
        error = message.get("error")
        problem = None
        if error is not None:
            data = error.get("data") or {}
            problem = StockadeError(data.get("kind", "unknown"), error.get("message", ""), limit=data.get("limit"), fix=data.get("fix"))
        if message.get("id") is None:
            # About a line that could not be read: which request it was is not known.
            raise problem or StockadeError("protocol", "the supervisor sent an answer without an id")
        with self._lock:
            future = self._pending.pop(message["id"], None)
        if future is None or not future.set_running_or_notify_cancel():
            return
        if problem:
            future.set_exception(problem)
        else:
            future.set_result(message.get("result"))

    def _tool(self, number: Any, params: Mapping[str, Any], size: int) -> None:
        """A call of the guest. `size` is that of its message in bytes. It is answered once, from any thread."""
        name = params["run"]

        def answer(result: Any) -> None:
            try:
                data = encode({"jsonrpc": "2.0", "id": number, "result": result})
            except StockadeError as error:
                fail("TypeError", f"the result of the tool is not JSON: {error}")
                return
            self._opened(name, -size)
            self._outgoing.put(data)

        def fail(kind: str, message: str, code: Optional[str] = None) -> None:
            self._opened(name, -size)
            data = {"name": kind[:64]} if code is None else {"name": kind[:64], "code": code[:64].encode("utf-8", "replace").decode()}
            error = {"code": -32000, "message": message[:4096].encode("utf-8", "replace").decode(), "data": data}
            self._outgoing.put(encode({"jsonrpc": "2.0", "id": number, "error": error}))

        run, before = self._runs.get(name), self._opened(name, size)
        if run is None:
            fail("Error", "the run is over")
        elif before and before + size > MAX_OPEN:
            fail("Error", f"the calls that wait for a result have more than {MAX_OPEN >> 20} MiB of input together")
        else:
            run.tool(params["name"], "input" in params, params.get("input"), answer, fail)

    def _opened(self, run: str, size: int) -> int:
        """Counts the bytes of calls of a run that wait for a result. Returns what they were before."""
        with self._lock:
            before = self._open.get(run, 0)
            if run in self._runs:
                self._open[run] = before + size
        return before

    def _over(self, run: str) -> None:
        with self._lock:
            self._runs.pop(run, None)
            self._open.pop(run, None)

    def _refuse(self, line: bytes) -> None:
        """For a line that Python cannot read, such as a result of a thousand nested lists: fails only what it belongs to."""
        found = re.match(rb'\{"jsonrpc":"2\.0","id":(\d+|"[^"\\]*"),"(method|result)"', line)
        problem = "more nesting, or larger numbers, than Python reads"
        if not found:
            raise StockadeError("protocol", f"the supervisor sent a line that cannot be read, with {problem}")
        number = json.loads(found[1])
        if found[2] == b"method":
            error = {"code": -32000, "message": f"the input has {problem}"}
            self._outgoing.put(encode({"jsonrpc": "2.0", "id": number, "error": error}))
            return
        with self._lock:
            future = self._pending.pop(number, None)
        if future is not None and future.set_running_or_notify_cancel():
            future.set_exception(StockadeError("not_json", f"the result has {problem}"))

    def _fail(self, error: Optional[StockadeError]) -> None:
        # Waits for the end of a program: not with the lock.
        error = self._error or error or self._why_ended()
        with self._lock:
            error = self._error = self._error or error
            failed, self._pending = self._pending, {}
        for future in failed.values():
            if future.set_running_or_notify_cancel():
                future.set_exception(error.again())


def encode(message: Any) -> bytes:
    """A message as a line. Raises `StockadeError` for what is not JSON or would break the connection."""
    try:
        data = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise StockadeError("invalid_params", str(error) or type(error).__name__) from None
    if len(data) > MAX_LINE:
        raise StockadeError("too_large", f"{len(data)} bytes are more than a message may have", limit=MAX_LINE)
    if _too_deep(message):
        raise StockadeError("invalid_params", f"it has more than {MAX_DEPTH} nested lists and objects", limit=MAX_DEPTH)
    return data


def _too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [item for one in level for item in (one.values() if isinstance(one, dict) else one) if isinstance(item, (dict, list, tuple))]
        if not level:
            return False
    return True


def _integer(text: str) -> Union[int, float]:
    return int(text) if len(text) < MAX_DIGITS else float(text)


def decode(line: bytes) -> Dict[str, Any]:
    """A line as a message."""
    try:
        message = json.loads(line) if READS_LONG_INTEGERS_AS_ERRORS else json.loads(line, parse_int=_integer)
    except ValueError:
        message = json.loads(line, parse_int=_integer)
    if not isinstance(message, dict):
        raise StockadeError("protocol", "the supervisor sent a line that is not a message")
    return message
