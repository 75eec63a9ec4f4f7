// `AbortSignal.timeout`, in place of the platform's own, whose timer fires at once for a long time.

(function () {
const { core, primordials } = __bootstrap;
const { ObjectDefineProperty } = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { DOMException } = core.loadExtScript("ext:deno_web/01_dom_exception.js");
const { AbortSignal, newSignal, signalAbort, timerId } = core.loadExtScript(
  "ext:deno_web/03_abort_signal.js",
);
const time = core.loadExtScript("ext:stockade_realm/time.js");

const RANGE = { __proto__: null, enforceRange: true };

const methods = {
  timeout(milliseconds) {
    const prefix = "Failed to execute 'AbortSignal.timeout'";
    webidl.requiredArguments(arguments.length, 1, prefix);
    const ms = webidl.converters["unsigned long long"](milliseconds, prefix, "Argument 1", RANGE);
    const signal = newSignal();
    const timer = time.after(ms, () => {
      signal[timerId] = null;
      signal[signalAbort](new DOMException("The operation was aborted due to timeout", "TimeoutError"));
    });
    signal[timerId] = timer.current;
    return signal;
  },
};

ObjectDefineProperty(AbortSignal, "timeout", core.propWritable(methods.timeout));

return {};
})();
