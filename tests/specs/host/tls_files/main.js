// Certificates and keys from files: what is missing or empty is reported by the classes of Deno.errors.
const folder = new URL("../../../testdata/tls/", import.meta.url);
const certFile = new URL("localhost.crt", folder).pathname;
const keyFile = new URL("localhost.key", folder).pathname;
const empty = Deno.makeTempFileSync();
const reported = (options) => {
  try {
    const listener = Deno.listenTls({ port: 0, hostname: "127.0.0.1", ...options });
    listener.close();
    return "listens";
  } catch (error) {
    return [error.name, error instanceof (Deno.errors[error.name] ?? globalThis[error.name])].join(" ");
  }
};
console.log(reported({ certFile, keyFile }));
console.log(reported({ certFile: "/none.crt", keyFile }));
console.log(reported({ certFile, keyFile: "/none.key" }));
console.log(reported({ certFile: empty, keyFile }));
console.log(reported({ certFile, keyFile: empty }));
console.log(reported({ certFile }));
console.log(reported({}));
await Deno.connectTls({ hostname: "127.0.0.1", port: 1, certFile: "/none.crt", keyFile })
  .catch((error) => console.log(error.name));
Deno.removeSync(empty);
