//! What is reported to the host about the main module.

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::guest::{Guest, Said};
use crate::{cases, holds, same};

cases![
    module_with_handlers_says_which,
    module_with_top_level_await_is_ready_after_it,
    class_of_entrypoint_is_a_site,
    module_without_default_names_its_exports,
    module_with_function_as_default_is_taught_the_form,
    module_without_handlers_names_what_it_has,
    module_that_throws_reports_its_error_and_place,
    module_with_syntax_error_reports_its_place,
    module_that_is_missing_reports_which_there_are,
    import_of_unknown_module_fails_the_start,
    request_before_the_module_is_ready_waits,
    request_to_a_module_that_failed_fails,
    site_has_globals_of_workers_and_no_network,
    workers_module_gives_env_and_entrypoint,
];

async fn ready(code: &str) -> Result<Value, Failed> {
    let mut guest = Guest::create(&[("main.ts", code)], json!({})).await?;
    Ok(serde_json::from_str(
        &guest.expect("serve.ready").await?.json,
    )?)
}

async fn failed(modules: &[(&str, &str)]) -> Result<(String, String, String), Failed> {
    let mut guest = Guest::create(modules, json!({})).await?;
    let failed: Value = serde_json::from_str(&guest.expect("serve.failed").await?.json)?;
    let text = |key: &str| failed[key].as_str().unwrap_or_default().to_owned();
    Ok((text("name"), text("message"), text("stack")))
}

async fn module_with_handlers_says_which() -> Result<(), Failed> {
    let code = "export const helper = 1; export default { fetch() {}, async scheduled() {} }";
    same!(
        ready(code).await?,
        json!({ "handlers": ["fetch", "scheduled"], "exports": ["default", "helper"] })
    );
    let code = "class App { fetch() {} } export default new App()";
    same!(ready(code).await?["handlers"], json!(["fetch"]));
    Ok(())
}

async fn module_with_top_level_await_is_ready_after_it() -> Result<(), Failed> {
    let code = "
        await new Promise((resolve) => setTimeout(resolve, 20));
        console.log('waited');
        export default { scheduled() {} };";
    let mut guest = Guest::create(&[("main.ts", code)], json!({})).await?;
    let Said::Console(line) = guest.next().await? else {
        return Err("no line first".into());
    };
    same!(line, "waited");
    let data = guest.expect("serve.ready").await?;
    holds!(data.json, "[\"scheduled\"]");
    Ok(())
}

async fn class_of_entrypoint_is_a_site() -> Result<(), Failed> {
    let code = "
        import { WorkerEntrypoint } from 'cloudflare:workers';
        export default class extends WorkerEntrypoint {
            fetch(request) {
                return new Response(this.env.NAME + (this.ctx.waitUntil !== undefined) + request.url);
            }
        }";
    let mut guest = Guest::start_with(code, json!({ "NAME": "n" })).await?;
    same!(
        guest.fetch("/p").await?.text(),
        "ntruehttps://site.example/p"
    );
    Ok(())
}

async fn module_without_default_names_its_exports() -> Result<(), Failed> {
    let (name, message, _) = failed(&[("main.js", "export const a = 1, b = 2")]).await?;
    same!(name, "TypeError");
    holds!(message, "no default export; it exports a, b");
    holds!(message, "export default {");
    let (_, message, _) = failed(&[("main.js", "addEventListener('fetch', () => {})")]).await?;
    holds!(message, "it exports nothing");
    Ok(())
}

async fn module_with_function_as_default_is_taught_the_form() -> Result<(), Failed> {
    let (_, message, _) = failed(&[("main.js", "export default () => new Response('x')")]).await?;
    holds!(message, "is a function");
    holds!(message, "WorkerEntrypoint");
    Ok(())
}

async fn module_without_handlers_names_what_it_has() -> Result<(), Failed> {
    let (_, message, _) = failed(&[("main.js", "export default { Fetch() {}, port: 1 }")]).await?;
    holds!(message, "neither fetch nor scheduled, it has Fetch, port");
    let (_, message, _) = failed(&[("main.js", "export default { fetch: 'x' }")]).await?;
    holds!(
        message,
        "'fetch' of the module's default export must be a function"
    );
    Ok(())
}

async fn module_that_throws_reports_its_error_and_place() -> Result<(), Failed> {
    let code = "interface A {}\nconst x: number = 1;\nthrow new RangeError('no ' + x);";
    let (name, message, stack) = failed(&[("main.ts", code)]).await?;
    same!((name.as_str(), message.as_str()), ("RangeError", "no 1"));
    holds!(stack, "main.ts:3:7");
    Ok(())
}

async fn module_with_syntax_error_reports_its_place() -> Result<(), Failed> {
    let (name, _, stack) = failed(&[("main.js", "export default {\n  fetch( {}\n")]).await?;
    same!(name, "SyntaxError");
    holds!(stack, "main.js:");
    Ok(())
}

async fn module_that_is_missing_reports_which_there_are() -> Result<(), Failed> {
    let (_, message, _) = failed(&[("index.js", "export default {}")]).await?;
    holds!(message, "one must be called main");
    holds!(message, "the modules are: index.js");
    Ok(())
}

async fn import_of_unknown_module_fails_the_start() -> Result<(), Failed> {
    let (_, message, _) = failed(&[("main.js", "import 'https://esm.sh/hono'")]).await?;
    holds!(message, "cannot import 'https://esm.sh/hono'");
    Ok(())
}

async fn request_before_the_module_is_ready_waits() -> Result<(), Failed> {
    let code = "
        await new Promise((resolve) => setTimeout(resolve, 50));
        export default { fetch: () => new Response('late') }";
    let mut guest = Guest::create(&[("main.ts", code)], json!({})).await?;
    guest.get(1, "/")?;
    guest.expect("serve.ready").await?;
    same!(guest.response().await?.text(), "late");
    Ok(())
}

async fn request_to_a_module_that_failed_fails() -> Result<(), Failed> {
    let mut guest = Guest::create(&[("main.ts", "throw new Error('early')")], json!({})).await?;
    guest.get(1, "/")?;
    guest.expect("serve.failed").await?;
    let (id, name, message, _) = guest.failure().await?;
    same!((id, name.as_str(), message.as_str()), (1, "Error", "early"));
    Ok(())
}

async fn site_has_globals_of_workers_and_no_network() -> Result<(), Failed> {
    let code = "
        const at = [typeof WebSocketPair, navigator.userAgent, typeof NETWORK, typeof caches];
        export default { fetch: (request, env) => Response.json([...at, Object.keys(env),
            Response.name, Response.length, new Response().constructor === Response,
            Response.json(1) instanceof Response, Object.keys(Response), env.deep]) }";
    let env = json!({ "A": "1", "deep": { "x": [1] }, "\0bindings": {} });
    let mut guest = Guest::start_with(code, env).await?;
    let seen: Value = serde_json::from_str(&guest.fetch("/").await?.text())?;
    same!(
        seen,
        json!([
            "function", "Cloudflare-Workers", "undefined", "undefined", ["A", "deep"],
            "Response", 0, true, true, ["error", "redirect", "json"], { "x": [1] }
        ])
    );
    Ok(())
}

async fn workers_module_gives_env_and_entrypoint() -> Result<(), Failed> {
    let code = "
        import { env } from 'cloudflare:workers';
        const early = env.A;
        export default { fetch: (_, own) => new Response(early + (own === env)) }";
    let mut guest = Guest::start_with(code, json!({ "A": "1" })).await?;
    same!(guest.fetch("/").await?.text(), "1true");
    Ok(())
}
