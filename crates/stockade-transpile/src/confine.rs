//! Runs the compiler where it cannot hurt: on a stack of a given size, with panics caught.
//!
//! The work runs on the caller's thread, so that its CPU time is on the caller's account. The caller's
//! stack is used where enough of it is left; otherwise the thread changes to a new one for the time.
//!
//! A panic is a fault of the compiler that a source has found. It becomes an error; its text is kept
//! from standard error, because the author of the source could fill a log with it.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// Stack for what does not grow with the source.
const BASE_STACK: usize = 512 * 1024;

thread_local! {
    static CONFINED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work` with at least `stack` bytes of stack besides a fixed base.
///
/// # Errors
/// The message of the panic that ended the work, or why there is no stack.
pub(crate) fn confined<T>(stack: usize, work: impl FnOnce() -> T) -> Result<T, String> {
    keep_panics_quiet();
    let stack = stack.saturating_add(BASE_STACK);
    let outer = CONFINED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(|| stacker::maybe_grow(stack, stack, work)));
    CONFINED.set(outer);
    result.map_err(|payload| message(payload.as_ref()))
}

/// Puts a hook before the process's own one that leaves out panics of confined work.
fn keep_panics_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !CONFINED.get() {
                others(panic);
            }
        }));
    });
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no reason given")
        .chars()
        .take(200)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depth(n: u32) -> u32 {
        let frame = std::hint::black_box([n; 64]);
        if n == 0 { 0 } else { 1 + depth(frame[0] - 1) }
    }

    #[test]
    fn work_deeper_than_the_callers_stack_gets_a_larger_one() {
        let levels = 100_000;
        assert_eq!(
            confined(levels as usize * 1024, || depth(levels)),
            Ok(levels)
        );
    }

    #[test]
    fn panic_becomes_an_error_and_the_thread_goes_on() {
        assert_eq!(
            confined(0, || panic!("at {}", 1)),
            Err::<(), _>("at 1".to_owned())
        );
        assert!(!CONFINED.get());
        assert_eq!(confined(0, || 7), Ok(7));
    }
}
