//! What runs in a worker process.
//!
//! Everything that guests will ever need is made before the walls close: V8, threads, the first realm.
//! Afterwards no thread can be made and no descriptor opened.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use parking_lot::Mutex;
use stockade_jail::{EXIT_FAILED, Inside, JailError, Wx, leave, show};
use stockade_supervisor::{GuestContext, HostConnection, StartError};

use crate::initialize::initialize_with;
use crate::realm::Realm;
use crate::sys::first_use::look_around;
use crate::workplace::{STACK, Workplace};

/// V8's flags where nothing may ever be both written and executed: no compiler to machine code.
/// WebAssembly needs one, so there is none.
const STRICT_FLAGS: &[&str] = &["--jitless"];

/// Runs isolates behind the walls of a worker process; never returns.
pub fn worker_main(mut inside: Inside) {
    let error = match prepare(&mut inside) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    inside.fail(&error);
    leave(EXIT_FAILED)
}

enum Never {}

fn prepare(inside: &mut Inside) -> Result<Never, JailError> {
    let spec = inside.spec().clone();
    initialize_with(match spec.wx {
        Wx::Jit => &[],
        Wx::Strict => STRICT_FLAGS,
    });
    look_around();
    let socket = inside
        .take_socket()
        .ok_or_else(|| failed("its socket is taken"))?;
    let connection = HostConnection::new(socket).map_err(|error| failed(&error.what))?;
    if spec.isolates <= 1 {
        let walls_closed = start_single(&connection, spec.memory)?;
        inside.close_walls()?;
        connection.ready();
        let _ = walls_closed.send(());
        loop {
            std::thread::park();
        }
    }
    let guests = start_group(spec.isolates)?;
    inside.close_walls()?;
    connection.ready();
    connection.serve(|guest| drop(guests.send(guest)))
}

fn failed(what: &str) -> JailError {
    JailError {
        layer: "engine".to_owned(),
        what: format!("V8 does not start in a worker: {what}"),
        checked: "threads, an event loop and the startup snapshot, before the walls close"
            .to_owned(),
        fix: "free memory, or raise the limits on processes (ulimit -u, pids.max)".to_owned(),
    }
}

/// The thread of the only isolate, once it has made a realm. It waits itself for the supervisor's
/// messages, once the walls are closed.
fn start_single(
    connection: &Arc<HostConnection>,
    memory: Option<u64>,
) -> Result<Sender<()>, JailError> {
    let (ready, is_ready) = channel();
    let (walls_closed, closed) = channel();
    let connection = Arc::clone(connection);
    spawn(move || {
        let made = Workplace::complete(true).and_then(|place| {
            let entered = place.enter();
            connection.attach()?;
            drop(entered);
            let realm = place.make_realm(memory, false).map_err(io::Error::other)?;
            Ok((place, realm))
        });
        match made {
            Ok((place, realm)) => {
                let _ = ready.send(Ok(()));
                if closed.recv().is_ok() {
                    let guest = place.block_on(connection.next_start());
                    show(guest.options().name.as_deref().unwrap_or_default());
                    drop(place.run(realm, guest, None));
                }
                leave(0)
            }
            Err(error) => drop(ready.send(Err(failed(&error.to_string())))),
        }
    })?;
    is_ready
        .recv()
        .map_err(|_| failed("the isolate's thread ended"))??;
    Ok(walls_closed)
}

/// Threads for the isolates of a trust group; whichever is free takes the next one.
fn start_group(isolates: u32) -> Result<Sender<GuestContext>, JailError> {
    let (sender, guests) = channel::<GuestContext>();
    let guests = Arc::new(Mutex::new(guests));
    for _ in 0..isolates {
        let (ready, is_ready) = channel();
        let guests = Arc::clone(&guests);
        spawn(move || match Workplace::complete(false) {
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

fn run_one(place: &Workplace, guest: GuestContext) {
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
