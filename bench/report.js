// The table on the terminal.

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

/** A figure with the quartiles of its samples, where the task gave them. */
function withSpread(found, figure) {
  const shown = show(found[figure.key]?.median, figure);
  const [low, high] = ["q25", "q75"].map((quartile) => found[`${figure.key}_${quartile}`]?.median);
  if (low === undefined || high === undefined) return shown;
  return `${shown} (${low.toFixed(figure.digits)}–${high.toFixed(figure.digits)})`;
}

/** All figures, a column for each column that ran. */
export function figuresTable(record, figures) {
  const ran = record.columns.filter((column) => column.figures);
  const rows = figures
    .filter(({ key }) => ran.some((column) => column.figures[key]))
    .map((figure) => [figure.text, ...ran.map((column) => withSpread(column.figures, figure))]);
  return table([["", ...ran.map((column) => column.label)], ["", ...ran.map((column) => column.version)], ...rows]);
}

/** Stockade's targets. */
export function targetsTable(targets) {
  const rows = targets.map((target) => [
    target.text,
    `${target.more ? "at least" : "at most"} ${show(target.target, { ...target, digits: target.target % 1 ? target.digits : 0 })}`,
    show(target.value, target),
    target.met ? "met" : `missed by ${target.missedByPercent.toFixed(0)} %`,
  ]);
  return table([["target", "", "reached", ""], ...rows]);
}
