//! What runs in a worker process.
//!
//! Everything that guests will ever need is made before the worker is sealed: V8, threads, the first realm.
//! Afterwards no thread can be made and no descriptor opened.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use parking_lot::Mutex;
use stockade_jail::{EXIT_FAILED, Inside, JailError, Wx, leave, show};
use stockade_supervisor::{InnerLink, Seat, StartError};

use crate::initialize::initialize_with;
use crate::realm::Realm;
use crate::sys::first_use::look_around;
use crate::workplace::{STACK, Workplace};

/// V8's flags where nothing may ever be both written and executed: no compiler to machine code.
/// WebAssembly needs one, so there is none.
const STRICT_FLAGS: &[&str] = &["--jitless"];

/// Runs isolates in a worker process; never returns.
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
    let link = InnerLink::new(socket).map_err(|error| failed(&error.what))?;
    if spec.isolates <= 1 {
        let sealed = start_single(&link, spec.memory)?;
        inside.seal()?;
        link.ready();
        let _ = sealed.send(());
        loop {
            std::thread::park();
        }
    }
    let seats = start_group(spec.isolates)?;
    inside.seal()?;
    link.ready();
    link.serve(|seat| drop(seats.send(seat)))
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

/// The thread of the only isolate, once it has made a realm. It waits itself for the supervisor's
/// messages, from when it is notified that the worker is sealed.
fn start_single(link: &Arc<InnerLink>, memory: Option<u64>) -> Result<Sender<()>, JailError> {
    let (ready, is_ready) = channel();
    let (sealed, closed) = channel();
    let link = Arc::clone(link);
    spawn(move || {
        let made = Workplace::complete(true).and_then(|place| {
            let entered = place.enter();
            link.attach()?;
            drop(entered);
            let realm = place.make_realm(memory, false).map_err(io::Error::other)?;
            Ok((place, realm))
        });
        match made {
            Ok((place, realm)) => {
                let _ = ready.send(Ok(()));
                if closed.recv().is_ok() {
                    let seat = place.block_on(link.next_start());
                    show(seat.options().name.as_deref().unwrap_or_default());
                    drop(place.run(realm, seat, None));
                }
                leave(0)
            }
            Err(error) => drop(ready.send(Err(failed(&error.to_string())))),
        }
    })?;
    is_ready
        .recv()
        .map_err(|_| failed("the isolate's thread ended"))??;
    Ok(sealed)
}

/// Threads for the isolates of a trust group; whichever is free takes the next one.
fn start_group(isolates: u32) -> Result<Sender<Seat>, JailError> {
    let (sender, seats) = channel::<Seat>();
    let seats = Arc::new(Mutex::new(seats));
    for _ in 0..isolates {
        let (ready, is_ready) = channel();
        let seats = Arc::clone(&seats);
        spawn(move || match Workplace::complete(false) {
            Ok(place) => {
                let _ = ready.send(Ok(()));
                loop {
                    let next = seats.lock().recv();
                    match next {
                        Ok(seat) => run_one(&place, seat),
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

fn run_one(place: &Workplace, seat: Seat) {
    let _shown = Shown::new(seat.options().name.clone());
    let realm: Result<Realm, String> = place.make_realm(seat.options().limits.memory, false);
    match realm {
        Ok(realm) => drop(place.run(realm, seat, None)),
        Err(error) => seat.started(Err(StartError {
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
