// Standard input as a stream, standard output and standard error as bytes.
const text = await new Response(Deno.stdin.readable).text();
console.log(text.toUpperCase());
const encoder = new TextEncoder();
await Deno.stdout.write(encoder.encode("bytes\n"));
Deno.stdout.writeSync(encoder.encode("sync\n"));
Deno.stderr.writeSync(encoder.encode("to stderr\n"));
console.error("error");
console.warn("warn");
console.log(prompt("name?"), confirm("sure?"), alert());
