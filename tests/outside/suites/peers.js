// The servers that the suites' tests ask, played by the host: each answers the guest's requests itself.

const bytesOf = async (body) => {
  if (body === null) return new Uint8Array();
  return new Uint8Array(await new Response(body).arrayBuffer());
};

const none = (worker) => {
  worker.onRequest("fetch", () => {
    throw new TypeError("the host of the suites has no network");
  });
  worker.on("ws.open", ({ conn_id }) => {
    worker.send("__ws_event", { conn_id, event_type: "error", data: "the host of the suites has no network" });
    worker.send("__ws_event", { conn_id, event_type: "close", data: { code: 1006, reason: "", wasClean: false } });
  });
};

const form = (type) => ({
  headers: { "content-type": `multipart/${type};boundary=boundary` },
  body: [
    "Preamble", "--boundary\t ", 'Content-Disposition: form-data; name="field_1"', "", "value_1 ", "",
    "--boundary", 'Content-Disposition: form-data; name="field_2";filename="file.js"', "Content-Type: text/javascript", "",
    'console.log("Hi")', "--boundary--", "Epilogue",
  ].join("\r\n"),
});

/** The test server of Deno's own tree, as far as tests of guests ask it. */
function deno(worker, root, lacks) {
  const types = { json: "application/json", js: "application/javascript", ts: "application/typescript", wasm: "application/wasm" };
  const redirect = (location) => ({ status: 301, headers: { location } });
  const texts = { 200: "OK", 301: "Moved Permanently", 404: "Not Found" };

  async function main({ pathname }, { headers, body }) {
    switch (pathname) {
      case "/echo_multipart_file": {
        const start = `--boundary\t \r\nContent-Disposition: form-data; name="field_1"\r\n\r\nvalue_1 \r\n\r\n--boundary\r\n` +
          `Content-Disposition: form-data; name="file"; filename="file.bin"\r\nContent-Type: application/octet-stream\r\n\r\n`;
        const whole = new Blob([start, await bytesOf(body), "\r\n--boundary--\r\n"]);
        return { headers: { "content-type": "multipart/form-data;boundary=boundary" }, body: await bytesOf(whole) };
      }
      case "/echo_server":
        return { status: Number(headers["x-status"] ?? 200), headers, body: await bytesOf(body) };
      case "/multipart_form_data.txt":
        return form("form-data");
      case "/multipart_form_bad_content_type":
        return form("form-datatststs");
      case "/content_length":
        return { body: headers["content-length"] === undefined ? "None" : `Some("${headers["content-length"]}")` };
      case "/server_error":
        return { status: 500 };
      case "/non_ascii_redirect":
        return redirect("/redirect\u00ae");
    }
    try {
      const file = await Deno.readFile(`${root}/../testdata${decodeURIComponent(pathname)}`);
      const type = pathname === "/subdir/form_urlencoded.txt"
        ? "application/x-www-form-urlencoded"
        : types[pathname.split(".").at(-1)];
      return { headers: type ? { "content-type": type } : {}, body: file };
    } catch {
      return { status: 404 };
    }
  }

  const ports = {
    4545: main,
    4546: ({ pathname }) => redirect(`http://localhost:4545${pathname}`),
    4549: ({ pathname }) => redirect(`http://localhost:4549${pathname}`),
    4550: ({ pathname }, { headers }) =>
      pathname.startsWith("/a/b/c") && headers["x-location"] ? redirect(headers["x-location"]) : { status: 404 },
  };
  // What hyper adds.
  async function finish(answer, { method }) {
    const { status = 200, headers = {}, body } = await answer;
    const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body ?? new Uint8Array();
    const empty = method === "HEAD" || [101, 204, 205, 304].includes(status);
    return {
      status,
      statusText: texts[status] ?? "",
      headers: { ...headers, "content-length": String(bytes.length) },
      body: empty ? undefined : bytes,
    };
  }
  worker.onRequest("fetch", (request) => {
    const url = new URL(request.url);
    const answer = url.hostname === "localhost" && ports[url.port];
    if (answer) return finish(answer(url, request), request);
    if (url.hostname === "localhost" && /^(45|55)\d\d$/.test(url.port)) lacks(`port ${url.port} of Deno's test server`);
    throw new TypeError("nobody answers there");
  });

  worker.on("ws.open", ({ conn_id, url, protocols }) => {
    const { port } = new URL(url);
    const event = (event_type, data) => worker.send("__ws_event", { conn_id, event_type, data });
    if (!["4242", "4243", "4244"].includes(port)) {
      if (/^42\d\d$/.test(port)) lacks(`port ${port} of Deno's test server`);
      event("error", "nobody answers there");
      event("close", { code: 1006, reason: "", wasClean: false });
      return;
    }
    event("open", { protocol: protocols[0] ?? "" });
    if (port === "4244") event("close", { code: 1005, reason: "", wasClean: true });
  });
  worker.on("ws.send", ({ conn_id, data }) => worker.send("__ws_event", { conn_id, event_type: "message", data }));
  worker.on("ws.close", ({ conn_id, code, reason }) =>
    worker.send("__ws_event", { conn_id, event_type: "close", data: { code: code ?? 1005, reason: reason ?? "", wasClean: true } }));
}

/** No server; files of the checkout for tests that load data. */
function wpt(worker, root, lacks, file) {
  none(worker);
  worker.onRequest("resource", (path) => {
    const folder = path.startsWith("/") ? "" : file.split("/").slice(0, -1).join("/");
    return Deno.readFile(`${root}/${folder}/${path.split("?")[0]}`);
  });
}

export const peers = { none, deno, wpt };
