"""Sandboxes and sessions for code with asyncio."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import weakref
from types import TracebackType
from typing import Any, Awaitable, Callable, Mapping, Optional, Sequence, Set, Type, TypeVar, Union

from . import _options as options
from ._options import Files, Json, Size, Time, Tools
from ._runner import Answer, Runner, Variant, call_tool
from .outcome import ConsoleLine, Outcome
from .tools import Prepared

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

    def tool(self, name: str, given: bool, value: Any, answer: Callable[[Any], None], fail: Callable[[str, str], None]) -> None:
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
                result = await call_tool(tool, given, value, context)
            else:
                result = await self._loop.run_in_executor(self._threads, call_tool, tool, given, value, context)
            # Large results take a while to become text: not on the loop.
            await self._loop.run_in_executor(self._threads, reply.result, result)
        except (Exception, asyncio.CancelledError) as error:
            reply.error(error)


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

    async def _open(self, tools: Mapping[str, Prepared], added: Mapping[str, Any]) -> Variant:
        runner = self._runner
        if not runner.connected:
            # starts a program
            await asyncio.get_running_loop().run_in_executor(None, runner.connect)
        variant = runner.variant(tools, added)
        try:
            await asyncio.wrap_future(variant.opened)
        except BaseException:
            runner.leave(variant)
            raise
        return variant

    async def _run(
        self,
        code: str,
        tools: Optional[Tools],
        files: Optional[Files],
        timeout: Optional[Time],
        on_console: Optional[AsyncOnConsole],
        check: bool,
        added: Mapping[str, Any],
    ) -> Outcome:
        runner = self._runner
        every = {**runner.tools, **options.prepare(tools)} if tools else runner.tools
        variant = await self._open(every, added)
        try:
            params = runner.run_params(variant.opened.result()["sandbox"], code, files, timeout, on_console is not None)
            sink = _Sink(variant, every)
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

    async def run(
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
        on_console: Optional[AsyncOnConsole] = None,
        check: bool = True,
    ) -> Outcome:
        """Runs code and returns its outcome, as `Sandbox.run` does. `on_console` may be a coroutine function."""
        added = options.open_params(memory=memory, cpu=cpu, env=env, fetch=fetch, grants=grants, output=output)
        return await self._run(code, tools, files, timeout, on_console, check, added)


class AsyncSession(_Base):
    """`Session` for asyncio."""

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

    async def run(self, code: str, *, timeout: Optional[Time] = None, on_console: Optional[AsyncOnConsole] = None, check: bool = True) -> Outcome:
        """Runs code and returns its outcome; `Outcome.state_lost` says whether the isolate ended with it."""
        return await self._run(code, None, None, timeout, on_console, check, {})
