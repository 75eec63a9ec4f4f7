// Runs statements by npm's pg through the door, and without a driver.

import pg from "pg";

import { clients, measured } from "../statements.js";

async function door(env, n, level) {
  const connected = await clients(pg, env.DB.connectionString, level);
  try {
    return await measured(n, level, connected.map((client) => () => client.query("select 1")));
  } finally {
    await Promise.all(connected.map((client) => client.end()));
  }
}

const sql = (env, n, level) => measured(n, level, Array.from({ length: level }, () => () => env.DB.sql`select 1`));

export default {
  async fetch(request, env) {
    const { pathname, searchParams } = new URL(request.url);
    const way = { "/door": door, "/sql": sql }[pathname];
    if (way === undefined) return new Response("ready");
    try {
      return Response.json(await way(env, Number(searchParams.get("n")), Number(searchParams.get("level"))));
    } catch (error) {
      return new Response(String(error?.stack ?? error), { status: 500 });
    }
  },
};
