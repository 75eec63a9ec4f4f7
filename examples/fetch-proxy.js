// A guest's `fetch` is a request to the host, which checks every URL before it fetches it.
// Each redirect is a separate request, so an allowed server cannot redirect a guest to a forbidden one.
//
//   stockade run examples/fetch-proxy.js
//
// It runs a server of its own on the loopback interface and needs no network.

const server = Deno.serve({ hostname: '127.0.0.1', port: 0, onListen() {} }, async (request) => {
  const { pathname } = new URL(request.url);
  if (pathname === '/orders') {
    return Response.json({ method: request.method, body: await request.text() });
  }
  if (pathname === '/leave') {
    return Response.redirect('http://169.254.169.254/latest/meta-data');
  }
  return new Response('no such page', { status: 404 });
});
const allowedHosts = [`127.0.0.1:${server.addr.port}`];
const allowedMethods = ['GET', 'POST'];
const hidden = (text) => String(text).replaceAll(String(server.addr.port), 'PORT');

const sandbox = new V8Sandbox();
const worker = await sandbox.createIsolate({ env: { api: `http://${allowedHosts[0]}` } });

worker.onRequest('fetch', async ({ url, method, headers, body }, { signal }) => {
  const { host, protocol } = new URL(url);
  if (protocol !== 'http:' || !allowedHosts.includes(host)) throw new Error(`${host} is not allowed`);
  if (!allowedMethods.includes(method)) throw new Error(`${method} is not allowed`);
  console.log(hidden(`host: ${method} ${url}`));
  // `manual`: the guest's runtime follows redirects, by new requests to this handler.
  return await fetch(url, { method, headers, body, signal, redirect: 'manual' });
});

const attempts = {
  order: `const r = await fetch(NETWORK.env.api + '/orders', { method: 'POST', body: 'tea' }); return [r.status, await r.json()]`,
  missing: `const r = await fetch(NETWORK.env.api + '/nothing'); return [r.ok, r.status, await r.text()]`,
  elsewhere: `await fetch('https://example.com/')`,
  method: `await fetch(NETWORK.env.api, { method: 'DELETE' })`,
  redirect: `await fetch(NETWORK.env.api + '/leave')`,
};
for (const [name, code] of Object.entries(attempts)) {
  const result = await worker.evaluate(`(async () => { ${code} })()`).catch((error) => error.message);
  console.log(`guest, ${name}:`, result);
}

sandbox.shutdown();
await server.shutdown();
