// Rules that customers wrote, run in containers: tools of this program, limits, and errors with the customer's own line.
//
//     npm install stockade && node plugins.mjs

import { Sandbox } from "stockade";

const stock = new Map([["tea", 12], ["milk", 0]]);
const tools = {
  stock: {
    description: "How many of a good there are",
    call: ({ good }) => {
      if (!stock.has(good)) throw new RangeError(`there is no ${good}`);
      return stock.get(good);
    },
  },
};

const rules = {
  "how many to order": `
    const wanted: Record<string, number> = { tea: 20, milk: 4 };
    const order: Record<string, number> = {};
    for (const [good, count] of Object.entries(wanted)) {
      order[good] = count - (await tools.stock({ good }));
      console.log(good, "is", order[good], "short");
    }
    return order;`,
  "a rule with an error": `const tea: any = await tools.stock({ good: "tea" });\ntea.amount.toFixed()`,
  "an endless rule": "for (;;);",
  "a curious rule": `await fetch("http://169.254.169.254/").catch(() => "refused")`,
};

const sandbox = new Sandbox({ memory: "64mb", cpu: "200ms", tools });
try {
  for (const [name, code] of Object.entries(rules)) {
    const { result, error, console: lines, refused } = await sandbox.run(code);
    const problem = error?.kind === "thrown" ? `${error.name} in line ${error.line}: ${error.message}` : error?.kind;
    console.log(`${name}:`, problem ?? result);
    for (const { text } of lines) console.log("  ", text);
    for (const { host } of refused) console.log("   tried to reach", host);
  }
} finally {
  await sandbox.close();
}
