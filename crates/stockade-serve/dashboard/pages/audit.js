// The audit log: search.

import { html, useState } from "../vendor/libraries.js";
import { get, query } from "../api.js";
import { Card, Empty, Field, Heading, Problem, Table, Text, useLoaded } from "../parts.js";
import { line, time } from "../shown.js";

const OWN = new Set(["n", "at", "previous", "event", "instance"]);

/** The fields of a record that have no column. */
const rest = (record) => Object.entries(record).filter(([name]) => !OWN.has(name))
  .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`).join("  ");

const HOUR = 3_600_000;
const SPANS = [["", "always"], [HOUR, "the last hour"], [24 * HOUR, "the last day"], [7 * 24 * HOUR, "the last week"]];

export function Audit() {
  const [asked, setAsked] = useState({});
  const { data, error, reload } = useLoaded((signal) => get(`/v1/audit${query({ ...asked, limit: 200 })}`, signal), [JSON.stringify(asked)]);
  const search = (event) => {
    event.preventDefault();
    const { span, ...values } = Object.fromEntries(new FormData(event.target));
    setAsked({ ...values, since: span && new Date(Date.now() - Number(span)).toISOString() });
  };
  const title = html`<${Heading} actions=${html`<button type="button" onClick=${reload}>Refresh</button>`}>Audit<//>`;
  if (error?.status === 404) {
    return html`${title}<${Empty} title="This server keeps no audit log."><p><code>audit: true</code> in the configuration makes it
      record what is refused to guests, workers that are ended, and what operators change, in files in which an edit is found.</p><//>`;
  }
  return html`
    ${title}
    <form class="filter" role="search" onSubmit=${search}>
      <${Field} label="Event" name="event" />
      <${Field} label="Instance" name="instance" />
      <${Field} label="Text" name="text" />
      <${Field} label="Time" name="span" options=${SPANS} />
      <button class="primary">Search</button>
    </form>
    <${Problem} error=${error} />
    <${Card} id="records" title=${data?.more ? "The latest 200 records" : "Records, the latest first"}>
      <${Table} label="Audit records" rows=${data?.lines.toReversed() ?? []} keyOf=${(record) => record.n}
        empty=${data && html`<${Empty} title="No record matches."><p>Search for less, or for a longer time.</p><//>`}
        columns=${[
          { title: "number", cell: (record) => line(record.n, 20) },
          { title: "time", cell: (record) => time(record.at) },
          { title: "event", cell: (record) => html`<${Text} value=${record.event} most=${60} />` },
          { title: "instance", cell: (record) => html`<${Text} value=${record.instance} most=${80} />` },
          { title: "details", long: true, cell: (record) => html`<span class="mono"><${Text} value=${rest(record)} most=${600} /></span>` },
        ]} />
    <//>`;
}
