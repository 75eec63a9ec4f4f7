// Sends the body of a request over a connection, and answers with what comes back.
import { connect } from "cloudflare:sockets";

export default {
  async fetch(request) {
    const socket = connect("127.0.0.1:7000");
    const writer = socket.writable.getWriter();
    await writer.write(await request.text());
    await writer.close();
    return new Response(socket.readable);
  },
};
