// `setImmediate`: after the promises that are settled, and after what they lead to.

class Immediate {
  constructor(timer) {
    this.timer = timer;
  }
  ref() {
    return this;
  }
  unref() {
    return this;
  }
  hasRef() {
    return true;
  }
}

export function setImmediate(callback, ...args) {
  return new Immediate(setTimeout(callback, 0, ...args));
}

export function clearImmediate(immediate) {
  if (immediate instanceof Immediate) clearTimeout(immediate.timer);
}
