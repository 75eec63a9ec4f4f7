// Which request of a client the code that runs now belongs to, for requests that the host traces. What the code asks of
// the host meanwhile carries the request's number, and the host knows for which request it is.

(function () {
const { core } = __bootstrap;

// The number of the request.
const current = new core.AsyncVariable();

function within(id, work) {
  const before = current.enter(id);
  try {
    return work();
  } finally {
    core.setAsyncContext(before);
  }
}

// Adds the request's number to data of a request to the host, where there is one.
function mark(data) {
  const id = current.get();
  if (id !== undefined) data.within = id;
  return data;
}

return { mark, within };
})();
