// Right and wrong uses of NETWORK.

interface Task {
  id: number;
}
NETWORK.on("compute", (data) => NETWORK.send("result", { answer: data.x + data.y }))
  .on<Task>("task", ({ id }) => NETWORK.send("done", { id }))
  .off("task");
const handler = (data: { a: string }): void => console.log(data.a);
NETWORK.on("a", handler).off("a", handler);
const { content } = await NETWORK.request("readFile", { path: "a" });
const length: number = await NETWORK.request<number>("length", content);
NETWORK.send("bytes", new Uint8Array(length));
declare global {
  namespace Stockade {
    interface Env {
      readonly prices: { of(item: string): Promise<number> };
    }
  }
}
const price: number = await NETWORK.env.prices.of("tea");
NETWORK.send("price", price);
// @ts-expect-error -- declared to take a text
await NETWORK.env.prices.of(1);
const region = NETWORK.env["region"];
if (typeof region === "string") console.log(region.length);

// @ts-expect-error -- events have names that are text
NETWORK.on(1, () => {});
// @ts-expect-error -- a handler is asked for
NETWORK.on("a");
// @ts-expect-error -- functions do not cross
NETWORK.send("a", () => 1);
// @ts-expect-error -- a BigInt does not cross
await NETWORK.request("a", 1n);
// @ts-expect-error -- frozen
NETWORK.env["region"] = "eu";
// @ts-expect-error -- const
NETWORK = undefined;
