/// <reference path="./types/host.d.ts" />

import { end, runCode } from "./run-code.ts";

// What the model may use.
const weather: Record<string, number> = { Oslo: 4, Lisbon: 19 };
const tools = {
  weather: ({ city }: { city: string }) => {
    if (!Object.hasOwn(weather, city)) throw new Error(`no weather for ${city}`);
    return { city, celsius: weather[city] };
  },
};

// What a model answered. Ask yours in its place.
const answers = [
  `const cities: string[] = ["Oslo", "Lisbon"];
   const found = await Promise.all(cities.map((city) => tools.weather({ city })));
   console.log("asked for", found.length);
   return found.sort((a, b) => b.celsius - a.celsius)[0];`,
  `return await tools.weather({ city: "Atlantis" });`,
  `for (;;);`,
  `return await fetch("https://example.com/");`,
];

for (const code of answers) console.log(await runCode(code, tools));
end();
