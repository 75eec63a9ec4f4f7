// The configuration: shown, edited, validated, compared, applied, rolled back.

import { html, useEffect, useState } from "../vendor/libraries.js";
import { call, get, path } from "../api.js";
import { Action, Badge, Block, Card, Confirmed, Dialog, Empty, Heading, Problem, Table, useLoaded } from "../parts.js";
import { line, number, time } from "../shown.js";

const REDACTED = "[redacted]";

export function Configuration() {
  const { data, error, reload } = useLoaded((signal) => get("/v1/config", signal), []);
  const history = useLoaded((signal) => get("/v1/config/history", signal), []);
  const [text, setText] = useState("");
  const [outcome, setOutcome] = useState({});
  useEffect(() => data && setText(data.text), [data]);
  const changed = data && text !== data.text;
  const applied = (answer) => {
    setOutcome({ message: `In use, as version ${line(answer.version, 40)}: ${answer.message}` });
    reload();
    history.reload();
  };
  const report = (failed) => failed && setOutcome({ error: failed });
  const validate = async () => setOutcome({ findings: await call("POST", "/v1/config/validate", { text }) });
  const compare = async () => setOutcome({ changes: await call("POST", "/v1/config/diff", { text }) });
  const apply = async () => applied(await call("PUT", "/v1/config", { text }, { headers: { "if-match": `"${data.version}"` } }));
  const rollBack = (version) => async () => applied(await call("POST", "/v1/config/rollback", { version }));
  return html`
    <${Heading}>Configuration<//>
    <${Problem} error=${error} />
    ${data && html`<${Card} id="file" title=${line(data.path, 200)} actions=${html`<${Badge}>version ${line(data.version, 20)}<//>`}>
      ${data.text.includes(REDACTED) && html`<p class="note">The values of <code>env</code> are shown as <code>${REDACTED}</code>. To apply a changed text,
        write the values in their places.</p>`}
      <label for="text" class="hidden">The text of the configuration</label>
      <textarea id="text" spellcheck="false" autocapitalize="off" value=${text} onInput=${(event) => { setText(event.target.value); setOutcome({}); }}></textarea>
      <div class="buttons">
        <button type="button" disabled=${!changed} onClick=${() => { setText(data.text); setOutcome({}); }}>Discard changes</button>
        <${Action} label="Validate" act=${validate} report=${report} done="Validated." />
        <${Action} label="Compare" act=${compare} report=${report} done="Compared." />
        <${Confirmed} label="Apply" kind="primary" disabled=${!changed} question="Take this configuration into use? It replaces the file." act=${apply} done="The configuration is in use." />
      </div>
      <${Outcome} ...${outcome} />
    <//>`}
    <${Versions} history=${history} current=${data?.version} rollBack=${rollBack} />`;
}

function Outcome({ error, message, findings, changes }) {
  if (error) return html`<${Problem} error=${error} />`;
  if (message) return html`<${Block} label="Outcome" value=${message} most=${8000} />`;
  if (findings) {
    return html`<h3>${findings.valid ? "This configuration is valid." : "This configuration cannot be used."}</h3>
      ${findings.diagnostics.length > 0 && html`<${Table} label="Diagnostics" rows=${findings.diagnostics} columns=${[
        { title: "line", cell: (one) => (one.line ? number(one.line) : "all") },
        { title: "severity", cell: (one) => html`<${Badge} kind=${one.severity === "error" ? "bad" : "warn"}>${line(one.severity, 10)}<//>` },
        { title: "key", cell: (one) => html`<bdi class="mono">${line(one.path, 200)}</bdi>` },
        { title: "what is wrong", long: true, cell: (one) => line(one.what, 600) },
        { title: "allowed", long: true, cell: (one) => line(one.allowed ?? "", 600) },
      ]} />`}`;
  }
  if (changes) {
    const rows = [["added", "new instances"], ["changed", "changed instances"], ["removed", "instances that would end"], ["settings", "settings of the server"]]
      .filter(([key]) => changes[key].length > 0);
    return html`<h3>Compared with the configuration in use</h3>
      ${rows.length === 0 ? html`<p>It would change nothing.</p>` : html`<dl class="facts">${rows.map(([key, title]) => html`<div key=${key}><dt>${title}</dt>
        <dd>${changes[key].map((name) => line(name, 80)).join(", ")}</dd></div>`)}</dl>`}`;
  }
  return null;
}

function Versions({ history: { data, error }, current, rollBack }) {
  const [shown, setShown] = useState();
  return html`<${Card} id="versions" title="Versions">
    <${Problem} error=${error} />
    <${Table} label="Versions" rows=${data?.versions.toReversed() ?? []} keyOf=${(past) => past.number}
      empty=${data && html`<${Empty} title="No version is kept yet."><p>A version is kept when it is replaced here or by the API: the latest 50.</p><//>`}
      columns=${[
        { title: "number", cell: (past) => number(past.number) },
        { title: "version", cell: (past) => html`<code>${line(past.version, 40)}</code>` },
        { title: "recorded", cell: (past) => time(past.recorded) },
        { title: "actions", cell: (past) => html`<span class="actions">
          <button type="button" aria-label=${`Show version ${past.number}`} onClick=${() => setShown(past.version)}>Show</button>
          ${past.version === current ? html`<${Badge} kind="good">the file now<//>` : html`<${Confirmed} label="Roll back" name=${`Roll back to version ${past.number}`}
            question=${`Take version ${past.number} into use again?`} act=${rollBack(past.version)} done="The configuration is in use." />`}</span>` },
      ]} />
    ${shown && html`<${Past} version=${shown} close=${() => setShown(undefined)} />`}
  <//>`;
}

function Past({ version, close }) {
  const { data, error } = useLoaded((signal) => get(path("config", "history", version), signal), [version]);
  return html`<${Dialog} title=${`Version ${line(version, 40)}`} close=${close} last="Close">
    <${Problem} error=${error} />${data && html`<${Block} label="Configuration" value=${data.text} most=${100_000} />`}<//>`;
}
