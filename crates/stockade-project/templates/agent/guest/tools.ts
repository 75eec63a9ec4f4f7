// Runs in each isolate before the code of the model: `tools.NAME(input)` asks the host.

type Tool = (input: unknown) => Promise<any>;

export const tools: Record<string, Tool> = new Proxy(Object.create(null), {
  get: (_, name) => typeof name === "string" && name !== "then"
    ? (input: unknown) => NETWORK.request("tool", { name, input })
    : undefined,
});

Object.assign(globalThis, { tools });
