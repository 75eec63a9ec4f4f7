//! What other sites call by name.

use libtest_mimic::Failed;
use serde_json::{Value, json};
use stockade_protocol::Payload;
use stockade_supervisor::CallError;

use crate::guest::Guest;
use crate::{cases, same};

cases![
    method_of_the_default_export_is_called_on_it,
    method_of_an_entrypoint_has_its_env,
    method_that_another_site_calls_can_wait_until,
    named_export_is_callable_too,
    name_that_every_object_has_is_none,
    getter_is_no_method_and_does_not_run,
    value_that_json_has_no_word_for_is_a_mark,
];

async fn call(guest: &Guest, name: &str, args: Value) -> Result<String, CallError> {
    let args = Payload::from_json(args.to_string());
    Ok(guest.handle.call(format!("\0{name}"), args).await?.json)
}

/// What the reply is where there is no such method.
const NONE: &str = "\"\\u0000n\"";

async fn method_of_the_default_export_is_called_on_it() -> Result<(), Failed> {
    let code = "class App {
            #sum = 0;
            fetch() {}
            async add(a, b) { return this.#sum += a + b; }
            bad() { throw new RangeError('no'); }
        }
        export default Object.assign(new App(), { own: (x) => ({ x }) })";
    let guest = Guest::start(code).await?;
    same!(call(&guest, "add", json!([1, 2])).await?, "3");
    same!(call(&guest, "add", json!([1, 2])).await?, "6");
    same!(call(&guest, "own", json!(["y"])).await?, "{\"x\":\"y\"}");
    match call(&guest, "bad", json!([])).await {
        Err(CallError::Guest(error)) => same!(error.to_string(), "RangeError: no"),
        other => return Err(format!("{other:?}").into()),
    }
    Ok(())
}

async fn method_of_an_entrypoint_has_its_env() -> Result<(), Failed> {
    let code = "
        import { WorkerEntrypoint } from 'cloudflare:workers';
        class Base extends WorkerEntrypoint { inherited() { return this.env.A + 'i'; } }
        export default class extends Base {
            fetch() {}
            name(text: string) { return text + this.env.A + typeof this.ctx.waitUntil; }
        }";
    let guest = Guest::start_with(code, json!({ "A": "a" })).await?;
    same!(call(&guest, "name", json!(["n"])).await?, "\"nafunction\"");
    same!(call(&guest, "inherited", json!([])).await?, "\"ai\"");
    same!(call(&guest, "env", json!([])).await?, NONE);
    Ok(())
}

async fn method_that_another_site_calls_can_wait_until() -> Result<(), Failed> {
    let code = "
        import { waitUntil } from 'cloudflare:workers';
        export default {
            fetch() {},
            async later() {
                waitUntil(new Promise((resolve) => setTimeout(resolve, 1)));
                return 'now';
            },
        }";
    let mut guest = Guest::start(code).await?;
    same!(call(&guest, "later", json!([])).await?, "\"now\"");
    guest.expect("call.pending").await?;
    guest.expect("call.settled").await?;
    Ok(())
}

async fn named_export_is_callable_too() -> Result<(), Failed> {
    let code = "export const twice = (n) => 2 * n; export default { fetch() {}, twice: (n) => -n }";
    let guest = Guest::start(code).await?;
    same!(call(&guest, "twice", json!([2])).await?, "-2");
    let guest =
        Guest::start("export const twice = (n) => 2 * n; export default { fetch() {} }").await?;
    same!(call(&guest, "twice", json!([2])).await?, "4");
    Ok(())
}

async fn name_that_every_object_has_is_none() -> Result<(), Failed> {
    let guest = Guest::start("export default { fetch() {}, scheduled() {} }").await?;
    for name in [
        "fetch",
        "scheduled",
        "constructor",
        "then",
        "toString",
        "hasOwnProperty",
        "__proto__",
        "__defineGetter__",
        "valueOf",
        "missing",
        "",
        "default",
    ] {
        same!(
            (name, call(&guest, name, json!([])).await?.as_str()),
            (name, NONE)
        );
    }
    Ok(())
}

async fn getter_is_no_method_and_does_not_run() -> Result<(), Failed> {
    let code = "export default { fetch() {}, get secret() { throw new Error('ran') }, data: 1 }";
    let guest = Guest::start(code).await?;
    same!(call(&guest, "secret", json!([])).await?, NONE);
    same!(call(&guest, "data", json!([])).await?, NONE);
    Ok(())
}

async fn value_that_json_has_no_word_for_is_a_mark() -> Result<(), Failed> {
    let code = "export default { fetch() {}, same: (x) => x, nothing() {}, instance: () => new (class Own {}),
        seen: (map, date, none) => [map instanceof Map, map.get(1), date.getTime(), none === undefined] }";
    let guest = Guest::start(code).await?;
    for value in [
        r#"["\u0000M",1,["\u0000S","\u0000fNaN","\u0000u"]]"#,
        r#"{"a":"\u0000d-5","b":"\u0000iff","c":"\u0000i-1","d":"\u0000f-0","e":"\u0000\u0000s1"}"#,
        r#"["\u0000E","TypeError","m",{"cause":"\u0000d0"}]"#,
    ] {
        let args = Payload {
            marked: true,
            ..Payload::from_json(format!("[{value}]"))
        };
        let reply = guest.handle.call("\0same", args).await?;
        same!((reply.json.as_str(), reply.marked), (value, true));
    }
    let args = Payload {
        marked: true,
        ..Payload::from_json(r#"[["\u0000M",1,"x"],"\u0000d7","\u0000u"]"#.to_owned())
    };
    let reply = guest.handle.call("\0seen", args).await?;
    same!(
        (reply.json.as_str(), reply.marked),
        (r#"[true,"x",7,true]"#, false)
    );
    same!(call(&guest, "nothing", json!([])).await?, "");
    match call(&guest, "instance", json!([])).await {
        Err(CallError::Guest(error)) => {
            same!(error.name, "TypeError");
            same!(error.message.starts_with("a Own object cannot"), true);
        }
        other => return Err(format!("{other:?}").into()),
    }
    Ok(())
}
