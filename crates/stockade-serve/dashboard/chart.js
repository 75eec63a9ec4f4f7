// Charts over time, drawn by uPlot.

import { html, uPlot, useEffect, useLayoutEffect, useRef } from "./vendor/libraries.js";
import { clock, line } from "./shown.js";

const HEIGHT = 160;
const COLOURS = ["--series-1", "--series-2", "--series-3", "--series-4", "--series-5", "--series-6"];

/** From the last time on back; a chart without a value has an axis all the same. */
function range(times, span) {
  const last = times.at(-1) ?? Date.now() / 1000;
  return [last - span, last];
}

const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * A chart of the last `span` seconds. `times` are seconds since 1970, ascending; `series` are `{ label, values }` of the same length, with null
 * where nothing was measured; `format` writes a value, and `steps` are the distances that its axis may have. The numbers stand in text under the chart as well.
 */
export function Chart({ title, times, span, series, format, steps, theme }) {
  const box = useRef();
  const plot = useRef();
  const shape = series.map((one) => one.label).join("\n");
  useLayoutEffect(() => {
    const axis = () => ({
      stroke: token("--axis"), grid: { stroke: token("--grid"), width: 1 }, ticks: { show: false },
      font: `11px ${token("--font")}`,
    });
    plot.current = new uPlot({
      width: box.current.clientWidth, height: HEIGHT,
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { size: 6 } },
      padding: [8, 18, 0, 0],
      scales: { x: { time: true, range: (plot) => range(plot.data[0], span) }, y: { range: (_, __, most) => [0, most > 0 ? most * 1.1 : 1] } },
      axes: [
        { ...axis(), size: 26, space: 60, values: (_, ticks) => ticks.map((tick) => clock(tick * 1000).slice(0, span > 300 ? 5 : 8)) },
        { ...axis(), size: 62, space: 34, ...(steps && { incrs: steps }), values: (_, ticks) => ticks.map(format) },
      ],
      series: [{}, ...series.map((one, index) => ({
        label: one.label, stroke: token(COLOURS[index % COLOURS.length]), width: 1.5, spanGaps: false, points: { show: false },
        fill: series.length === 1 ? `${token(COLOURS[0])}22` : undefined,
      }))],
    }, [times, ...series.map((one) => one.values)], box.current);
    const resized = new ResizeObserver(() => plot.current.setSize({ width: box.current.clientWidth, height: HEIGHT }));
    resized.observe(box.current);
    return () => {
      resized.disconnect();
      plot.current.destroy();
    };
  }, [shape, theme, span]);
  useEffect(() => plot.current.setData([times, ...series.map((one) => one.values)]), [times]);

  const last = (values) => values.findLast((value) => value !== null && value !== undefined);
  const most = (values) => values.reduce((found, value) => (value > found ? value : found), 0);
  const said = series.map((one) => `${line(one.label, 60)}: now ${format(last(one.values))}, at most ${format(most(one.values))}`);
  return html`<figure class="chart">
    <div class="plot" ref=${box} role="img" aria-label=${`${title}, the last ${span / 60} minutes. ${said.join(". ")}`}></div>
    <figcaption><ul class="legend">${series.map((one, index) => html`<li key=${one.label}>
      <span class=${`dot series-${index % COLOURS.length + 1}`}></span>${line(one.label, 60)} <b>${format(last(one.values))}</b>
    </li>`)}</ul></figcaption>
  </figure>`;
}
