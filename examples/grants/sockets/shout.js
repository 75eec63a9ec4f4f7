// Takes connections of a listener, and gives back each line in capitals.
export default {
  async connect(socket) {
    const upper = new TransformStream({ transform: (text, out) => out.enqueue(text.toUpperCase()) });
    await socket.readable
      .pipeThrough(new TextDecoderStream())
      .pipeThrough(upper)
      .pipeTo(socket.writable);
  },
};
