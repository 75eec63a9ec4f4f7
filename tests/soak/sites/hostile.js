// What a site must not be able to do to its neighbours. env.DEED says which it is.

const kept = [];

const deeds = {
  loop() {
    for (;;);
  },
  async microtasks() {
    for (;;) await null;
  },
  bomb() {
    for (;;) kept.push(new Array(10_000).fill({}));
  },
  buffers() {
    for (;;) kept.push(new Uint8Array(1 << 20).fill(1));
  },
  leak() {
    kept.push(new Uint8Array(1 << 20).fill(1));
    return new Response("more");
  },
  throw() {
    throw new Error("no");
  },
  crash() {
    const down = () => down() + 1;
    return down();
  },
  never() {
    return new Promise(() => {});
  },
  headers() {
    const headers = new Headers();
    for (let n = 0; n < 2000; n++) headers.append(`x-${n}`, "y".repeat(1000));
    return new Response("huge", { headers });
  },
  console() {
    for (let n = 0; n < 10_000; n++) console.log("z".repeat(1000));
    return new Response("said");
  },
  flood() {
    return new Response(new ReadableStream({
      pull(controller) {
        controller.enqueue(new Uint8Array(1 << 20));
      },
    }));
  },
  async state(_request, env) {
    const puts = [];
    for (let n = 0; n < 3000; n++) puts.push(env.STATE.put(`k${n}`, "v".repeat(2000)));
    await Promise.allSettled(puts);
    return new Response("written");
  },
  timers() {
    for (let n = 0; n < 100_000; n++) setInterval(() => {}, 1);
    return new Response("ticking");
  },
  background(_request, _env, ctx) {
    ctx.waitUntil(new Promise(() => {}));
    return new Response("later");
  },
};

export default {
  fetch(request, env, ctx) {
    return deeds[env.DEED](request, env, ctx);
  },
};
