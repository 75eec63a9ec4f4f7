// Timers of the runtime's own. The engine's take at most `LONGEST` milliseconds and fire at once beyond it.

(function () {
const { core, primordials } = __bootstrap;
const { MathMin } = primordials;

const LONGEST = 2 ** 31 - 1;

// Calls `done` after a number of milliseconds, in the context of the caller. `keeps`: whether it keeps the
// isolate from being idle.
function after(ms, done, keeps = false) {
  const context = core.getAsyncContext();
  const timer = { __proto__: null, current: undefined, cancel };
  let left = ms;
  const arm = () => {
    const step = MathMin(left, LONGEST);
    left -= step;
    timer.current = core.createSystemTimer(fire, step, keeps);
  };
  const fire = () => {
    if (left > 0) {
      arm();
      return;
    }
    const before = core.getAsyncContext();
    core.setAsyncContext(context);
    try {
      done();
    } finally {
      core.setAsyncContext(before);
    }
  };
  arm();
  return timer;
}

function cancel() {
  core.cancelTimer(this.current);
}

return { after };
})();
