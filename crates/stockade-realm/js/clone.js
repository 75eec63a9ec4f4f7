// What the standards do not make serializable is refused by `structuredClone` and `postMessage`, wherever in a value it
// is: V8 sees objects without properties of their own, and makes `{}` of them without a word.

(function () {
const { core, primordials } = __bootstrap;
const { ObjectDefineProperty } = primordials;
const { DOMException } = core.loadExtScript("ext:deno_web/01_dom_exception.js");

// Cloned or transferred by brands of their own.
const CROSSES = {
  __proto__: null,
  Blob: true,
  DOMException: true,
  File: true,
  MessagePort: true,
  QuotaExceededError: true,
  ReadableStream: true,
  TransformStream: true,
  WritableStream: true,
};

function refuse(classes) {
  for (const name in classes) {
    if (CROSSES[name]) continue;
    // The serializer calls it for every object that has it; what it throws is what the caller gets.
    ObjectDefineProperty(classes[name].prototype, core.hostObjectBrand, {
      __proto__: null,
      value() {
        throw new DOMException(`${name} objects cannot be cloned`, "DataCloneError");
      },
      // Ports, which are event targets, are given a brand of their own by assignment.
      writable: true,
    });
  }
}

return { refuse };
})();
