// A plugin that asks its host for something.

export function words(text: string): number {
  return text.split(/\s+/).filter((word) => word !== "").length;
}

export async function transform(text: string): Promise<string> {
  const greeting: string = await NETWORK.request("greet", "plugin");
  return `${greeting}: ${words(text)} words`;
}
