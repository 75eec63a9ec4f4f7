// The main module of a site that runs the tests of one file when it is asked for `/~suite`, and otherwise answers as
// the file's default export does.

import "./builtin-site.js";
import { drive } from "./drive.js";
import { collect } from "suite:adapter";
import * as file from "suite:file";

async function answer(request, env, ctx) {
  const url = new URL(request.url);
  if (url.pathname !== "/~suite") {
    const own = file.default;
    if (typeof own === "function") return new own(ctx, env).fetch(request);
    return own.fetch(request, env, ctx);
  }
  const skip = await request.json();
  const { readable, writable } = new TransformStream();
  const writer = writable.getWriter();
  const encoder = new TextEncoder();
  const report = (result) => writer.write(encoder.encode(`${JSON.stringify(result)}\n`));
  ctx.waitUntil((async () => {
    try {
      const tests = collect(file, env, ctx);
      await drive(tests, skip, report);
      await report({ end: tests.length });
    } catch (error) {
      await report({ broken: `${error?.name}: ${error?.message}` });
    }
    await writer.close();
  })());
  return new Response(readable);
}

const own = typeof file.default === "object" && file.default ? file.default : {};
export default { ...own, fetch: answer };
