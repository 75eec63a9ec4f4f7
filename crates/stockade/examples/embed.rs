//! Untrusted code inside a Rust program: limits, a request it may make, a call, an event, an overrun.
//!
//!     cargo run --release --workspace --example embed

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use stockade::{
    Event, GuestError, IsolateOptions, Limits, Payload, Sandbox, SandboxOptions, SendError,
};

/// A plugin that a customer wrote, in TypeScript.
const PLUGIN: &str = r"
    interface Line { item: string, count: number }

    async function total(...lines: Line[]): Promise<number> {
      let sum = 0;
      for (const { item, count } of lines) sum += count * await NETWORK.request('price', item);
      return sum;
    }

    NETWORK.on('greet', (name) => NETWORK.send('greeting', `Hello, ${name}!`));
";

/// Runs the example.
pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    // V8 wants to be set up on the main thread, before others start.
    stockade::initialize();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let sandbox = Sandbox::new(SandboxOptions::default());
    let mut plugin = sandbox
        .create(IsolateOptions {
            name: Some("shop/invoice".to_owned()),
            limits: Limits {
                cpu: Some(Duration::from_millis(200)),
                memory: Some(64 << 20),
                ..Limits::default()
            },
            ..IsolateOptions::default()
        })
        .await?;

    // The one thing it may ask for.
    plugin.on_request("price", |item: Payload| async move { price(&item) });
    plugin.execute(PLUGIN)?;

    // Its function, called like one of ours: arguments and result are JSON.
    let lines = serde_json::json!([
        { "item": "tea", "count": 2 },
        { "item": "milk", "count": 1 },
    ]);
    let lines = lines.as_array().cloned().unwrap_or_default();
    let total: f64 = plugin.call("total", &lines).await?.read()?;
    println!("total: {total}");

    // What it throws is an error here, with its text bounded and harmless to a terminal.
    let unknown = serde_json::json!({ "item": "gold", "count": 1 });
    if let Err(error) = plugin.call("total", &[unknown]).await {
        println!("refused: {error}");
    }

    plugin.send("greet", Payload::new("Ada")?)?;
    if let Some(Event::Message { name, data }) = plugin.next().await {
        println!("{name}: {}", data.read::<String>()?);
    }

    // A loop without end is its own end, and nothing else's.
    let mut neighbour = sandbox.create_default().await?;
    plugin.execute("for (;;);")?;
    while let Some(event) = plugin.next().await {
        match event {
            Event::Terminated { reason, .. } => println!("terminated: {}", reason.name()),
            Event::Destroyed(reason) => println!("destroyed: {}", reason.name()),
            other => println!("{other:?}"),
        }
    }
    if let Err(SendError::Ended { id, .. }) = plugin.send("greet", Payload::new("Bob")?) {
        println!("isolate {id} takes no more messages");
    }
    let answer: u32 = neighbour.evaluate("6 * 7").await?.read()?;
    println!("neighbour: {answer}");

    sandbox.shutdown();
    Ok(())
}

fn price(item: &Payload) -> Result<Payload, GuestError> {
    let item: String = item
        .read()
        .map_err(|error| GuestError::new(error.to_string()))?;
    let price = match item.as_str() {
        "tea" => 3.5,
        "milk" => 1.25,
        other => {
            return Err(GuestError::new(format!(
                "there is no '{other}' in the shop"
            )));
        }
    };
    Payload::new(&price).map_err(|error| GuestError::new(error.to_string()))
}
