// The statements of a site in Node, without isolation: node node.js URL LEVEL COUNT

import pg from "pg";

import { clients, measured } from "./statements.js";

const [url, level, n] = process.argv.slice(2);
const connected = await clients(pg, url, Number(level));
console.log(JSON.stringify(await measured(Number(n), Number(level), connected.map((client) => () => client.query("select 1")))));
await Promise.all(connected.map((client) => client.end()));
