const channels = new Map();

export class Channel {
  #subscribers = new Set();

  constructor(name) {
    this.name = name;
  }
  get hasSubscribers() {
    return this.#subscribers.size > 0;
  }
  subscribe(subscriber) {
    this.#subscribers.add(subscriber);
  }
  unsubscribe(subscriber) {
    return this.#subscribers.delete(subscriber);
  }
  publish(message) {
    for (const subscriber of this.#subscribers) {
      try {
        subscriber(message, this.name);
      } catch (error) {
        reportError(error);
      }
    }
  }
  bindStore() {}
  unbindStore() {}
  runStores(message, work, self, ...args) {
    this.publish(message);
    return work.apply(self, args);
  }
}

export function channel(name) {
  let found = channels.get(name);
  if (found === undefined) {
    found = new Channel(name);
    channels.set(name, found);
  }
  return found;
}

export const hasSubscribers = (name) => channels.get(name)?.hasSubscribers ?? false;
export const subscribe = (name, subscriber) => channel(name).subscribe(subscriber);
export const unsubscribe = (name, subscriber) => channel(name).unsubscribe(subscriber);

const STEPS = ["start", "end", "asyncStart", "asyncEnd", "error"];

export class TracingChannel {
  constructor(name) {
    for (const step of STEPS) {
      this[step] = typeof name === "string" ? channel(`tracing:${name}:${step}`) : name[step];
    }
  }
  get hasSubscribers() {
    return STEPS.some((step) => this[step].hasSubscribers);
  }
  subscribe(subscribers) {
    for (const step of STEPS) if (subscribers[step]) this[step].subscribe(subscribers[step]);
  }
  unsubscribe(subscribers) {
    return STEPS.every((step) => !subscribers[step] || this[step].unsubscribe(subscribers[step]));
  }
  traceSync(work, context = {}, self, ...args) {
    this.start.publish(context);
    try {
      context.result = work.apply(self, args);
      return context.result;
    } catch (error) {
      context.error = error;
      this.error.publish(context);
      throw error;
    } finally {
      this.end.publish(context);
    }
  }
  tracePromise(work, context = {}, self, ...args) {
    const over = (key) => (value) => {
      context[key] = value;
      if (key === "error") this.error.publish(context);
      this.asyncStart.publish(context);
      this.asyncEnd.publish(context);
    };
    const promise = Promise.resolve(this.traceSync(work, context, self, ...args));
    promise.then(over("result"), over("error"));
    return promise;
  }
  traceCallback(work, position = -1, context = {}, self, ...args) {
    const at = position < 0 ? args.length + position : position;
    const callback = args[at];
    args[at] = (...results) => {
      [context.error, context.result] = results;
      if (context.error) this.error.publish(context);
      this.asyncStart.publish(context);
      try {
        return callback.apply(self, results);
      } finally {
        this.asyncEnd.publish(context);
      }
    };
    return this.traceSync(work, context, self, ...args);
  }
}
export const tracingChannel = (name) => new TracingChannel(name);
export default { Channel, channel, hasSubscribers, subscribe, tracingChannel, unsubscribe };
