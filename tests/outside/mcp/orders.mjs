// A server of the official SDK, as a program: orders of a shop, and as many further tools as the argument says.
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { z } from "zod";

const server = new McpServer({ name: "orders", version: "1.0.0" });
const orders = [{ id: 1, city: "Lyon", cents: 1250 }, { id: 2, city: "Bonn", cents: 900 }, { id: 3, city: "Lyon", cents: 50 }];

server.registerTool("list-orders", {
  description: "Lists the orders of the shop, perhaps of one city.\nNewest last.",
  inputSchema: { city: z.string().optional().describe("The city") },
  outputSchema: { orders: z.array(z.object({ id: z.number(), city: z.string(), cents: z.number() })) },
}, ({ city }) => {
  const structuredContent = { orders: orders.filter((order) => city === undefined || order.city === city) };
  return { content: [{ type: "text", text: JSON.stringify(structuredContent) }], structuredContent };
});
server.registerTool("remove_order", {
  description: "Removes an order for ever",
  inputSchema: { id: z.number() },
}, ({ id }) => ({ content: [{ type: "text", text: `removed ${id}` }] }));
server.registerTool("wait", {
  description: "Never answers",
  inputSchema: {},
}, (_, { signal }) => new Promise((resolve) => {
  signal.addEventListener("abort", () => {
    console.error("wait was cancelled");
    resolve({ content: [] });
  });
}));
for (let n = 0; n < Number(process.argv[2] ?? 0); n++) {
  server.registerTool(`report_${n}`, {
    description: `Makes report number ${n} of the shop for a period, with totals for each city and for each kind of goods. It `
      + "takes some seconds. The period is given by its first and its last day, and days are those of the shop's time zone.",
    inputSchema: {
      from: z.string().describe("The first day, as 2026-01-31"),
      to: z.string().describe("The last day, as 2026-01-31"),
      kinds: z.array(z.enum(["tea", "coffee", "cake"])).optional(),
      format: z.enum(["json", "csv", "text"]).default("json"),
    },
  }, () => ({ content: [{ type: "text", text: "{}" }] }));
}
await server.connect(new StdioServerTransport());
