// A CPU profile in V8's format (`.cpuprofile`) as a flame graph.

import { html, useMemo, useState } from "./vendor/libraries.js";
import { duration, line } from "./shown.js";
import { Table } from "./parts.js";

const ROW = 18;
const WIDTH = 1000;
/** Rectangles narrower than this part of the picture are left out. */
const LEAST = 0.0008;
/** Frames on top of each other that are drawn. */
const DEEPEST = 120;
const COLOURS = ["#e8a35c", "#e2bd5d", "#dd8f6a", "#cfae6b", "#e6b388", "#d99f4e"];

/** The profile as a tree of `{ name, place, self, total, children }` in microseconds. Throws for another format. */
export function treeOf(profile) {
  if (!Array.isArray(profile?.nodes) || profile.nodes.length === 0) throw new Error("This is not a CPU profile of V8.");
  const nodes = new Map();
  for (const { id, callFrame, children } of profile.nodes) {
    const { functionName, url, lineNumber } = callFrame ?? {};
    const name = functionName || "(anonymous)";
    const place = url ? `${url}:${(lineNumber ?? 0) + 1}` : "";
    nodes.set(id, { id, name, place, self: 0, total: 0, below: children ?? [], children: [] });
  }
  const deltas = profile.timeDeltas ?? [];
  (profile.samples ?? []).forEach((id, index) => {
    const node = nodes.get(id);
    if (node) node.self += Math.max(deltas[index + 1] ?? 0, 0);
  });
  // Parents come before their children in the file; children are added up from the end.
  // Nothing calls the root: a file may be a hostile worker's, and a circle would be walked without end.
  const seen = new Set([profile.nodes[0].id]);
  for (const node of nodes.values()) {
    for (const id of node.below) {
      const child = nodes.get(id);
      if (child && child !== node && !seen.has(id)) {
        seen.add(id);
        node.children.push(child);
      }
    }
  }
  for (const node of [...nodes.values()].reverse()) {
    node.total = node.self + node.children.reduce((sum, child) => sum + child.total, 0);
  }
  return nodes.values().next().value;
}

/** Rectangles of the picture: `{ node, x, depth, width }` with x and width between 0 and 1. */
function rectangles(root) {
  const found = [];
  const stack = [{ node: root, x: 0, depth: 0 }];
  while (stack.length > 0) {
    const { node, x, depth } = stack.pop();
    const width = node.total / (root.total || 1);
    if (width < LEAST || depth > DEEPEST) continue;
    found.push({ node, x, depth, width });
    let from = x;
    for (const child of node.children) {
      stack.push({ node: child, x: from, depth: depth + 1 });
      from += child.total / (root.total || 1);
    }
  }
  return found;
}

function hottest(root) {
  const totals = new Map();
  const stack = [root];
  while (stack.length > 0) {
    const node = stack.pop();
    for (const child of node.children) stack.push(child);
    const key = `${node.name}\n${node.place}`;
    const row = totals.get(key) ?? { name: node.name, place: node.place, self: 0 };
    row.self += node.self;
    totals.set(key, row);
  }
  return [...totals.values()].filter((row) => row.self > 0).sort((a, b) => b.self - a.self).slice(0, 20);
}

const colour = (name) => {
  let sum = 0;
  for (const character of name.slice(0, 64)) sum = (sum * 31 + character.codePointAt(0)) >>> 0;
  return COLOURS[sum % COLOURS.length];
};

export function Flame({ profile }) {
  const root = useMemo(() => treeOf(profile), [profile]);
  const [shown, setShown] = useState(root);
  const parts = useMemo(() => rectangles(shown), [shown]);
  const depth = parts.reduce((most, part) => Math.max(most, part.depth), 0);
  const share = (us) => `${duration(us / 1000)}, ${((us / (root.total || 1)) * 100).toFixed(1)} %`;
  return html`
    <div class="actions">
      <button type="button" class="small" disabled=${shown === root} onClick=${() => setShown(root)}>Show all</button>
      <span class="quiet">${share(shown.total)} in ${line(shown.name, 80)}. Press a frame to enlarge it.</span>
    </div>
    <svg class="flame" viewBox=${`0 0 ${WIDTH} ${(depth + 1) * ROW}`} role="img"
      aria-label="Flame graph: a frame is as wide as its time. The table below has the same numbers.">
      ${parts.map(({ node, x, depth, width }) => html`<g key=${node.id} onClick=${() => setShown(node)}>
        <title>${line(`${node.name} ${node.place}`, 300)}: ${share(node.total)}</title>
        <rect x=${x * WIDTH} y=${depth * ROW} width=${width * WIDTH} height=${ROW} fill=${colour(node.name)} />
        ${width * WIDTH > 30 && html`<text x=${x * WIDTH + 3} y=${depth * ROW + 13}>${line(node.name, Math.floor((width * WIDTH - 6) / 6.7))}</text>`}
      </g>`)}
    </svg>
    <h3>Functions by their own time</h3>
    <${Table} label="Functions by their own time" rows=${hottest(root)} columns=${[
      { title: "function", cell: (row) => html`<bdi class="mono">${line(row.name, 120)}</bdi>` },
      { title: "own time", numeric: true, cell: (row) => share(row.self) },
      { title: "place", cell: (row) => html`<bdi class="mono">${line(row.place, 160)}</bdi>` },
    ]} />`;
}
