"""Sandboxes and sessions for code with asyncio."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any, Awaitable, Callable, Mapping, Optional, Set, Type, TypeVar, Union

from . import _options as options
from ._connection import Fail
from ._options import RunOptions, SandboxOptions, SessionOptions, SessionRunOptions
from ._runner import Answer, Runner, Variant, call_tool
from .outcome import ConsoleLine, Outcome
from .tools import Prepared

if TYPE_CHECKING:
    from concurrent.futures import Future

    from typing_extensions import Unpack

AsyncOnConsole = Callable[[ConsoleLine], Union[object, Awaitable[object]]]
_Self = TypeVar("_Self", bound="_Base")


class _Sink:
    """Passes what the connection's thread receives for one run to the event loop."""

    def __init__(self, variant: Variant, tools: Mapping[str, Prepared]) -> None:
        self._loop = asyncio.get_running_loop()
        self._threads = variant.connection.tool_threads
        self._tools = tools
        self._context = contextvars.copy_context()
        self._calls: Set[asyncio.Task[None]] = set()
        # Lines of the console, and None at the end.
        self.events: asyncio.Queue[Optional[ConsoleLine]] = asyncio.Queue()

    def console(self, level: str, text: str) -> None:
        self._post(self.events.put_nowait, ConsoleLine(level, text))

    def tool(self, name: str, given: bool, value: Any, answer: Callable[[Any], None], fail: Fail) -> None:
        tool = self._tools.get(name)
        if tool is None:
            fail("Error", f"there is no tool {name}")
        elif not self._post(self._call, tool, given, value, Answer(name, answer, fail)):
            fail("Error", "the host's event loop has ended")

    def ended(self, _: object) -> None:
        """After the outcome."""
        self._post(self._end)

    def _post(self, call: Callable[..., object], *arguments: Any) -> bool:
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def _end(self) -> None:
        for call in self._calls:
            call.cancel()
        self.events.put_nowait(None)

    def _call(self, tool: Prepared, given: bool, value: Any, reply: Answer) -> None:
        task = self._context.run(self._loop.create_task, self._answer(tool, given, value, reply))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _answer(self, tool: Prepared, given: bool, value: Any, reply: Answer) -> None:
        context = contextvars.copy_context()
        try:
            if tool.is_async:
                waits = call_tool(tool, given, value, context, reply)
            else:
                waits = await self._loop.run_in_executor(self._threads, call_tool, tool, given, value, context, reply)
            if waits is None:
                return
            result = await waits
            # Large results take a while to become text: not on the loop.
            await self._loop.run_in_executor(self._threads, reply.result, result)
        except BaseException as error:
            reply.error(error)
            if not isinstance(error, (Exception, asyncio.CancelledError)):
                raise


async def _settled(future: Future[Any]) -> None:
    """Waits for a future of which others wait as well: unlike by `wrap_future`, it is not cancelled with this task."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not waiter.done():
            waiter.set_result(None)

    def done(_: Future[Any]) -> None:
        try:
            loop.call_soon_threadsafe(wake)
        except RuntimeError:  # the loop is closed
            pass

    future.add_done_callback(done)
    await waiter


class _Base:
    """What `AsyncSandbox` and `AsyncSession` share."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._finalizer = weakref.finalize(self, runner.close)
        self._finalizer.atexit = False  # then the supervisors end, and their sandboxes with them

    async def __aenter__(self: _Self) -> _Self:
        # Opened now: wrong options are an error here, and an isolate is ready for the first run.
        try:
            self._runner.leave(await self._open(self._runner.tools, {}))
        except BaseException:
            self._finalizer()
            raise
        return self

    async def __aexit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self._finalizer()

    async def close(self) -> None:
        """Closes it, which ends what still runs."""
        self._finalizer()

    async def info(self) -> Mapping[str, Any]:
        """What the supervisor is: its `version`, `v8` and `levels`."""
        return (await asyncio.get_running_loop().run_in_executor(None, self._runner.connect)).info

    async def _open(self, tools: Mapping[str, Prepared], given: RunOptions) -> Variant:
        runner = self._runner
        if not runner.connected:
            # starts a program
            await asyncio.get_running_loop().run_in_executor(None, runner.connect)
        variant = runner.variant(tools, given)
        try:
            await _settled(variant.opened)
            variant.opened.result()
        except BaseException:
            runner.leave(variant)
            raise
        return variant

    async def _run(self, code: str, on_console: Optional[AsyncOnConsole], check: bool, given: RunOptions) -> Outcome:
        runner = self._runner
        tools = runner.tools_of(given)
        variant = await self._open(tools, given)
        try:
            params = runner.run_params(variant, code, given, on_console is not None)
            sink = _Sink(variant, tools)
            future = variant.connection.request("run", params, (params["run"], sink))
            future.add_done_callback(sink.ended)
            try:
                while line := await sink.events.get():
                    if on_console and inspect.isawaitable(waits := on_console(line)):
                        await waits
            except BaseException:
                variant.connection.notify("cancel", {"run": params["run"]})
                raise
            outcome = Outcome.from_wire(future.result())
        finally:
            runner.leave(variant)
        if check and outcome.error is not None:
            raise outcome.error
        return outcome


class AsyncSandbox(_Base):
    """`Sandbox` for asyncio: the same options, with `async with` and `await`.

    Tools may be coroutine functions, which run on the event loop of the run, or functions, which run in threads. A run whose
    task is cancelled is cancelled.
    """

    def __init__(self, **given: Unpack[SandboxOptions]) -> None:
        options.checked("a sandbox", given, SandboxOptions)
        super().__init__(Runner(given, False))

    async def run(self, code: str, *, on_console: Optional[AsyncOnConsole] = None, check: bool = True, **given: Unpack[RunOptions]) -> Outcome:
        """Runs code and returns its outcome, as `Sandbox.run` does. `on_console` may be a coroutine function."""
        options.checked("a run", given, RunOptions)
        return await self._run(code, on_console, check, given)


class AsyncSession(_Base):
    """`Session` for asyncio."""

    def __init__(self, **given: Unpack[SessionOptions]) -> None:
        options.checked("a session", given, SessionOptions)
        super().__init__(Runner(given, True))

    async def run(self, code: str, *, on_console: Optional[AsyncOnConsole] = None, check: bool = True, **given: Unpack[SessionRunOptions]) -> Outcome:
        """Runs code and returns its outcome; `Outcome.state_lost` says whether the isolate ended with it."""
        options.checked("a run of a session", given, SessionRunOptions)
        return await self._run(code, on_console, check, {"timeout": given.get("timeout")})
