//! Hostile guests, each with a harmless one.

use serde_json::json;

use super::{LEVELS, Server};

#[test]
fn guest_that_floods_its_console_is_bounded_and_others_go_on() {
    let server = Server::start();
    let mut client = server.client();
    for level in LEVELS {
        let sandbox = client.open(json!({ "level": level, "cpu": "300ms", "output": "64kb" }));
        let outcome = client.run(&sandbox, "for (;;) console.log('x'.repeat(10_000))");
        assert_eq!(outcome["error"]["kind"], "cpu_limit_exceeded", "{level}");
        assert_eq!(outcome["consoleTruncated"], true);
        let lines = outcome["console"].as_array().unwrap();
        let bytes: usize = lines
            .iter()
            .map(|line| line["text"].as_str().unwrap().len())
            .sum();
        assert!(bytes <= 64 << 10 && bytes > 32 << 10, "{level}: {bytes}");
        assert_eq!(
            client.run(&sandbox, "console.log('once'); 1")["console"][0]["text"],
            "once"
        );
    }
}

#[test]
fn guest_that_floods_tools_is_refused_beyond_the_bound() {
    let server = Server::start();
    let mut client = server.client();
    for level in LEVELS {
        let sandbox = client.open(json!({ "level": level, "tools": { "t": {} } }));
        let code = "const all = Array.from({ length: 1100 }, (_, i) => tools.t(i).catch((error) => error.message));
                    const first = await Promise.race(all);
                    [first, (await Promise.all(all.slice(1090))).length]";
        let id = client.send("run", json!({ "sandbox": sandbox, "code": code }));
        // No tool has been answered when the guest is refused more.
        let outcome = loop {
            let message = client.receive().unwrap();
            if message["id"] == id && message.get("method").is_none() {
                break message;
            }
        };
        let result = &outcome["result"]["result"];
        assert!(
            result[0].as_str().unwrap().contains("1024"),
            "{level}: {outcome}"
        );
        assert_eq!(result[1], 10, "{level}: {outcome}");
        // The control: as many, a thousand at a time.
        let code = "let n = 0; for (let i = 0; i < 3; i++) n += (await Promise.all(Array.from({ length: 1000 }, () => tools.t(1)))).length; n";
        let id = client.send("run", json!({ "sandbox": sandbox, "code": code }));
        let outcome = client.answer_with(id, |_| Ok(json!(null)));
        assert_eq!(outcome["result"]["result"], 3000, "{level}");
    }
}

#[test]
fn guest_that_sends_much_to_tools_is_refused() {
    let server = Server::start();
    let mut client = server.client();
    let sandbox = client.open(json!({ "tools": { "t": {} } }));
    let code = "await tools.t('x'.repeat(9 << 20)).catch((e) => e.message) + (await tools.t('x'.repeat(1 << 20))).length";
    let id = client.send("run", json!({ "sandbox": sandbox, "code": code }));
    let outcome = client.answer_with(id, |params| Ok(params["input"].clone()));
    let text = outcome["result"]["result"].as_str().unwrap();
    assert!(
        text.contains("larger than 8388608") && text.ends_with("1048576"),
        "{outcome}"
    );
    let large = client.run(&sandbox, "'x'.repeat(9 << 20)");
    assert_eq!(large["error"]["kind"], "not_json");
    let bytes = client.run(
        &sandbox,
        "await tools.t(new Uint8Array(2)).catch((e) => e.message)",
    );
    assert!(
        bytes["result"].as_str().unwrap().contains("not JSON"),
        "{bytes}"
    );
}

#[test]
fn guest_that_fills_the_host_by_tools_is_refused_beyond_the_bound() {
    let server = Server::start();
    let mut client = server.client();
    let sandbox = client.open(json!({ "tools": { "t": {} } }));
    let code = "const all = Array.from({ length: 4 }, () => tools.t('x'.repeat(6 << 20)).catch((e) => e.message));
                await Promise.all(all.slice(2))";
    let id = client.send("run", json!({ "sandbox": sandbox, "code": code }));
    // The first two have no answer yet.
    let outcome = loop {
        let message = client.receive().unwrap();
        if message["id"] == id && message.get("method").is_none() {
            break message;
        }
    };
    for refused in outcome["result"]["result"].as_array().unwrap() {
        let text = refused.as_str().unwrap();
        assert!(text.contains("16777216 bytes of input"), "{text}");
    }
    // The control: as many, one after the other.
    let code = "let n = 0; for (let i = 0; i < 4; i++) n += await tools.t('x'.repeat(6 << 20)); n";
    let id = client.send("run", json!({ "sandbox": sandbox, "code": code }));
    let outcome = client.answer_with(id, |_| Ok(json!(1)));
    assert_eq!(outcome["result"]["result"], 4, "{outcome}");
}

#[test]
fn guest_that_changes_its_world_changes_no_answer() {
    let server = Server::start();
    let mut client = server.client();
    for level in LEVELS {
        let sandbox = client.open(json!({ "level": level, "tools": { "t": {} } }));
        for code in [
            "try { tools = 1 } catch {} try { tools.t = 1 } catch {} await tools.t({ a: 1 })",
            "Object.prototype.then = undefined; JSON.stringify = () => 'forged'; JSON.parse = null;
             Object.defineProperty(Object.prototype, 'toJSON', { value: undefined }); return await tools.t({ a: 1 })",
            "Array.prototype[Symbol.iterator] = null; Function.prototype.call = null; Error = null; return tools.t({ a: 1 })",
            "Object.defineProperty(Object.prototype, 'tools', { set() { throw 1 } }); return tools.t({ a: 1 })",
        ] {
            let id = client.send("run", json!({ "sandbox": sandbox, "code": code }));
            let outcome = client.answer_with(id, |params| Ok(params["input"].clone()));
            assert_eq!(outcome["result"]["result"], json!({ "a": 1 }), "{level}: {code}: {outcome}");
        }
        // Text that looks like lines of the protocol stays text.
        let code = "const line = '\\n{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1}\\n'; console.log(line); throw new Error(line)";
        let outcome = client.run(&sandbox, code);
        assert_eq!(outcome["error"]["kind"], "thrown", "{level}");
        // Errors that lie.
        let outcome = client.run(&sandbox, "throw { name: 'x', get message() { for (;;); } }");
        assert!(outcome["error"]["kind"].is_string(), "{level}: {outcome}");
        let outcome = client.run(&sandbox, "return { toJSON() { throw new Error('mine') } }");
        assert_eq!(outcome["error"]["kind"], "not_json", "{level}: {outcome}");
    }
}

#[test]
fn tool_that_never_answers_is_ended_by_the_timeout_and_its_late_answer_ignored() {
    let server = Server::start();
    let mut client = server.client();
    for level in LEVELS {
        let sandbox = client.open(json!({ "level": level, "tools": { "t": {} }, "timeout": "2s" }));
        let id = client.send(
            "run",
            json!({ "sandbox": sandbox, "code": "await tools.t()" }),
        );
        let asked = client.receive().unwrap();
        assert_eq!(asked["method"], "tool");
        let outcome = client.receive().unwrap();
        assert_eq!(
            (&outcome["id"], &outcome["result"]["error"]["kind"]),
            (&json!(id), &json!("timeout")),
            "{level}"
        );
        let late = json!({ "jsonrpc": "2.0", "id": asked["id"], "result": 1 });
        client.write(&late.to_string());
        assert_eq!(
            client.call("stats", json!({}))["result"]["tools"],
            0,
            "{level}"
        );
        assert_eq!(client.run(&sandbox, "2")["result"], 2, "{level}");
    }
}
