// The last minutes as charts.

import { html, useMemo, useState } from "../vendor/libraries.js";
import { get, query } from "../api.js";
import { Card, Empty, useLoaded } from "../parts.js";
import { bytes, duration, number } from "../shown.js";
import { Chart } from "../chart.js";

/** Seconds of a sample: seconds that are drawn. */
const SPANS = { 10: 900, 1: 120 };

/**
 * The history of one instance, or of all together, read on as it grows.
 *
 * Of all together, times are those of the slowest instance: percentiles cannot be added.
 */
export function useHistory(instance) {
  const [resolution, setResolution] = useState(10);
  // Samples by their time, for as long as the same ones are wanted.
  const kept = useMemo(() => ({ points: new Map(), latest: new Map(), since: undefined }), [instance, resolution]);
  const { data, error } = useLoaded(async (signal) => {
    const answer = await get(`/v1/metrics/history${query({ instance, resolution, since: kept.since })}`, signal);
    add(kept, answer);
    return series(kept, resolution);
  }, [instance, resolution], resolution === 1 ? 1000 : 2500);
  return { ...(data ?? series({ points: new Map() }, resolution)), latest: (name) => kept.latest.get(name), resolution, setResolution, error };
}

function add(kept, { instances, resolution_seconds: seconds }) {
  const fresh = new Map();
  for (const [name, samples] of Object.entries(instances)) {
    for (const sample of samples) {
      const at = Date.parse(sample.time);
      const point = fresh.get(at) ?? { requests: 0, errors: 0, p50: null, p99: null, cpu: 0, memory: 0, kills: {} };
      point.requests += sample.requests / seconds;
      point.errors += sample.errors / seconds;
      point.p50 = slower(point.p50, sample.p50_ms);
      point.p99 = slower(point.p99, sample.p99_ms);
      point.cpu += sample.cpu_ms / (seconds * 1000);
      point.memory += sample.memory_bytes;
      for (const [reason, count] of Object.entries(sample.kills)) point.kills[reason] = (point.kills[reason] ?? 0) + count;
      fresh.set(at, point);
      kept.since = !kept.since || at > Date.parse(kept.since) ? sample.time : kept.since;
    }
    const last = samples.at(-1);
    if (last) kept.latest.set(name, { requests: last.requests / seconds, p99: last.p99_ms, cpu: last.cpu_ms / (seconds * 1000), memory: last.memory_bytes });
  }
  for (const [at, point] of fresh) kept.points.set(at, point);
  const oldest = Date.parse(kept.since) - SPANS[seconds] * 1000;
  for (const at of kept.points.keys()) if (at < oldest) kept.points.delete(at);
}

const slower = (one, other) => (other === null || other === undefined ? one : one === null ? other : Math.max(one, other));

function series({ points }, resolution) {
  const sorted = [...points].sort(([one], [other]) => one - other);
  const of = (name) => sorted.map(([, point]) => point[name]);
  const reasons = new Set(sorted.flatMap(([, point]) => Object.keys(point.kills)));
  const kills = [...reasons].map((label) => ({ label, values: sorted.map(([, point]) => point.kills[label] ?? 0) }));
  return {
    times: sorted.map(([at]) => at / 1000), span: SPANS[resolution], kills: kills.filter(({ values }) => values.some((count) => count > 0)),
    requests: of("requests"), errors: of("errors"), p50: of("p50"), p99: of("p99"), cpu: of("cpu"), memory: of("memory"),
  };
}

/** Distances of ticks that are round in binary units, and whole numbers. */
const POWERS = Array.from({ length: 46 }, (_, power) => 2 ** power);
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000, 100_000];

/** A share of one core. */
export const percent = (value) => (Number.isFinite(value) ? `${number(value * 100)} %` : "\u2013");

export function Charts({ history, theme, all }) {
  const { times, span } = history;
  const chart = (id, title, format, lines, { more, steps } = {}) => html`<${Card} id=${id} title=${title} actions=${more}>
    <${Chart} title=${title} times=${times} span=${span} format=${format} theme=${theme} steps=${steps} series=${lines} /><//>`;
  const choose = html`<label>last <select value=${history.resolution} onChange=${(event) => history.setResolution(Number(event.target.value))}>
    <option value="10">15 minutes</option><option value="1">2 minutes</option></select></label>`;
  return html`<div class="charts">
    ${chart("chart-requests", "Requests per second", number, [
      { label: "answered", values: history.requests }, { label: "errors", values: history.errors }], { more: choose })}
    ${chart("chart-latency", all ? "Time of a request, slowest instance" : "Time of a request", duration,
      [{ label: "p50", values: history.p50 }, { label: "p99", values: history.p99 }])}
    ${chart("chart-cpu", "CPU, of one core", percent, [{ label: "all mirrors", values: history.cpu }])}
    ${chart("chart-memory", "Memory", bytes, [{ label: "all mirrors", values: history.memory }], { steps: POWERS })}
    ${history.kills.length > 0
      ? chart("chart-kills", "Kills by reason", number, history.kills, { steps: WHOLE })
      : html`<${Card} id="chart-kills" title="Kills by reason"><${Empty} title="No mirror was killed in this time.">
          <p>A mirror that goes over a limit or breaks the policy is ended alone, and its reason is drawn here.</p><//><//>`}
  </div>`;
}
