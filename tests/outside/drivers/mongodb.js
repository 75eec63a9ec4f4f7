import { MongoClient } from "mongodb";

export default async ({ host, port }) => {
  const client = new MongoClient(`mongodb://${host}:${port}/?directConnection=true`, {
    serverSelectionTimeoutMS: 8000,
  });
  await client.connect();
  const things = client.db("shop").collection("things");
  await things.deleteMany({});
  await things.insertMany([1, 2, 3, 4].map((n) => ({ n, text: "h\u00e9".repeat(1000) })));
  const found = await things.find({ n: { $gt: 2 } }).sort({ n: -1 }).toArray();
  const sum = await things.aggregate([{ $group: { _id: null, sum: { $sum: "$n" } } }]).toArray();
  await client.close();
  return [found.map(({ n }) => n), sum[0].sum];
};
