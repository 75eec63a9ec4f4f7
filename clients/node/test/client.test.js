// The client against the program: $STOCKADE, or else what the package finds.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Sandbox, StockadeError } from "stockade";

const PROGRAM = { program: process.env.STOCKADE };
let s;
before(() => (s = new Sandbox(PROGRAM)));
after(() => s.close());

/** A sandbox or session that closes after a test. */
function closing(t, one) {
  t.after(() => one[Symbol.asyncDispose]());
  return one;
}

/** A running script that uses the client, the lines that it prints, and the processes that it has started. */
async function script(source) {
  const child = spawn(process.execPath, ["--input-type=module", "-e", source], {
    cwd: fileURLToPath(new URL(".", import.meta.url)), stdio: ["ignore", "pipe", "inherit"],
  });
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (more) => (text += more));
  const printed = async (line) => {
    const ended = once(child.stdout, "end").then(() => assert.ok(text.includes(line), `printed ${text}`));
    while (!text.includes(line)) await Promise.race([once(child.stdout, "data"), ended]);
    ended.catch(() => {});
  };
  const children = () => readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8").split(" ").filter(Boolean).map(Number);
  return { child, printed, children };
}

/** Waits until a process is gone. */
async function gone(pid) {
  for (;;) {
    try {
      // A process that nobody waits for stays as a zombie until its parent ends.
      if (/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"))) return;
    } catch {
      return;
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe("outcomes", () => {
  test("expression_gives_result_and_usage", async () => {
    const { result, error, console, level, usage, v8 } = await s.run("console.log('hi'); [1, 2, 3].map((x: number) => x * 2)");
    assert.deepEqual(result, [2, 4, 6]);
    assert.equal(error, undefined);
    assert.deepEqual(console, [{ level: "info", text: "hi" }]);
    assert.equal(level, "container");
    assert.ok(usage.elapsedMs >= 0 && usage.cpuMs >= 0);
    assert.match(v8, /^\d+\./);
  });

  test("arrow_function_is_called", async () => {
    assert.equal((await s.run("async () => { return await 7; }")).result, 7);
  });

  test("undefined_is_null", async () => {
    assert.equal((await s.run("undefined")).result, null);
  });

  test("error_names_the_line_of_typescript", async () => {
    const { error, result } = await s.run("interface A { a: number }\n\nconst f = (a: A): number => {\n  throw new RangeError('no');\n};\nf({ a: 1 });");
    assert.equal(result, undefined);
    assert.ok(error instanceof Error);
    assert.deepEqual([error.name, error.message, error.kind, error.line], ["RangeError", "no", "thrown", 4]);
    assert.match(error.stack, /^RangeError: no\n/);
  });

  test("control_characters_of_the_guest_are_escaped_in_errors", async () => {
    const { error } = await s.run("throw new Error('\\u001b[2J')");
    assert.match(error.message, /u\{?0*1b\}?\[2J/);
    assert.ok(!error.stack.includes("\u001b"));
  });

  test("syntax_error_has_its_place", async () => {
    const { error } = await s.run("const a = 1;\nconst b = ;");
    assert.deepEqual([error.kind, error.line], ["syntax", 2]);
  });

  test("bytes_as_result_are_not_json", async () => {
    assert.equal((await s.run("new Uint8Array(3)")).error.kind, "not_json");
  });
});

describe("tools", () => {
  test("tools_run_at_the_same_time", async () => {
    let here = 0;
    let both;
    const met = new Promise((resolve) => (both = resolve));
    const meet = async ({ n }) => {
      if (++here === 2) both();
      await met;
      return n;
    };
    const { result } = await s.run("await Promise.all([tools.meet({ n: 1 }), tools.meet({ n: 2 })])", { tools: { meet } });
    assert.deepEqual(result, [1, 2]);
  });

  test("same_names_with_other_functions_in_runs_at_the_same_time", async () => {
    const runs = [1, 2, 3].map((n) => s.run("await tools.number()", { tools: { number: () => n } }));
    assert.deepEqual((await Promise.all(runs)).map(({ result }) => result), [1, 2, 3]);
  });

  test("error_of_a_tool_reaches_the_guest_without_the_stack", async () => {
    const tools = { fail() { throw new RangeError("too far"); } };
    const caught = await s.run("try { await tools.fail() } catch (e) { return [e instanceof Error, e.message, e.stack] }", { tools });
    assert.deepEqual(caught.result.slice(0, 2), [true, "too far"]);
    assert.ok(!caught.result[2].includes("client.test.js"));
    const { error } = await s.run("await tools.fail()", { tools });
    assert.deepEqual([error.kind, error.message], ["thrown", "too far"]);
  });

  test("result_that_cannot_be_json_is_an_error_of_the_tool", async () => {
    const { error } = await s.run("await tools.big()", { tools: { big: () => 1n } });
    assert.match(error.message, /BigInt/);
  });

  test("tool_that_is_not_given_is_not_there", async () => {
    assert.equal((await s.run("typeof tools.nothing")).result, "undefined");
  });

  test("standard_schema_checks_and_converts_input", async () => {
    const inputSchema = {
      toJSONSchema: () => ({ type: "object", properties: { q: { type: "string" } } }),
      "~standard": {
        version: 1, vendor: "test",
        validate: ({ q }) => (typeof q === "string" ? { value: { q: q.trim() } } : { issues: [{ message: "expected text", path: ["q"] }] }),
      },
    };
    const tools = { search: { call: ({ q }) => `<${q}>`, description: "searches", inputSchema } };
    assert.equal((await s.run("await tools.search({ q: ' tea ' })", { tools })).result, "<tea>");
    assert.equal((await s.run("await tools.search({ q: 1 })", { tools })).error.message, "invalid input: q: expected text");
  });

  test("signal_of_a_tool_aborts_when_the_run_ends", async () => {
    let signal;
    const tools = { forever: (_, context) => new Promise((_, reject) => {
      ({ signal } = context);
      signal.addEventListener("abort", () => reject(signal.reason));
    }) };
    const { error } = await s.run("await tools.forever()", { tools, timeout: "300ms" });
    assert.equal(error.kind, "timeout");
    assert.ok(signal.aborted);
  });

  test("what_is_not_a_tool_is_refused", () => {
    assert.throws(() => s.run("1", { tools: { a: 5 } }), /the tool 'a' is neither a function/);
  });
});

describe("grants", () => {
  test("files_are_modules_and_data", async () => {
    const files = { "tax.ts": "export const tax: number = 1.5;", "data/note.txt": "tea", "data/raw.bin": new Uint8Array([1, 2, 255]) };
    const code = `import { tax } from "./tax.ts";
      const note = await NETWORK.env.FILES.read("data/note.txt", "text");
      const raw = await NETWORK.env.FILES.read("data/raw.bin");
      [tax, note, [...new Uint8Array(raw)]]`;
    assert.deepEqual((await s.run(code, { files })).result, [1.5, "tea", [1, 2, 255]]);
  });

  test("environment_is_json", async () => {
    assert.deepEqual((await s.run("NETWORK.env.limits", { env: { limits: { rate: [1, 2] } } })).result, { rate: [1, 2] });
  });

  test("fetch_reaches_what_is_granted_and_reports_the_rest", async () => {
    const server = createServer((_, response) => response.end("hello")).listen(0, "127.0.0.1");
    await once(server, "listening");
    try {
      const host = `127.0.0.1:${server.address().port}`;
      const code = `await fetch("http://${host}/").then((r) => r.text()).catch((e) => e.name)`;
      assert.equal((await s.run(code, { fetch: [host] })).result, "hello");
      const { result, refused } = await s.run(code);
      assert.equal(result, "TypeError");
      assert.deepEqual(refused.map(({ host, port }) => `${host}:${port}`), [host]);
    } finally {
      server.close();
    }
  });

  test("unknown_options_are_refused", async (t) => {
    await assert.rejects(s.run("1", { memroy: "64mb" }), /no option 'memroy'/);
    const other = closing(t, new Sandbox({ ...PROGRAM, memroy: "64mb" }));
    await assert.rejects(other.run("1"), (error) => error instanceof StockadeError && /memroy/.test(error.message));
  });
});

describe("limits", () => {
  test("cpu_of_a_loop_is_limited_and_that_of_a_short_one_is_not", async () => {
    assert.equal((await s.run("for (;;);", { cpu: "100ms" })).error.kind, "cpu_limit_exceeded");
    assert.equal((await s.run("let n = 0; for (let i = 0; i < 1e5; i++) n += i; n", { cpu: "5s" })).result, 4999950000);
  });

  test("memory_of_a_hoarder_is_limited_and_that_of_a_modest_one_is_not", async () => {
    const hoard = (most) => `const kept = []; while (kept.length < ${most}) kept.push(new Uint8Array(1 << 20).fill(1)); kept.length`;
    assert.equal((await s.run(hoard("Infinity"), { memory: "32mb" })).error.kind, "memory_limit_exceeded");
    assert.equal((await s.run(hoard(4), { memory: "32mb" })).result, 4);
  });

  test("console_is_bounded_and_says_so", async () => {
    const { console, consoleTruncated } = await s.run("for (let i = 0; i < 100; i++) console.log('x'.repeat(100))", { output: 1000 });
    assert.ok(consoleTruncated && console.length < 12);
  });

  test("result_of_a_tool_that_is_too_large_fails_alone", async () => {
    const tools = { large: () => "x".repeat(20 << 20), small: () => 1 };
    const { result } = await s.run("try { await tools.large() } catch (e) { return [e.message, await tools.small()] }", { tools });
    assert.deepEqual(result, ["the result of the tool is larger than 8 MiB", 1]);
    await assert.rejects(s.run("x".repeat(17 << 20)), { kind: "too_large" });
  });
});

describe("ends", () => {
  test("abort_rejects_with_the_reason", async () => {
    const abort = new AbortController();
    const tools = { begun: () => abort.abort(new Error("enough")) };
    await assert.rejects(s.run("await tools.begun(); await new Promise((end) => setTimeout(end, 60_000))", { tools, signal: abort.signal }), /enough/);
    await assert.rejects(s.run("1", { signal: abort.signal }), /enough/);
  });

  test("cancel_gives_an_outcome_with_the_console", async () => {
    const run = s.run("console.log('here'); await tools.begun(); await new Promise((end) => setTimeout(end, 60_000))", { tools: { begun: () => run.cancel() } });
    const { error, console } = await run;
    assert.equal(error.kind, "cancelled");
    assert.deepEqual(console, [{ level: "info", text: "here" }]);
  });

  test("closed_sandbox_refuses_runs", async () => {
    const other = new Sandbox(PROGRAM);
    assert.equal((await other.run("1")).result, 1);
    await other.close();
    await other.close();
    await assert.rejects(other.run("1"), { kind: "closed" });
  });

  test("variants_of_options_do_not_stay_open", async () => {
    const { sandboxes } = await s.stats();
    for (let n = 0; n < 12; n++) await s.run("1", { env: { n } });
    assert.ok((await s.stats()).sandboxes <= sandboxes + 4);
  });
});

describe("console", () => {
  test("iterator_has_lines_before_the_end", async () => {
    let release;
    const run = s.run("console.log('one'); await tools.wait(); console.error('two')", { tools: { wait: () => new Promise((resolve) => (release = resolve)) } });
    const seen = [];
    for await (const { level, text } of run.console) {
      seen.push([level, text]);
      if (text === "one") (async () => { while (!release) await new Promise(setImmediate); release(); })();
    }
    assert.deepEqual(seen, [["info", "one"], ["error", "two"]]);
    assert.equal((await run).console.length, 2);
  });

  test("callback_that_throws_ends_the_run", async () => {
    const onConsole = () => { throw new Error("full"); };
    await assert.rejects(s.run("console.log(1); await new Promise((end) => setTimeout(end, 60_000))", { onConsole }), /full/);
  });

  test("late_reader_is_an_error", async () => {
    const run = s.run("1");
    await run;
    assert.throws(() => run.console, /before the first/);
  });
});

describe("sessions", () => {
  test("declarations_live_on_and_sessions_do_not_share", async (t) => {
    const one = closing(t, s.session());
    const two = closing(t, s.session({ tools: { twice: (n) => n * 2 } }));
    await one.run("let count = 1; function next() { return ++count }");
    assert.equal((await one.run("next(); next()")).result, 3);
    assert.equal((await two.run("typeof count")).result, "undefined");
    assert.equal((await two.run("await tools.twice(4)")).result, 8);
  });

  test("runs_of_a_session_keep_their_order", async (t) => {
    const session = closing(t, s.session());
    session.run("globalThis.seen = []");
    const runs = [1, 2, 3, 4, 5, 6, 7, 8].map((n) => session.run(`seen.push(${n})`));
    await Promise.all(runs);
    assert.deepEqual((await session.run("seen")).result, [1, 2, 3, 4, 5, 6, 7, 8]);
  });

  test("limit_loses_the_state_and_says_so", async (t) => {
    const session = closing(t, s.session({ cpu: "100ms" }));
    await session.run("globalThis.kept = 1");
    const { error, stateLost } = await session.run("for (;;);");
    assert.deepEqual([error.kind, stateLost], ["cpu_limit_exceeded", true]);
    assert.equal((await session.run("typeof kept")).result, "undefined");
  });

  test("run_of_a_session_refuses_options_of_its_isolate", async (t) => {
    const session = closing(t, s.session());
    assert.throws(() => session.run("1", { env: {} }), /cannot have 'env'/);
  });
});

describe("supervisors", () => {
  const use = `import { Sandbox } from "stockade"; const s = new Sandbox({ program: process.env.STOCKADE });`;

  test("idle_client_lets_the_process_end", async () => {
    const { child } = await script(`${use} console.log((await s.run("1 + 1")).result);`);
    const [code] = await once(child, "exit");
    assert.equal(code, 0);
  });

  test("pending_run_keeps_the_process_alive", async () => {
    const { child, printed } = await script(`${use} s.run("await new Promise((r) => setTimeout(r, 200)); 5").then(({ result }) => console.log("got", result));`);
    await Promise.all([printed("got 5"), once(child, "exit")]);
  });

  test("killed_process_leaves_no_supervisor", async () => {
    const { child, printed, children } = await script(`${use} await s.run("1"); console.log("ready"); await s.run("await new Promise((end) => setTimeout(end, 60_000))");`);
    await printed("ready");
    const [supervisor] = children();
    assert.ok(supervisor);
    child.kill("SIGKILL");
    await gone(supervisor);
  });

  test("supervisor_that_ends_is_reported_and_replaced", async () => {
    const source = `${use}
      await s.run("1");
      const session = s.session();
      await session.run("globalThis.a = 1");
      const waits = s.run("await new Promise((end) => setTimeout(end, 60_000))");
      console.log("ready");
      await waits.catch(({ kind }) => console.log(kind));
      await session.run("a").then(() => {}, ({ kind }) => console.log(kind));
      console.log((await s.run("2 + 2")).result);`;
    const { child, printed, children } = await script(source);
    await printed("ready");
    process.kill(children()[0], "SIGKILL");
    await Promise.all([printed("supervisor_ended\nsession_ended\n4\n"), once(child, "exit")]);
  });

  test("missing_program_and_socket_say_the_fix", async (t) => {
    const none = closing(t, new Sandbox({ program: "/nothing/stockade" }));
    await assert.rejects(none.run("1"), { kind: "no_supervisor", message: /cannot start \/nothing\/stockade/ });
    const nobody = closing(t, new Sandbox({ connect: "/nothing/socket" }));
    await assert.rejects(nobody.run("1"), /fix: stockade supervise --socket \/nothing\/socket/);
  });

  test("socket_serves_several_processes", async (t) => {
    const folder = await mkdtemp(join(tmpdir(), "stockade-node-"));
    const path = join(folder, "own", "socket");
    const server = spawn(process.env.STOCKADE ?? "stockade", ["supervise", "--socket", path], { stdio: ["ignore", "ignore", "pipe"] });
    try {
      await once(server.stderr, "data");
      const connect = `import { Sandbox } from "stockade"; const s = new Sandbox({ connect: ${JSON.stringify(path)} });`;
      const { child, printed } = await script(`${connect} console.log((await s.run("3 + 3")).result);`);
      const here = closing(t, new Sandbox({ connect: path }));
      assert.equal((await here.run("await tools.a()", { tools: { a: () => 9 } })).result, 9);
      await Promise.all([printed("6"), once(child, "exit")]);
    } finally {
      server.kill();
      await once(server, "exit");
      await rm(folder, { recursive: true });
    }
  });
});

// Node 18 and some of 20 have no `require` of modules.
test("require_gives_the_same_classes", { skip: !process.features.require_module && "this Node cannot" }, () => {
  assert.equal(createRequire(import.meta.url)("stockade").Sandbox, Sandbox);
});
