// Notes in a collection. The client keeps its connections for the next request.

import { MongoClient } from "mongodb";

let client;

export default {
  async fetch(request, env) {
    client ??= new MongoClient(env.DB.connectionString);
    const notes = client.db().collection("notes");
    if (request.method === "POST") {
      const { insertedId } = await notes.insertOne({ text: await request.text(), made: new Date() });
      return Response.json({ id: insertedId });
    }
    const found = await notes.find({}, { projection: { _id: 0 } }).sort({ made: -1 }).limit(20).toArray();
    return Response.json(found);
  },
};
