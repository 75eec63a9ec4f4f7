// TCP on the loopback.
const listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
const { port } = listener.addr;
const server = (async () => {
  for await (const conn of listener) {
    await conn.readable.pipeTo(conn.writable);
  }
})();
const conn = await Deno.connect({ hostname: "127.0.0.1", port });
await conn.write(new TextEncoder().encode("echo"));
const buffer = new Uint8Array(10);
const length = await conn.read(buffer);
console.log(new TextDecoder().decode(buffer.subarray(0, length)));
await conn.closeWrite();
console.log(await conn.read(buffer), conn.remoteAddr.transport);
conn.close();
listener.close();
await server;
try {
  await Deno.connect({ hostname: "127.0.0.1", port });
} catch (error) {
  console.log(error.name);
}
