//! What runs in a worker process.
//!
//! Everything that guests will ever need is made before the worker is sealed: V8, threads, the first realm.
//! Afterwards no thread can be made and no descriptor opened.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use parking_lot::Mutex;
use stockade_jail::{Clones, EXIT_FAILED, Inside, JailError, JailSpec, Wx, leave, show};
use stockade_supervisor::{GuestContext, HostConnection, StartError};

use crate::initialize::{initialize_single_threaded, initialize_with};
use crate::realm::Realm;
use crate::sys::first_use::look_around;
use crate::sys::fork::{reseed, share_with_copies};
use crate::thread_runtime::{STACK, ThreadRuntime};

/// V8's flags where nothing may ever be both written and executed: no compiler to machine code.
/// WebAssembly needs one, so there is none.
const STRICT_FLAGS: &[&str] = &["--jitless"];

/// A worker that has no guest after this time is kept ready for one.
const KEPT_READY: Duration = Duration::from_millis(20);

/// Runs isolates in a worker process; never returns.
pub fn worker_main(mut inside: Inside) {
    let spec = inside.spec().clone();
    let error = if spec.isolates <= 1 {
        match Engine::prepare(&spec) {
            Ok(engine) => return engine.run(inside),
            Err(error) => error,
        }
    } else {
        match run_group(&mut inside, spec.isolates, spec.wx) {
            Ok(never) => match never {},
            Err(error) => error,
        }
    };
    inside.fail(&error);
    leave(EXIT_FAILED)
}

/// Prepares an engine once, for all workers that are then cloned from this process. Returns if that cannot be done.
pub fn worker_template(spec: &JailSpec, clones: Clones) -> JailError {
    let engine = Engine::prepare(spec).and_then(|engine| {
        share_with_copies().map_err(|error| failed(&error.to_string()))?;
        Ok(engine)
    });
    match engine {
        Ok(engine) => {
            let mut engine = Some(engine);
            clones.serve(|inside| {
                // There is one in each clone, which calls this once.
                if let Some(engine) = engine.take() {
                    engine.run(inside);
                }
            })
        }
        Err(error) => error,
    }
}

/// What the only isolate of a worker needs, made before any guest's byte is seen.
struct Engine {
    realm: Realm,
}

impl Engine {
    /// Makes it on the calling thread, which is the isolate's.
    fn prepare(spec: &JailSpec) -> Result<Self, JailError> {
        initialize_single_threaded(flags(spec.wx));
        look_around();
        let realm = Realm::new(spec.memory, false).map_err(|error| failed(&error))?;
        Ok(Self { realm })
    }

    /// Seals the worker and runs the isolate to its end.
    fn run(mut self, mut inside: Inside) {
        let prepared = self.connect(&mut inside);
        let (place, connection) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                inside.fail(&error);
                leave(EXIT_FAILED)
            }
        };
        if inside.seal().is_err() {
            leave(EXIT_FAILED)
        }
        connection.ready();
        let guest = place.block_on(async {
            let mut next = pin!(connection.next_start());
            match tokio::time::timeout(KEPT_READY, &mut next).await {
                Ok(guest) => guest,
                Err(_) => {
                    self.realm.rehearse();
                    next.await
                }
            }
        });
        show(guest.options().name.as_deref().unwrap_or_default());
        drop(place.run(self.realm, guest, None));
        leave(0)
    }

    /// Makes what a clone cannot have from its original: random numbers, an event loop and the way to the supervisor.
    fn connect(
        &mut self,
        inside: &mut Inside,
    ) -> Result<(ThreadRuntime, Arc<HostConnection>), JailError> {
        let io = |error: io::Error| failed(&error.to_string());
        reseed(self.realm.runtime.v8_isolate()).map_err(io)?;
        let socket = inside
            .take_socket()
            .ok_or_else(|| failed("its socket is taken"))?;
        let connection = HostConnection::new(socket).map_err(|error| failed(&error.what))?;
        let place = ThreadRuntime::complete(true).map_err(io)?;
        let entered = place.enter();
        connection.attach().map_err(io)?;
        drop(entered);
        Ok((place, connection))
    }
}

enum Never {}

/// Runs the isolates of a trust group.
fn run_group(inside: &mut Inside, isolates: u32, wx: Wx) -> Result<Never, JailError> {
    initialize_with(flags(wx));
    look_around();
    let socket = inside
        .take_socket()
        .ok_or_else(|| failed("its socket is taken"))?;
    let connection = HostConnection::new(socket).map_err(|error| failed(&error.what))?;
    let guests = start_group(isolates)?;
    inside.seal()?;
    connection.ready();
    connection.serve(|guest| drop(guests.send(guest)))
}

/// V8's flags besides those of every process.
fn flags(wx: Wx) -> &'static [&'static str] {
    match wx {
        Wx::Jit => &[],
        Wx::Strict => STRICT_FLAGS,
    }
}

fn failed(what: &str) -> JailError {
    JailError {
        layer: "engine".to_owned(),
        what: format!("V8 does not start in a worker: {what}"),
        checked: "threads, an event loop and the startup snapshot, before the worker is sealed"
            .to_owned(),
        fix: "free memory, or raise the limits on processes (ulimit -u, pids.max)".to_owned(),
    }
}

/// Threads for the isolates of a trust group; whichever is free takes the next one.
fn start_group(isolates: u32) -> Result<Sender<GuestContext>, JailError> {
    let (sender, guests) = channel::<GuestContext>();
    let guests = Arc::new(Mutex::new(guests));
    for _ in 0..isolates {
        let (ready, is_ready) = channel();
        let guests = Arc::clone(&guests);
        spawn(move || match ThreadRuntime::complete(false) {
            Ok(place) => {
                let _ = ready.send(Ok(()));
                loop {
                    let next = guests.lock().recv();
                    match next {
                        Ok(guest) => run_one(&place, guest),
                        Err(_) => return,
                    }
                }
            }
            Err(error) => drop(ready.send(Err(failed(&error.to_string())))),
        })?;
        is_ready
            .recv()
            .map_err(|_| failed("an isolate's thread ended"))??;
    }
    Ok(sender)
}

fn run_one(place: &ThreadRuntime, guest: GuestContext) {
    let _shown = Shown::new(guest.options().name.clone());
    let realm: Result<Realm, String> = place.make_realm(guest.options().limits.memory, false);
    match realm {
        Ok(realm) => drop(place.run(realm, guest, None)),
        Err(error) => guest.started(Err(StartError {
            what: format!("cannot make a V8 isolate: {error}"),
            checked: "memory and the startup snapshot".to_owned(),
            fix: "free memory, or raise memoryLimitMb".to_owned(),
        })),
    }
}

/// The names of a trust group's isolates, as long as each runs.
struct Shown(Option<String>);

static SHOWN: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl Shown {
    fn new(name: Option<String>) -> Self {
        if let Some(name) = &name {
            let mut all = SHOWN.lock();
            all.push(name.clone());
            show(&all.join(" "));
        }
        Self(name)
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let Some(name) = &self.0 else { return };
        let mut all = SHOWN.lock();
        if let Some(at) = all.iter().position(|one| one == name) {
            all.remove(at);
        }
        show(&all.join(" "));
    }
}

fn spawn(main: impl FnOnce() + Send + 'static) -> Result<(), JailError> {
    std::thread::Builder::new()
        .name("isolate".to_owned())
        .stack_size(STACK)
        .spawn(main)
        .map(drop)
        .map_err(|error| failed(&format!("cannot start a thread: {error}")))
}
