// A hostile site: what it logs, throws, stores and asks for is meant for the browser of the operator who reads it.

const MARKUP = `<img src=x onerror="window.taken=1"><script>window.taken=1</script>`;
const TURNED = "\u001b[31m\u202egnp.exe\u2066\u0000\u009b2J";

export default {
  async fetch(request, env) {
    switch (new URL(request.url).pathname) {
      case "/loop":
        for (;;);
      case "/log":
        console.log(`marked ${MARKUP}`);
        console.log(`turned ${TURNED}`);
        console.log(`long ${"x".repeat(1 << 20)}`);
        console.log("last line");
        return new Response("logged\n");
      case "/throw":
        throw new TypeError(`thrown ${MARKUP}${TURNED}`);
      case "/state":
        await env.STATE.put(`key ${MARKUP}${TURNED}`, `value ${MARKUP}`);
        return new Response("stored\n");
      case "/egress":
        return new Response(await fetch("https://api.example.com/").then(() => "reached", String));
      default:
        return new Response("hello\n");
    }
  },
};
