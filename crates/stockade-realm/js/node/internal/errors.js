// Errors with Node's codes.

export function coded(Class, code, message) {
  const error = new Class(message);
  error.code = code;
  return error;
}

// What Node says of something that the system refuses.
export function systemError(code, syscall, message, more = {}) {
  return Object.assign(new Error(`${syscall} ${code}: ${message}`), { code, syscall, ...more });
}

// Of a function that guests do not have.
export function missing(name, why) {
  return function () {
    throw coded(Error, "ERR_METHOD_NOT_IMPLEMENTED", `${name} is not available to guests of Stockade: ${why}`);
  };
}
