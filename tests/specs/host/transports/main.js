// What kinds of sockets there are; asking for another one is an error and not the end of the program.
const reported = async (f) => {
  try {
    (await f()).close();
    return "there";
  } catch (error) {
    return `${error.name}: ${error.message}`;
  }
};
for (const transport of ["vsock", "tunnel", "udp"]) {
  console.log(await reported(() => Deno.listen({ transport, cid: 1, port: 1 })));
  console.log(await reported(() => Deno.connect({ transport, cid: 1, port: 1 })));
}
console.log(await reported(() => Deno.listen({ port: 0 })));
console.log(await reported(() => Deno.listen({ port: 0, reusePort: true })));
