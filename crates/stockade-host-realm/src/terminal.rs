//! The terminal: its size and its raw mode.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Mutex;

use deno_core::error::ResourceError;
use deno_core::{OpState, ResourceId, op2};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};

/// The terminal's mode before a script changed it.
static ORIGINAL: Mutex<Option<(ResourceId, Termios)>> = Mutex::new(None);

#[derive(Debug, thiserror::Error, deno_error::JsError)]
pub(crate) enum TerminalError {
    #[class(inherit)]
    #[error(transparent)]
    Resource(#[from] ResourceError),
    #[class(inherit)]
    #[error("{0}")]
    Io(#[from] io::Error),
    #[class(generic)]
    #[error("none of standard input, standard output and standard error is a terminal")]
    NoTerminal,
}

#[op2(fast)]
pub(crate) fn op_host_console_size(#[buffer] size: &mut [u32]) -> Result<(), TerminalError> {
    let found = tcgetwinsize(io::stdout())
        .or_else(|_| tcgetwinsize(io::stderr()))
        .or_else(|_| tcgetwinsize(io::stdin()))
        .map_err(|_| TerminalError::NoTerminal)?;
    if let [columns, rows] = size {
        *columns = u32::from(found.ws_col);
        *rows = u32::from(found.ws_row);
    }
    Ok(())
}

/// Called by Deno's `setRaw`; the name is theirs.
#[op2(fast)]
pub(crate) fn op_set_raw(
    state: &mut OpState,
    #[smi] rid: ResourceId,
    raw: bool,
    cbreak: bool,
) -> Result<(), TerminalError> {
    if rid == 0 {
        return set_raw(rid, io::stdin(), raw, cbreak);
    }
    // A terminal that is open already can be opened once more by its descriptor's name.
    let descriptor = state.resource_table.get_fd(rid)?;
    let terminal = File::open(format!("/dev/fd/{descriptor}"))?;
    set_raw(rid, terminal, raw, cbreak)
}

fn set_raw(
    rid: ResourceId,
    terminal: impl AsFd,
    raw: bool,
    cbreak: bool,
) -> Result<(), TerminalError> {
    let mut original = lock();
    if !raw {
        if let Some((_, mode)) = original.take_if(|(of, _)| *of == rid) {
            tcsetattr(&terminal, OptionalActions::Drain, &mode).map_err(io::Error::from)?;
        }
        return Ok(());
    }
    let before = tcgetattr(&terminal).map_err(io::Error::from)?;
    let mut mode = before.clone();
    let output = mode.output_modes;
    mode.make_raw();
    mode.output_modes = output;
    if cbreak {
        mode.local_modes |= LocalModes::ISIG;
    }
    mode.special_codes[SpecialCodeIndex::VMIN] = 1;
    mode.special_codes[SpecialCodeIndex::VTIME] = 0;
    tcsetattr(&terminal, OptionalActions::Drain, &mode).map_err(io::Error::from)?;
    original.get_or_insert((rid, before));
    Ok(())
}

/// Gives standard input the mode back that it had before a script called `setRaw`. Call it before the
/// process ends, on every path.
pub fn restore_terminal() {
    if let Some((0, mode)) = lock().take() {
        // If it fails, there is nowhere to report that.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &mode);
    }
}

fn lock() -> std::sync::MutexGuard<'static, Option<(ResourceId, Termios)>> {
    ORIGINAL
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
