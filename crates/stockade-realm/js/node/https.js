import { Agent, createServer, request as plain } from "node:http";

// Options that name no protocol mean https: here.
function secure(input) {
  return typeof input === "string" || input instanceof URL ? input : { _protocol: "https:", ...input };
}

export function request(input, options, callback) {
  return plain(secure(input), options, callback);
}

export function get(input, options, callback) {
  const made = request(input, options, callback);
  made.end();
  return made;
}

export { Agent, createServer };
export const globalAgent = new Agent();
export default { Agent, createServer, get, globalAgent, request };
