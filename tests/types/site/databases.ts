// Databases that the guest's own driver speaks to.

interface Env {
  DB: Hyperdrive;
}

export default {
  async fetch(_request: Request, env: Env) {
    const { connectionString, host, port, user, password, database } = env.DB;
    const socket: Socket = env.DB.connect();
    await socket.opened;
    // @ts-expect-error -- a member is not for changing
    env.DB.host = "localhost";
    // @ts-expect-error -- the server is that of the grant
    env.DB.connect("localhost:5432");
    return Response.json([connectionString, host, port + 1, user, password, database]);
  },
};
