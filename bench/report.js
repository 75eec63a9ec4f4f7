// The table on the terminal.

import { figures } from "./measures.js";

export function show(value, { unit, digits }) {
  if (value === undefined) return "–";
  const number = value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return unit === "" ? number : `${number} ${unit}`;
}

function table(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const line = (row) => row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join("  ");
  return [line(rows[0]), widths.map((width) => "─".repeat(width)).join("  "), ...rows.slice(1).map(line)].join("\n");
}

/** All figures, a column for each runtime that ran. */
export function figuresTable(record) {
  const ran = record.runtimes.filter((runtime) => runtime.figures);
  const rows = figures
    .filter(({ key }) => ran.some((runtime) => runtime.figures[key]))
    .map((figure) => [figure.text, ...ran.map((runtime) => show(runtime.figures[figure.key]?.median, figure))]);
  return table([["", ...ran.map((runtime) => runtime.label)], ["", ...ran.map((runtime) => runtime.version)], ...rows]);
}

/** Stockade's targets. */
export function targetsTable(targets) {
  const rows = targets.map((target) => [
    target.text,
    `${target.more ? "at least" : "at most"} ${show(target.target, { ...target, digits: target.target % 1 ? 1 : 0 })}`,
    show(target.value, target),
    target.met ? "met" : `missed by ${target.missedByPercent.toFixed(0)} %`,
  ]);
  return table([["target", "", "reached", ""], ...rows]);
}
