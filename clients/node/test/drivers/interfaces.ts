// The drivers have the types that their peers declare. tests/outside/clients-node.py compiles this file.

import type { Executor } from "@cloudflare/codemode/browser";
import type { IsolateDriver } from "@tanstack/ai-code-mode";
import type { CodeModeTransport } from "@mastra/core/tools";
import type { ToolSet } from "ai";
import { StockadeExecutor } from "stockade/drivers/codemode";
import { StockadeTransport } from "stockade/drivers/mastra";
import { createStockadeDriver } from "stockade/drivers/tanstack-ai";
import { codeTool } from "stockade/drivers/ai-sdk";
import { tool } from "ai";
import { z } from "zod";
export const executor: Executor = new StockadeExecutor();
export const driver: IsolateDriver = createStockadeDriver();
export const transport: CodeModeTransport = new StockadeTransport();
export const tools: ToolSet = { run: codeTool({ tools: { add: tool({ description: "x", inputSchema: z.object({ a: z.number() }), execute: ({ a }) => a }) } }) };
