// One instance: its mirrors, limits, clients, errors, log, refusals, state and grants.

import { html, useState } from "../vendor/libraries.js";
import { call, get, path, query } from "../api.js";
import { Action, Badge, Block, Card, Confirmed, Copy, Dialog, Empty, Facts, Field, Heading, Problem, Share, Table, Text, useLoaded } from "../parts.js";
import { bytes, duration, line, number, time } from "../shown.js";
import { Charts, useHistory } from "./history.js";
import { Errors, Events, Logs, useLog } from "./live.js";

const LOADING = "\u2013";

export function Instance({ rest, theme }) {
  const [name] = rest;
  const { data, error, reload } = useLoaded((signal) => get(path("instances", name), signal), [name], 2000);
  const history = useHistory(name);
  const log = useLog(name);
  if (error?.status === 404) {
    return html`<${Heading}>No such instance<//>
      <${Empty} title="No instance has this name."><p>It may have been removed by a change of the configuration. <a href="#/overview">All instances</a></p><//>`;
  }
  return html`
    <${Heading}>${line(name, 80)}<//>
    <${Problem} error=${error ?? history.error} />
    <${Facts} of=${[
      ["state", data ? html`<${Badge} kind=${data.ready ? "good" : "bad"}>${data.ready ? "ready" : "not ready"}<//>` : LOADING],
      ["isolation", data ? line(data.isolation, 20) : LOADING],
      ["URLs", data ? html`<${Text} value=${data.urls.join(" ") || "none: only bindings and crons reach it"} />` : LOADING],
      ["CPU time of all mirrors", data ? duration(data.cpu_ms) : LOADING],
      data?.start_error && ["last start failed", html`<${Text} value=${data.start_error} most=${2000} />`],
    ]} />
    <${Charts} history=${history} theme=${theme} />
    ${data && html`
      ${data.versions.length > 1 && html`<${Versions} versions=${data.versions} />`}
      ${data.previews.length > 0 && html`<${Previews} previews=${data.previews} />`}
      <${Mirrors} name=${name} instance=${data} reload=${reload} />
      <${Limits} name=${name} instance=${data} />`}
    <${ClientLimits} name=${name} />
    <${Errors} stream=${log} />
    <${Logs} stream=${log} />
    <${RefusedList} name=${name} />
    <${State} name=${name} />
    <${Events} stream=${log} />`;
}

function Versions({ versions }) {
  return html`<${Card} id="versions" title="Versions with a share">
    <${Table} label="Versions with a share" rows=${versions} keyOf=${(one) => one.version} columns=${[
      { title: "version", cell: (one) => html`<code>${line(one.version, 40)}</code>` },
      { title: "share", numeric: true, cell: (one) => `${one.percent} %` },
      { title: "state", cell: (one) => html`<${Badge} kind=${one.ready ? "good" : "bad"}>${one.ready ? "ready" : "not ready"}<//>` },
      { title: "mirrors wanted", numeric: true, cell: (one) => number(one.mirrors_wanted) },
      { title: "requests", numeric: true, cell: (one) => number(one.requests) },
      { title: "errors", numeric: true, cell: (one) => number(one.errors) },
      { title: "in flight", numeric: true, cell: (one) => number(one.in_flight) },
      { title: "waiting", numeric: true, cell: (one) => number(one.queued) },
      { title: "last start failed", long: true, cell: (one) => one.start_error ? html`<${Text} value=${one.start_error} most=${600} />` : "no" },
    ]} />
    <p class="quiet"><a href="#/deployments">Deployments</a> changes the shares and rolls back.</p>
  <//>`;
}

function Previews({ previews }) {
  return html`<${Card} id="previews" title="Previews">
    <${Table} label="Previews" rows=${previews} keyOf=${(one) => one.version} columns=${[
      { title: "version", cell: (one) => html`<code>${line(one.version, 40)}</code>` },
      { title: "host", long: true, cell: (one) => html`<${Text} value=${one.host ?? "none any more"} most=${300} />` },
      { title: "state", cell: (one) => html`<${Badge} kind=${one.ready ? "good" : "bad"}>${one.ready ? "ready" : "not ready"}<//>` },
      { title: "requests", numeric: true, cell: (one) => number(one.requests) },
      { title: "errors", numeric: true, cell: (one) => number(one.errors) },
      { title: "last request", cell: (one) => `${duration(one.idle_ms)} ago` },
      { title: "last start failed", long: true, cell: (one) => one.start_error ? html`<${Text} value=${one.start_error} most=${600} />` : "no" },
    ]} />
    <p class="quiet">A preview ends five minutes after its last request.</p>
  <//>`;
}

function Mirrors({ name, instance, reload }) {
  const [error, setError] = useState();
  const act = (mirror, what) => async () => {
    await call("POST", mirror === undefined ? path("instances", name, "mirrors") : path("instances", name, "mirrors", String(mirror), what));
    reload();
  };
  return html`<${Card} id="mirrors" title="Mirrors" actions=${html`<${Action} label="Start a mirror" report=${setError} act=${act()} done="A mirror starts." />`}>
    <${Problem} error=${error} />
    <${Table} label="Mirrors" rows=${instance.mirrors} keyOf=${(mirror) => mirror.mirror}
      empty=${html`<${Empty} title="No mirror runs."><p>A mirror is a running isolate of the instance. One starts with the next request.</p><//>`}
      columns=${[
        { title: "mirror", cell: (mirror) => number(mirror.mirror) },
        { title: "version", cell: (mirror) => html`<code>${line(mirror.version, 40)}</code>${mirror.preview && html` <${Badge}>preview<//>`}` },
        { title: "state", cell: (mirror) => html`<${Badge} kind=${mirror.state === "ready" ? "good" : "warn"}>${line(mirror.state, 20)}<//>
          ${mirror.debugged && html` <${Badge} kind="warn">debugged<//>`}` },
        { title: "age", numeric: true, cell: (mirror) => duration(mirror.age_ms) },
        { title: "in flight", numeric: true, cell: (mirror) => number(mirror.in_flight) },
        { title: "requests", numeric: true, cell: (mirror) => number(mirror.requests) },
        { title: "CPU time", numeric: true, cell: (mirror) => duration(mirror.cpu_ms) },
        { title: "memory", numeric: true, cell: (mirror) => bytes(mirror.memory_bytes) },
        { title: "actions", cell: (mirror) => html`<span class="actions">
          <${Action} kind="small" label="Drain" report=${setError} act=${act(mirror.mirror, "drain")} done="The mirror drains." />
          <${Action} kind="small" label="Restart" report=${setError} act=${act(mirror.mirror, "restart")} done="The mirror restarts." />
          <${Confirmed} label="Kill" name=${`Kill mirror ${mirror.mirror}`} question=${`Kill mirror ${mirror.mirror}? Its requests are cut off.`}
            act=${act(mirror.mirror, "kill")} done="The mirror is killed." /></span>` },
      ]} /><//>`;
}

function Limits({ name, instance }) {
  const { data, error } = useLoaded((signal) => get(path("instances", name, "policy"), signal), [name], 30_000);
  const most = (pick) => instance.mirrors.reduce((found, mirror) => Math.max(found, pick(mirror)), 0);
  const limits = data?.limits;
  const memory = most((mirror) => mirror.memory_bytes);
  const busy = most((mirror) => mirror.in_flight);
  return html`<${Card} id="limits" title="Limits and their use">
    <${Problem} error=${error} />
    ${limits && html`
      <${Share} label="Memory of the largest mirror" used=${memory} limit=${limits.memory_bytes} text=${`${bytes(memory)} of ${bytes(limits.memory_bytes)}`} />
      <${Share} label="Requests of the busiest mirror" used=${busy} limit=${limits.concurrency} text=${`${number(busy)} of ${number(limits.concurrency)}`} />
      <${Share} label="Requests that wait" used=${instance.queued} limit=${limits.queue} text=${`${number(instance.queued)} of ${number(limits.queue)}`} />
      <${Facts} of=${[
        ["CPU time of an activation", duration(limits.cpu_ms)],
        ["elapsed time of an activation", duration(limits.wall_ms)],
        ["time to the head of a response", duration(limits.timeout_ms)],
        ["requests to others at once", number(limits.subrequests)],
        ["WebSockets of clients", number(limits.websockets)],
        ["body of a request", bytes(limits.max_body_bytes)],
      ]} />`}
  <//>
  <${Card} id="grants" title="Grants">
    <${Table} label="Grants" rows=${data?.grants ?? []} keyOf=${(grant) => `${grant.kind} ${grant.name}`}
      empty=${data && html`<${Empty} title="This instance is granted nothing.">
        <p>It reaches no host, folder, state or other instance. Keys such as <code>data_guard</code>, <code>state</code>,
        <code>bindings</code> and <code>grants</code> of its configuration grant them.</p><//>`}
      columns=${[
        { title: "kind", cell: (grant) => line(grant.kind, 40) },
        { title: "name", cell: (grant) => html`<${Text} value=${grant.name} most=${200} />` },
        { title: "leads to", long: true, cell: (grant) => html`<${Text} value=${grant.detail} most=${400} />` },
      ]} />
  <//>`;
}

const WINDOWS = { 1: "s", 60: "m", 3600: "h", 86400: "day" };

/** Units of a limit of clients, as the configuration has them. */
const units = (limit, amount) => {
  if (limit.unit === "cpu_ms") return duration(amount);
  return limit.unit === "requests" ? number(amount) : bytes(amount);
};

function ClientLimits({ name }) {
  const [client, setClient] = useState({});
  const [failed, setFailed] = useState();
  const read = (signal) => get(`/v1/limits${query({ instance: name, limit: 500, ...client })}`, signal);
  const { data, error, reload } = useLoaded(read, [name, client.key, client.address], 5000);
  const search = (event) => {
    event.preventDefault();
    const text = new FormData(event.target).get("client").trim();
    setClient(text.startsWith("key_") ? { key: text } : { address: text });
  };
  const reset = (limit) => async () => {
    await call("DELETE", path("limits", limit.counter.id));
    reload();
  };
  return html`<${Card} id="client-limits" title="Limits of clients">
    <form class="filter" role="search" onSubmit=${search}>
      <${Field} label="Use of a client" name="client" hint="The id of its API key, or its address." /><button>Show</button></form>
    <${Problem} error=${failed ?? error} />
    <${Table} label="Limits of clients" rows=${data?.limits ?? []} keyOf=${(limit) => `${limit.name} ${limit.amount}/${limit.window_seconds} ${limit.methods} ${limit.paths}`}
      empty=${data && html`<${Empty} title="No client is limited."><p><code>rate_limits</code> in the configuration limits what clients use over time.</p><//>`}
      columns=${[
        { title: "limit", cell: (limit) => html`<${Text} value=${limit.name} most=${120} />` },
        { title: "of", cell: (limit) => html`<${Text} value=${[...limit.methods, ...limit.paths].join(" ") || "all requests"} most=${200} />` },
        { title: "amount", numeric: true, cell: (limit) => `${units(limit, limit.amount)}/${WINDOWS[limit.window_seconds] ?? "month"}` },
        { title: "used", numeric: true, cell: (limit) => limit.counter ? units(limit, limit.counter.used) : LOADING },
        { title: "left", numeric: true, cell: (limit) => limit.counter ? units(limit, limit.counter.left) : LOADING },
        { title: "resets in", numeric: true, cell: (limit) => limit.counter ? duration(limit.counter.resets_in_ms) : LOADING },
        { title: "actions", cell: (limit) => limit.counter ? html`<${Action} kind="small" label="Set back" report=${setFailed}
          act=${reset(limit)} done="The counter is set back." />` : "" },
      ]} /><//>`;
}

function RefusedList({ name }) {
  const { data, error } = useLoaded((signal) => get(path("instances", name, "refused"), signal), [name], 3000);
  return html`<${Card} id="refused" title="Refused egress">
    <${Problem} error=${error} />
    <${Table} label="Refused egress" rows=${data?.refused ?? []} keyOf=${(entry) => `${entry.action} ${entry.target} ${entry.message}`}
      empty=${data && html`<${Empty} title="Nothing was refused since the server started.">
        <p>A guest reaches only the hosts that its <code>data_guard</code> and <code>sockets</code> name. What it tries beyond them is listed
        here, with the rule that would allow it.</p><//>`}
      columns=${[
        { title: "target", cell: (entry) => html`<${Text} value=${entry.target} />` },
        { title: "action", cell: (entry) => line(entry.action, 20) },
        { title: "why", long: true, cell: (entry) => html`<${Text} value=${entry.message} most=${600} />` },
        { title: "times", numeric: true, cell: (entry) => number(entry.count) },
        { title: "last", cell: (entry) => time(entry.last) },
        { title: "rule", cell: (entry) => entry.allow ? html`<${Copy} text=${entry.allow} label="Copy the rule" />` : "no rule allows it" },
      ]} /><//>`;
}

function State({ name }) {
  const [prefix, setPrefix] = useState("");
  const [cursors, setCursors] = useState([""]);
  const [open, setOpen] = useState();
  const cursor = cursors.at(-1);
  const { data, error } = useLoaded((signal) => get(`${path("instances", name, "state")}${query({ prefix, cursor, limit: 50 })}`, signal), [name, prefix, cursor], 5000);
  const search = (event) => {
    event.preventDefault();
    setCursors([""]);
    setPrefix(new FormData(event.target).get("prefix"));
  };
  if (error?.status === 404) {
    return html`<${Card} id="state" title="State"><${Empty} title="This instance has no shared state.">
      <p><code>state: true</code> in its configuration gives its guests <code>env.STATE</code>, which all its mirrors share.</p><//><//>`;
  }
  return html`<${Card} id="state" title="State">
    <form class="filter" role="search" onSubmit=${search}><${Field} label="Keys that begin with" name="prefix" /><button>Show</button></form>
    <${Problem} error=${error} />
    ${data && html`<${Share} label="Storage" used=${data.used_bytes} limit=${data.limit_bytes}
      text=${`${number(data.entries)} entries, ${bytes(data.used_bytes)} of ${bytes(data.limit_bytes)}`} />`}
    <${Table} label="Keys" rows=${data?.keys ?? []} keyOf=${(row) => row.key}
      empty=${data && html`<${Empty} title=${prefix ? "No key begins so." : "The state is empty."}><p>A guest writes with <code>env.STATE.put(key, value)</code>.</p><//>`}
      columns=${[
        { title: "key", cell: (row) => html`<${Text} value=${row.key} />` },
        { title: "size", numeric: true, cell: (row) => bytes(row.size) },
        { title: "version", numeric: true, cell: (row) => number(row.version) },
        { title: "expires", cell: (row) => row.expires ? time(row.expires) : "never" },
        { title: "value", cell: (row) => html`<button type="button" class="small" aria-label=${`Show the value of ${line(row.key, 80)}`} onClick=${() => setOpen(row.key)}>Show</button>` },
      ]} />
    <div class="buttons">
      <button type="button" disabled=${cursors.length < 2} onClick=${() => setCursors(cursors.slice(0, -1))}>Previous</button>
      <button type="button" disabled=${!data?.cursor} onClick=${() => setCursors([...cursors, data.cursor])}>Next</button>
    </div>
    ${open !== undefined && html`<${Value} name=${name} of=${open} close=${() => setOpen(undefined)} />`}
  <//>`;
}

function Value({ name, of, close }) {
  const { data, error } = useLoaded((signal) => get(`${path("instances", name, "state", "value")}${query({ key: of })}`, signal), [name, of]);
  return html`<${Dialog} title=${line(of, 120)} close=${close} last="Close">
    <${Problem} error=${error} />
    ${data && html`<${Facts} of=${[["kind", data.kind === "bytes" ? "bytes, in base64" : line(data.kind, 10)], ["version", number(data.version)], ["expires", data.expires ? time(data.expires) : "never"]]} />
      <${Block} label="Value" value=${data.value} most=${20_000} />
      <${Copy} text=${data.value} label="Copy the value" />`}
  <//>`;
}
