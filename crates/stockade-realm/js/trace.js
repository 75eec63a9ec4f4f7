// Which request of a client the code that runs now belongs to, for requests that the host traces. What the code asks of
// the host meanwhile carries the request's number, and the host knows for which request it is.
//
// The number is a part of the context that the engine carries along every await, next to what variables of
// `async_context.js` hold there: they copy it with the rest. A variable of the core would keep an entry in a weak map for
// each request, which costs more than the rest of a small request.

(function () {
const { core, primordials } = __bootstrap;
const { getAsyncContext, setAsyncContext } = core;
const { ObjectSetPrototypeOf } = primordials;

// A context with the number of a request and nothing else.
class OfRequest {
  constructor(id) {
    this.request = id;
  }
}
ObjectSetPrototypeOf(OfRequest.prototype, null);

function within(id, work) {
  const before = getAsyncContext();
  setAsyncContext(before === undefined || before === null ? new OfRequest(id) : { __proto__: null, ...before, request: id });
  try {
    return work();
  } finally {
    setAsyncContext(before);
  }
}

// Adds the request's number to data of a request to the host, where there is one.
function mark(data) {
  const id = getAsyncContext()?.request;
  if (id !== undefined) data.within = id;
  return data;
}

return { mark, within };
})();
