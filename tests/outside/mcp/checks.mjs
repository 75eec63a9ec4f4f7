// One check of `stockade mcp`: node checks.mjs NAME. Prints a note; throws what is wrong.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { Client as NewClient } from "@modelcontextprotocol/client";
import { StdioClientTransport as NewStdio } from "@modelcontextprotocol/client/stdio";
import { countTokens } from "gpt-tokenizer";
import { listen, overHttp, overStdio, pythonServer, run, stockade, text, upstreams } from "./client.mjs";

const accept = () => ({ action: "accept", content: {} });
const decline = () => ({ action: "decline" });

const checks = {
  // A script in the place of a model: it finds two tools, reads their types, and uses both in one run.
  async model() {
    const sums = await pythonServer();
    const client = await overStdio(["--config", upstreams({ sums: sums.port })]);
    const seen = JSON.stringify((await client.listTools()).tools);
    const found = await text(client, "search_tools", { query: "list orders" });
    assert.equal(found.split("\n")[0], "orders.list_orders: Lists the orders of the shop, perhaps of one city. Newest last.");
    assert.match(await text(client, "search_tools", { query: "add numbers" }), /^sums\.add: Adds numbers/);
    const types = await text(client, "describe_tools", { names: ["orders.list_orders", "sums.add"] });
    assert.match(types, /list_orders\(input: \{\n\s+\/\*\* The city \*\/\n\s+city\?: string;\n\s+\}\): Promise<\{/);
    assert.match(types, /add\(input: \{\n\s+numbers: number\[\];\n\s+\}\): Promise</);
    const outcome = await run(client, `
      const { orders } = await tools.orders.list_orders({ city: "Lyon" });
      const { result } = await tools.sums.add({ numbers: orders.map((order: { cents: number }) => order.cents) });
      const failed = await tools.sums.fail({}).catch((error: Error) => error.message);
      return { total: result, failed };`);
    assert.equal(outcome.result.total, 1300);
    assert.match(outcome.result.failed, /fail/);
    assert.ok(outcome.usage.cpuMs > 0);
    await client.close();
    sums.end();
    return `${countTokens(seen + found + types)} tokens of context for list, search and types`;
  },

  async "200 tools"() {
    const client = await overStdio(["--config", upstreams({ tools: 197 })]);
    const tokens = countTokens(JSON.stringify((await client.listTools()).tools));
    assert.ok(tokens <= 600, `${tokens} tokens`);
    const found = countTokens(await text(client, "search_tools", { query: "report for a period" }));
    assert.ok(found <= 600, `${found} tokens`);
    assert.equal((await run(client, "await tools.orders.report_150({ from: '', to: '' })")).result, "{}");
    await client.close();
    return `${tokens} tokens of context with 200 tools, ${found} for a search`;
  },

  async "fresh and sessions"() {
    const client = await overStdio();
    await run(client, "globalThis.a = 1");
    assert.equal((await run(client, "typeof a")).result, "undefined");
    await run(client, "let total: number = 1;", { session: "s", files: { "lib/double.ts": "export default (n: number) => n * 2;" } });
    assert.equal((await run(client, "total += 2; total", { session: "s" })).result, 3);
    assert.equal((await run(client, "import double from './lib/double.ts'; double(total)", { session: "s" })).result, 6);
    assert.equal((await run(client, "typeof total", { session: "t" })).result, "undefined");
    assert.match(await text(client, "list_sessions"), /^s: 3 runs, idle for \d+ s\nt: 1 runs, idle/);
    assert.equal(await text(client, "close_session", { session: "s" }), "closed");
    assert.equal((await run(client, "typeof total", { session: "s" })).result, "undefined");
    assert.equal((await run(client, "import n from './n.json' with { type: 'json' }; n.x", { files: { "n.json": '{"x":4}' } })).result, 4);
    await client.close();
  },

  async errors() {
    const client = await overStdio(["--cpu-limit", "200ms", "--timeout", "2s"]);
    // A machine that does other work takes longer than that for what is not about time.
    const patient = await overStdio([]);
    const error = async (code, of = patient) => (await run(of, code)).error;
    const thrown = await error("interface A { b: string }\n\nthrow new TypeError('no' as string);");
    assert.deepEqual([thrown.kind, thrown.name, thrown.line], ["thrown", "TypeError", 3]);
    assert.equal((await error("let a: = 3")).kind, "syntax");
    assert.equal((await error("for (;;);", client)).kind, "cpu_limit_exceeded");
    assert.equal((await error("await new Promise((r) => setTimeout(r, 60000))", client)).kind, "timeout");
    assert.equal((await error("const all = []; for (;;) all.push(new Uint8Array(1e6).fill(1));")).kind, "memory_limit_exceeded");
    assert.equal((await error("'x'.repeat(2 << 20)")).kind, "answer_too_large");
    const refused = await run(patient, "await fetch('https://example.com/').catch(String)");
    assert.equal(refused.refused[0].host, "example.com");
    assert.match((await error("await tools.orders.list_orders({})")).message, /undefined/);
    assert.equal((await run(client, "6 * 7")).result, 42);
    await client.close();
    await patient.close();
  },

  async console() {
    const client = await overStdio(["--output", "1kb"]);
    const progress = [];
    const outcome = await run(client, "console.debug('d'); console.log('one', { two: 2 }); console.error('e'); await new Promise((r) => setTimeout(r, 100)); 1", {}, {
      onprogress: (of) => progress.push(of.message.trim()),
    });
    // The client drops progress that it has not handled when the answer is there, which therefore comes a little later.
    assert.ok(progress.length > 0);
    assert.deepEqual(progress, ["d", "one { two: 2 }", "e"].slice(0, progress.length));
    assert.deepEqual(client.lines.map(({ level, data }) => [level, data.trim()]), [["info", "one { two: 2 }"], ["error", "e"]]);
    assert.deepEqual(outcome.console.map(({ level }) => level), ["debug", "info", "error"]);
    const much = await run(client, "for (let n = 0; n < 100000; n++) console.log('x'.repeat(100)); 1");
    assert.deepEqual([much.result, much.consoleTruncated], [1, true]);
    await client.close();
  },

  async cancellation() {
    const client = await overStdio(["--config", upstreams(), "--max-runs", "1"]);
    for (const code of ["for (;;);", "await tools.orders.wait({})"]) {
      const stop = new AbortController();
      const running = run(client, `console.log('begun'); ${code}`, {}, { signal: stop.signal, onprogress: () => stop.abort() });
      await assert.rejects(running);
    }
    // The only place is free again.
    assert.equal((await run(client, "1")).result, 1);
    await client.close();
  },

  async approvals() {
    const remove = "await tools.orders.remove_order({ id: 2 }).catch((error: Error) => error.message)";
    const config = upstreams({ more: { tools: { allow: ["list*"], ask: ["remove_*"] } } });
    const accepts = await overStdio(["--config", config], accept);
    assert.equal((await run(accepts, remove)).result, "removed 2");
    assert.match(accepts.questions[0], /orders\.remove_order .*\n"id": 2$/);
    await accepts.close();
    const always = await overStdio(["--config", config], () => ({ action: "accept", content: { allowRestOfRun: true } }));
    assert.equal((await run(always, `${remove}; ${remove}; ${remove}`)).result, "removed 2");
    assert.equal(always.questions.length, 1);
    await always.close();
    const declines = await overStdio(["--config", config], decline);
    assert.match((await run(declines, remove)).result, /the user declined/);
    await declines.close();
    const cannot = await overStdio(["--config", config]);
    assert.match((await run(cannot, remove)).result, /this client has no way/);
    assert.match((await run(cannot, "typeof tools.orders.wait")).result, /undefined/);
    await cannot.close();
  },

  // The protocol of 2026-07-28: no handshake, and questions as results.
  async "newest protocol"() {
    const config = upstreams({ more: { tools: { ask: ["remove_*"] } } });
    const client = new NewClient({ name: "new", version: "1" }, {
      capabilities: { elicitation: { form: {} } },
      versionNegotiation: { mode: { pin: "2026-07-28" } },
    });
    let asked = 0;
    client.setRequestHandler("elicitation/create", () => {
      asked++;
      return accept();
    });
    await client.connect(new NewStdio({ command: stockade, args: ["mcp", "--config", config], stderr: "inherit" }));
    const result = await client.callTool({ name: "run_code", arguments: { code: "await tools.orders.remove_order({ id: 3 })" } });
    assert.equal(result.structuredContent?.result, "removed 3", JSON.stringify(result));
    assert.equal(asked, 1);
    await client.close();
  },

  async http() {
    const server = await listen(["--config", upstreams({ more: { tools: { ask: ["remove_*"] } } })]);
    const client = await overHttp(server.url, {}, accept);
    const progress = [];
    const outcome = await run(client, "console.log('x'); await tools.orders.remove_order({ id: 1 })", {}, {
      onprogress: (of) => progress.push(of.message.trim()),
    });
    assert.equal(outcome.result, "removed 1");
    assert.deepEqual(progress, ["x"]);
    assert.equal(client.questions.length, 1);
    // Sessions belong to the client.
    await run(client, "let a = 1", { session: "s" });
    const other = await overHttp(server.url);
    assert.equal((await run(other, "typeof a", { session: "s" })).result, "undefined");
    assert.equal((await run(client, "a", { session: "s" })).result, 1);
    await Promise.all([client.close(), other.close()]);
    server.end();
  },

  async "hosts, origins and tokens"() {
    const ask = (port, headers) => new Promise((resolve, reject) => {
      const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "initialize", params: {
        protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "x", version: "1" } } });
      const all = { "content-type": "application/json", accept: "application/json, text/event-stream", ...headers };
      const sent = request({ host: "127.0.0.1", port, path: "/mcp", method: "POST", headers: all }, (answer) => {
        answer.resume();
        resolve(answer.statusCode);
      });
      sent.on("error", reject);
      sent.end(body);
    });
    const server = await listen(["--allow-host", "agents.example", "--allow-origin", "http://pages.example"]);
    for (const [headers, status] of [
      [{}, 200],
      [{ host: "localhost" }, 200],
      [{ host: "agents.example" }, 200],
      [{ host: "evil.example" }, 403],
      [{ origin: "http://pages.example" }, 200],
      [{ origin: "http://localhost:3000" }, 403],
      [{ origin: "https://evil.example" }, 403],
      [{ origin: "null" }, 403],
      [{ host: "evil.example", origin: "http://evil.example" }, 403],
    ]) assert.equal(await ask(server.port, headers), status, JSON.stringify(headers));
    server.end();
    const file = join(mkdtempSync(join(tmpdir(), "stockade-mcp-")), "tokens");
    writeFileSync(file, "0123456789abcdef0123456789abcdef\nsecond-token-of-many-letters\n");
    const closed = await listen(["--token-file", file]);
    assert.equal(await ask(closed.port, {}), 401);
    assert.equal(await ask(closed.port, { authorization: "Bearer wrong" }), 401);
    assert.equal(await ask(closed.port, { authorization: "Basic second-token-of-many-letters" }), 401);
    assert.equal(await ask(closed.port, { authorization: "Bearer second-token-of-many-letters" }), 200);
    const client = await overHttp(closed.url, { requestInit: { headers: { authorization: "Bearer 0123456789abcdef0123456789abcdef" } } });
    assert.equal((await run(client, "1 + 1")).result, 2);
    await client.close();
    closed.end();
    const open = promisify(execFile)(stockade, ["mcp", "--listen", "0.0.0.0:0"]);
    await assert.rejects(open, (error) => error.code === 1 && /without a token/.test(error.stderr));
  },

  async "API keys"() {
    const folder = mkdtempSync(join(tmpdir(), "stockade-mcp-"));
    const keys = async (...args) => {
      const store = ["--store", join(folder, "keys.db"), "--pepper", join(folder, "keys.pepper")];
      return (await promisify(execFile)(stockade, ["keys", ...args, ...store])).stdout.trim();
    };
    const made = await keys("create", "writer", "--scope", "write", "--json");
    const { key, id } = JSON.parse(made);
    const server = await listen(["--keys", join(folder, "keys.db"), "--pepper", join(folder, "keys.pepper"), "--rate", "5/h"]);
    const headers = { authorization: `Bearer ${key}` };
    const client = await overHttp(server.url, { requestInit: { headers } });
    assert.equal((await run(client, "6 * 7", { session: "s" })).result, 42);
    await assert.rejects(overHttp(server.url), /401|Unauthorized/i);
    // The key ends while code runs. The client then tries to continue the answer, which is refused, and waits for its own timeout.
    const running = run(client, "console.log('begun'); await new Promise((r) => setTimeout(r, 60000))", {}, {
      onprogress: () => void keys("revoke", id),
      timeout: 5000,
    });
    await assert.rejects(running);
    await assert.rejects(run(client, "1"));
    server.end();
  },

  // The suite of the protocol's authors. Its other scenarios call tools that only their own server has.
  async conformance() {
    const package_ = dirname(createRequire(import.meta.url).resolve("@modelcontextprotocol/conformance/package.json"));
    const server = await listen([]);
    const scenarios = ["server-initialize", "logging-set-level", "ping", "tools-list", "server-sse-multiple-streams"];
    await Promise.all(scenarios.map(async (name) => {
      const args = [join(package_, "dist/index.js"), "server", "--url", String(server.url), "--scenario", name];
      const folder = mkdtempSync(join(tmpdir(), "stockade-mcp-"));
      const { stdout, stderr } = await promisify(execFile)(process.execPath, args, { cwd: folder });
      assert.match(stdout + stderr, /Passed: (\d+)\/\1, 0 failed/, name);
    }));
    server.end();
    return `${scenarios.length} scenarios`;
  },

  // Servers that many users have, tried with --check and then used together in one run.
  async "servers of npm"() {
    const folder = mkdtempSync(join(tmpdir(), "stockade-mcp-"));
    writeFileSync(join(folder, "a.txt"), "three small words");
    const program = (name, ...args) => ({
      command: process.execPath,
      args: [join(import.meta.dirname, "node_modules/@modelcontextprotocol", name, "dist/index.js"), ...args],
    });
    const mcpServers = {
      filesystem: { ...program("server-filesystem", folder), tools: { ask: ["write_file"], deny: ["move_*"] } },
      everything: program("server-everything"),
      memory: { ...program("server-memory"), env: { MEMORY_FILE_PATH: join(folder, "memory.jsonl") } },
    };
    const file = join(folder, "upstream.json");
    writeFileSync(file, JSON.stringify({ mcpServers }));
    const { stdout } = await promisify(execFile)(stockade, ["mcp", "--config", file, "--check"]);
    assert.match(stdout, /^server +tools +ask +denied +ms\neverything .*\nfilesystem +\d+ +1 +1 .*\nmemory +\d+ +0 +0 /);
    mcpServers.broken = { command: process.execPath, args: ["-e", "console.error('no database'); process.exit(1)"] };
    writeFileSync(file, JSON.stringify({ mcpServers }));
    const broken = promisify(execFile)(stockade, ["mcp", "--config", file, "--check"]);
    await assert.rejects(broken, (error) => error.code === 1 && /\nbroken .*no database\n/.test(error.stdout));
    const client = await overStdio(["--config", file]);
    const outcome = await run(client, `
      const { content } = await tools.filesystem.read_text_file({ path: ${JSON.stringify(join(folder, "a.txt"))} });
      const entities = content.split(" ").map((name: string) => ({ name, entityType: "word", observations: [] }));
      await tools.memory.create_entities({ entities });
      const sum = await tools.everything.get_sum({ a: entities.length, b: 1 });
      const outside = await tools.filesystem.read_text_file({ path: "/etc/passwd" }).catch((error: Error) => error.message);
      return { sum, outside, known: (await tools.memory.read_graph()).entities.length };`);
    assert.match(outcome.result.sum, /is 4/);
    assert.match(outcome.result.outside, /Access denied/);
    assert.equal(outcome.result.known, 3);
    assert.match((await run(client, "await tools.memory.readGraph({})")).error.hint, /search_tools/);
    await client.close();
  },

  async inspector() {
    const cli = createRequire(import.meta.url).resolve("@modelcontextprotocol/inspector-cli/build/cli.js");
    const inspect = async (...args) => {
      const { stdout } = await promisify(execFile)(process.execPath, [cli, "--cli", stockade, "mcp", ...args]);
      return JSON.parse(stdout);
    };
    const { tools } = await inspect("--method", "tools/list");
    assert.deepEqual(tools.map(({ name }) => name), ["run_code", "list_sessions", "close_session"]);
    const called = await inspect("--method", "tools/call", "--tool-name", "run_code", "--tool-arg", "code=[1, 2].map((n: number) => n * 2)");
    assert.deepEqual(called.structuredContent.result, [2, 4]);
  },

  // TypeScript in, JSON out, from a fresh container each time, beyond what one start of a container costs.
  async speed() {
    const client = await overStdio(["--warm", "4"]);
    const code = "const double = (n: number): number => n * 2; ({ answer: double(21) })";
    for (let n = 0; n < 20; n++) await run(client, code);
    const times = [];
    for (let n = 0; n < 200; n++) {
      const begun = performance.now();
      assert.equal((await run(client, code)).result.answer, 42);
      times.push(performance.now() - begun);
    }
    times.sort((a, b) => a - b);
    const [p50, p99] = [times[100], times[197]].map((ms) => ms.toFixed(1));
    const begun = performance.now();
    let left = 400;
    await Promise.all(Array.from({ length: 4 }, async () => {
      while (left-- > 0) await run(client, code);
    }));
    const rate = 400 / (performance.now() - begun) * 1000;
    await client.close();
    return `${p50} ms p50, ${p99} ms p99, ${rate.toFixed(0)} runs/s by four at a time`;
  },
};

const name = process.argv[2];
if (name === undefined) {
  console.log(JSON.stringify(Object.keys(checks)));
} else {
  const note = await checks[name]();
  console.log(JSON.stringify({ note: note ?? null }));
  process.exit(0);
}
