// What the checks have in common: clients of the official SDK, and a `stockade mcp` for them.
import { spawn } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ElicitRequestSchema, LoggingMessageNotificationSchema } from "@modelcontextprotocol/sdk/types.js";

export const stockade = process.env.STOCKADE;
const here = import.meta.dirname;

// The configuration of upstream servers. `more` are keys of the server of orders.
export function upstreams({ tools = 0, more = {}, sums = undefined } = {}) {
  const file = join(mkdtempSync(join(tmpdir(), "stockade-mcp-")), "upstream.json");
  const mcpServers = { orders: { command: process.execPath, args: [join(here, "orders.mjs"), String(tools)], ...more } };
  if (sums !== undefined) mcpServers.sums = { url: `http://127.0.0.1:${sums}/mcp` };
  writeFileSync(file, JSON.stringify({ mcpServers }));
  return file;
}

// The Python server: its port, and what ends it.
export async function pythonServer() {
  const child = spawn(process.env.PYTHON, [join(here, "sums.py")], { stdio: ["ignore", "pipe", "inherit"] });
  const port = await new Promise((resolve, reject) => {
    child.stdout.once("data", (data) => resolve(Number(String(data))));
    child.once("exit", () => reject(new Error("sums.py ended")));
  });
  for (;;) {
    const answer = await fetch(`http://127.0.0.1:${port}/mcp`, { method: "OPTIONS" }).catch(() => undefined);
    if (answer !== undefined) break;
  }
  return { port, end: () => child.kill() };
}

// A connected client. `answer` decides about questions; without it the client cannot be asked.
export async function connect(transport, answer = undefined) {
  const capabilities = answer === undefined ? {} : { elicitation: {} };
  const client = new Client({ name: "test", version: "1" }, { capabilities });
  client.questions = [];
  client.lines = [];
  if (answer !== undefined) {
    client.setRequestHandler(ElicitRequestSchema, ({ params }) => {
      client.questions.push(params.message);
      return answer(params);
    });
  }
  client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => void client.lines.push(params));
  await client.connect(transport);
  return client;
}

export function overStdio(args = [], answer = undefined) {
  const transport = new StdioClientTransport({ command: stockade, args: ["mcp", ...args], stderr: "inherit" });
  return connect(transport, answer);
}

// A `stockade mcp --listen`: its port, and what ends it.
export async function listen(args = []) {
  const child = spawn(stockade, ["mcp", "--listen", "127.0.0.1:0", ...args], { stdio: ["ignore", "pipe", "inherit"] });
  const port = await new Promise((resolve, reject) => {
    child.stdout.once("data", (data) => resolve(Number(/:(\d+)\/mcp/.exec(String(data))[1])));
    child.once("exit", () => reject(new Error("stockade mcp ended")));
  });
  return { port, url: new URL(`http://127.0.0.1:${port}/mcp`), end: () => child.kill() };
}

export const overHttp = (url, options = {}, answer = undefined) =>
  connect(new StreamableHTTPClientTransport(url, options), answer);

export async function run(client, code, more = {}, options = {}) {
  const result = await client.callTool({ name: "run_code", arguments: { code, ...more } }, undefined, options);
  return result.structuredContent ?? { error: { kind: "refused", message: result.content[0].text } };
}

export const text = async (client, name, input = {}) =>
  (await client.callTool({ name, arguments: input })).content[0].text;
