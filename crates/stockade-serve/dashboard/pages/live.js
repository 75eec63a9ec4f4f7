// What happens now, by server-sent events: events and logs.

import { html, useEffect, useRef, useState } from "../vendor/libraries.js";
import { follow, query } from "../api.js";
import { announce, Badge, Card, Empty } from "../parts.js";
import { block, clock, line } from "../shown.js";

/** Lines of a log that are kept on the page. */
const MOST_LINES = 500;
const MOST_EVENTS = 50;
/** The place of an item in its stream. */
const PLACE = Symbol("place");

/**
 * The last `most` events of a stream that `pick` returns something for, oldest first, and how the connection is.
 *
 * A burst is drawn once per frame.
 */
export function useStream(path, pick, most) {
  const [shown, setShown] = useState({ items: [], state: "connecting" });
  useEffect(() => {
    const controller = new AbortController();
    let items = [];
    let state = "connecting";
    let frame = 0;
    let number = 0;
    const draw = () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        setShown({ items, state });
      });
    };
    follow(path, ({ event, data }) => {
      const item = event === "missed" ? { event, text: `${Number(data?.lines)} lines came too fast and are not shown` } : pick(data);
      if (!item) return;
      number += 1;
      items = [...items.slice(1 - most), { ...item, [PLACE]: number }];
      draw();
    }, (next) => {
      state = next;
      draw();
    }, controller.signal);
    return () => {
      controller.abort();
      cancelAnimationFrame(frame);
    };
  }, [path]);
  return shown;
}

const State = ({ state }) => html`<${Badge} kind=${state === "open" ? "good" : "warn"}>${state === "open" ? "live" : line(state, 120)}<//>`;

// Fields of a record that the page shows elsewhere.
const PLACED = new Set(["time", "level", "event", "instance", "mirror", "text", "message", "stack", "error"]);

/** What a record of the log says, for people: its text or error first, then what else it has. */
export function said(record) {
  const first = record.text ?? record.error ?? record.message ?? "";
  const more = Object.entries(record).filter(([name, value]) => !PLACED.has(name) && value !== null)
    .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`).join(" ");
  return [String(first), more].filter(Boolean).join("  ");
}

/** The lines of one instance's log, as they come. */
export function Logs({ stream }) {
  const [level, setLevel] = useState("all");
  const [following, setFollowing] = useState(true);
  const [from, setFrom] = useState(0);
  const list = useRef();
  const lines = stream.items.filter((item) => item[PLACE] > from && (level === "all" || item.level === "error" || (level === "warn" && item.level === "warn")));
  useEffect(() => {
    if (following) list.current.scrollTop = list.current.scrollHeight;
  }, [stream, following, level]);
  const actions = html`<${State} state=${stream.state} />
    <label>level <select value=${level} onChange=${(event) => setLevel(event.target.value)}>
      <option value="all">all</option><option value="warn">warnings</option><option value="error">errors</option></select></label>
    <label><input type="checkbox" checked=${following} onChange=${(event) => setFollowing(event.target.checked)} /> follow</label>
    <button type="button" class="small" onClick=${() => { setFrom(stream.items.at(-1)?.[PLACE] ?? 0); announce("Cleared."); }}>Clear</button>`;
  return html`<${Card} id="logs" title="Log" actions=${actions}>
    <div class="log" ref=${list} tabindex="0" role="log" aria-live="off" aria-label="Log lines"><ol>
      ${lines.length === 0 && html`<li class="quiet">No line yet. Lines of the guest's console, errors and ends of mirrors appear here as they come.</li>`}
      ${lines.map((item) => html`<li key=${item[PLACE]} class=${item.level}><time>${clock(item.time)}</time><span class="quiet">${item.mirror !== undefined ? `mirror ${line(item.mirror, 12)} ` : ""}${item.event === "console" ? "" : `${line(item.event, 40)} `}</span><bdi>${block(said(item), 4000)}</bdi></li>`)}
    </ol></div>
  <//>`;
}

/** Errors of guests with their stacks, the latest first. */
export function Errors({ stream }) {
  const errors = stream.items.filter((item) => item.stack || item.event === "uncaught" || item.event === "request_failed" || item.event === "mirror_start_failed").reverse().slice(0, 20);
  return html`<${Card} id="errors" title="Errors">
    ${errors.length === 0
      ? html`<${Empty} title="No error yet."><p>Exceptions that nothing in the guest caught appear here, with the lines of the
        TypeScript that threw them.</p><//>`
      : errors.map((item) => html`<details key=${item[PLACE]}>
          <summary><time>${clock(item.time)}</time> <${Badge} kind="bad">${line(item.event, 40)}<//> <bdi class="foreign">${line(item.error ?? item.message, 300)}</bdi></summary>
          <pre class="foreign">${block(item.stack ?? "This error has no stack.", 8000)}</pre>
        </details>`)}
  <//>`;
}

// Lines of these events are in the log only.
const LOGGED = new Set(["request", "websocket", "console", "log"]);

/** What happened to mirrors and to the server, the latest first, as a stream has it. */
export function Events({ stream }) {
  const items = stream.items.filter((item) => !LOGGED.has(item.event)).slice(-MOST_EVENTS);
  const last = items.at(-1);
  useEffect(() => {
    if (last?.event === "mirror_ended" && last.level === "warn") announce(`A mirror of ${line(last.instance, 60)} was ended: ${line(last.reason, 40)}`);
  }, [last?.[PLACE]]);
  return html`<${Card} id="events" title="Events" actions=${html`<${State} state=${stream.state} />`}>
    ${items.length === 0
      ? html`<${Empty} title="Nothing happened yet."><p>Starts, ends and kills of mirrors, scaling and reloads appear here at once.</p><//>`
      : html`<div class="log short" tabindex="0" role="group" aria-label="Events"><ol>${items.toReversed().map((item) => html`<li key=${item[PLACE]} class=${item.level}>
          <time>${clock(item.time)}</time><b>${line(item.event, 40)}</b> ${item.instance && html`<a href=${`#/instances/${encodeURIComponent(item.instance)}`}>${line(item.instance, 80)}</a>`}
          ${item.mirror !== undefined && ` mirror ${line(item.mirror, 12)}`} <bdi>${line(said(item), 600)}</bdi></li>`)}</ol></div>`}
  <//>`;
}

const object = (data) => (data && typeof data === "object" ? data : undefined);

/** What happens to all instances. */
export const useEvents = () => useStream(`/v1/events${query({ last: 20 })}`, object, MOST_EVENTS);

/** The log of one instance, of which an instance's page has one stream: browsers open six connections to a host. */
export const useLog = (instance) => useStream(`/v1/logs${query({ instance, last: 100 })}`, object, MOST_LINES);
