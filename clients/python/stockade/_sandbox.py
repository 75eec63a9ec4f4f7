"""Sandboxes and sessions for code with threads."""

from __future__ import annotations

import contextvars
import time
import weakref
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Set, Type, TypeVar

from . import _options as options
from ._options import Files, Json, Size, Time, Tools
from ._runner import Answer, Runner, Variant, call_tool, loop_thread
from .outcome import ConsoleLine, Outcome
from .tools import Prepared

OnConsole = Callable[[ConsoleLine], object]
_Self = TypeVar("_Self", bound="_Base")


class Run:
    """A run that has begun. Its methods may be called from any thread."""

    def __init__(self, sandbox: _Base, variant: Variant, tools: Mapping[str, Prepared], on_console: Optional[OnConsole]) -> None:
        # A sandbox that nothing refers to is closed, which ends its runs.
        self._sandbox = sandbox
        self._variant, self._tools, self._on_console = variant, tools, on_console
        self._connection = variant.connection
        self._context = contextvars.copy_context()
        # Lines of the console, and None at the end.
        self._events: SimpleQueue[Optional[ConsoleLine]] = SimpleQueue()
        self._future: Optional[Future[Any]] = None
        self._calls: Set[Future[None]] = set()
        self._name = ""

    def _begin(self, params: Dict[str, Any]) -> None:
        self._name = params["run"]
        self._future = self._connection.request("run", params, (self._name, self))
        self._future.add_done_callback(self._ended)

    def _ended(self, _: Future[Any]) -> None:
        self._sandbox._runner.leave(self._variant)
        for call in list(self._calls):
            call.cancel()
        self._events.put(None)

    @property
    def done(self) -> bool:
        """Whether the run is over."""
        return self._future is not None and self._future.done()

    def cancel(self) -> None:
        """Ends the run. Its outcome has an error of the kind `cancelled`."""
        if not self.done:
            self._connection.notify("cancel", {"run": self._name})

    def wait(self, timeout: Optional[float] = None, *, check: bool = True) -> Outcome:
        """Waits for the outcome, and calls `on_console` meanwhile, in this thread.

        `timeout` is in seconds; when it is over, `TimeoutError` is raised and the run goes on. A failed run raises its
        `GuestError`, unless `check` is false.
        """
        assert self._future is not None
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                line = self._events.get(timeout=None if end is None else max(0.0, end - time.monotonic()))
            except Empty:
                raise TimeoutError(f"the run has not ended within {timeout} s, and goes on") from None
            if line is None:
                break
            if self._on_console:
                self._on_console(line)
        self._events.put(None)  # for another call
        outcome = Outcome.from_wire(self._future.result())
        if check and outcome.error is not None:
            raise outcome.error
        return outcome

    # What the connection's reading thread calls.

    def console(self, level: str, text: str) -> None:
        self._events.put(ConsoleLine(level, text))

    def tool(self, name: str, given: bool, value: Any, answer: Callable[[Any], None], fail: Callable[[str, str], None]) -> None:
        reply, tool = Answer(name, answer, fail), self._tools.get(name)
        if tool is None:
            fail("Error", f"there is no tool {name}")
            return
        # each call has a copy, because a context can be entered once at a time
        context = self._context.run(contextvars.copy_context)
        try:
            if tool.is_async:
                call = loop_thread.submit(self._call_async(tool, given, value, context, reply))
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)
            else:
                self._connection.tool_threads.submit(self._call, tool, given, value, context, reply)
        except RuntimeError:  # the process is ending
            fail("Error", "the host is ending")

    @staticmethod
    def _call(tool: Prepared, given: bool, value: Any, context: contextvars.Context, reply: Answer) -> None:
        try:
            reply.result(call_tool(tool, given, value, context))
        except BaseException as error:
            reply.error(error)

    @staticmethod
    async def _call_async(tool: Prepared, given: bool, value: Any, context: contextvars.Context, reply: Answer) -> None:
        try:
            reply.result(await call_tool(tool, given, value, context))
        except BaseException as error:
            reply.error(error)


class _Base:
    """What `Sandbox` and `Session` share."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._finalizer = weakref.finalize(self, runner.close)
        self._finalizer.atexit = False  # then the supervisors end, and their sandboxes with them
        # Opened now: wrong options are an error here, and an isolate is ready for the first run.
        try:
            variant = runner.variant(runner.tools, {})
            try:
                variant.opened.result()
            finally:
                runner.leave(variant)
        except BaseException:
            self.close()
            raise

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self.close()

    def close(self) -> None:
        """Closes it, which ends what still runs."""
        self._finalizer()

    def info(self) -> Mapping[str, Any]:
        """What the supervisor is: its `version`, `v8` and `levels`."""
        return self._runner.connect().info

    def stats(self) -> Mapping[str, int]:
        """The numbers of sandboxes, runs and unanswered tool calls of this process, and of isolates and clients of the supervisor."""
        numbers: Mapping[str, int] = self._runner.connect().connection.request("stats", {}).result()
        return numbers

    def _start(self, code: str, tools: Optional[Tools], files: Optional[Files], timeout: Optional[Time], on_console: Optional[OnConsole], added: Mapping[str, Any]) -> Run:
        runner = self._runner
        every = {**runner.tools, **options.prepare(tools)} if tools else runner.tools
        variant = runner.variant(every, added)
        try:
            sandbox = variant.opened.result()["sandbox"]
            run = Run(self, variant, every, on_console)
            run._begin(runner.run_params(sandbox, code, files, timeout, on_console is not None))
        except BaseException:
            runner.leave(variant)
            raise
        return run


def _finish(run: Run, check: bool) -> Outcome:
    try:
        return run.wait(check=check)
    except BaseException:
        run.cancel()
        raise


class Sandbox(_Base):
    """Runs untrusted TypeScript or JavaScript, each piece in an isolate that nothing else has used.

    Nothing is granted unless an option says so. `level` is `"container"` (the default), `"process"` or `"thread"`. `tools` are
    functions of this process, which the guest calls as `tools.NAME(input)`; `files` can be imported and read; `fetch` names
    hosts; `env` and `grants` are in `NETWORK.env`. Limits are `memory`, `cpu`, `timeout` (of one run) and `output` (of the
    console). `pool` isolates are kept ready.

    The first sandbox of a process starts the program `stockade supervise` (`program`: which one), or connects to the socket
    `connect` of one that runs. All methods may be called from any thread, and runs go on at the same time.
    """

    def __init__(
        self,
        *,
        level: Optional[str] = None,
        memory: Optional[Size] = None,
        cpu: Optional[Time] = None,
        timeout: Optional[Time] = None,
        env: Optional[Mapping[str, Json]] = None,
        files: Optional[Files] = None,
        fetch: Optional[Sequence[str]] = None,
        grants: Optional[Mapping[str, Mapping[str, Any]]] = None,
        tools: Optional[Tools] = None,
        output: Optional[Size] = None,
        pool: Optional[int] = None,
        connect: Optional[str] = None,
        program: Optional[str] = None,
    ) -> None:
        params = options.open_params(
            level=level, memory=memory, cpu=cpu, timeout=timeout, env=env, fetch=fetch, grants=grants, output=output, pool=pool
        )
        super().__init__(Runner(params, files, tools, False, program, connect))

    def run(
        self,
        code: str,
        *,
        tools: Optional[Tools] = None,
        files: Optional[Files] = None,
        fetch: Optional[Sequence[str]] = None,
        env: Optional[Mapping[str, Json]] = None,
        grants: Optional[Mapping[str, Mapping[str, Any]]] = None,
        memory: Optional[Size] = None,
        cpu: Optional[Time] = None,
        timeout: Optional[Time] = None,
        output: Optional[Size] = None,
        on_console: Optional[OnConsole] = None,
        check: bool = True,
    ) -> Outcome:
        """Runs code and returns its outcome. A failed run raises its `GuestError`, unless `check` is false.

        Tools, files, hosts, variables and grants are added to those of the sandbox; limits replace them. `on_console` gets each
        line as it comes, in this thread; if it raises, the run is cancelled, as it is by Ctrl-C.
        """
        run = self.start(
            code, tools=tools, files=files, fetch=fetch, env=env, grants=grants, memory=memory, cpu=cpu, timeout=timeout, output=output, on_console=on_console
        )
        return _finish(run, check)

    def start(
        self,
        code: str,
        *,
        tools: Optional[Tools] = None,
        files: Optional[Files] = None,
        fetch: Optional[Sequence[str]] = None,
        env: Optional[Mapping[str, Json]] = None,
        grants: Optional[Mapping[str, Mapping[str, Any]]] = None,
        memory: Optional[Size] = None,
        cpu: Optional[Time] = None,
        timeout: Optional[Time] = None,
        output: Optional[Size] = None,
        on_console: Optional[OnConsole] = None,
    ) -> Run:
        """Begins a run, which can be waited for and cancelled."""
        added = options.open_params(memory=memory, cpu=cpu, env=env, fetch=fetch, grants=grants, output=output)
        return self._start(code, tools, files, timeout, on_console, added)


class Session(_Base):
    """Runs pieces of code one after another in one isolate, whose globals and declarations live on, as in a REPL.

    The options are those of `Sandbox`, without `pool`.
    """

    def __init__(
        self,
        *,
        level: Optional[str] = None,
        memory: Optional[Size] = None,
        cpu: Optional[Time] = None,
        timeout: Optional[Time] = None,
        env: Optional[Mapping[str, Json]] = None,
        files: Optional[Files] = None,
        fetch: Optional[Sequence[str]] = None,
        grants: Optional[Mapping[str, Mapping[str, Any]]] = None,
        tools: Optional[Tools] = None,
        output: Optional[Size] = None,
        connect: Optional[str] = None,
        program: Optional[str] = None,
    ) -> None:
        params = options.open_params(level=level, memory=memory, cpu=cpu, timeout=timeout, env=env, fetch=fetch, grants=grants, output=output)
        super().__init__(Runner(params, files, tools, True, program, connect))

    def run(self, code: str, *, timeout: Optional[Time] = None, on_console: Optional[OnConsole] = None, check: bool = True) -> Outcome:
        """Runs code and returns its outcome; `Outcome.state_lost` says whether the isolate ended with it."""
        return _finish(self.start(code, timeout=timeout, on_console=on_console), check)

    def start(self, code: str, *, timeout: Optional[Time] = None, on_console: Optional[OnConsole] = None) -> Run:
        """Begins a run, which can be waited for and cancelled."""
        return self._start(code, None, None, timeout, on_console, {})
