// Names.
const addresses = (await Deno.resolveDns("localhost", "A").catch((error) => [error.name]));
console.log(Array.isArray(addresses) && addresses.length > 0);
try {
  await Deno.connect({ hostname: "host.invalid", port: 1 });
} catch (error) {
  console.log(error instanceof Error);
}
const listener = Deno.listen({ hostname: "localhost", port: 0 });
const conn = await Deno.connect({ hostname: "localhost", port: listener.addr.port });
console.log(conn.remoteAddr.port === listener.addr.port);
conn.close();
listener.close();
