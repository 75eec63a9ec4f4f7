// The client of the administration API.
//
// Invariants: the key is in this module's memory and nowhere else: not in storage, a cookie, a URL or the document; it
// is forgotten at the first 401, after IDLE without input, and with the page. Requests go to this origin only, and
// redirects are errors. An answer is read up to MAX_ANSWER and an event up to MAX_EVENT.

/** Without a press of a key or a pointer for this long, the page forgets the key. */
const IDLE_MS = 30 * 60 * 1000;
/** Characters of an answer that are read. */
const MAX_ANSWER = 32 << 20;
/** Characters of one event of a stream. */
const MAX_EVENT = 256 << 10;

let key = "";
let closed = () => {};
let idle = 0;

/** What the API refused or could not do. */
export class ApiError extends Error {
  constructor(message, status = 0, problem = {}) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.problem = problem;
  }
}

/** Calls `then` when the session ends, with the reason for the reader. */
export function onClosed(then) {
  closed = then;
}

/** Forgets the key. */
export function close(why) {
  key = "";
  clearTimeout(idle);
  closed(why);
}

function stir() {
  clearTimeout(idle);
  if (key) idle = setTimeout(() => close("The key was forgotten after 30 minutes without input."), IDLE_MS);
}
for (const kind of ["keydown", "pointerdown"]) addEventListener(kind, stir, { passive: true });

/** Tries a key; keeps it if the API takes it. An empty key asks whether the listener needs one. */
export async function open(candidate) {
  const response = await send("/v1/status", {}, candidate);
  if (!response.ok) throw await refusal(response);
  key = candidate;
  stir();
}

function send(path, options, candidate = key) {
  const headers = new Headers(options.headers);
  if (candidate) headers.set("authorization", `Bearer ${candidate}`);
  if (!headers.has("accept")) headers.set("accept", "application/json");
  return fetch(path, {
    ...options,
    headers,
    mode: "same-origin",
    credentials: "same-origin",
    redirect: "error",
    cache: "no-store",
    referrerPolicy: "no-referrer",
  }).catch((error) => {
    if (options.signal?.aborted) throw error;
    throw new ApiError("The server does not answer. Is it running, and is this its address?");
  });
}

async function refusal(response) {
  let problem = {};
  try {
    problem = JSON.parse(await bounded(response));
  } catch {
    // Its status says enough.
  }
  const said = [problem.detail ?? problem.title].filter((part) => typeof part === "string");
  const errors = Array.isArray(problem.errors) ? problem.errors.map(messageOf) : [];
  return new ApiError([...said, ...errors].join("\n") || `The server answered ${response.status}.`, response.status, problem);
}

const messageOf = (error) => (typeof error === "string" ? error : String(error?.message ?? JSON.stringify(error)));

async function bounded(response) {
  const reader = response.body?.getReader();
  if (!reader) return "";
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text + decoder.decode();
    text += decoder.decode(value, { stream: true });
    if (text.length > MAX_ANSWER) {
      await reader.cancel();
      throw new ApiError("The answer is larger than this page reads. Ask for less, or use the command line.");
    }
  }
}

async function checked(path, options) {
  const response = await send(path, options);
  if (response.ok) return response;
  const error = await refusal(response);
  if (response.status === 401) close("The key is no longer valid here.");
  throw error;
}

/** The answer's JSON; its text where it has another type. */
export async function call(method, path, body, options = {}) {
  const headers = { ...options.headers };
  let content;
  if (body !== undefined) {
    const raw = typeof body === "string" || body instanceof Blob;
    content = raw ? body : JSON.stringify(body);
    headers["content-type"] ??= raw ? "application/octet-stream" : "application/json";
  }
  const response = await checked(path, { method, body: content, headers, signal: options.signal });
  const text = await bounded(response);
  const type = response.headers.get("content-type") ?? "";
  if (!/\bjson\b/.test(type)) return text;
  return text ? JSON.parse(text) : undefined;
}

export const get = (path, signal) => call("GET", path, undefined, { signal });

/** The answer's bytes. */
export async function load(method, path) {
  const response = await checked(path, { method, headers: { accept: "*/*" } });
  return response.blob();
}

/** The answer's bytes as a file for the reader. */
export async function download(method, path, name) {
  save(await load(method, path), name);
}

/** Hands bytes to the reader as a file. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  const anchor = document.createElement("a");
  anchor.href = url;
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Joins path segments, each encoded. */
export const path = (...segments) => `/v1/${segments.map((segment) => encodeURIComponent(segment)).join("/")}`;

/** A query of the values that are given. */
export function query(values) {
  const parts = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) if (value !== undefined && value !== "") parts.set(name, value);
  const text = parts.toString();
  return text ? `?${text}` : "";
}

/**
 * Follows a stream of server-sent events until `signal` aborts; connects again when it breaks off.
 *
 * `take({ event, data })` gets each event with its JSON, and `state` gets "open" or why it is not open.
 */
export async function follow(target, take, state, signal) {
  let wait = 500;
  let last = "";
  while (!signal.aborted) {
    try {
      const headers = { accept: "text/event-stream" };
      if (last) headers["last-event-id"] = last;
      const response = await checked(target, { headers, signal });
      state("open");
      wait = 500;
      await read(response, (event) => {
        if (event.id) last = event.id;
        take(event);
      });
      state("The stream ended. Connecting again.");
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && error.status >= 400 && error.status < 500 && error.status !== 429) {
        state(error.message);
        return;
      }
      state("The connection was lost. Connecting again.");
    }
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, wait);
      signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
    });
    wait = Math.min(wait * 2, 10_000);
  }
}

// Lines of a stream, by the rules of the HTML standard, 9.2.6.
async function read(response, take) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = { event: "message", id: "", lines: [], size: 0 };
  const finish = () => {
    if (event.lines.length > 0) {
      const text = event.lines.join("\n");
      let data = text;
      try {
        data = JSON.parse(text);
      } catch {
        // Text that is not JSON is taken as it is.
      }
      take({ event: event.event, id: event.id, data });
    }
    event = { event: "message", id: "", lines: [], size: 0 };
  };
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    if (rest.length > MAX_EVENT && !rest.includes("\n")) throw new Error("a line of the stream is too long");
    const lines = rest.split(/\r\n|\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        finish();
        continue;
      }
      const colon = line.indexOf(":");
      const field = colon < 0 ? line : line.slice(0, colon);
      const text = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "data") {
        event.size += text.length;
        if (event.size > MAX_EVENT) throw new Error("an event of the stream is too long");
        event.lines.push(text);
      } else if (field === "event") event.event = text;
      else if (field === "id") event.id = text;
    }
  }
}
