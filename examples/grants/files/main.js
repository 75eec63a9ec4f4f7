// Files over HTTP: PUT stores one, GET reads it or a range of it, DELETE deletes it, and /changes reports changes.
import { basename } from "node:path";
import { appendFile } from "node:fs/promises";

// "bytes=0-99" as an offset and a length.
function rangeOf(header) {
  const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(header ?? "") ?? [];
  if (from === undefined) return undefined;
  return { offset: Number(from), length: to === "" ? undefined : Number(to) - Number(from) + 1 };
}

async function* events(changes) {
  for await (const { kind, path } of changes) yield new TextEncoder().encode(`event: ${kind}\ndata: ${path}\n\n`);
}

export default {
  async fetch(request, env) {
    const { UPLOADS } = env;
    const path = decodeURIComponent(new URL(request.url).pathname.slice(1));
    try {
      if (path === "changes") {
        const changes = await UPLOADS.watch("", { recursive: true });
        return new Response(ReadableStream.from(events(changes)), { headers: { "content-type": "text/event-stream" } });
      }
      if (request.method === "PUT") {
        const { size } = await UPLOADS.write(path, request.body ?? "");
        // The same folder, as packages of npm use it.
        await appendFile("/files/UPLOADS/log.txt", `${basename(path)} ${size}\n`);
        return new Response(null, { status: 201 });
      }
      if (request.method === "DELETE") {
        return new Response(null, { status: await UPLOADS.delete(path) ? 204 : 404 });
      }
      const range = rangeOf(request.headers.get("range"));
      const found = await UPLOADS.stat(path);
      if (found?.kind !== "file") return new Response("not found\n", { status: 404 });
      const body = await UPLOADS.readStream(path, range);
      if (range === undefined) return new Response(body);
      const end = Math.min(found.size, range.offset + (range.length ?? found.size)) - 1;
      return new Response(body, {
        status: 206,
        headers: { "content-range": `bytes ${range.offset}-${end}/${found.size}` },
      });
    } catch (error) {
      const status = { EACCES: 400, EDQUOT: 507, EFBIG: 413, EISDIR: 409, ENOTDIR: 409 }[error.code] ?? 500;
      return new Response(`${error.message}\n`, { status });
    }
  },
};
