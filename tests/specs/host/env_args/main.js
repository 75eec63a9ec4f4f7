// The environment, arguments, and what is known about the process.
console.log(Deno.args, Deno.args === Deno.args);
console.log(Deno.env.get("STOCKADE_TEST"), Deno.env.has("STOCKADE_NONE"), Deno.env.get("STOCKADE_NONE"));
Deno.env.set("STOCKADE_NEW", "value");
console.log(Deno.env.toObject().STOCKADE_NEW);
Deno.env.delete("STOCKADE_NEW");
console.log(Deno.env.has("STOCKADE_NEW"));
console.log(Deno.pid > 0, Deno.ppid > 0, Deno.hostname().length > 0, Deno.osRelease().length > 0);
const { rss, heapTotal, heapUsed, external } = Deno.memoryUsage();
console.log(rss > heapUsed, heapTotal > 0, external >= 0);
console.log(Object.keys(Deno.version), Deno.version.v8.length > 3, Deno.version.typescript === "");
console.log(Deno.build.os, typeof Deno.build.arch, Deno.mainModule.endsWith("/main.js"));
console.log(Deno.execPath().startsWith("/"), typeof Deno.uid(), Deno.loadavg().length);
console.log(Deno.inspect({ a: [1, "b"] }), Deno.noColor, Deno.isatty(0));
