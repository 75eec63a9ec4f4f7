export async function main(...args: string[]): Promise<number> {
  await new Promise((resolve) => setTimeout(resolve, 5));
  setTimeout(() => console.log("and then"), 5);
  return Number(args[0]);
}
