// Notes in a PostgreSQL database, without a driver. A POST adds its text as one, and every answer has the newest ones.

export default {
  async fetch(request, { DB: { sql } }) {
    try {
      const notes = await sql.begin(async (sql) => {
        const text = request.method === "POST" ? await request.text() : "";
        // The text is a parameter, whatever it holds.
        if (text !== "") await sql`insert into notes (text) values (${text})`;
        return await sql`select id, text, at from notes order by id desc limit ${100}`;
      });
      return Response.json(notes);
    } catch (error) {
      if (error.name !== "DatabaseError") throw error;
      return Response.json({ code: error.code, message: error.message }, { status: 500 });
    }
  },
};
