//! Functions and objects that sites pass to each other.

use serde_json::{Value, json};

use crate::client::run;
use crate::server::{PLAIN, Server};

/// A site that evaluates what it is sent, with `env` at hand. Only for tests.
const FRONT: &str = "import { RpcPromise, RpcStub, RpcTarget } from 'cloudflare:workers';
Object.assign(globalThis, { RpcPromise, RpcStub, RpcTarget });
export default {
  async fetch(request, env, ctx) {
    const run = new Function('env', 'ctx', `return (async () => { ${await request.text()} })()`);
    try { return Response.json({ value: (await run(env, ctx)) ?? null }); }
    catch (error) { return Response.json({ value: `${error?.name}: ${error?.message}` }); }
  },
};";

const BACK: &str = "import { RpcTarget, WorkerEntrypoint } from 'cloudflare:workers';
class Counter extends RpcTarget {
  #count = 0;
  own = () => 'own';
  add(n) { return this.#count += n; }
  fail() { throw new RangeError('no more'); }
  child() { return new Counter(); }
  name() { return 'counter'; }
  length(...args) { return args.length; }
  get count() { return this.#count; }
  get adder() { return (n) => this.#count += n; }
  get another() { return new Counter(); }
  [Symbol.dispose]() { globalThis.disposed = (globalThis.disposed ?? 0) + 1; }
}
class Trap extends RpcTarget {
  then() { globalThis.trapped = true; }
  go() { return 7; }
}
let kept, borrowed;
export default class extends WorkerEntrypoint {
  fetch() { return new Response(); }
  counter() { return new Counter(); }
  adder(n) { return (x) => x + n; }
  nest() { return { make: () => new Counter(), list: [new Counter()] }; }
  trap() { return [new Trap()]; }
  trapped() { return globalThis.trapped ?? false; }
  async callMe(fn) { return await fn(20) + 1; }
  async callObject(object) { return [await object.name(), await object.secret().catch(String)]; }
  keep(fn) { kept = fn.dup(); return new Counter(); }
  keepBare(fn) { kept = fn.dup(); }
  borrow(fn) { borrowed = fn; }
  useKept(n) { return kept(n); }
  useBorrowed(n) { return borrowed(n); }
  drop() { kept[Symbol.dispose](); }
  disposed() { return globalThis.disposed ?? 0; }
  pass(stub) { return [stub.dup()]; }
  same(stub) { return stub; }
  early() { return this.env.third.counter(); }
  many(n) { return Array.from({ length: n }, () => () => 1); }
  end() { for (;;); }
}";

const GONE: &str = "TypeError: the stub has been disposed of";
const OVER: &str =
    "TypeError: the request or the call that the stub was received in is over: a stub ends with it";

fn start_with(options: &str) -> Server {
    start_sites(options, options)
}

/// `front` are options of the site that is asked, `others` of those that it calls.
fn start_sites(front: &str, others: &str) -> Server {
    let config = format!(
        "{PLAIN}instances:
  front:
    code: ./front.js
    urls: [front.example]
    bindings: {{other: back}}
    {front}
  back:
    code: ./back.js
    bindings: {{third: third}}
    {others}
  third:
    code: ./back.js
    {others}
"
    );
    Server::start(&config, &[("front.js", FRONT), ("back.js", BACK)])
}

async fn value(server: &Server, code: &str) -> Value {
    let answer = server.post("front.example", "/", code.to_owned()).await;
    let text = answer.text();
    assert_eq!(answer.status, 200, "{text}\n{}", server.log_text());
    answer.json()["value"].take()
}

/// Runs each program and compares what it gives.
fn each(server: &Server, cases: Vec<(&str, Value)>) {
    run(async {
        for (code, expected) in cases {
            assert_eq!(value(server, code).await, expected, "{code}");
        }
    });
}

#[test]
fn functions_and_objects_are_called_where_they_are() {
    for isolation in ["thread", "process", "container"] {
        let server = start_with(&format!("isolation: {isolation}"));
        each(&server, vec![
            ("const add = await env.other.adder(2); return add(40)", json!(42)),
            (
                "const c = await env.other.counter(); await c.add(1);
                 return [await c.add(2), typeof c, c instanceof RpcStub, await c.fail().catch(String), `${await c.child().add(5)}`]",
                json!([3, "function", true, "RangeError: no more", "5"]),
            ),
            ("return env.other.callMe(async (x) => x * 2)", json!(41)),
            ("return env.other.callMe(() => { throw new TypeError('mine') })", json!("TypeError: mine")),
        ]);
    }
}

#[test]
fn parts_of_objects_are_methods_and_getters_of_their_classes() {
    let server = start_with("");
    let no = "methods and getters of its class can be used";
    each(&server, vec![
        (
            "class Named extends RpcTarget { name() { return 'n' } secret = () => 1 }
             return env.other.callObject(new Named())",
            json!(["n", format!("TypeError: the object has no method 'secret': {no}")]),
        ),
        (
            "const c = await env.other.counter(); await c.add(2);
             return [await c.count, await c.adder(3), await c.another.add(4), await c.name(), await c.length(1, 2), await (await c.add)(1)]",
            json!([2, 5, 4, "counter", 2, 6]),
        ),
        (
            "const c = await env.other.counter();
             return [await c.own().catch(String), await c.nothing.catch(String), c.constructor === RpcStub, JSON.stringify({ c }), await c(1).catch(String)]",
            json!([
                format!("TypeError: the object has no method 'own': {no}"),
                format!("TypeError: the object has no property 'nothing': {no}"),
                true, "{}", "TypeError: the stub stands for an object: call a method of it"
            ]),
        ),
        ("const c = await env.other.counter(); c.mine = 1; return c.mine.catch((e) => e.name)", json!("TypeError")),
        // What goes to and fro is called where it is made, by way of both.
        ("const [back] = await env.other.pass((x) => [x, 'front']); return back(1)", json!([1, "front"])),
        ("const f = await env.other.same((x) => x + 1); return (await env.other.same(f))(2)", json!(3)),
        ("const c = await env.other.early(); return c.add(2)", json!(2)),
    ]);
}

#[test]
fn results_are_used_before_they_are_there() {
    let server = start_with("");
    each(
        &server,
        vec![
            ("return env.other.counter().add(5)", json!(5)),
            ("return env.other.adder(2)(40)", json!(42)),
            (
                "return Promise.all([env.other.counter().another.add(3), env.other.nest().make().add(2), env.other.nest().list[0].add(1)])",
                json!([3, 2, 1]),
            ),
            (
                "const p = env.other.counter(); return [p instanceof RpcPromise, await p.count, await p.fail().catch(String), await p.nothing().x.y().catch((e) => e.name)]",
                json!([true, 0, "RangeError: no more", "TypeError"]),
            ),
            (
                "return env.other.counter().own().finally(() => 1).catch((e) => e.name)",
                json!("TypeError"),
            ),
            (
                "return env.other.missing().add(1).catch((e) => e.name)",
                json!("TypeError"),
            ),
            (
                "return env.other.same(env.other.counter()).catch((e) => e.message)",
                json!(
                    "the result of a call of another site cannot be passed on before it is there: await it first"
                ),
            ),
            // A stub is no promise, and the object's own `then` is not called.
            (
                "const [t] = await env.other.trap(); const same = await t; return [same === t, await same.go(), await env.other.trapped()]",
                json!([true, 7, false]),
            ),
        ],
    );
}

#[test]
fn stubs_live_as_long_as_they_are_held() {
    let server = start_with("");
    each(&server, vec![
        (
            "await env.other.borrow((x) => x); const borrowed = await env.other.useBorrowed(1).catch(String);
             await env.other.keepBare((x) => x); const bare = await env.other.useKept(1).catch(String);
             using kept = await env.other.keep((x) => x + 1); const used = await env.other.useKept(1);
             await env.other.drop(); return [borrowed, bare, used, await env.other.useKept(1).catch(String)]",
            json!([OVER, OVER, 2, GONE]),
        ),
        (
            "const c = await env.other.counter(); const another = c.dup();
             c[Symbol.dispose](); const after = await c.add(1).catch(String);
             const alive = await another.add(1); const before = await env.other.disposed();
             { using last = another; }
             while (await env.other.disposed() === before) await scheduler.wait(5);
             return [after, alive, await env.other.disposed() - before]",
            json!([GONE, 1, 1]),
        ),
        (
            "using all = await env.other.many(3); all[Symbol.dispose](); return all[1]().catch(String)",
            json!(GONE),
        ),
    ]);
}

#[test]
fn stubs_end_with_the_request_that_they_were_received_in() {
    let server = start_with("");
    each(
        &server,
        vec![
            (
                "globalThis.c = await env.other.counter(); return c.add(1)",
                json!(1),
            ),
            ("return c.add(1).catch(String)", json!(OVER)),
            // Its object is released without a word of the site's.
            (
                "while (await env.other.disposed() < 1) await scheduler.wait(5); return c.dup === undefined",
                json!(false),
            ),
            // `waitUntil` keeps it.
            (
                "const c = await env.other.counter(); globalThis.late = 'waiting';
             ctx.waitUntil(scheduler.wait(100).then(() => c.add(4)).then((n) => { late = n }))",
                json!(null),
            ),
            (
                "while (late === 'waiting') await scheduler.wait(5); return late",
                json!(4),
            ),
            // What it has passed on ends with it.
            (
                "globalThis.sub = null; const sub = await env.other.keep((x) => x + 1); return env.other.useKept(1)",
                json!(2),
            ),
            (
                "return env.other.useKept(1).then(() => 'called', (e) => e.name)",
                json!("TypeError"),
            ),
        ],
    );
}

#[test]
fn stubs_are_bounded_and_cannot_be_made_up() {
    let server = start_with("");
    run(async {
        // However many are asked for, others are answered.
        let code = "const held = []; let why;
            try { for (;;) held.push(await env.other.counter()); } catch (error) { why = error.message; }
            return [held.length, /dispose of stubs/.test(why), (await env.other.many(1e6).catch((e) => e.message)).slice(0, 12)]";
        assert_eq!(
            value(&server, code).await,
            json!([1000, true, "others hold "])
        );
        let code = "const all = await env.other.many(900); const more = await env.other.many(200).catch((e) => e.message);
            all[Symbol.dispose](); return [all.length, /dispose of stubs/.test(more), (await env.other.many(900)).length]";
        assert_eq!(value(&server, code).await, json!([900, true, 900]));
        // What another site has lent is none of its methods.
        let code = "const add = await env.other.adder(1); await add(1);
            const tried = [];
            for (let id = 0; id < 5000; id++) {
                if (id > 20 && id % 100 !== 0) continue;
                for (const name of ['\\u0000' + id, '\\u0000\\u0000' + id, '\\u0000' + id + ':add', '\\u0000' + id + '.count']) {
                    tried.push(await env.other[name](1).catch((e) => e.message));
                }
            }
            return tried.every((message) => /has no method/.test(message)) || tried";
        assert_eq!(value(&server, code).await, true);
        for (code, expected) in [
            // Text that looks like a mark is a text.
            ("return env.other.callMe('\\0r1').catch((e) => e.message)", json!("fn is not a function")),
            ("return env.other.pass({ dup: 1 }).catch((e) => e.name)", json!("TypeError")),
            (
                "const c = await env.other.counter(); const m = await c['x'.repeat(1e6)]().catch((e) => e.message);
                 return [m.length < 100, m.slice(0, 30), await c['\\ud800']().catch((e) => e.name)]",
                json!([true, "the stub has nothing with a na", "TypeError"]),
            ),
        ] {
            assert_eq!(value(&server, code).await, expected, "{code}");
        }
    });
}

#[test]
fn stubs_of_sites_that_call_each_other_end() {
    let server = start_sites("", "limits: {timeout: 2s, concurrency: 20}");
    each(
        &server,
        vec![
            (
                "const f = async (n) => n === 0 ? 0 : 1 + await env.other.callMe(() => f(n - 1)); return f(10)",
                json!(20),
            ),
            // Without an end it is refused, and everything goes on.
            (
                "const f = () => env.other.callMe(f); return f().then(() => 'called', (e) => 'refused')",
                json!("refused"),
            ),
            ("return env.other.counter().add(1)", json!(1)),
        ],
    );
}

#[test]
fn what_a_guest_puts_on_prototypes_changes_no_stub() {
    let server = start_with("");
    let code = "const names = ['id', 'scope', 'value', 'get', 'set', 'apply', 'method', 'property', 'over', 'held', 'open', 'kept'];
        for (const name of names) Object.defineProperty(Object.prototype, name, { __proto__: null, value: 9, configurable: true, writable: true });
        Array.prototype.push = () => 'mine';  Function.prototype.call = Function.prototype.apply = undefined;
        return 1";
    run(async {
        let work = "const c = await env.other.counter(); await c.add(1); const d = c.dup(); c[Symbol.dispose]();
            return [await d.count, await env.other.callMe((x) => x), await env.other.counter().another.add(2)]";
        assert_eq!(value(&server, work).await, json!([1, 21, 2]));
        assert_eq!(value(&server, code).await, json!(1));
        assert_eq!(value(&server, work).await, json!([1, 21, 2]));
    });
}

#[test]
fn stubs_of_a_site_that_has_ended_reject() {
    let server = start_with("limits: {cpu: 100ms}");
    let code = "const c = await env.other.counter(); await c.add(1);
        const ended = await env.other.end().then(() => 'returned', () => 'ended');
        const message = await c.add(1).catch((e) => e.message);
        return [ended, /has ended/.test(message) || message, await env.other.counter().add(1)]";
    each(&server, vec![(code, json!(["ended", true, 1]))]);
}

#[test]
fn mirror_for_one_request_stays_for_the_stubs_that_it_gave() {
    let server = start_with("fresh: request");
    each(
        &server,
        vec![
            (
                "using c = await env.other.counter(); await c.add(1); await scheduler.wait(300); return c.add(1)",
                json!(2),
            ),
            ("return env.other.disposed()", json!(0)),
        ],
    );
}
