// What time the database says it is. Each request has a connection of its own, from the pool of the host.

import pg from "pg";

export default {
  async fetch(_request, env) {
    const client = new pg.Client({ connectionString: env.DB.connectionString });
    await client.connect();
    try {
      const { rows } = await client.query("select now() as time");
      return Response.json(rows[0]);
    } finally {
      await client.end();
    }
  },
};
