import { expect, site, test } from "stockade:test";
import { Hono } from "hono";

test("orders are checked", async () => {
  const order = (body: unknown) => site.fetch("/orders", { method: "POST", body: JSON.stringify(body) });
  expect(await (await order({ item: "tea", count: 2 })).json()).toEqual({ ordered: 2 });
  expect((await order({ item: "", count: 0.5 })).status).toBe(400);
});

test("packages are imported in tests, too", async () => {
  const app = new Hono().get("/", (context) => context.text("hello"));
  expect(await (await app.request("/")).text()).toBe("hello");
});
