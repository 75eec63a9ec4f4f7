// What an isolate sent before its host had a handler for it: kept in order, within bounds.

const MAX_MESSAGES = 1024;
const MAX_BYTES = 8 * 1024 * 1024;

export class Stash {
  #byEvent = new Map(); // event -> [{ data, size }]
  #messages = 0;
  #bytes = 0;
  #lost = false;

  // Keeps one; gives a sentence the first time there is no room.
  put(event, data, size) {
    if (this.#messages >= MAX_MESSAGES || this.#bytes + size > MAX_BYTES) {
      if (this.#lost) return undefined;
      this.#lost = true;
      return `messages of the event '${event}' are lost: nothing handles them, and ` +
        `${this.#messages} messages (${this.#bytes} bytes) without a handler wait already`;
    }
    let list = this.#byEvent.get(event);
    if (list === undefined) this.#byEvent.set(event, list = []);
    list.push({ data, size });
    this.#messages++;
    this.#bytes += size;
    return undefined;
  }

  has(event) {
    return this.#byEvent.has(event);
  }

  // Takes all that was kept for an event, oldest first.
  take(event) {
    const list = this.#byEvent.get(event) ?? [];
    this.#byEvent.delete(event);
    this.#messages -= list.length;
    for (const { size } of list) this.#bytes -= size;
    return list.map(({ data }) => data);
  }
}
