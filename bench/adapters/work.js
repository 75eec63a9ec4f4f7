// The measured work. It is the same for every runtime: an adapter gives `create()`, which resolves
// with a guest once that guest's first message is here, and nothing else differs.
//
// Talks to the harness in lines on standard output: `mark <name>` where the harness shall read the
// process's memory, and at the end `result <json>`.

const MB = 1 << 20;
/** A mark waits this long, so that the harness has read what it reads before the work goes on. */
const MARK_MS = 400;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const now = () => performance.now();

async function mark(name, ms = MARK_MS) {
  console.log(`mark ${name}`);
  await sleep(ms);
}

function quantile(sorted, q) {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))];
}

function summary(times, factor = 1) {
  const sorted = Float64Array.from(times).sort();
  const at = (q) => quantile(sorted, q) * factor;
  return { median: at(0.5), p95: at(0.95), p99: at(0.99), count: sorted.length };
}

/** An `ask(message)` that resolves with the guest's next message. */
function asker(guest) {
  let resolve;
  guest.receive((message) => resolve(message));
  return (message) =>
    new Promise((done) => {
      resolve = done;
      guest.send(message);
    });
}

/** From asking for a guest to its first message, one guest at a time. */
async function create({ create }, { count, firstMs = 0, pauseMs = 20 }) {
  const times = [];
  await sleep(firstMs);
  for (let i = 0; i < count; i++) {
    const began = now();
    const guest = await create();
    times.push(now() - began);
    await guest.close();
    // The end of this one, and a replacement in a warm pool, are not the next one's cost.
    await sleep(pauseMs);
  }
  const { median, p95, p99 } = summary(times);
  return { create_ms: median, create_p95_ms: p95, create_p99_ms: p99 };
}

/** A small message to the guest and back, one at a time. */
async function roundTrip({ create }, { count }) {
  const ask = asker(await create());
  for (let i = 0; i < count / 10; i++) await ask({ kind: "echo", i });
  const times = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    const began = now();
    await ask({ kind: "echo", i });
    times[i] = now() - began;
  }
  const { median, p95, p99 } = summary(times, 1000);
  return { round_trip_us: median, round_trip_p95_us: p95, round_trip_p99_us: p99 };
}

/** Small messages from the guest to the host, as fast as they go. */
async function oneWay({ create }, { count }) {
  const guest = await create();
  const flood = (count) =>
    new Promise((resolve) => {
      let left = count;
      guest.receive(() => {
        if (--left === 0) resolve();
      });
      guest.send({ kind: "flood", count });
    });
  await flood(count / 20);
  const began = now();
  await flood(count);
  return { one_way_per_s: (count / (now() - began)) * 1000 };
}

/** 1 MB there and back, compared with the copies that are unavoidable: one in each direction. */
async function payload({ create }, { count }) {
  const ask = asker(await create());
  const bytes = new Uint8Array(MB).map((_, i) => i * 31);
  const text = "x".repeat(MB);

  async function time(action) {
    const times = [];
    for (let i = 0; i < count + 5; i++) {
      const began = now();
      await action();
      if (i >= 5) times.push(now() - began);
    }
    return summary(times).median;
  }
  const echo = (data) => async () => {
    const { data: back } = await ask({ kind: "echo", data });
    if (back.length !== MB) throw new Error(`${back.length} of ${MB} came back`);
  };
  // Kept until the next: a copy that is garbage at once may be elided or reuse hot memory.
  let kept;
  const twice = (copy) => () => { kept = [copy(bytes), copy(bytes)]; };

  const bytesMs = await time(echo(bytes));
  const textMs = await time(echo(text));
  const copyMs = await time(twice((data) => data.slice()));
  const cloneMs = await time(twice((data) => structuredClone(data)));
  if (kept.length !== 2) throw new Error("nothing was copied");
  return {
    payload_bytes_ms: bytesMs,
    payload_text_ms: textMs,
    two_copies_ms: copyMs,
    two_clones_ms: cloneMs,
    payload_to_copies: bytesMs / copyMs,
    payload_to_clones: bytesMs / cloneMs,
  };
}

/** Idle guests, between two marks; the one before the first mark pays what all share. */
async function memory({ create }, { count, settleMs, markMs }) {
  const guests = [await create()];
  await sleep(settleMs);
  await mark("before", markMs);
  for (let i = 0; i < count; i++) guests.push(await create());
  await sleep(settleMs);
  await mark("after", markMs);
  return { isolates: count, alive: guests.length };
}

/** Many guests at once, each of which answers, and then rests for `idleMs`. */
async function many({ create }, { count, settleMs = 0, markMs, idleMs }) {
  await mark("before", markMs);
  const began = now();
  const guests = [];
  for (let i = 0; i < count; i++) guests.push(await create());
  const created = now();
  const answers = await Promise.all(guests.map((guest, i) => asker(guest)({ kind: "echo", i })));
  const answered = now();
  if (answers.some((answer, i) => answer.i !== i)) throw new Error("a wrong answer");
  await sleep(settleMs);
  await mark("after", markMs);
  if (idleMs) {
    await mark("idle", idleMs);
    await mark("idled");
  }
  return { isolates: count, many_create_s: (created - began) / 1000, many_ping_ms: answered - created };
}

/** p99 of a quiet guest's round trip, alone and next to a guest that computes all the time. */
async function neighbour({ create }, { rounds, ms }) {
  const ask = asker(await create());
  const spin = asker(await create({ unlimited: true }));
  async function tripsFor(ms) {
    const times = [];
    const end = now() + ms;
    for (let i = 0; now() < end; i++) {
      const began = now();
      await ask({ kind: "echo", i });
      times.push(now() - began);
    }
    return summary(times, 1000);
  }
  await tripsFor(ms / 2);
  const ratios = [];
  const alone = [];
  const together = [];
  for (let i = 0; i < rounds; i++) {
    const quiet = await tripsFor(ms);
    const spun = spin({ kind: "spin", ms: ms + 200 });
    await sleep(50);
    const loaded = await tripsFor(ms);
    await spun;
    alone.push(quiet.p99);
    together.push(loaded.p99);
    ratios.push(loaded.p99 / quiet.p99);
  }
  return {
    alone_p99_us: summary(alone).median,
    beside_p99_us: summary(together).median,
    neighbour_ratio: summary(ratios).median,
  };
}

/** Guests started and ended one by one, every second one by `kill` where the adapter has it. */
async function churn({ create, kill }, { count, settleMs, markMs }) {
  // A host with nothing but idle isolates ends, and one that is killed from outside is idle.
  const awake = setInterval(() => {}, 1000);
  const one = async (i) => {
    const guest = await create();
    if (kill && i % 2 === 1) await kill();
    else guest.close();
    await guest.ended;
  };
  for (let i = 0; i < count / 50; i++) await one(i);
  await sleep(settleMs);
  await mark("before", markMs);
  const began = now();
  for (let i = 0; i < count; i++) await one(i);
  const took = now() - began;
  await sleep(settleMs);
  await mark("after", markMs);
  clearInterval(awake);
  return { isolates: count, churn_per_s: (count / took) * 1000 };
}

/** Guests that each answer one message and are gone, `atOnce` of them at the same time. */
async function fresh({ create }, { count, atOnce }) {
  const awake = setInterval(() => {}, 1000);
  let left = count;
  const began = now();
  async function some() {
    while (left-- > 0) {
      const guest = await create();
      const { i } = await asker(guest)({ kind: "echo", i: left });
      if (i !== undefined) guest.close();
      await guest.ended;
    }
  }
  await Promise.all(Array.from({ length: atOnce }, some));
  const took = now() - began;
  clearInterval(awake);
  return { fresh_per_s: (count / took) * 1000 };
}

const works = { create, roundTrip, oneWay, payload, memory, many, churn, fresh, neighbour };

/** Does the task's work over an adapter and prints the result. */
export async function run(task, adapter) {
  console.log(`result ${JSON.stringify(await works[task.work](adapter, task))}`);
}
