// Right and wrong uses of what a site has.
import { AsyncLocalStorage as HookStorage, AsyncResource } from "node:async_hooks";
import { connect } from "cloudflare:sockets";
import { env as shared, RpcTarget, WorkerEntrypoint } from "cloudflare:workers";
import { connect as same } from "stockade:sockets";

interface Env {
  GREETING: string;
  ASSETS: Fetcher;
  STATE: StateNamespace;
  FILES: Files;
  notes: Service<{ count(): Promise<number> }>;
}

export default {
  async fetch(request, env, ctx) {
    ctx.waitUntil(env.STATE.put("seen", { at: 1 }, { ttl: 60 }));
    if (request.headers.get("upgrade") === "websocket") {
      const [client, server] = new WebSocketPair();
      server.accept();
      server.addEventListener("message", (event) => server.send(event.data));
      return new Response(null, { status: 101, webSocket: client });
    }
    const address: string = request.cf?.clientIp ?? "unknown";
    const subject = request.cf?.tlsClientAuth?.certSubjectDN;
    const { value, version } = await env.STATE.getWithVersion("a", "text");
    const text: string | null = value;
    const done = await env.STATE.atomic().check("a", version).put("a", `${text}!`).delete("b").commit();
    if (!done.ok) console.log(done.check);
    for await (const change of env.STATE.watch({ prefix: "a/" })) console.log(change.type, change.key);
    const count: number = await env.notes.count();
    const other: Response = await env.notes.fetch(request);
    const bytes: Uint8Array | null = await env.FILES.read("a.bin", { offset: 1 });
    const file: string | null = await env.FILES.read("a.txt", "text");
    await env.FILES.write("b", other.body ?? "none", { createNew: true });
    await env.FILES.write("b", bytes ?? "", { offset: 4 });
    const appended: number = (await env.FILES.append("log", "line")).size;
    await env.FILES.rename("b", "c", { createNew: appended > 1 });
    for await (const { kind, path } of await env.FILES.watch("", { recursive: true })) {
      if (kind === "rescan") await env.FILES.copy(path, "copy");
      // @ts-expect-error: not a kind of change
      if (kind === "renamed") break;
    }
    // @ts-expect-error: a watch is there when its promise is fulfilled
    env.FILES.watch("").cancel();
    const events = new EventSource("https://a.example/events");
    events.onmessage = ({ data }) => console.log(data.length);
    const socket = new WebSocket("wss://a.example/", new Set(["chat"]));
    socket.onerror = ({ message }) => console.log(message.length);
    // @ts-expect-error -- not in Env
    env.OTHER;
    // @ts-expect-error -- a text
    const wrong: number = env.GREETING;
    // @ts-expect-error -- a function is no value
    await env.STATE.put("a", () => 1);
    console.log(address, subject, count, bytes, file, wrong, navigator.userAgent);
    return env.ASSETS.fetch(request);
  },
  async connect(socket, env, ctx) {
    const { remoteAddress } = await socket.opened;
    ctx.waitUntil(socket.closed);
    console.log(remoteAddress?.length, env.GREETING, same === connect, socket.protocol === "udp");
    const upstream = connect({ hostname: "db.example", port: 5432 }, { secureTransport: "starttls", allowHalfOpen: true });
    const secure: Socket = upstream.startTls({ expectedServerHostname: "db.example" });
    await socket.readable.pipeTo(secure.writable);
    // @ts-expect-error -- on, off or starttls
    connect("db.example:5432", { secureTransport: "maybe" });
    await secure.close();
  },
  async scheduled(controller, env) {
    console.log(controller.cron, new Date(controller.scheduledTime), env.GREETING);
  },
} satisfies ExportedHandler<Env>;

export class Site extends WorkerEntrypoint<Env> {
  override fetch(request: Request): Response {
    this.ctx.waitUntil(this.env.STATE.get(request.url));
    return Response.json(shared);
  }
}

export async function extras(): Promise<void> {
  const fixed: IdentityTransformStream = new FixedLengthStream(3n);
  void fixed.writable.getWriter().write("abc");
  const found: AsyncLocalStorageConstructor = process.getBuiltinModule("node:async_hooks").AsyncLocalStorage;
  const sent: Response = new Response(fixed.readable);
  await new Blob(["abc"]).stream().pipeTo(fixed.writable);
  await scheduler.wait(1, { signal: AbortSignal.timeout(5) });
  const same: boolean = crypto.subtle.timingSafeEqual(new Uint8Array(1), new ArrayBuffer(1));
  const storage = new AsyncLocalStorage<{ id: number }>();
  const id: number | undefined = storage.run({ id: 1 }, () => storage.getStore()?.id);
  const inside = new HookStorage<string>().run("a", (n: number) => n + 1, 1);
  const resource = new AsyncResource("a").runInAsyncScope(() => "b");
  console.log(sent, same, id, inside, resource, global.fetch, new IdentityTransformStream().readable, found);
  // @ts-expect-error -- bytes are compared
  crypto.subtle.timingSafeEqual("a", "b");
}

export function rewritten(response: Response): Response {
  return new HTMLRewriter()
    .on("a", {
      async element(link) {
        const href: string | null = link.getAttribute("href");
        for (const [name, value] of link.attributes) link.before(`${name}=${value}`).after(href ?? "", { html: true });
        link.onEndTag((tag) => tag.before(tag.name).after(new Response("a")));
        await scheduler.wait(1);
      },
      text: (part) => part.lastInTextNode ? part.remove() : part.text,
    })
    .onDocument({ end: (end) => end.append("<!-- -->", { html: true }) })
    .transform(response);
}

class Draft extends RpcTarget {
  text = "";
  append(text: string): number {
    return (this.text += text).length;
  }
}

export async function stubs(notes: Service<{ open(): Promise<Stub<Draft>>; watch(fn: (n: number) => void): Promise<void> }>) {
  using draft = await notes.open();
  const length: number = await draft.append("a");
  const another: Stub<Draft> = draft.dup();
  another[Symbol.dispose]();
  await notes.watch((n) => console.log(n + length, new Draft()));
  const early: number = await notes.open().append("b");
  const text: string = await draft.text;
  // @ts-expect-error -- a property is read at the other site
  const now: string = draft.text;
  // @ts-expect-error -- there is no such method
  console.log(early, text, now, await draft.nothing());
}

export const bad = {
  // @ts-expect-error -- a handler gives a Response
  fetch: () => "text",
} satisfies ExportedHandler;

// @ts-expect-error -- NETWORK is of isolates that a script has made
NETWORK.send("a");
// @ts-expect-error -- neither is Deno
Deno.cwd();

// What each type of DNS record gives.
async function names(env: { NAMES: DnsResolver }): Promise<void> {
  const addresses: string[] = await env.NAMES.resolve("example.com");
  const servers = await env.NAMES.resolve("example.com", "MX");
  const best: { preference: number; exchange: string } | undefined = servers[0];
  const texts: string[][] = await env.NAMES.resolve("example.com", "TXT");
  // @ts-expect-error: this type of record does not exist
  await env.NAMES.resolve("example.com", "ANY");
  void [addresses, best, texts];
}
void names;
