// The guest's `console`: silent, or lines of text to the host.

(function () {
const { core, primordials } = __bootstrap;
const { op_guest_console, op_guest_console_piece } = core.ops;
const {
  ObjectDefineProperty,
  ReflectOwnKeys,
  String,
  StringPrototypeCharCodeAt,
  StringPrototypeEndsWith,
  StringPrototypeSlice,
  SymbolToStringTag,
} = primordials;
const { Console, setNoColorFns } = core.loadExtScript("ext:deno_web/01_console.js");

// Lines are text: control sequences would be shown, not obeyed.
setNoColorFns(() => true, () => true);

// Far more than a line may hold: what lies beyond is not worth copying out of the heap. Where nothing is
// cut, this much is copied at a time.
const MAX_CHARS = 64 * 1024;

// Both are made for the startup snapshot, so that no guest waits for one.

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

function silent() {
  return quiet;
}

let whole = false;
const captured = new Console((text, level) => whole ? printWhole(text, level) : print(text, level));

function capturing(isWhole) {
  whole = isWhole;
  return captured;
}

function print(text, level) {
  text = String(text);
  op_guest_console(level, StringPrototypeSlice(text, 0, MAX_CHARS), text.length);
}

function printWhole(text, level) {
  text = String(text);
  if (!StringPrototypeEndsWith(text, "\n")) text += "\n";
  for (let start = 0; start < text.length;) {
    let end = start + MAX_CHARS;
    // The halves of a surrogate pair stay together.
    if (end < text.length && (StringPrototypeCharCodeAt(text, end - 1) & 0xfc00) === 0xd800) end++;
    op_guest_console_piece(level, StringPrototypeSlice(text, start, end));
    start = end;
  }
}

return { capturing, silent };
})();
