"""What sandboxes of both kinds share: the supervisor's sandboxes for combinations of options, and calls of tools."""

from __future__ import annotations

import asyncio
import errno
import inspect
import itertools
import json
import logging
import os
import threading
import weakref
from collections import OrderedDict
from concurrent.futures import Future
from contextvars import Context
from typing import Any, Awaitable, Callable, Dict, Mapping, Optional

from . import _options as options
from . import _supervisor
from ._connection import Connection, Fail
from .errors import StockadeError
from .tools import Prepared, WrongInput

_log = logging.getLogger("stockade")

#: How many combinations of options of runs a sandbox keeps open, with isolates ready.
MOST_VARIANTS = 4
_names = itertools.count(1)
_runners: weakref.WeakSet[Runner] = weakref.WeakSet()


class Variant:
    """A sandbox of the supervisor, for one combination of options."""

    def __init__(self, connection: Connection, params: Mapping[str, Any]) -> None:
        self.connection = connection
        self.opened = connection.request("open", params)
        self.runs = 0

    def close(self) -> None:
        """Closes it as soon as it is open."""
        self.opened.add_done_callback(self._close)

    def _close(self, opened: Future[Any]) -> None:
        if opened.exception() is None:
            self.connection.notify("close", {"sandbox": opened.result()["sandbox"]})


class Runner:
    """Opens sandboxes of the supervisor, and begins runs in them. For all threads."""

    def __init__(self, given: options.SessionOptions, session: bool) -> None:
        self.tools = options.prepare(given.get("tools"))
        self.session = session
        self._params = options.open_params(given)
        if files := given.get("files"):
            self._params["files"] = options.files(files)
        if session:
            self._params["session"] = True
        self._where = (given.get("program"), given.get("connect"))
        self._lock = threading.RLock()
        self._supervisor: Optional[_supervisor.Supervisor] = None
        self._variants: OrderedDict[str, Variant] = OrderedDict()
        self._closed = False
        _runners.add(self)

    def after_fork(self) -> None:
        """In a forked process, where another thread of the parent may have held the lock. The child gets a supervisor of its own."""
        self._lock = threading.RLock()

    def connect(self) -> _supervisor.Supervisor:
        """The supervisor; after one has ended, a new one. May take as long as a program takes to start."""
        with self._lock:
            if self._closed:
                raise StockadeError("closed", "the sandbox is closed", fix="make a new one")
            current = self._supervisor
            if current is not None and not current.connection.ended:
                return current
            if current is not None and self.session:
                raise StockadeError("session_ended", "the supervisor of this session has ended, and the session's state with it", fix="start a new session")
            self._supervisor = _supervisor.acquire(*self._where)
            self._variants.clear()
            if current is not None:
                _supervisor.release(current)
            return self._supervisor

    @property
    def connected(self) -> bool:
        """Whether `connect` answers at once."""
        return self._supervisor is not None and not self._supervisor.connection.ended

    def tools_of(self, given: options.RunOptions) -> Mapping[str, Prepared]:
        """The tools of a run."""
        own = given.get("tools")
        return {**self.tools, **options.prepare(own)} if own else self.tools

    def variant(self, tools: Mapping[str, Prepared], given: options.RunOptions) -> Variant:
        """The sandbox for the options of a run, which is opened if it is new. `leave` has to follow."""
        params = options.merge(self._params, options.run_params(given))
        if tools:
            params["tools"] = {name: tool.wire for name, tool in tools.items()}
        try:
            key = json.dumps(params, sort_keys=True)
        except (TypeError, ValueError, RecursionError) as error:
            raise StockadeError("invalid_params", f"an option is not JSON: {error}") from None
        with self._lock:
            connection = self.connect().connection
            variant = self._variants.get(key)
            if variant is None:
                variant = self._variants[key] = Variant(connection, params)
            self._variants.move_to_end(key)
            variant.runs += 1
        return variant

    def leave(self, variant: Variant) -> None:
        """Says that a run is over. Sandboxes that were not used for long are closed, and one that could not be opened is forgotten."""
        with self._lock:
            variant.runs -= 1
            failed = variant.opened.done() and variant.opened.exception() is not None
            for key, one in list(self._variants.items()):
                if one.runs == 0 and (len(self._variants) > MOST_VARIANTS or (failed and one is variant)):
                    del self._variants[key]
                    one.close()

    def run_params(self, variant: Variant, code: str, given: options.RunOptions, stream: bool) -> Dict[str, Any]:
        """The params of `run`, in a sandbox that is open."""
        params: Dict[str, Any] = {"sandbox": variant.opened.result()["sandbox"], "code": code, "run": f"p{next(_names)}"}
        if files := given.get("files"):
            params["files"] = options.files(files)
        timeout = given.get("timeout")
        if timeout is not None:
            params["timeout"] = options.time("timeout", timeout)
        if stream:
            params["stream"] = True
        return params

    def close(self) -> None:
        """Closes the sandboxes, which ends what still runs in them."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            supervisor, self._supervisor = self._supervisor, None
            variants = list(self._variants.values())
            self._variants.clear()
        if supervisor is None:
            return
        for variant in variants:
            variant.close()
        _supervisor.release(supervisor)


class Answer:
    """The answer to one call of a tool: the result of the function, or the error that the guest sees."""

    def __init__(self, name: str, answer: Callable[[Any], None], fail: Fail) -> None:
        self._name = name
        self.result = answer
        self._fail = fail

    def error(self, error: BaseException) -> None:
        """The guest sees the name, the message and the code of the error, and nothing else of it."""
        if isinstance(error, WrongInput):
            self._fail("TypeError", f"tools.{self._name}: {error}")
            return
        _log.debug("the tool %s failed", self._name, exc_info=error)
        message, code = "the tool failed", None
        try:
            message, code = str(error), _code(error)
        except Exception as failure:  # of a class whose text or code cannot be read
            _log.debug("the error of the tool %s cannot be read: %r", self._name, failure)
        self._fail(type(error).__name__, message, code)


def _code(error: BaseException) -> Optional[str]:
    """By what programs distinguish errors of one class, in the words of JavaScript: `ENOENT`, or the error's own `code`."""
    if isinstance(error, OSError) and error.errno is not None:
        return errno.errorcode.get(error.errno)
    code = getattr(error, "code", None) if isinstance(error, Exception) else None
    return str(code) if isinstance(code, (str, int)) and not isinstance(code, bool) else None


def call_tool(tool: Prepared, given: bool, value: Any, context: Context, reply: Answer) -> Optional[Awaitable[Any]]:
    """Calls a function of the host in the context of its run, and answers; or returns what is to be awaited for the answer."""
    try:
        result = context.run(tool.bind(given, value))
        if inspect.isawaitable(result):
            return result
        reply.result(result)
    except BaseException as error:  # also StopIteration, which no future can have
        reply.error(error)
    return None


async def await_tool(waits: Awaitable[Any], reply: Answer) -> None:
    """Answers a call of a function that is not done yet."""
    try:
        reply.result(await waits)
    except BaseException as error:
        reply.error(error)


class _LoopThread:
    """An event loop in a thread of its own, for asynchronous tools of sandboxes that are not."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: Optional[asyncio.AbstractEventLoop] = None

    def submit(self, work: Awaitable[None]) -> Future[None]:
        """Runs something on the loop, which is started if needed."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="stockade-loop", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(_as_coroutine(work), self._loop)

    def after_fork(self) -> None:
        """The thread is not there in a forked process."""
        self.__init__()  # type: ignore[misc]


async def _as_coroutine(work: Awaitable[None]) -> None:
    await work


loop_thread = _LoopThread()


def _after_fork() -> None:
    loop_thread.after_fork()
    for runner in list(_runners):
        runner.after_fork()


os.register_at_fork(after_in_child=_after_fork)
