// The drawing: one panel for each figure that is compared, one bar for each column that has it.

import { show } from "./report.js";

const PANEL = { width: 400, top: 34, bar: 18, gap: 6, label: 138, value: 84 };
const COLUMNS = 2;
const MARGIN = 20;

const escape = (text) => text.replace(/[&<>]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[c]);
const text = (x, y, content, attributes = "") => `<text x="${x}" y="${y}" ${attributes}>${escape(content)}</text>`;

function panel(figure, columns, x, y) {
  const bars = columns.filter((column) => column.figures[figure.key]);
  const values = bars.map((column) => column.figures[figure.key].median);
  const room = PANEL.width - PANEL.label - PANEL.value;
  const largest = Math.max(...values, figure.target ?? 0);
  const better = figure.more ? "more is better" : "less is better";
  const parts = [text(x, y + 14, figure.text, 'class="title"'), text(x + PANEL.width, y + 14, better, 'class="note" text-anchor="end"')];
  bars.forEach((column, i) => {
    const top = y + PANEL.top + i * (PANEL.bar + PANEL.gap);
    const width = Math.max(1, (values[i] / largest) * room);
    parts.push(
      text(x + PANEL.label - 8, top + 13, column.label, 'text-anchor="end"'),
      `<rect x="${x + PANEL.label}" y="${top}" width="${width.toFixed(1)}" height="${PANEL.bar}" class="${column.ours ? "ours" : "peer"}"/>`,
      text(x + PANEL.label + width + 6, top + 13, show(values[i], figure)),
    );
  });
  if (figure.target !== undefined) {
    const at = x + PANEL.label + (figure.target / largest) * room;
    const bottom = y + PANEL.top + bars.length * (PANEL.bar + PANEL.gap);
    parts.push(`<line x1="${at.toFixed(1)}" x2="${at.toFixed(1)}" y1="${y + PANEL.top - 6}" y2="${bottom}" class="target"/>`);
  }
  return parts.join("\n");
}

/** The record as an SVG document. */
export function draw(record, group) {
  const ran = record.columns.filter((column) => column.figures);
  const shown = group.shown.map((key) => group.figures.find((figure) => figure.key === key));
  const height = PANEL.top + ran.length * (PANEL.bar + PANEL.gap) + 24;
  const rows = Math.ceil(shown.length / COLUMNS);
  const size = { w: MARGIN * 3 + PANEL.width * COLUMNS, h: MARGIN * 2 + rows * height + 16 };
  const panels = shown.map((figure, i) =>
    panel(figure, ran, MARGIN + (i % COLUMNS) * (PANEL.width + MARGIN), MARGIN + Math.floor(i / COLUMNS) * height)
  );
  const foot = `${record.machine.cpu}, ${record.machine.cores} cores; ${record.date.slice(0, 10)}; medians; dashed: ${group.dashed}`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${size.w} ${size.h}" width="${size.w}" height="${size.h}" font-family="system-ui, sans-serif" font-size="12">
<style>
rect.page { fill: #fff } text { fill: #222 } .title { font-weight: 600; font-size: 13px } .note { fill: #777 }
.ours { fill: #c2571a } .peer { fill: #9aa7b4 } .target { stroke: #222; stroke-dasharray: 3 3 }
</style>
<rect class="page" width="100%" height="100%"/>
${panels.join("\n")}
${text(MARGIN, size.h - MARGIN / 2, foot, 'class="note"')}
</svg>
`;
}
