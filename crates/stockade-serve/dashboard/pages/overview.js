// All instances: live charts, a table, and what happened last.

import { html } from "../vendor/libraries.js";
import { get } from "../api.js";
import { Badge, Card, Empty, Heading, Problem, Table, Text, useLoaded } from "../parts.js";
import { bytes, duration, line, number } from "../shown.js";
import { Charts, percent, useHistory } from "./history.js";
import { Events, useEvents } from "./live.js";

export function Overview({ theme }) {
  const loaded = useLoaded((signal) => get("/v1/instances", signal), [], 2000);
  const history = useHistory();
  const events = useEvents();
  const instances = loaded.data?.instances ?? [];
  return html`
    <${Heading}>Overview<//>
    <${Problem} error=${loaded.error ?? history.error} />
    <${Charts} history=${history} theme=${theme} all />
    <${Card} id="instances" title="Instances">
      <${Table} label="Instances" rows=${instances} keyOf=${(instance) => instance.name}
        empty=${loaded.data && html`<${Empty} title="No instance runs.">
          <p>An instance is one site's code at its limits. Name one under <code>instances</code> in the configuration, and apply it
          at <a href="#/configuration">Configuration</a>.</p><//>`}
        columns=${[
          { title: "name", cell: ({ name }) => html`<a href=${`#/instances/${encodeURIComponent(name)}`}>${line(name, 80)}</a>` },
          { title: "state", cell: (instance) => html`<${Badge} kind=${instance.ready ? "good" : "bad"}>${instance.ready ? "ready" : "not ready"}<//>` },
          { title: "isolation", cell: (instance) => html`<${Text} value=${instance.isolation} most=${20} />` },
          { title: "mirrors", numeric: true, cell: (instance) => instance.has_code ? `${instance.mirrors.length} of ${instance.mirrors_wanted}` : "files" },
          { title: "requests/s", numeric: true, cell: ({ name }) => number(history.latest(name)?.requests) },
          { title: "p99", numeric: true, cell: ({ name }) => duration(history.latest(name)?.p99) },
          { title: "CPU", numeric: true, cell: ({ name }) => percent(history.latest(name)?.cpu) },
          { title: "memory", numeric: true, cell: ({ name }) => bytes(history.latest(name)?.memory) },
        ]} />
    <//>
    <${Events} stream=${events} />`;
}
