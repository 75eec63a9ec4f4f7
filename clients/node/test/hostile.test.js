// What is hostile or odd around the client: supervisors that do not speak the protocol, sockets of others, tools that throw
// anything. The control of each is a run that works.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, chown, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Sandbox } from "stockade";
import { checkedSocket } from "../lib/socket.js";

const PROGRAM = { program: process.env.STOCKADE };
let folder, s;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "stockade-node-"));
  s = new Sandbox(PROGRAM);
});
after(async () => {
  await s.close();
  await rm(folder, { recursive: true });
});

/** The path of a program for `program: …` with this body in JavaScript. */
async function program(name, body) {
  const path = join(folder, name);
  await writeFile(path, `#!${process.execPath}\n${body}`, { mode: 0o755 });
  return path;
}

const INITIALIZED = `{"jsonrpc":"2.0","id":1,"result":{"name":"stockade","version":"0","v8":"0","protocol":1,"levels":[]}}`;

describe("supervisors", () => {
  const lines = {
    text: "hello",
    nothing: "null",
    list: "[]",
    "console without params": `{"jsonrpc":"2.0","method":"console"}`,
    "error without form": `{"jsonrpc":"2.0","id":2,"error":{"data":null,"message":{}}}`,
  };
  for (const [what, line] of Object.entries(lines)) {
    test(`line_of_no_message_ends_the_connection: ${what}`, async () => {
      const path = await program("speaks.cjs", `
        let answers = 0;
        process.stdin.on("data", () => console.log(answers++ ? ${JSON.stringify(line)} : ${JSON.stringify(INITIALIZED)}));`);
      const other = new Sandbox({ program: path });
      await assert.rejects(other.run("1"), (error) => error.name === "StockadeError" && error.message.length > 5);
      await other.close();
    });
  }

  test("line_without_end_ends_the_supervisor", async () => {
    const path = await program("endless.cjs", `
      const block = Buffer.alloc(1 << 20, "x");
      const write = () => { while (process.stdout.write(block)); process.stdout.once("drain", write); };
      write();`);
    const other = new Sandbox({ program: path });
    await assert.rejects(other.run("1"), { kind: "protocol", message: /more than 64 MiB/ });
    await other.close();
    assert.equal((await s.run("1 + 1")).result, 2);
  });

  test("error_about_a_line_has_its_own_kind", async () => {
    const refusal = `{"jsonrpc":"2.0","id":null,"error":{"code":-32002,"message":"this process may have 64","data":{"kind":"too_many","limit":64,"fix":"close some"}}}`;
    const path = await program("refuses.cjs", `console.log(${JSON.stringify(refusal)});`);
    const other = new Sandbox({ program: path });
    await assert.rejects(other.run("1"), { kind: "too_many", limit: 64 });
    await other.close();
  });

  test("program_that_is_nowhere_has_its_own_kind", async () => {
    const source = `import { Sandbox } from "stockade"; await new Sandbox().run("1").catch(({ kind, message }) => console.log(kind, message.includes("fix:")));`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", source], {
      cwd: new URL(".", import.meta.url), env: { PATH: "/nothing" }, stdio: ["ignore", "pipe", "inherit"],
    });
    const [text] = await once(child.stdout.setEncoding("utf8"), "data");
    assert.equal(text, "no_program true\n");
  });

  test("process_goes_on_after_a_supervisor_that_speaks_nonsense", async () => {
    const path = await program("nonsense.cjs", `process.stdout.write("null\\n".repeat(1000)); setInterval(() => {}, 1000);`);
    const source = `import { Sandbox } from "stockade";
      await new Sandbox({ program: ${JSON.stringify(path)} }).run("1").catch(({ kind }) => console.log(kind));`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", source], { cwd: new URL(".", import.meta.url), stdio: ["ignore", "pipe", "inherit"] });
    let text = "";
    child.stdout.setEncoding("utf8").on("data", (more) => (text += more));
    const [code] = await once(child, "exit");
    assert.deepEqual([code, text], [0, "protocol\n"]);
  });
});

describe("sockets", () => {
  /** A socket on which something listens, which gets no connection. */
  async function socket(t, name) {
    const own = await mkdtemp(join(folder, "own-"));
    const path = join(own, name);
    const server = createServer((client) => assert.fail(`got ${client}`)).listen(path);
    await once(server, "listening");
    t.after(() => server.close());
    return { own, path };
  }

  async function refused(path, why) {
    const other = new Sandbox({ connect: path });
    await assert.rejects(other.run("1"), (error) => error.kind === "foreign_socket" && why.test(error.message) && error.fix.length > 5);
    await other.close();
  }

  test("folder_that_others_can_write_to_is_refused", async (t) => {
    const { own, path } = await socket(t, "a");
    await chmod(own, 0o777);
    await refused(path, /others can write to its folder/);
  });

  test("file_that_is_no_socket_is_refused", async () => {
    const path = join(folder, "file");
    await writeFile(path, "");
    await refused(path, /not a socket/);
  });

  test("socket_and_folder_of_another_user_are_refused", { skip: process.geteuid() !== 0 && "only root can make them" }, async (t) => {
    const { own, path } = await socket(t, "a");
    await chown(path, 12345, 12345);
    await refused(path, /it belongs to the user 12345/);
    await chown(own, 54321, 54321);
    await refused(path, /its folder belongs to the user 54321|it belongs to the user 12345/);
    // Anybody may have made a folder in that of temporary files.
    await chown(own, 12345, 12345);
    await refused(path, /its folder belongs to the user 12345/);
  });

  test("root_uses_the_socket_in_a_folder_of_another_user", { skip: process.geteuid() !== 0 && "only root may" }, async (t) => {
    const own = await mkdtemp("/run/stockade-node-");
    t.after(() => rm(own, { recursive: true }));
    const server = createServer().listen(join(own, "a"));
    await once(server, "listening");
    t.after(() => server.close());
    await chown(join(own, "a"), 12345, 12345);
    await chown(own, 12345, 12345);
    assert.equal(checkedSocket(join(own, "a")), join(own, "a"));
    const link = join(folder, "link");
    await symlink(join(own, "a"), link);
    await refused(link, /its folder belongs to the user 12345/);
  });
});

describe("tools", () => {
  const odd = {
    nothing: undefined,
    "a number": 5,
    "a symbol": Symbol("odd"),
    "an object without a prototype": Object.create(null),
    "an object whose message throws": { get message() { throw new Error("again"); } },
    "an object that no text is of": { message: { toString: null }, toString: null },
    "a proxy": new Proxy({}, { get() { throw new Error("again"); } }),
    "half of a character": new Error("\ud83d"),
    "a very long message": new Error("x".repeat(20 << 20)),
    "a function": () => {},
  };
  for (const [what, thrown] of Object.entries(odd)) {
    test(`tool_may_throw ${what}`, async () => {
      const tools = { fail() { throw thrown; }, fine: () => 1 };
      const { result } = await s.run("try { await tools.fail() } catch (e) { return [e instanceof Error, await tools.fine()] }", { tools, timeout: "20s" });
      assert.deepEqual(result, [true, 1]);
    });
  }

  test("results_of_tools_are_json_as_stringify_makes_it", async () => {
    const values = { nan: NaN, zero: -0, date: new Date(0), none: undefined, bytes: new Uint8Array([1]), half: "\ud800", ["__proto__"]: 1 };
    const polluted = JSON.parse('{"__proto__":{"polluted":true}}');
    const tools = { values: () => values, polluted: () => polluted };
    const { result } = await s.run("[await tools.values(), Object.keys(await tools.polluted()), {}.polluted]", { tools });
    assert.deepEqual(result[0], JSON.parse(JSON.stringify(values)));
    assert.deepEqual(result.slice(1), [["__proto__"], null]);
    const outcome = await s.run(`JSON.parse('{"__proto__":{"polluted":true}}')`);
    assert.equal({}.polluted, undefined);
    assert.deepEqual(Object.keys(outcome.result), ["__proto__"]);
  });

  test("name_and_code_of_an_error_reach_the_guest_and_come_back", async () => {
    const tools = { fail() { throw Object.assign(new RangeError("too far"), { code: "E_FAR" }); } };
    const { result } = await s.run("try { await tools.fail() } catch (e) { return [e instanceof RangeError, e.name, e.message, e.code] }", { tools });
    assert.deepEqual(result, [true, "RangeError", "too far", "E_FAR"]);
    const { error } = await s.run("await tools.fail()", { tools });
    assert.deepEqual([error.kind, error.name, error.code], ["thrown", "RangeError", "E_FAR"]);
    const own = await s.run("throw Object.assign(new Error('x'), { code: 7 })");
    assert.equal(own.error.code, "7");
    assert.equal((await s.run("throw Object.assign(new Error('x'), { code: 'stockade:syntax' })")).error.kind, "thrown");
  });
});

describe("ends", () => {
  test("cancel_before_the_run_begins_cancels_it", async () => {
    const other = new Sandbox(PROGRAM);
    const run = other.run("await new Promise((end) => setTimeout(end, 60_000))");
    run.cancel();
    assert.equal((await run).error.kind, "cancelled");
    await other.close();
  });

  test("abort_does_not_wait_for_the_runs_before", async () => {
    const session = s.session();
    const first = session.run("await new Promise((end) => setTimeout(end, 60_000))");
    const abort = new AbortController();
    const second = session.run("2", { signal: abort.signal });
    setImmediate(() => abort.abort(new Error("enough")));
    await assert.rejects(second, /enough/);
    first.cancel();
    assert.equal((await first).error.kind, "cancelled");
    await session.close();
  });

  test("reader_of_the_console_gets_why_a_run_rejects", async () => {
    const abort = new AbortController();
    const run = s.run("console.log(1); await new Promise((end) => setTimeout(end, 60_000))", { signal: abort.signal });
    const seen = [];
    const reading = (async () => {
      for await (const { text } of run.console) {
        seen.push(text);
        abort.abort(new Error("enough"));
        // Slower than the run is to end.
        await new Promise((resolve) => setTimeout(resolve, 300));
      }
    })();
    await assert.rejects(reading, /enough/);
    await assert.rejects(run, /enough/);
    assert.deepEqual(seen, ["1"]);
  });
});

describe("prelude", () => {
  test("prelude_runs_before_each_run_and_lines_stay_right", async () => {
    const other = new Sandbox({ ...PROGRAM, prelude: "let runs = 0;\nconst twice = (n: number) => n * 2;\nObject.assign(globalThis, { twice, count: () => ++runs, fail: () => { throw new Error('in the prelude') } });" });
    assert.deepEqual((await other.run("[twice(21), count(), typeof runs]")).result, [42, 1, "undefined"]);
    assert.equal((await other.run("count()")).result, 1);
    const { error } = await other.run("let a: number = 1;\nnull.x");
    assert.deepEqual([error.source, error.line], ["main.ts", 2]);
    const inside = (await other.run("fail()")).error;
    assert.deepEqual([inside.kind, inside.source, inside.line], ["thrown", "prelude.ts", 3]);
    const session = other.session();
    await session.run("globalThis.kept = twice(2); count()");
    assert.deepEqual((await session.run("[kept, count()]")).result, [4, 2]);
    await session.close();
    await other.close();
  });

  test("prelude_that_fails_is_an_error_of_its_own_kind", async () => {
    const other = new Sandbox({ ...PROGRAM, prelude: "const a = 1;\n  throw new TypeError('no')" });
    const { error } = await other.run("1");
    assert.deepEqual([error.kind, error.name, error.source, error.line], ["prelude_failed", "TypeError", "prelude.ts", 2]);
    await other.close();
    const wrong = new Sandbox({ ...PROGRAM, prelude: "let a = ;" });
    await assert.rejects(wrong.run("1"), { kind: "invalid_params", message: /prelude.*prelude\.ts:1:9/s });
    await wrong.close();
  });
});
