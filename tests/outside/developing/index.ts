import { Hono } from "hono";
import { z } from "zod";

const Order = z.object({ item: z.string().min(1), count: z.number().int().positive() });

const app = new Hono<{ Bindings: Env }>();
app.get("/", (context) => context.html(`<!doctype html><h1>${context.env.GREETING}</h1>`));
app.post("/orders", async (context) => {
  const order = Order.safeParse(await context.req.json());
  return order.success ? context.json({ ordered: order.data.count }) : context.json(z.treeifyError(order.error), 400);
});
app.get("/broken", () => {
  throw new RangeError("<b>broken</b>");
});

export default { fetch: app.fetch };
