import { describe, expect, site, test } from "stockade:test";
import handler from "../src/index.ts";

describe("the site", () => {
  test("counts visits", async () => {
    const visits = async (): Promise<number> => (await (await site.fetch("/api/visits")).json()).visits;
    const before = await visits();
    const page = await site.fetch("/");
    expect(page.headers.get("content-type")).toContain("text/html");
    expect(await page.text()).toContain("Hello, visitor");
    expect(await visits()).toBe(before + 1);
  });

  test("has no other pages", async () => {
    expect((await site.fetch("/none")).status).toBe(404);
  });
});

test("the handler alone answers, too", async () => {
  const env = { GREETING: "Hi", STATE: {} as StateNamespace };
  const response = await handler.fetch(new Request("http://localhost/none"), env);
  expect(response.status).toBe(404);
});
