// Files for guests.

/** Files as the protocol has them: bytes in base64. */
export function encodeFiles(files) {
  if (files === undefined) return undefined;
  const encoded = Object.entries(files).map(([path, content]) => {
    if (typeof content === "string") return [path, content];
    if (!ArrayBuffer.isView(content) && !(content instanceof ArrayBuffer)) {
      throw new TypeError(`the content of the file '${path}' is neither text nor bytes`);
    }
    const bytes = ArrayBuffer.isView(content)
      ? Buffer.from(content.buffer, content.byteOffset, content.byteLength)
      : Buffer.from(content);
    return [path, { $bytes: bytes.toString("base64") }];
  });
  return Object.fromEntries(encoded);
}
