// The guest's `console`: silent, or lines of text to the host.

(function () {
const { core, primordials } = __bootstrap;
const { op_guest_console } = core.ops;
const {
  ObjectDefineProperty,
  ReflectOwnKeys,
  String,
  StringPrototypeSlice,
  SymbolToStringTag,
} = primordials;
const { Console, setNoColorFns } = core.loadExtScript("ext:deno_web/01_console.js");

// Lines are text: control sequences would be shown, not obeyed.
setNoColorFns(() => true, () => true);

// Far more than a line may hold: what lies beyond is not worth copying out of the heap.
const MAX_CHARS = 64 * 1024;

function silent() {
  const quiet = { __proto__: {} };
  const model = new Console(() => {});
  const keys = ReflectOwnKeys(model);
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i];
    if (typeof key === "string" && typeof model[key] === "function") quiet[key] = () => {};
  }
  ObjectDefineProperty(quiet, SymbolToStringTag, {
    __proto__: null,
    value: "console",
    configurable: true,
  });
  return quiet;
}

function capturing() {
  return new Console((text, level) => {
    op_guest_console(level, StringPrototypeSlice(String(text), 0, MAX_CHARS));
  });
}

return { capturing, silent };
})();
