//! The same from Rust, with functions of the host in the guest's `env`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;
use stockade::rpc::{Address, Guest, RpcOptions, Server, Stopped, call_export};
use stockade::{
    GuestError, IsolateOptions, ModuleFiles, Next, Payload, Sandbox, SandboxOptions,
    name_env_functions,
};

use crate::client::{call, guest, outcome};

fn total(args: &Payload) -> Result<Payload, GuestError> {
    let (item, count): (String, usize) = args
        .read()
        .map_err(|error| GuestError::new(error.to_string()))?;
    Payload::new(&(item.len() * count)).map_err(|error| GuestError::new(error.to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn library_serves_functions_of_env() {
    stockade::initialize();
    let sandbox = Sandbox::new(SandboxOptions::default());
    let mut options = IsolateOptions::default();
    options.env.insert("KEY".to_owned(), json!("x"));
    name_env_functions(&mut options.env, ["svc.total", "nobody"]);
    let mut isolate = sandbox.create(options).await.unwrap();
    isolate.serve("svc.total", |args: Payload| async move { total(&args) });
    let read = |payload: Payload| payload.read::<serde_json::Value>().unwrap();
    let answer = isolate.evaluate("NETWORK.env.svc.total('tea', 3)").await;
    assert_eq!(read(answer.unwrap()), json!(9));
    let wrong = isolate.evaluate("NETWORK.env.svc.total('tea')").await;
    assert!(wrong.is_err());
    let keys = isolate.evaluate("Object.keys(NETWORK.env)").await;
    assert_eq!(read(keys.unwrap()), json!(["KEY", "svc", "nobody"]));
    sandbox.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn library_fails_the_websocket_of_a_guest_with_a_reason() {
    stockade::initialize();
    let sandbox = Sandbox::new(SandboxOptions::default());
    let mut isolate = sandbox.create_default().await.unwrap();
    isolate
        .execute(
            "const socket = new WebSocket('ws://a.test/');
             socket.onerror = ({ message }) => NETWORK.send('failed', [message, socket.readyState]);
             NETWORK.send('ws.open', { conn_id: 'no number' });",
        )
        .unwrap();
    let handle = isolate.handle();
    let mut refused = 0;
    let failed = loop {
        let event = isolate.next().await.unwrap();
        if stockade::refuse_socket(&handle, &event, "not here") {
            refused += 1;
        } else if let stockade::Event::Message { data, .. } = event {
            break data;
        }
    };
    let (why, state): (String, u8) = failed.read().unwrap();
    assert_eq!((why.as_str(), state, refused), ("not here", 3, 2));
    sandbox.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn library_reports_when_an_isolate_has_nothing_to_do() {
    stockade::initialize();
    let sandbox = Sandbox::new(SandboxOptions::default());
    let mut isolate = sandbox.create_default().await.unwrap();
    isolate
        .execute("setTimeout(() => NETWORK.send('late', 1), 50)")
        .unwrap();
    let Next::Event(stockade::Event::Message { name, .. }) = isolate.next_or_idle().await else {
        panic!("the timer is something to do");
    };
    assert_eq!(name, "late");
    assert!(matches!(isolate.next_or_idle().await, Next::Idle));
    isolate.destroy();
    assert!(matches!(isolate.next_or_idle().await, Next::Event(_)));
    assert!(matches!(isolate.next_or_idle().await, Next::Ended));
    sandbox.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn library_server_calls_the_isolates_it_is_given() {
    stockade::initialize();
    let files = ModuleFiles::read(guest().as_ref()).unwrap();
    assert_eq!(files.entry, "guest.ts");
    let sandbox = Sandbox::new(SandboxOptions {
        defaults: IsolateOptions {
            modules: files.modules,
            main: Some(files.entry),
            ..IsolateOptions::default()
        },
        ..SandboxOptions::default()
    });
    let started = Arc::new(AtomicU32::new(0));
    let server = Server::bind(RpcOptions {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        ..RpcOptions::default()
    });
    let factory = {
        let (sandbox, started) = (sandbox.clone(), Arc::clone(&started));
        move || {
            let (sandbox, started) = (sandbox.clone(), Arc::clone(&started));
            async move {
                let mut isolate = sandbox.create_default().await?;
                isolate.module_ready().await?;
                started.fetch_add(1, Ordering::SeqCst);
                Ok(Guest::from(isolate))
            }
        }
    };
    let running = server.await.unwrap().start(factory).await.unwrap();
    let Address::Tcp(address) = running.addresses()[0].clone() else {
        panic!("a TCP address");
    };
    let client = tokio::task::spawn_blocking(move || {
        let body = call(1, "add", json!([2, 3])).to_string();
        let stream = std::net::TcpStream::connect(address).unwrap();
        let (_, text) =
            crate::client::round_trip(stream, &crate::client::request("localhost", "", &body));
        outcome(serde_json::from_str(&text).unwrap())
    });
    let mut answer = None;
    let stopped = running
        .until(async { answer = Some(client.await.unwrap()) })
        .await;
    assert_eq!(stopped, Stopped::Asked);
    assert_eq!(answer, Some(Ok(json!(5))));
    assert_eq!(started.load(Ordering::SeqCst), 1);
    assert_eq!(sandbox.isolates(), 0, "the isolate went with the server");
    sandbox.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn library_calls_exports_and_nothing_else() {
    stockade::initialize();
    let sandbox = Sandbox::new(SandboxOptions::default());
    let isolate = sandbox.create_default().await.unwrap();
    isolate.execute("var f = () => 1").unwrap();
    let handle = isolate.handle();
    let args = || Payload::from_json("[\"1\"]".to_owned());
    for name in ["f", "eval", "toString"] {
        let refused = call_export(&handle, name, args()).await;
        assert!(
            matches!(refused, Err(stockade::rpc::ExportError::NoExport)),
            "{name}"
        );
    }
    assert!(
        handle.call("f", args()).await.is_ok(),
        "the control finds globals"
    );
    sandbox.shutdown();
}

/// Links lead out of the folder as `..` does; a file that is not regular is not waited for.
#[test]
fn library_reads_modules_of_their_own_folder_only() {
    let folder = std::env::temp_dir().join(format!("stockade-modules-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let inner = folder.join("inner");
    std::fs::create_dir_all(inner.join("deep")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("secret.ts", "export const secret = 1;");
    write("inner/near.ts", "export const near = 1;");
    write("inner/deep/a.ts", "import '../near.ts'; import '/near.ts';");
    write("inner/good.ts", "import './deep/a.ts'; import './link.ts';");
    write("inner/bad.ts", "import './out.ts';");
    write("inner/far.ts", "import './outside/secret.ts';");
    write("inner/pipes.ts", "import './pipe.ts';");
    std::fs::write(inner.join("binary.ts"), [0xff, 0xfe]).unwrap();
    let link = |to: &str, name: &str| {
        std::os::unix::fs::symlink(to, inner.join(name)).unwrap();
    };
    link("near.ts", "link.ts");
    link("../secret.ts", "out.ts");
    link("..", "outside");
    link("../inner/good.ts", "entry.ts");
    let made = std::process::Command::new("mkfifo")
        .arg(inner.join("pipe.ts"))
        .status();
    assert!(made.unwrap().success());
    let read = |name: &str| ModuleFiles::read(&inner.join(name)).map_err(|error| error.to_string());

    let names = |files: ModuleFiles| files.modules.into_keys().collect::<Vec<_>>();
    let found = ["deep/a.ts", "good.ts", "link.ts", "near.ts"];
    assert_eq!(names(read("good.ts").unwrap()), found);
    assert_eq!(
        names(read("entry.ts").unwrap()),
        found,
        "a link to the module itself"
    );
    for (name, why) in [
        ("bad.ts", "outside of the folder"),
        ("far.ts", "outside of the folder"),
        ("pipes.ts", "it is not a file"),
        ("pipe.ts", "it is not a file"),
        ("deep", "the folder has none of index.ts"),
        ("binary.ts", "it is not UTF-8 text"),
        ("missing.ts", "no such file"),
    ] {
        let error = read(name).unwrap_err();
        assert!(error.contains(why), "{name}: {error}");
        assert!(!error.contains("export"), "{name}: {error}");
    }

    let many: String = (0..1000).map(|i| format!("import './{i}.js';")).collect();
    write("inner/many.ts", &many);
    for i in 0..1000 {
        write(&format!("inner/{i}.js"), "");
    }
    assert!(
        read("many.ts")
            .unwrap_err()
            .contains("more than 1000 files")
    );
    std::fs::remove_file(inner.join("999.js")).unwrap();
    assert!(read("many.ts").is_ok(), "the control");
    std::fs::remove_dir_all(folder).unwrap();
}
