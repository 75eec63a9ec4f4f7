// A guest reads a file of a form. What it holds then is the file as a blob and as bytes, and the form's own bytes are garbage.

const code = `(async () => {
  const size = 10 << 20;
  const text = new TextEncoder();
  const head = "--limit\\r\\nContent-Disposition: form-data; name=file; filename=a.bin\\r\\n\\r\\n";
  let left = size;
  const body = new ReadableStream({
    start: (controller) => controller.enqueue(text.encode(head)),
    pull(controller) {
      const length = Math.min(left, 65536);
      left -= length;
      if (length > 0) return controller.enqueue(new Uint8Array(length).fill(7));
      controller.enqueue(text.encode("\\r\\n--limit--\\r\\n"));
      controller.close();
    },
  });
  const headers = { "content-type": "multipart/form-data; boundary=limit" };
  const form = await new Response(body, { headers }).formData();
  const file = form.get("file");
  const bytes = await file.bytes();
  let streamed = 0;
  for await (const piece of file.slice(1, -1).stream()) {
    if (piece.some((byte) => byte !== 7)) throw new Error("other bytes");
    streamed += piece.length;
  }
  const mixed = await new Blob(["a", file.slice(0, 2), new Blob(["z"])]).bytes();
  return [file.name, bytes.length, bytes.every((byte) => byte === 7), streamed, mixed.join()].join(" ");
})()`;

const sandbox = new V8Sandbox();
const isolate = await sandbox.createIsolate({ isolation: "process", memoryLimitMb: 32, cpuLimitMs: 0, wallLimitMs: 0 });
console.log(await isolate.evaluate(code));
await sandbox.shutdown();
