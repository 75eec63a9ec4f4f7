// What instances and keys used, by day.

import { html, useState } from "../vendor/libraries.js";
import { download, get, query } from "../api.js";
import { Action, Card, Empty, Field, Heading, Problem, Table, Text, useLoaded } from "../parts.js";
import { bytes, duration, number } from "../shown.js";

const GROUPS = [["day,instance,key", "day, instance and key"], ["instance", "instance"], ["key", "key"], ["day", "day"], ["day,instance", "day and instance"]];
const MOST_ROWS = 500;

/** Requests without a key have null, and keys that are counted together `*`. */
const keyName = (key) => (key === null ? "without a key" : key === "*" ? "all others" : key);

export function Usage() {
  const [asked, setAsked] = useState({ by: GROUPS[0][0] });
  const [failed, setFailed] = useState();
  const { data, error } = useLoaded((signal) => get(`/v1/usage${query(asked)}`, signal), [JSON.stringify(asked)]);
  const search = (event) => {
    event.preventDefault();
    setAsked(Object.fromEntries(new FormData(event.target)));
  };
  const csv = () => download("GET", `/v1/usage${query({ ...asked, format: "csv" })}`, "usage.csv");
  const title = html`<${Heading} actions=${data && html`<${Action} label="Download CSV" act=${csv} report=${setFailed} />`}>Usage<//>`;
  if (error?.status === 404) {
    return html`${title}<${Empty} title="This server counts no usage."><p><code>usage: true</code> in the configuration makes it count what each
      instance and each API key uses on each day.</p><//>`;
  }
  const by = asked.by.split(",");
  const group = { day: "day", instance: "instance", key: "api_key" };
  const rows = data ? [...data.rows.slice(0, MOST_ROWS), { ...data.total, total: true }] : [];
  const named = (row, name) => (row.total ? (name === by[0] ? "total" : "") : name === "key" ? keyName(row.api_key) : row[group[name]]);
  return html`
    ${title}
    <form class="filter" role="search" onSubmit=${search}>
      <${Field} label="By" name="by" options=${GROUPS} />
      <${Field} label="Instance" name="instance" />
      <${Field} label="From" name="since" type="date" />
      <${Field} label="To" name="until" type="date" />
      <button class="primary">Show</button>
    </form>
    <${Problem} error=${failed ?? error} />
    <${Card} id="usage" title=${data?.rows.length > MOST_ROWS ? `The first ${MOST_ROWS} of ${number(data.rows.length)} rows` : "Usage, in days of UTC"}>
      <${Table} label="Usage" rows=${data?.rows.length === 0 ? [] : rows}
        empty=${data && html`<${Empty} title="Nothing was used in this time."><p>Each request, and what guests do besides, is counted.</p><//>`}
        columns=${[
          ...by.map((name) => ({ title: name, cell: (row) => html`<${Text} value=${named(row, name)} most=${80} />` })),
          { title: "requests", numeric: true, cell: (row) => number(row.requests) },
          { title: "errors", numeric: true, cell: (row) => number(row.errors) },
          { title: "CPU", numeric: true, cell: (row) => duration(row.cpu_seconds * 1000) },
          { title: "memory, for an hour", numeric: true, cell: (row) => bytes(row.memory_byte_seconds / 3600) },
          { title: "in", numeric: true, cell: (row) => bytes(row.bytes_in) },
          { title: "out", numeric: true, cell: (row) => bytes(row.bytes_out) },
          { title: "egress", numeric: true, cell: (row) => bytes(row.egress_sent + row.egress_received) },
          { title: "state operations", numeric: true, cell: (row) => number(row.state_operations) },
          { title: "calls of grants", numeric: true, cell: (row) => number(row.grant_calls) },
        ]} />
    <//>`;
}
