// npm's mongodb through a grant of the kind `mongo`: the driver has an address that only this site knows, and no password.

import { Code, MongoClient } from "mongodb";

export default async (_options, env) => {
  const client = new MongoClient(env.DB.connectionString, { serverSelectionTimeoutMS: 8000 });
  await client.connect();
  const shop = client.db();
  const things = shop.collection("things");
  await things.deleteMany({});
  await things.insertMany(Array.from({ length: 250 }, (_, n) => ({ n, text: "h\u00e9".repeat(100) })));
  await things.createIndex({ n: 1 });
  // Several batches, on whichever connection is free.
  const [some, all] = await Promise.all([
    things.find({ n: { $gte: 248 } }).sort({ n: -1 }).toArray(),
    things.find({}).batchSize(50).toArray(),
  ]);
  const updated = await things.updateMany({ n: { $lt: 10 } }, { $set: { low: true } });
  const one = await things.findOneAndUpdate({ n: 1 }, { $inc: { hits: 1 } }, { returnDocument: "after" });
  const sum = await things.aggregate([{ $group: { _id: null, sum: { $sum: "$n" } } }]).toArray();
  const count = await things.countDocuments({ low: true });
  const names = (await shop.listCollections().toArray()).map(({ name }) => name);
  const refused = [];
  for (const work of [
    () => things.find({ $where: "1" }).toArray(),
    () => things.insertOne({ code: new Code("1") }),
    () => things.aggregate([{ $out: { db: "other", coll: "x" } }]).toArray(),
    () => client.db("admin").command({ listDatabases: 1 }),
    () => shop.command({ mapReduce: "things" }),
  ]) {
    refused.push(await work().then(() => "done", (error) => error.codeName));
  }
  await client.close();
  return [some.map(({ n }) => n), all.length, updated.modifiedCount, one.hits, sum[0].sum, count, names, refused];
};
