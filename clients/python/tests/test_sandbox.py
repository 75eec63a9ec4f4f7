"""Runs in sandboxes of a real supervisor. `STOCKADE` names the program; without it, the one that users get is taken."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from datetime import timedelta
from pathlib import Path
from typing import Any, Dict, List, Optional

from stockade import AsyncSandbox, AsyncSession, ConsoleLine, GuestError, Sandbox, Session, StockadeError, Tool

PROGRAM: Optional[str] = os.environ.get("STOCKADE")
LEVEL = os.environ.get("STOCKADE_TEST_LEVEL", "container")
CLIENT = str(Path(__file__).resolve().parent.parent)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(pid: int) -> List[int]:
    found: List[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
            pass
    return found


class Runs(unittest.TestCase):
    sandbox: Sandbox

    @classmethod
    def setUpClass(cls) -> None:
        cls.sandbox = Sandbox(level=LEVEL, memory="64mb", program=PROGRAM)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.sandbox.close()

    def failure(self, code: str, **given: Any) -> GuestError:
        with self.assertRaises(GuestError) as raised:
            self.sandbox.run(code, **given)
        return raised.exception

    def test_a_result_is_json(self) -> None:
        outcome = self.sandbox.run("const a: number = 1; ({ a, list: [1.5, null, 'ü'] })")
        self.assertEqual(outcome.result, {"a": 1, "list": [1.5, None, "ü"]})
        self.assertIsNone(outcome.error)
        self.assertEqual(outcome.level, LEVEL)
        self.assertGreater(outcome.usage.elapsed_ms, 0)
        self.assertIsNone(self.sandbox.run("const a = 1;").result)

    def test_a_run_has_nothing_of_another(self) -> None:
        self.sandbox.run("globalThis.x = 1")
        self.assertEqual(self.sandbox.run("typeof x").result, "undefined")

    def test_an_error_has_the_guests_own_line_and_stack(self) -> None:
        error = self.failure("const f = (): never => {\n  throw new RangeError('no');\n};\nf();")
        self.assertEqual((error.kind, error.name, error.message, error.line), ("thrown", "RangeError", "no", 2))
        self.assertIn("RangeError: no", str(error))
        self.assertIn(":2:", error.stack)
        assert error.outcome
        self.assertIs(error.outcome.error, error)
        self.assertEqual(self.failure("const a = ;").kind, "syntax")
        self.assertIn("not JSON", self.failure("Symbol()").message)

    def test_check_false_returns_the_error(self) -> None:
        outcome = self.sandbox.run("console.log('before'); throw new Error('x')", check=False)
        assert outcome.error
        self.assertEqual(outcome.error.message, "x")
        self.assertEqual([line.text for line in outcome.console], ["before"])

    def test_text_of_a_guest_is_printed_without_control_characters(self) -> None:
        error = self.failure("throw new Error('\\u001b[31mred\\u202e')")
        for text in (error.message, str(error)):
            self.assertIn("red", text)
            self.assertNotIn("\x1b", text)
            self.assertNotIn("\u202e", text)
        self.assertNotIn("\x1b", str(GuestError({"message": "\x1b[31mred"})))

    def test_console_comes_in_order_and_before_the_outcome(self) -> None:
        lines: List[ConsoleLine] = []
        outcome = self.sandbox.run("for (let i = 0; i < 100; i++) console.log(i); console.error('e'); 1", on_console=lines.append)
        self.assertEqual([line.text for line in lines], [*map(str, range(100)), "e"])
        self.assertEqual(lines[-1].level, "error")
        self.assertEqual(outcome.console, lines)

    def test_a_console_callback_that_raises_cancels_the_run(self) -> None:
        def on_console(line: ConsoleLine) -> None:
            raise KeyError("mine")

        with self.assertRaises(KeyError):
            self.sandbox.run("console.log(1); await new Promise(() => setTimeout(() => {}, 60000))", on_console=on_console)

    def test_console_beyond_the_limit_is_left_out(self) -> None:
        outcome = self.sandbox.run("for (let i = 0; i < 1000; i++) console.log('x'.repeat(100)); 1", output=1000)
        self.assertTrue(outcome.console_truncated)
        self.assertLessEqual(sum(len(line.text) for line in outcome.console), 1000)

    def test_files_are_modules_and_data(self) -> None:
        files: Dict[str, Any] = {"tax.ts": "export const tax: number = 1.5;", "prices.json": '{"tea": 4}', "logo.bin": b"\x00\xff"}
        code = """
            import { tax } from "./tax.ts";
            import prices from "./prices.json" with { type: "json" };
            const logo = await NETWORK.env.FILES.read("logo.bin");
            [prices.tea * tax, [...new Uint8Array(logo)]]"""
        self.assertEqual(self.sandbox.run(code, files=files).result, [6, [0, 255]])
        with tempfile.NamedTemporaryFile("w", suffix=".ts") as file:
            file.write("export default 7;")
            file.flush()
            self.assertEqual(self.sandbox.run("import a from './a.ts'; a", files={"a.ts": Path(file.name)}).result, 7)

    def test_hosts_that_are_not_granted_are_refused_and_named(self) -> None:
        outcome = self.sandbox.run("await fetch('https://example.com/').catch((e) => e.name)")
        self.assertEqual(outcome.result, "TypeError")
        self.assertEqual([(one.host, one.port) for one in outcome.refused], [("example.com", 443)])

    def test_a_host_that_is_granted_is_reached(self) -> None:
        import http.server

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"hello")

            def log_message(self, *_: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        place = f"127.0.0.1:{server.server_port}"
        code = f"await fetch('http://{place}/').then((r) => r.text()).catch((e) => e.name)"
        self.assertEqual(self.sandbox.run(code, fetch=[place]).result, "hello")
        self.assertEqual(self.sandbox.run(code).result, "TypeError")

    def test_variables_are_in_the_environment_of_the_guest(self) -> None:
        self.assertEqual(self.sandbox.run("NETWORK.env", env={"A": [1]}).result, {"A": [1]})

    def test_limits_end_a_run_and_not_the_next(self) -> None:
        self.assertEqual(self.failure("for (;;);", cpu="50ms").kind, "cpu_limit_exceeded")
        self.assertEqual(self.failure("const a = []; for (;;) a.push(new Array(1e5).fill(1));").kind, "memory_limit_exceeded")
        self.assertEqual(self.failure("await new Promise((r) => setTimeout(r, 60000))", timeout=timedelta(milliseconds=50)).kind, "timeout")
        self.assertEqual(self.sandbox.run("1").result, 1)

    def test_a_run_is_cancelled_from_another_thread(self) -> None:
        run = self.sandbox.start("await new Promise((r) => setTimeout(r, 60000))")
        with self.assertRaises(TimeoutError):
            run.wait(timeout=0.01)
        run.cancel()
        self.assertEqual(run.wait(check=False).error.kind, "cancelled")  # type: ignore[union-attr]
        self.assertTrue(run.done)

    def test_a_run_keeps_its_sandbox(self) -> None:
        run = Sandbox(level=LEVEL, program=PROGRAM).start("await new Promise((r) => setTimeout(() => r(1), 50))")
        gc.collect()
        self.assertEqual(run.wait().result, 1)

    def test_runs_go_on_at_the_same_time_in_many_threads(self) -> None:
        results: List[Any] = []

        def work(number: int) -> None:
            results.append(self.sandbox.run(f"await tools.double({number})", tools={"double": lambda n: n * 2}).result)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(results), [number * 2 for number in range(12)])

    def test_a_time_without_a_unit_is_an_error(self) -> None:
        with self.assertRaisesRegex(TypeError, "timeout='5s'"):
            self.sandbox.run("1", timeout=5)
        with self.assertRaisesRegex(TypeError, r"fetch=\['a'\]"):
            self.sandbox.run("1", fetch="a")

    def test_a_wrong_option_is_an_error_that_names_it(self) -> None:
        wrong: List[Dict[str, Any]] = [{"level": "paper"}, {"memory": "much"}]
        for given in wrong:
            with self.subTest(given=given), self.assertRaisesRegex(StockadeError, next(iter(given))):
                Sandbox(program=PROGRAM, **given)
        with self.assertRaises(StockadeError):
            self.sandbox.run("1", env={"A": float("nan")})
        self.assertEqual(self.sandbox.run("1").result, 1)

    def test_hostile_results_fail_only_their_run(self) -> None:
        deep = "let a = []; for (let i = 0; i < 5000; i++) a = [a]; a"
        with self.assertRaises((GuestError, StockadeError)):
            self.sandbox.run(deep)
        self.assertEqual(self.sandbox.run("1e300").result, 1e300)

    def test_the_numbers_of_the_supervisor_are_known(self) -> None:
        self.assertGreaterEqual(self.sandbox.stats()["sandboxes"], 1)
        self.assertIn(LEVEL, self.sandbox.info()["levels"])


class Tools(unittest.TestCase):
    sandbox: Sandbox

    @classmethod
    def setUpClass(cls) -> None:
        cls.sandbox = Sandbox(level=LEVEL, program=PROGRAM)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.sandbox.close()

    def test_functions_and_coroutines_are_tools(self) -> None:
        def add(a: int, b: int = 1) -> int:
            return a + b

        async def later(text: str) -> str:
            await asyncio.sleep(0)
            return text.upper()

        tools: Dict[str, Any] = {"add": add, "later": later, "none": lambda: None, "whole": Tool(lambda input: input["x"])}
        code = "await Promise.all([tools.add({ a: 1 }), tools.add({ a: 1, b: 2 }), tools.later('x'), tools.none(), tools.whole({ x: 5 })])"
        self.assertEqual(self.sandbox.run(code, tools=tools).result, [2, 3, "X", None, 5])

    def test_input_that_does_not_fit_the_hints_is_refused(self) -> None:
        called: List[int] = []

        def add(a: int, b: int) -> None:
            called.append(a + b)

        for input, part in (("{ a: 1 }", "no 'b'"), ("{ a: 1, b: '2' }", "type integer"), ("{ a: 1, b: 2, c: 3 }", "'c'"), ("'x'", "object"), ("", "object")):
            message = self.sandbox.run(f"await tools.add({input}).catch((e) => e.message)", tools={"add": add}).result
            self.assertIn(part, message)
        self.assertEqual(called, [])

    def test_an_error_of_a_tool_reaches_the_guest_as_an_error(self) -> None:
        def fail() -> None:
            raise LookupError("not there")

        code = "await tools.fail().catch((e) => [e instanceof Error, e.message])"
        self.assertEqual(self.sandbox.run(code, tools={"fail": fail}).result, [True, "not there"])
        with self.assertRaises(GuestError) as raised:
            self.sandbox.run("await tools.fail()", tools={"fail": fail})
        self.assertEqual((raised.exception.kind, raised.exception.message), ("thrown", "not there"))

    def test_a_result_that_is_not_json_is_an_error_of_the_guest(self) -> None:
        for result in (object(), float("nan"), "\ud800"):
            message = self.sandbox.run("await tools.bad().catch((e) => e.message)", tools={"bad": lambda: result}).result
            self.assertIn("not JSON", message)

    def test_a_tool_that_echoes_deep_input_fails_only_its_run(self) -> None:
        code = "let a = []; for (let i = 0; i < 118; i++) a = [a]; await tools.echo(a).then(() => 'ok', (e) => e.name)"
        self.sandbox.run(code, tools={"echo": lambda a: [[[[[[[[[[a]]]]]]]]]]}, check=False)
        self.assertEqual(self.sandbox.run("1").result, 1)

    def test_a_tool_can_run_code_itself(self) -> None:
        tools = {"eval": lambda code: self.sandbox.run(code).result}
        self.assertEqual(self.sandbox.run("await tools.eval('1 + 1')", tools=tools).result, 2)

    def test_tools_see_the_context_of_their_run(self) -> None:
        import contextvars

        user: contextvars.ContextVar[str] = contextvars.ContextVar("user")
        user.set("anna")
        self.assertEqual(self.sandbox.run("await tools.user()", tools={"user": user.get}).result, "anna")

    def test_a_guest_cannot_fill_the_memory_with_calls_of_a_slow_tool(self) -> None:
        released = threading.Event()
        tools: Dict[str, Any] = {"wait": lambda text: released.wait(60) and len(text), "release": lambda: released.set()}
        code = """
            const text = 'x'.repeat(SIZE);
            const calls = Array.from({ length: 5 }, () => tools.wait(text).then((size) => size, (error) => error.message));
            FIRST;
            await tools.release();
            [first, ...await Promise.all(calls)]"""
        # Less than the supervisor allows, so that the bound of the client is the one that is met: no call is answered before the release except those that are refused
        hostile = code.replace("SIZE", "3 << 20").replace("FIRST", "const first = await Promise.race(calls)")
        refused = "the calls that wait for a result have more than 8 MiB of input together"
        first, *results = self.sandbox.run(hostile, tools=tools).result
        self.assertEqual(first, refused)
        self.assertEqual(set(results), {3 << 20, refused})
        released.clear()
        harmless = code.replace("SIZE", "1 << 20").replace("FIRST", "const first = 0")
        self.assertEqual(self.sandbox.run(harmless, tools=tools).result, [0] + [1 << 20] * 5)

    def test_name_and_code_of_an_error_reach_the_guest_and_come_back(self) -> None:
        class Far(Exception):
            code = "E_FAR"

        def fail(kind: str) -> None:
            if kind == "file":
                open("/nothing/there")
            raise Far("too far")

        code = "await tools.fail('KIND').catch((e) => [e.name, e.code])"
        self.assertEqual(self.sandbox.run(code.replace("KIND", "file"), tools={"fail": fail}).result, ["FileNotFoundError", "ENOENT"])
        self.assertEqual(self.sandbox.run(code, tools={"fail": fail}).result, ["Far", "E_FAR"])
        with self.assertRaises(GuestError) as raised:
            self.sandbox.run("await tools.fail('x')", tools={"fail": fail})
        self.assertEqual((raised.exception.name, raised.exception.code), ("Far", "E_FAR"))

    def test_a_tool_may_raise_anything(self) -> None:
        class Odd(Exception):
            def __str__(self) -> str:
                raise ValueError("no text")

            @property
            def code(self) -> str:
                raise ValueError("no code")

        def fail(number: int) -> Any:
            errors: List[BaseException] = [Odd(), StopIteration(1), SystemExit(2), KeyboardInterrupt(), Exception("\ud800"), Exception("x" * 10_000_000), GeneratorExit()]
            raise errors[number]

        code = "const all = []; for (let i = 0; i < 7; i++) all.push(await tools.fail(i).catch((e) => e instanceof Error)); all"
        self.assertEqual(self.sandbox.run(code, tools={"fail": fail}).result, [True] * 7)

        async def run() -> Any:
            async with AsyncSandbox(level=LEVEL, program=PROGRAM, tools={"fail": fail}) as sandbox:
                return (await sandbox.run(code)).result

        self.assertEqual(asyncio.run(run()), [True] * 7)

    def test_a_function_that_returns_something_to_await_is_awaited(self) -> None:
        async def later(value: int) -> int:
            await asyncio.sleep(0)
            return value + 1

        tools: Dict[str, Any] = {"later": lambda value: later(value)}
        self.assertEqual(self.sandbox.run("await tools.later(1)", tools=tools).result, 2)

        async def run() -> Any:
            async with AsyncSandbox(level=LEVEL, program=PROGRAM, tools=tools) as sandbox:
                return (await sandbox.run("await tools.later(2)")).result

        self.assertEqual(asyncio.run(run()), 3)

    def test_a_prelude_runs_before_each_run_and_has_errors_of_its_own(self) -> None:
        prelude = "let runs = 0;\nglobalThis.count = (): number => ++runs;"
        with Sandbox(level=LEVEL, program=PROGRAM, prelude=prelude) as sandbox:
            self.assertEqual([sandbox.run("count()").result for _ in range(2)], [1, 1])
            with self.assertRaises(GuestError) as raised:
                sandbox.run("\nnull.x")
            self.assertEqual((raised.exception.source, raised.exception.line), ("main.ts", 2))
        with Session(level=LEVEL, program=PROGRAM, prelude=prelude) as session:
            self.assertEqual([session.run("count()").result for _ in range(2)], [1, 2])
        with Sandbox(level=LEVEL, program=PROGRAM, prelude="\nthrow new TypeError('no')") as sandbox:
            with self.assertRaises(GuestError) as raised:
                sandbox.run("1")
            error = raised.exception
            self.assertEqual((error.kind, error.name, error.source, error.line), ("prelude_failed", "TypeError", "prelude.ts", 2))
        with self.assertRaisesRegex(StockadeError, "prelude.ts:1:9"):
            Sandbox(level=LEVEL, program=PROGRAM, prelude="let a = ;")

    def test_a_run_that_ends_does_not_wait_for_its_tools(self) -> None:
        release = threading.Event()
        self.addCleanup(release.set)
        outcome = self.sandbox.run("void tools.wait(); 1", tools={"wait": lambda: release.wait(60)})
        self.assertEqual(outcome.result, 1)


class Sessions(unittest.TestCase):
    def test_state_lives_between_runs_until_the_isolate_ends(self) -> None:
        with Session(level=LEVEL, program=PROGRAM, cpu="300ms", tools={"one": lambda: 1}) as session:
            session.run("let total = await tools.one(); function twice(n: number) { return 2 * n }")
            self.assertEqual(session.run("total += twice(4); total").result, 9)
            lost = session.run("for (;;);", check=False)
            assert lost.error
            self.assertEqual((lost.error.kind, lost.state_lost), ("cpu_limit_exceeded", True))
            self.assertEqual(session.run("typeof total").result, "undefined")


class Async(unittest.IsolatedAsyncioTestCase):
    async def test_runs_tools_and_console(self) -> None:
        lines: List[str] = []

        async def add(a: int, b: int) -> int:
            await asyncio.sleep(0)
            return a + b

        async def on_console(line: ConsoleLine) -> None:
            lines.append(line.text)

        async with AsyncSandbox(level=LEVEL, program=PROGRAM, tools={"add": add, "thread": threading.get_ident}) as sandbox:
            outcome = await sandbox.run("console.log('x'); await tools.add({ a: 1, b: 2 })", on_console=on_console)
            self.assertEqual((outcome.result, lines), (3, ["x"]))
            self.assertNotEqual((await sandbox.run("await tools.thread()")).result, threading.get_ident())
            many = await asyncio.gather(*(sandbox.run(f"{number}") for number in range(8)))
            self.assertEqual([one.result for one in many], list(range(8)))
            with self.assertRaises(GuestError):
                await sandbox.run("throw 1")

    async def test_a_cancelled_task_cancels_its_run_and_its_tools(self) -> None:
        cancelled = asyncio.Event()
        began = asyncio.Event()

        async def wait() -> None:
            began.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise

        async with AsyncSandbox(level=LEVEL, program=PROGRAM, tools={"wait": wait}) as sandbox:
            task = asyncio.create_task(sandbox.run("await tools.wait()"))
            await began.wait()
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(cancelled.wait(), 20)
            self.assertEqual((await sandbox.run("1")).result, 1)

    async def test_a_task_that_is_cancelled_while_a_sandbox_opens_leaves_the_others(self) -> None:
        sandbox = AsyncSandbox(level=LEVEL, program=PROGRAM)
        await sandbox.info()
        tasks = [asyncio.create_task(sandbox.run(str(number), env={"A": 1})) for number in range(2)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        self.assertEqual((await tasks[1]).result, 1)
        with self.assertRaises(asyncio.CancelledError):
            await tasks[0]
        await sandbox.close()

    async def test_sessions(self) -> None:
        async with AsyncSession(level=LEVEL, program=PROGRAM) as session:
            await session.run("let a = 1")
            self.assertEqual((await session.run("a + 1")).result, 2)


class Supervisors(unittest.TestCase):
    """What becomes of the supervisor when processes end."""

    def script(self, code: str) -> "subprocess.Popen[str]":
        source = f"import os, sys\nfrom stockade import *\nprogram = {PROGRAM!r}\n{code}"
        environment = {**os.environ, "PYTHONPATH": CLIENT}
        process = subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.addCleanup(process.stdout.close)  # type: ignore[union-attr]
        self.addCleanup(process.stdin.close)  # type: ignore[union-attr]
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def require_ended(self, pids: List[int]) -> None:
        end = time.monotonic() + 30
        while [pid for pid in pids if alive(pid)]:
            self.assertLess(time.monotonic(), end, "processes are left behind")
            time.sleep(0.01)

    def test_a_process_that_exits_or_is_killed_leaves_no_supervisor(self) -> None:
        for end in ("exit", "kill"):
            with self.subTest(end=end):
                process = self.script(f"s = Sandbox(level={LEVEL!r}, program=program)\ns.run('1')\nprint('ready', flush=True)\nsys.stdin.readline()")
                assert process.stdout and process.stdin
                self.assertEqual(process.stdout.readline(), "ready\n")
                found = children(process.pid)
                self.assertEqual(len(found), 1)
                found += children(found[0])
                if end == "kill":
                    process.kill()
                else:
                    process.stdin.write("\n")
                    process.stdin.flush()
                self.assertEqual(process.wait(), -signal.SIGKILL if end == "kill" else 0)
                self.require_ended(found)

    def test_a_fork_does_not_keep_the_supervisor(self) -> None:
        process = self.script(
            f"s = Sandbox(level={LEVEL!r}, program=program); t = Session(level={LEVEL!r}, program=program)\n"
            "if os.fork() == 0:\n"
            "    try: t.run('1')\n"
            "    except StockadeError as e: print(e.kind, flush=True)\n"
            "    print(s.run('2').result, flush=True)\n"
            "    sys.stdin.readline()\n"
            "    os._exit(0)\n"
            "print(s.run('3').result, t.run('4').result, flush=True)\n"
            "sys.stdin.readline()\n"
            "s.close(); t.close()\n"
        )
        assert process.stdout and process.stdin
        self.assertEqual(sorted(process.stdout.readline().strip() for _ in range(3)), ["2", "3 4", "session_ended"])
        found = children(process.pid)  # the supervisor, and the child, which has inherited nothing that keeps it
        child = next(one for one in found if b"supervise" not in Path(f"/proc/{one}/cmdline").read_bytes())
        process.kill()
        self.require_ended([one for one in found if one != child])
        self.assertTrue(alive(child))
        found = [child, *children(child)]
        os.kill(child, signal.SIGKILL)
        self.require_ended(found)

    def test_a_supervisor_that_ends_fails_its_runs_and_is_replaced(self) -> None:
        process = self.script(
            f"import signal, threading\ns = Sandbox(level={LEVEL!r}, program=program)\n"
            "run = s.start('await new Promise((r) => setTimeout(r, 60000))')\n"
            "os.kill(int(open(f'/proc/self/task/{os.getpid()}/children').read().split()[0]), signal.SIGKILL)\n"
            "try: run.wait()\n"
            "except StockadeError as e: print(e.kind, 'exit status -9' in str(e), flush=True)\n"
            "print(s.run('4').result, flush=True)\n"
        )
        self.assertEqual(process.communicate(timeout=120)[0], "supervisor_ended True\n4\n")

    def test_a_supervisor_that_nothing_uses_ends_with_its_threads(self) -> None:
        process = self.script(
            "import threading, time, stockade._supervisor as supervisor\n"
            "supervisor.IDLE_SECONDS = 0.05\n"
            "children = lambda: open(f'/proc/self/task/{os.getpid()}/children').read()\n"
            f"with Sandbox(level={LEVEL!r}, program=program) as s: s.run('await tools.a()', tools={{'a': lambda: 1}})\n"
            "while children() or threading.active_count() > 1: time.sleep(0.01)\n"
            f"with Sandbox(level={LEVEL!r}, program=program) as s: print(s.run('2').result, flush=True)\n"
        )
        self.assertEqual(process.communicate(timeout=120)[0], "2\n")

    def test_a_socket_is_connected_to(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/private/s.sock"
            with self.assertRaisesRegex(StockadeError, "stockade supervise --socket"):
                Sandbox(connect=path)
            os.mkdir(f"{folder}/private", 0o700)
            server = subprocess.Popen([PROGRAM or "stockade", "supervise", "--socket", path], stderr=subprocess.PIPE, text=True)
            assert server.stderr
            self.addCleanup(server.stderr.close)
            try:
                for line in server.stderr:
                    if "listening" in line:
                        break
                with Sandbox(level=LEVEL, connect=path) as sandbox:
                    self.assertEqual(sandbox.run("5").result, 5)
            finally:
                server.terminate()
                server.wait()

    def program(self, body: str) -> str:
        """The path of a program with this body in Python."""
        file = tempfile.NamedTemporaryFile("w", suffix=".py", delete=False)
        self.addCleanup(os.unlink, file.name)
        with file:
            file.write(f"#!{sys.executable}\n{body}")
        os.chmod(file.name, 0o700)
        return file.name

    def test_a_supervisor_that_writes_no_messages_is_ended(self) -> None:
        endless = "import sys\nwhile True: sys.stdout.write('x' * (1 << 20))"
        wrong = "print('null', flush=True)\nimport time\nwhile True: time.sleep(1)"
        for body, expected in ((endless, "more than 64 MiB"), (wrong, "not a message")):
            with self.subTest(body=body):
                before = set(children(os.getpid()))
                with self.assertRaisesRegex(StockadeError, expected) as raised:
                    Sandbox(program=self.program(body))
                self.assertEqual(raised.exception.kind, "protocol")
                self.require_ended([pid for pid in children(os.getpid()) if pid not in before])
        with Sandbox(level=LEVEL, program=PROGRAM) as sandbox:
            self.assertEqual(sandbox.run("1").result, 1)

    def test_errors_can_be_copied_to_other_processes(self) -> None:
        import pickle

        error = StockadeError("too_many", "no more", limit=3, fix="close some")
        copy = pickle.loads(pickle.dumps(error))
        self.assertEqual((copy.kind, str(copy), copy.limit, copy.fix), (error.kind, str(error), 3, "close some"))

    def test_a_large_input_of_a_coroutine_function_does_not_hold_the_messages_of_others(self) -> None:
        from unittest import mock

        from stockade.tools import Prepared

        threads = []
        bind = Prepared.bind

        def recorded(tool: Prepared, given: bool, value: Any) -> Any:
            threads.append(threading.current_thread().name)
            return bind(tool, given, value)

        async def size(of: List[int]) -> int:
            return len(of)

        with mock.patch.object(Prepared, "bind", recorded), Sandbox(level=LEVEL, program=PROGRAM, tools={"size": size}) as sandbox:
            self.assertEqual(sandbox.run("await tools.size([1, 2])").result, 2)
        self.assertEqual(threads, ["stockade-loop"])

    def test_many_sandboxes_one_after_the_other_need_few_threads(self) -> None:
        def timers() -> int:
            return sum(isinstance(thread, threading.Timer) and not thread.finished.is_set() for thread in threading.enumerate())

        before = timers()
        for _ in range(20):
            with Sandbox(level=LEVEL, program=PROGRAM, pool=0):
                pass
        self.assertLessEqual(timers(), before + 1)

    @unittest.skipUnless(os.geteuid() == 0, "only root can be two users")
    def test_a_socket_of_another_user_is_refused(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)
            path = f"{folder}/s.sock"
            listen = "import os, socket, sys\nos.setuid(12345)\ns = socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen()\nprint('ready', flush=True)\nsys.stdin.read()"
            server = subprocess.Popen([sys.executable, "-c", listen, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert server.stdin and server.stdout
            server.stdout.readline()
            with self.assertRaisesRegex(StockadeError, "user 12345") as raised:
                Sandbox(connect=path)
            self.assertEqual(raised.exception.kind, "foreign_socket")
            # Anybody may have made a folder in that of temporary files.
            os.chmod(folder, 0o755)
            os.chown(folder, 12345, 12345)
            with self.assertRaisesRegex(StockadeError, "user 12345"):
                Sandbox(connect=path)
            server.communicate()

    @unittest.skipUnless(os.geteuid() == 0, "only root may")
    def test_root_uses_the_socket_in_a_folder_of_another_user(self) -> None:
        from stockade import _supervisor

        with tempfile.TemporaryDirectory(dir="/run") as folder, tempfile.TemporaryDirectory() as shared:
            os.chown(folder, 12345, 12345)
            self.assertTrue(_supervisor._is_own(f"{folder}/s.sock", 12345))
            self.assertFalse(_supervisor._is_own(f"{folder}/s.sock", 54321))
            os.symlink(f"{folder}/s.sock", f"{shared}/link")
            self.assertFalse(_supervisor._is_own(f"{shared}/link", 12345))
            os.chmod(folder, 0o777)
            self.assertFalse(_supervisor._is_own(f"{folder}/s.sock", 12345))

    def test_a_program_that_is_not_there_is_an_error_that_says_so(self) -> None:
        with self.assertRaisesRegex(StockadeError, "/nothing/stockade cannot be started"):
            Sandbox(program="/nothing/stockade")
        with self.assertRaises(TypeError):
            Sandbox(program="a", connect="b")


if __name__ == "__main__":
    unittest.main()
