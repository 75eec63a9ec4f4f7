//! The host of a worker in other hands, and of a neighbour.

use std::time::Duration;

use libtest_mimic::Failed;
use stockade::{
    CallError, ConsoleMode, CreateError, DestroyReason, Event, Isolate, IsolateOptions, Isolation,
    Limits, Payload, Sandbox, SandboxOptions, SendError,
};

use crate::attack::{self, Attack, End, Host};

/// When something that must happen is given up; far above what any of it takes.
const GIVE_UP: Duration = Duration::from_secs(120);

/// Requests that the hostile isolate may have open.
const REQUESTS: u32 = 16;

/// Memory and descriptors that may be left over: what allocators and libraries keep.
const SPARE_BYTES: u64 = 48 << 20;
const SPARE_DESCRIPTORS: usize = 2;

/// More than the queue of an isolate holds, in megabytes.
const FLOOD: usize = 400;

pub(crate) fn block_on(test: impl Future<Output = Result<(), Failed>>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        tokio::time::timeout(GIVE_UP, test)
            .await
            .unwrap_or_else(|_| Err("it hangs".into()))
    })
}

/// One attack, while a neighbour runs.
pub(crate) async fn try_one(level: Isolation, index: usize) -> Result<(), Failed> {
    let arena = Arena::open(level).await?;
    arena.warm_up().await?;
    let before = descriptors()?;
    let attack = attack::all().nth(index).ok_or("no such attack")?;
    let result = arena.attack(attack, index).await;
    // The worker is gone once its socket is closed.
    let left = wait_until(|| Ok(descriptors()? <= before)).await;
    arena.sandbox.shutdown();
    result?;
    left.map_err(|error| format!("descriptors are left: {error:?}").into())
}

/// Two hundred attacks one after another, all that are over soon.
pub(crate) async fn try_many(level: Isolation) -> Result<(), Failed> {
    let arena = Arena::open(level).await?;
    let quick: Vec<_> = attack::all()
        .enumerate()
        .filter(|(_, attack)| attack.is_quick())
        .collect();
    let mut before = (0, 0);
    for (round, (index, attack)) in quick.iter().cycle().take(200).enumerate() {
        if round == quick.len() {
            before = (descriptors()?, resident()?);
        }
        arena
            .attack(attack, *index)
            .await
            .map_err(|error| format!("round {round}, {}: {error:?}", attack.name))?;
    }
    wait_until(|| Ok(descriptors()? <= before.0 + SPARE_DESCRIPTORS)).await?;
    let resident = resident()?;
    arena.sandbox.shutdown();
    if resident > before.1 + SPARE_BYTES {
        return Err(format!("it grew from {} to {resident} bytes", before.1).into());
    }
    Ok(())
}

struct Arena {
    sandbox: Sandbox,
    level: Isolation,
    neighbour: Isolate,
}

impl Arena {
    async fn open(level: Isolation) -> Result<Self, Failed> {
        let sandbox = Sandbox::new(SandboxOptions::default());
        let options = IsolateOptions {
            isolation: level,
            limits: Limits {
                wall: None,
                ..Limits::default()
            },
            ..IsolateOptions::default()
        };
        let neighbour = sandbox.create(options).await?;
        neighbour.execute("let count = 0")?;
        Ok(Self {
            sandbox,
            level,
            neighbour,
        })
    }

    /// What a first worker brings along stays.
    async fn warm_up(&self) -> Result<(), Failed> {
        let (index, attack) = attack::all().enumerate().next().ok_or("no attacks")?;
        let descriptors_before = descriptors()?;
        self.attack(attack, index).await?;
        wait_until(|| Ok(descriptors()? <= descriptors_before + 8)).await
    }

    async fn attack(&self, attack: &Attack, index: usize) -> Result<(), Failed> {
        let options = IsolateOptions {
            isolation: self.level,
            console: ConsoleMode::Event,
            limits: Limits {
                cpu: Some(Duration::from_millis(300)),
                cpu_total: Some(Duration::from_millis(900)),
                wall: Some(Duration::from_millis(match attack.end {
                    End::Terminated("wall_limit_exceeded", _) => 1_000,
                    _ => 60_000,
                })),
                memory: Some(attack::limit(index)),
                pending_requests: REQUESTS,
                ..Limits::default()
            },
            ..IsolateOptions::default()
        };
        let created = self.sandbox.create(options).await;
        let isolate = match (created, attack.end) {
            (Ok(isolate), End::Terminated(..) | End::Harmless(_) | End::Destroyed) => isolate,
            (Err(error), End::NoStart(text)) => return refused(&error, text),
            (Ok(_), End::NoStart(_)) => return Err("it was created".into()),
            (Err(error), _) => return Err(format!("it was not created: {error}").into()),
        };
        let handle = isolate.handle();
        let call = tokio::spawn(async move { handle.evaluate("1").await });
        match attack.host {
            Host::Listens | Host::Starts => {}
            Host::Floods => flood(&isolate)?,
            Host::IsBusy => {
                for _ in 0..200 {
                    self.ask_neighbour().await?;
                }
            }
        }
        self.ask_neighbour().await?;
        ends(isolate, attack.end).await?;
        settled(&call.await?)?;
        self.ask_neighbour().await
    }

    /// The neighbour answers, and knows what it knew.
    async fn ask_neighbour(&self) -> Result<(), Failed> {
        let handle = self.neighbour.handle();
        let before: u64 = handle.evaluate("count").await?.read()?;
        let after: u64 = handle.evaluate("++count").await?.read()?;
        if after == before + 1 {
            Ok(())
        } else {
            Err(format!("the neighbour counts {before}, {after}").into())
        }
    }
}

fn refused(error: &CreateError, text: &str) -> Result<(), Failed> {
    let error = error.to_string();
    if error.contains(text) && is_harmless(&error) {
        Ok(())
    } else {
        Err(format!("it was not created: {error:?}").into())
    }
}

/// Sends until there is no room, which must come soon, and takes bounded memory.
fn flood(isolate: &Isolate) -> Result<(), Failed> {
    let before = resident()?;
    let mut sent = 0;
    let refused = loop {
        let data = Payload::from_bytes(vec![7; 1 << 20]);
        match isolate.send("flood", data) {
            Ok(()) if sent < FLOOD => sent += 1,
            Ok(()) => return Err(format!("{sent} MB were taken").into()),
            Err(error) => break error,
        }
    };
    let grown = resident()?.saturating_sub(before);
    match refused {
        SendError::Full { .. } if grown < (FLOOD as u64) << 20 => Ok(()),
        SendError::Full { .. } => Err(format!("the host grew by {grown} bytes").into()),
        other => Err(format!("after {sent} MB: {other}").into()),
    }
}

/// Receives the isolate's events to its end, which must be this one.
async fn ends(mut isolate: Isolate, end: End) -> Result<(), Failed> {
    let mut others = 0;
    let mut termination = None;
    if end == End::Destroyed {
        isolate.destroy();
    }
    while let Some(event) = isolate.next().await {
        if !is_harmless_event(&event) {
            return Err(format!("it said {event:?}").into());
        }
        match event {
            Event::Terminated { reason, detail, .. } => termination = Some((reason.name(), detail)),
            Event::Message { name, .. } if name == "done" => isolate.destroy(),
            Event::Destroyed(reason) => {
                let terminated = reason == DestroyReason::Terminated;
                if terminated != termination.is_some() {
                    return Err(format!("{reason:?} after {termination:?}").into());
                }
            }
            _ => others += 1,
        }
    }
    match (end, termination) {
        (End::Terminated(reason, text), Some((is, detail)))
            if is == reason && detail.contains(text) =>
        {
            Ok(())
        }
        (End::Harmless(most), None) if others <= most => Ok(()),
        (End::Destroyed, None) => Ok(()),
        (_, termination) => {
            Err(format!("it ended by {termination:?} after {others} events").into())
        }
    }
}

/// Texts are harmless to a terminal; data is for its reader.
fn is_harmless_event(event: &Event) -> bool {
    match event {
        Event::Console { text, .. } => is_harmless(text),
        Event::Uncaught(error) => {
            is_harmless(&error.name)
                && is_harmless(&error.message)
                && error.stack.as_deref().is_none_or(is_harmless)
                && (error.position.as_ref()).is_none_or(|position| is_harmless(&position.source))
        }
        Event::Terminated { detail, .. } => is_harmless(detail),
        _ => true,
    }
}

fn is_harmless(text: &str) -> bool {
    text.chars()
        .all(|c| c == '\n' || c == '\t' || !(c.is_control() || c == '\u{202e}'))
}

/// A call has got a value, once, or learns that it never will.
fn settled(call: &Result<Payload, CallError>) -> Result<(), Failed> {
    match call {
        Ok(value) if ["\"first\"", "{{{"].contains(&value.json.as_str()) => Ok(()),
        Err(
            CallError::Ended { .. }
            | CallError::Send(SendError::Ended { .. } | SendError::Full { .. }),
        ) => Ok(()),
        other => Err(format!("the call ended by {other:?}").into()),
    }
}

/// Looks again and again, until it holds or is given up.
async fn wait_until(holds: impl Fn() -> Result<bool, Failed>) -> Result<(), Failed> {
    for _ in 0..3000 {
        if holds()? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(format!("there are {} descriptors", descriptors()?).into())
}

/// Open descriptors of this process.
fn descriptors() -> Result<usize, Failed> {
    Ok(std::fs::read_dir("/proc/self/fd")?.count())
}

/// Memory of this process.
fn resident() -> Result<u64, Failed> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split(' ').nth(1).ok_or("no numbers")?;
    Ok(pages.parse::<u64>()? * 4096)
}
