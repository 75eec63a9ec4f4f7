// `WebAssembly.compileStreaming` and `instantiateStreaming`: a response's body, handed to the engine.
//
// The engine calls `receive` with whatever the guest gave, and waits until the id is closed or aborted.

(function () {
const { core, primordials } = __bootstrap;
const { op_wasm_streaming_feed } = core.ops;
const {
  PromisePrototypeThen,
  ReflectApply,
  StringPrototypeToLowerCase,
  TypeError,
  Uint8Array,
} = primordials;
const webidl = core.loadExtScript("ext:deno_webidl/00_webidl.js");
const { ResponsePrototype } = core.loadExtScript("ext:deno_fetch/23_response.js");
const { Headers } = core.loadExtScript("ext:deno_fetch/20_headers.js");

// The classes' own methods, whatever a guest puts in their place.
const readBytes = ResponsePrototype.arrayBuffer;
const readHeader = Headers.prototype.get;

// WebAssembly Web API, section "Streaming Module Compilation and Instantiation".
function receive(source, id) {
  let body;
  try {
    const response = webidl.converters["Response"](
      source,
      "Failed to execute 'WebAssembly.compileStreaming'",
      "Argument 1",
    );
    const type = ReflectApply(readHeader, response.headers, ["content-type"]);
    if (type === null || StringPrototypeToLowerCase(type) !== "application/wasm") {
      const found = type === null ? "none" : `'${type}'`;
      throw new TypeError(`the response's content-type is ${found}, not 'application/wasm'`);
    }
    if (!response.ok) {
      throw new TypeError(`the response has the status ${response.status}`);
    }
    body = ReflectApply(readBytes, response, []);
  } catch (error) {
    core.abortWasmStreaming(id, error);
    return;
  }
  PromisePrototypeThen(
    body,
    (buffer) => {
      op_wasm_streaming_feed(id, new Uint8Array(buffer));
      core.close(id);
    },
    (error) => core.abortWasmStreaming(id, error),
  );
}

return { receive };
})();
