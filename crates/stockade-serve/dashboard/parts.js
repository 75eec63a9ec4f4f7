// The pieces that all pages are made of.

import { html, useCallback, useEffect, useLayoutEffect, useRef, useState } from "./vendor/libraries.js";
import { block, line } from "./shown.js";

/** Says a text to screen readers without moving the focus. */
export function announce(text) {
  const place = document.getElementById("announcer");
  place.textContent = "";
  // A screen reader reports a change, not a text that was there.
  requestAnimationFrame(() => (place.textContent = text));
}

/** Text that a guest, a client or another server chose. */
export const Text = ({ value, most }) => html`<bdi class="foreign">${line(value, most)}</bdi>`;

/** The same with its lines. */
export const Block = ({ value, most, label }) =>
  html`<pre class="foreign" tabindex="0" role="group" aria-label=${label}>${block(value, most)}</pre>`;

export const Problem = ({ error }) => error && html`<p class="problem" role="alert">${block(error.message ?? error, 20_000)}</p>`;

/** What stands where nothing is yet: says how something comes to stand there. */
export const Empty = ({ title, children }) => html`<div class="empty"><p><strong>${title}</strong></p>${children}</div>`;

export const Card = ({ title, actions, children, id }) => html`
  <section class="card" aria-labelledby=${id}>
    <header><h2 id=${id}>${title}</h2>${actions && html`<div class="actions">${actions}</div>`}</header>
    ${children}
  </section>`;

/** A state in a word and a colour. */
export const Badge = ({ kind = "", children }) => html`<span class=${`badge ${kind}`}>${children}</span>`;

/**
 * A table; `empty` stands for it where it has been read and has no row. Columns are `{ title, cell(row), numeric, long }`; the first one names its row. It scrolls in its own box, which
 * the keyboard reaches.
 */
export function Table({ label, columns, rows, keyOf, empty }) {
  if (rows.length === 0) return empty ?? html`<p class="quiet">Loading.</p>`;
  return html`<div class="scroll" tabindex="0" role="group" aria-label=${label}>
    <table>
      <thead><tr>${columns.map((column) => html`<th key=${column.title} scope="col" class=${column.numeric && "numeric"}>${column.title}</th>`)}</tr></thead>
      <tbody>
        ${rows.map((row, index) => html`<tr key=${keyOf ? keyOf(row) : index}>
          ${columns.map((column, place) => place === 0
            ? html`<th scope="row">${column.cell(row)}</th>`
            : html`<td class=${column.numeric ? "numeric" : column.long && "long"}>${column.cell(row)}</td>`)}
        </tr>`)}
      </tbody>
    </table>
  </div>`;
}

/** Name and value, one under the other. */
export const Facts = ({ of }) => html`<dl class="facts">
  ${of.filter(Boolean).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
</dl>`;

/** A share of a limit. */
export function Share({ label, used, limit, text }) {
  const share = limit > 0 ? Math.min(used / limit, 1) : 0;
  return html`<div class="share"><div><span>${label}</span><span>${text}</span></div>
    <meter aria-label=${label} min="0" max="1" high="0.9" low="0.75" optimum="0" value=${share}></meter></div>`;
}

/** A button that does one thing at a time and reports what failed. */
export function Action({ label, act, done, kind = "", disabled, report }) {
  const [busy, setBusy] = useState(false);
  const press = async () => {
    setBusy(true);
    report?.(undefined);
    try {
      await act();
      if (done) announce(done);
    } catch (error) {
      report?.(error);
      announce(error.message);
    } finally {
      setBusy(false);
    }
  };
  return html`<button type="button" class=${kind} disabled=${disabled || busy} aria-busy=${busy} onClick=${press}>${label}</button>`;
}

/** An Action that asks first. */
export function Confirmed({ label, name, question, act, done, kind = "danger", disabled }) {
  const [open, setOpen] = useState(false);
  return html`<button type="button" class=${kind} disabled=${disabled} aria-label=${name} onClick=${() => setOpen(true)}>${label}</button>
    ${open && html`<${Dialog} title=${question} close=${() => setOpen(false)}
      submit=${async () => { await act(); if (done) announce(done); setOpen(false); }} action=${label} danger=${kind === "danger"} />`}`;
}

/** A modal dialog with a form. `submit` gets the form's values; what it throws is shown. */
export function Dialog({ title, close, submit, action, danger, children, last }) {
  const dialog = useRef();
  const [error, setError] = useState();
  const [busy, setBusy] = useState(false);
  useLayoutEffect(() => {
    const element = dialog.current;
    element.showModal();
    // Gives the focus back to what had it.
    return () => element.close();
  }, []);
  const send = async (event) => {
    event.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      await submit(new FormData(event.target));
    } catch (failed) {
      setError(failed);
    } finally {
      setBusy(false);
    }
  };
  return html`<dialog ref=${dialog} aria-labelledby="dialog-title" onCancel=${(event) => { event.preventDefault(); close(); }}>
    <form onSubmit=${send} autocomplete="off">
      <h2 id="dialog-title">${title}</h2>
      ${children}
      <${Problem} error=${error} />
      <div class="buttons">
        <button type="button" onClick=${close}>${last ?? "Cancel"}</button>
        ${action && html`<button type="submit" class=${danger ? "danger" : "primary"} disabled=${busy}>${action}</button>`}
      </div>
    </form>
  </dialog>`;
}

/** A field with its label and, under it, what it takes. */
export const Field = ({ label, hint, name, ...rest }) => html`<div class="field">
  <label for=${`field-${name}`}>${label}</label>
  ${rest.options
    ? html`<select id=${`field-${name}`} name=${name} value=${rest.value} onChange=${rest.onChange} aria-describedby=${hint && `hint-${name}`}>
        ${rest.options.map(([value, text]) => html`<option key=${value} value=${value}>${text}</option>`)}</select>`
    : html`<input id=${`field-${name}`} name=${name} aria-describedby=${hint && `hint-${name}`} spellcheck="false" ...${rest} />`}
  ${hint && html`<p class="hint" id=${`hint-${name}`}>${hint}</p>`}
</div>`;

/** Copies a text at one press. */
export function Copy({ text, label = "Copy" }) {
  const [copied, setCopied] = useState(false);
  const press = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setCopied(true);
      announce("Copied.");
      setTimeout(() => setCopied(false), 2000);
    } catch {
      announce("The browser does not allow copying here. Select the text instead.");
    }
  };
  return html`<button type="button" class="small" onClick=${press}>${copied ? "Copied" : label}</button>`;
}

/**
 * What `read(signal)` returns, read again every `every` milliseconds while the page is visible.
 *
 * An answer that fails leaves the one before in place, with `error`.
 */
export function useLoaded(read, dependencies, every) {
  const [state, setState] = useState({});
  const again = useRef(() => {});
  useEffect(() => {
    const controller = new AbortController();
    let timer;
    let running = false;
    setState({});
    const once = async () => {
      clearTimeout(timer);
      if (running) return;
      running = true;
      try {
        const data = await read(controller.signal);
        if (!controller.signal.aborted) setState({ data });
      } catch (error) {
        if (!controller.signal.aborted) setState((before) => ({ data: before.data, error }));
      } finally {
        running = false;
      }
      if (every && !controller.signal.aborted) timer = setTimeout(() => (document.hidden ? wait() : once()), every);
    };
    const wait = () => document.addEventListener("visibilitychange", once, { once: true, signal: controller.signal });
    again.current = once;
    once();
    return () => {
      controller.abort();
      clearTimeout(timer);
    };
  }, dependencies);
  const reload = useCallback(() => again.current(), []);
  return { ...state, reload };
}

/** The heading of a page, which takes the focus when the page opens. */
export function Heading({ children, actions }) {
  const heading = useRef();
  useEffect(() => heading.current.focus({ preventScroll: true }), []);
  return html`<div class="heading"><h1 tabindex="-1" ref=${heading}>${children}</h1>${actions && html`<div class="actions">${actions}</div>`}</div>`;
}
