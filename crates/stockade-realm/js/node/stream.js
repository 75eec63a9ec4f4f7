import "internal:globals";
import stream from "internal:vendor/stream";

export const {
  addAbortSignal,
  compose,
  destroy,
  Duplex,
  finished,
  getDefaultHighWaterMark,
  isDisturbed,
  isErrored,
  isReadable,
  PassThrough,
  pipeline,
  promises,
  Readable,
  setDefaultHighWaterMark,
  Stream,
  Transform,
  Writable,
} = stream;

Readable.fromWeb = (web, options) => Readable.from(web, { objectMode: false, ...options });
Readable.toWeb = (readable) => {
  const iterator = readable[Symbol.asyncIterator]();
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await iterator.next();
      if (done) controller.close();
      else controller.enqueue(typeof value === "string" ? new TextEncoder().encode(value) : new Uint8Array(value));
    },
    async cancel(reason) {
      readable.destroy(reason instanceof Error ? reason : undefined);
    },
  });
};
Writable.fromWeb = (web, options) => {
  const writer = web.getWriter();
  return new Writable({
    ...options,
    write: (chunk, _, done) => void writer.write(chunk).then(() => done(), done),
    final: (done) => void writer.close().then(() => done(), done),
    destroy: (error, done) => void (error ? writer.abort(error) : Promise.resolve()).then(() => done(error), done),
  });
};

export default stream;
