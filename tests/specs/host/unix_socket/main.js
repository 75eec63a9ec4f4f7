// Unix sockets.
const dir = Deno.makeTempDirSync();
const path = `${dir}/socket`;
const listener = Deno.listen({ transport: "unix", path });
const accepted = listener.accept();
const conn = await Deno.connect({ transport: "unix", path });
const peer = await accepted;
await peer.write(new TextEncoder().encode("hi"));
peer.close();
console.log(await new Response(conn.readable).text());
listener.close();
Deno.removeSync(dir, { recursive: true });
