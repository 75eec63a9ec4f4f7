"""Sandboxes and sessions for code with threads."""

from __future__ import annotations

import contextvars
import time
import weakref
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Coroutine, Dict, Mapping, Optional, Set, Type, TypeVar

from . import _options as options
from ._connection import Fail
from ._options import RunOptions, SandboxOptions, SessionOptions, SessionRunOptions
from ._runner import Answer, Runner, Variant, await_tool, call_tool, loop_thread
from .outcome import ConsoleLine, Outcome
from .tools import Prepared

if TYPE_CHECKING:
    from typing_extensions import Unpack

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

    def tool(self, name: str, given: bool, value: Any, answer: Callable[[Any], None], fail: Fail) -> None:
        reply, tool = Answer(name, answer, fail), self._tools.get(name)
        if tool is None:
            fail("Error", f"there is no tool {name}")
            return
        # each call has a copy, because a context can be entered once at a time
        context = self._context.run(contextvars.copy_context)
        try:
            if tool.is_async:
                self._submit(context, self._call_async(tool, given, value, reply))
            else:
                self._connection.tool_threads.submit(self._call, tool, given, value, context, reply)
        except RuntimeError:  # the process is ending
            fail("Error", "the host is ending")

    def _call(self, tool: Prepared, given: bool, value: Any, context: contextvars.Context, reply: Answer) -> None:
        waits = call_tool(tool, given, value, context, reply)
        if waits is not None:
            self._submit(context, await_tool(waits, reply))

    @staticmethod
    async def _call_async(tool: Prepared, given: bool, value: Any, reply: Answer) -> None:
        # On the loop: checking a large input takes a while, and the messages of all other runs would wait. The thread that
        # submits this may still be in the context that it was submitted in, so this one is another.
        waits = call_tool(tool, given, value, contextvars.copy_context(), reply)
        if waits is not None:
            await await_tool(waits, reply)

    def _submit(self, context: contextvars.Context, work: Coroutine[Any, Any, None]) -> None:
        # What is awaited runs in the context of the run, too.
        call = context.run(loop_thread.submit, work)
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)


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

    def _start(self, code: str, on_console: Optional[OnConsole], given: RunOptions) -> Run:
        runner = self._runner
        tools = runner.tools_of(given)
        variant = runner.variant(tools, given)
        try:
            variant.opened.result()
            run = Run(self, variant, tools, on_console)
            run._begin(runner.run_params(variant, code, given, on_console is not None))
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
    console). `prelude` is code that runs before each run. `pool` isolates are kept ready.

    The first sandbox of a process starts the program `stockade supervise` (`program`: which one), or connects to the socket
    `connect` of one that runs. All methods may be called from any thread, and runs go on at the same time.
    """

    def __init__(self, **given: Unpack[SandboxOptions]) -> None:
        options.checked("a sandbox", given, SandboxOptions)
        super().__init__(Runner(given, False))

    def run(self, code: str, *, on_console: Optional[OnConsole] = None, check: bool = True, **given: Unpack[RunOptions]) -> Outcome:
        """Runs code and returns its outcome. A failed run raises its `GuestError`, unless `check` is false.

        The options are `tools`, `files`, `fetch`, `env` and `grants`, which are added to those of the sandbox, and `memory`,
        `cpu`, `timeout` and `output`, which replace them. `on_console` gets each line as it comes, in this thread; if it raises,
        the run is cancelled, as it is by Ctrl-C.
        """
        return _finish(self.start(code, on_console=on_console, **given), check)

    def start(self, code: str, *, on_console: Optional[OnConsole] = None, **given: Unpack[RunOptions]) -> Run:
        """Begins a run with the options of `run`, which can be waited for and cancelled."""
        options.checked("a run", given, RunOptions)
        return self._start(code, on_console, given)


class Session(_Base):
    """Runs pieces of code one after another in one isolate, whose globals and declarations live on, as in a REPL.

    The options are those of `Sandbox`, without `pool`. A run has `timeout` and `on_console`.
    """

    def __init__(self, **given: Unpack[SessionOptions]) -> None:
        options.checked("a session", given, SessionOptions)
        super().__init__(Runner(given, True))

    def run(self, code: str, *, on_console: Optional[OnConsole] = None, check: bool = True, **given: Unpack[SessionRunOptions]) -> Outcome:
        """Runs code and returns its outcome; `Outcome.state_lost` says whether the isolate ended with it."""
        return _finish(self.start(code, on_console=on_console, **given), check)

    def start(self, code: str, *, on_console: Optional[OnConsole] = None, **given: Unpack[SessionRunOptions]) -> Run:
        """Begins a run, which can be waited for and cancelled."""
        options.checked("a run of a session", given, SessionRunOptions)
        return self._start(code, on_console, {"timeout": given.get("timeout")})
