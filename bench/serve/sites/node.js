// The same four sites on Node's own HTTP server: `node node.js hello 8080`.

import { Agent, createServer, request as get } from "node:http";

const [, , site, port] = process.argv;
const chunk = Buffer.alloc(64 << 10, 120);
const agent = new Agent({ keepAlive: true });

const sites = {
  hello(_request, response) {
    response.setHeader("content-type", "text/plain;charset=UTF-8");
    response.end("Hello, World!");
  },
  echo(request, response) {
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => {
      try {
        const text = JSON.stringify(JSON.parse(Buffer.concat(parts).toString()));
        response.setHeader("content-type", "application/json");
        response.end(text);
      } catch {
        response.statusCode = 400;
        response.end();
      }
    });
  },
  stream(_request, response) {
    let left = 16;
    const more = () => {
      while (left-- > 0) if (!response.write(chunk)) return response.once("drain", more);
      response.end();
    };
    more();
  },
  proxy(_request, response) {
    get(process.env.UPSTREAM, { agent }, (upstream) => {
      response.writeHead(upstream.statusCode, upstream.headers);
      upstream.pipe(response);
    }).end();
  },
};

createServer(sites[site]).listen(Number(port), "127.0.0.1");
