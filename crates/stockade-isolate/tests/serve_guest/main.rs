//! The guest's side of serve mode: requests, sockets and bindings as the host sees them, without the host.
//!
//! Each test starts an isolate at level `thread` and speaks the control messages of
//! `stockade-realm/js/serve.js` itself.

mod answers;
mod bench;
mod bindings;
mod event_source;
mod guest;
mod hostile;
mod html;
mod pipes;
mod requests;
mod rpc;
mod sockets;
mod start;
mod streams;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Measurement, Trial};

/// A test: a name and what it does on an event loop of its own.
pub(crate) type Case = (&'static str, fn() -> guest::Work);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // V8 must be set up before there are other threads.
    stockade_isolate::initialize();
    let areas = [
        answers::CASES,
        bindings::CASES,
        event_source::CASES,
        hostile::CASES,
        pipes::CASES,
        html::CASES,
        requests::CASES,
        rpc::CASES,
        sockets::CASES,
        start::CASES,
        streams::CASES,
    ];
    let mut trials: Vec<Trial> = areas
        .into_iter()
        .flatten()
        .map(|(name, work)| Trial::test(*name, move || guest::run(work())))
        .collect();
    // Not listed unless asked for: nextest does not know the word that this library has for them.
    if arguments.bench {
        trials.extend(bench::CASES.iter().map(|(name, work)| {
            Trial::bench(*name, move |_| {
                // It prints what it measures.
                guest::run(work())?;
                Ok(Some(Measurement {
                    avg: 0,
                    variance: 0,
                }))
            })
        }));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
