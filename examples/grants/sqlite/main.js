// A guest book: POST adds an entry, GET lists the latest ones. At most 1,000 entries are kept.

const MOST = 1000;

async function prepared(db) {
  await db.exec("create table if not exists entries (id integer primary key, time text not null, text not null)");
}

export default {
  async fetch(request, { DB }) {
    await prepared(DB);
    if (request.method === "POST") {
      const text = (await request.text()).slice(0, 500);
      // Reads and writes of a transaction happen as one, whatever other requests do meanwhile.
      const id = await DB.transaction(async (tx) => {
        const { meta } = await tx.prepare("insert into entries (time, text) values (datetime(), ?)").bind(text).run();
        await tx.prepare("delete from entries where id <= ?").bind(meta.last_row_id - MOST).run();
        return meta.last_row_id;
      });
      return Response.json({ id }, { status: 201 });
    }
    const { results } = await DB.prepare("select * from entries order by id desc limit 20").all();
    return Response.json(results);
  },
};
