//! The guest's clocks, made coarse.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use deno_core::{OpState, op2};
use deno_web::StartTime;

use crate::port::Settings;

/// Writes seconds and nanoseconds as two native-endian `u32`, as deno_web's `15_performance.js` reads.
fn write(time: Duration, precision: Duration, out: &mut [u8]) {
    let step = precision.as_nanos().max(1);
    let coarse = time.as_nanos() / step * step;
    let seconds = (coarse / 1_000_000_000) as u32;
    let nanos = (coarse % 1_000_000_000) as u32;
    if let Some((first, rest)) = out.split_at_mut_checked(4)
        && let Some(second) = rest.get_mut(..4)
    {
        first.copy_from_slice(&seconds.to_ne_bytes());
        second.copy_from_slice(&nanos.to_ne_bytes());
    }
}

fn precision(state: &OpState) -> Duration {
    let us = state
        .try_borrow::<Settings>()
        .map_or(1000, |settings| settings.timer_precision_us);
    Duration::from_micros(us)
}

/// Lets `performance` count from now: how long a realm waited for its guest is not the guest's to know.
pub fn start_clock(state: &mut OpState) {
    state.put(StartTime::default());
}

#[op2(fast)]
pub(crate) fn op_guest_now(state: &mut OpState, #[buffer] out: &mut [u8]) {
    write(state.borrow::<StartTime>().elapsed(), precision(state), out);
}

#[op2(fast)]
pub(crate) fn op_guest_time_origin(state: &mut OpState, #[buffer] out: &mut [u8]) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let origin = now.saturating_sub(state.borrow::<StartTime>().elapsed());
    write(origin, precision(state).max(Duration::from_millis(1)), out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_rounds_down_to_precision() {
        let mut out = [0; 8];
        write(
            Duration::new(3, 1_234_567),
            Duration::from_micros(100),
            &mut out,
        );
        let nanos = u32::from_ne_bytes([out[4], out[5], out[6], out[7]]);
        assert_eq!(nanos, 1_200_000);
        assert_eq!(out[..4], 3_u32.to_ne_bytes());
    }
}
