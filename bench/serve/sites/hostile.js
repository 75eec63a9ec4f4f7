// What a site does that takes all it can get: computes, floods its console and sends as much as it may.

const line = "x".repeat(8000);
const chunk = new Uint8Array(64 << 10).fill(120);

export default {
  fetch() {
    const until = Date.now() + 50;
    while (Date.now() < until) console.log(line);
    let left = 16;
    const body = new ReadableStream({
      pull(controller) {
        if (left-- > 0) controller.enqueue(chunk);
        else controller.close();
      },
    });
    return new Response(body);
  },
};
