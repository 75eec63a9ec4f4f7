// CPU profiles and heap snapshots of mirrors.

import { html, useState } from "../vendor/libraries.js";
import { call, get, load, path, query, save } from "../api.js";
import { announce, Block, Card, Empty, Field, Heading, Problem, useLoaded } from "../parts.js";
import { line } from "../shown.js";
import { Flame } from "../flame.js";

const KINDS = [["cpu", "CPU profile with a flame graph"], ["heap", "heap snapshot"], ["heap-statistics", "heap statistics"]];
/** Bytes of a profile that is drawn; a larger one is only saved. */
const MOST_DRAWN = 32 << 20;

export function Profiles() {
  const { data, error } = useLoaded((signal) => get("/v1/instances", signal), [], 5000);
  const [name, setName] = useState();
  const [kind, setKind] = useState("cpu");
  const [result, setResult] = useState({});
  const instances = (data?.instances ?? []).filter((instance) => instance.mirrors.length > 0);
  const chosen = instances.find((instance) => instance.name === name) ?? instances[0];
  const record = async (event) => {
    event.preventDefault();
    const { mirror, seconds } = Object.fromEntries(new FormData(event.target));
    const target = `${path("instances", chosen.name, "mirrors", mirror, "profile")}${query({ kind, seconds: kind === "cpu" ? seconds : undefined })}`;
    const file = `${chosen.name}-${mirror}`;
    setResult({ busy: kind === "cpu" ? `Recording for ${line(seconds, 10)} seconds.` : "Asking the mirror." });
    try {
      setResult(await take(kind, target, file));
      announce("Done.");
    } catch (failed) {
      setResult({ error: failed });
    }
  };
  return html`
    <${Heading}>Profiles<//>
    <${Problem} error=${error} />
    <${Card} id="record" title="Record">
      ${data && instances.length === 0 ? html`<${Empty} title="No mirror runs."><p>A profile shows where a running mirror spends its CPU time, and a
          snapshot what its heap holds. A mirror starts with the next request of its instance.</p><//>`
        : chosen && html`<form class="filter" onSubmit=${record}>
          <${Field} label="Instance" name="instance" value=${chosen.name} options=${instances.map((one) => [one.name, one.name])} onChange=${(event) => setName(event.target.value)} />
          <${Field} label="Mirror" name="mirror" options=${chosen.mirrors.map(({ mirror }) => [String(mirror), String(mirror)])} />
          <${Field} label="What" name="kind" value=${kind} options=${KINDS} onChange=${(event) => setKind(event.target.value)} />
          ${kind === "cpu" && html`<${Field} label="Seconds" name="seconds" type="number" min="1" max="300" value="5" required />`}
          <button class="primary" disabled=${Boolean(result.busy)}>Record</button>
        </form>`}
      ${kind === "heap" && html`<p class="note">A heap snapshot contains everything that the guest holds, tokens and data of its users too. The mirror
        stands still while it is written.</p>`}
      <p role="status">${result.busy}</p>
      <${Problem} error=${result.error} />
    <//>
    ${result.blob && html`<${Card} id="result" title=${line(result.file, 120)}
      actions=${html`<button type="button" onClick=${() => save(result.blob, result.file)}>Download</button>`}>
      ${result.profile ? html`<${Flame} key=${result.file} profile=${result.profile} />`
        : result.text ? html`<${Block} label="Heap statistics" value=${result.text} most=${20_000} />`
        : html`<p>Open the file in Chrome's DevTools, in the panel ${kind === "cpu" ? "Performance" : "Memory"}.</p>`}
    <//>`}`;
}

/** Has the server make one kind of profile. */
async function take(kind, target, name) {
  if (kind === "heap-statistics") {
    const text = JSON.stringify(await call("POST", target), null, 2);
    return { blob: new Blob([text]), text, file: `${name}.json` };
  }
  const blob = await load("POST", target);
  if (kind === "heap") return { blob, file: `${name}.heapsnapshot` };
  const profile = blob.size <= MOST_DRAWN ? JSON.parse(await blob.text()) : undefined;
  return { blob, profile, file: `${name}.cpuprofile` };
}
