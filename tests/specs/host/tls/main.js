// TLS on the loopback with a certificate of its own authority, and STARTTLS.
const folder = new URL("../../../testdata/tls/", import.meta.url);
const read = (name) => Deno.readTextFileSync(new URL(name, folder));
const cert = read("localhost.crt");
const key = read("localhost.key");
const caCerts = [read("ca.crt")];

const listener = Deno.listenTls({ port: 0, hostname: "127.0.0.1", cert, key });
const { port } = listener.addr;
const serve = async () => {
  const conn = await listener.accept();
  try {
    await conn.readable.pipeTo(conn.writable);
  } catch {
    // The peer turned us down.
  }
};
let served = serve();
const conn = await Deno.connectTls({ hostname: "localhost", port, caCerts });
await conn.write(new TextEncoder().encode("secret"));
const buffer = new Uint8Array(10);
console.log(new TextDecoder().decode(buffer.subarray(0, await conn.read(buffer))));
console.log((await conn.handshake()).alpnProtocol);
conn.close();
await served;

served = serve();
const plain = await Deno.connect({ hostname: "127.0.0.1", port });
const upgraded = await Deno.startTls(plain, { hostname: "localhost", caCerts });
await upgraded.write(new TextEncoder().encode("upgraded"));
console.log(new TextDecoder().decode(buffer.subarray(0, await upgraded.read(buffer))));
upgraded.close();
await served;

served = serve();
try {
  const refused = await Deno.connectTls({ hostname: "localhost", port });
  await refused.handshake();
} catch (error) {
  console.log(error.name, error.message);
}
await served;
listener.close();
