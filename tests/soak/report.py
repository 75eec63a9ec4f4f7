"""The soak's result as a table, a plot and JSON."""

import json
import textwrap

LINES = [("memory_mib", "memory, MiB", "#1f6feb"), ("descriptors", "descriptors", "#2da44e"),
         ("processes", "processes", "#cf222e"), ("threads", "threads", "#8250df")]


def plot(samples):
    """Four small plots beside each other; each from zero, so that growth is seen as what it is."""
    width, height, gap = 210, 130, 30
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{4 * (width + gap)}" height="{height + 60}" '
             'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>']
    seconds = max(samples[-1]["second"], 1)
    for index, (name, title, colour) in enumerate(LINES):
        left = index * (width + gap) + 15
        top = max(max(sample[name] for sample in samples), 1) * 1.15
        points = " ".join(f"{left + sample['second'] / seconds * width:.1f},{25 + height - sample[name] / top * height:.1f}"
                          for sample in samples)
        parts.append(f'<text x="{left}" y="16" font-weight="bold">{title}</text>'
                     f'<rect x="{left}" y="25" width="{width}" height="{height}" fill="none" stroke="#d0d7de"/>'
                     f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.3"/>'
                     f'<text x="{left}" y="{height + 40}">0</text>'
                     f'<text x="{left + width}" y="{height + 40}" text-anchor="end">{seconds:.0f} s</text>'
                     f'<text x="{left + width - 3}" y="37" text-anchor="end">at most {max(s[name] for s in samples):g}</text>')
    return "".join(parts) + "</svg>\n"


def write(result, folder):
    counts = result["counts"]
    (folder / "soak.json").write_text(json.dumps(result, indent=1) + "\n")
    (folder / "soak.svg").write_text(plot(result["samples"]))
    kinds = sorted({key.split(":")[0] for key in counts if key.endswith(": right")})
    rows = ["| | right | not answered, or wrong | p50 | p99 |", "|---|---|---|---|---|"]
    for kind in kinds:
        bad = sum(value for key, value in counts.items()
                  if key.startswith(f"{kind}: ") and not key.endswith(("right", "opened")))
        times = result["seconds"].get(kind)
        rows.append(f"| {kind} | {counts[kind + ': right']:,} | {bad:,} | "
                    + (f"{times['p50'] * 1e3:.1f} ms | {times['p99'] * 1e3:.0f} ms |" if times else " | |"))
    deeds = {}
    for key, value in counts.items():
        if key.startswith("hostile "):
            deed, _, outcome = key[8:].partition(": ")
            deeds.setdefault(deed, []).append(f"{outcome} × {value:,}")
    hostile = ["| site | answered |", "|---|---|"] + [f"| {deed} | {', '.join(sorted(seen))} |" for deed, seen in sorted(deeds.items())]
    grown = ["| of the supervisor | second third | last third |", "|---|---|---|"]
    names = dict((name, title) for name, title, _ in LINES)
    grown += [f"| {names[name]} | {middle:g} | {last:g} |" for name, (middle, last) in result["growth"].items()]
    count = result["count"]
    text = f"""# Soak

Made by `./x soak --minutes {result['minutes']:g} --write`: {result['machine']}, {result['minutes']:g} minutes,
**{'passed' if result['passed'] else 'failed'}**. One `stockade serve` with two good sites and 14 hostile ones, each
in containers. Meanwhile {counts.get('workers killed', 0)} workers were killed at random with SIGKILL,
{counts.get('configurations reloaded', 0)} configurations reloaded ({counts.get('configurations whose new worker was killed', 0)}
refused because their new worker was among the killed), {counts.get('bad configurations refused', 0)} bad ones refused, {counts.get('certificates swapped', 0)} certificates swapped by a symbolic link; mirrors were recycled after 2,000
requests.

## Good sites

{chr(10).join(rows)}

What must hold: no GET is lost, whatever is killed: it is asked again elsewhere. What has a body under way, a
stream that has begun and a WebSocket end with the worker that has them; that is the third column of the others.

The shared counter: {count['acknowledged']:,} increments were acknowledged, {count['unknown']:,} ended without an answer, at the
end it stood at {count['final']:,}.
At last the supervisor itself was killed with SIGKILL while it counted and started anew: its workers went with it, and
the count is that of the new one.

{counts.get('kept connections closed', 0):,} kept connections were closed between two requests.

## Growth

{chr(10).join(grown)}

![memory, descriptors, processes and threads over time](soak.svg)

Memory is what is anonymous and resident (`RssAnon`); processes are all below the supervisor.

## Hostile sites

{chr(10).join(hostile)}

Status codes as clients saw them; `cut` is a response that ended early.
"""
    paragraphs = [part if part.lstrip().startswith(("#", "|", "!")) else textwrap.fill(part, 112)
                  for part in text.strip().split("\n\n")]
    text = "\n\n".join(paragraphs) + "\n"
    if result["problems"]:
        text += "\n## What did not hold\n\n" + "\n".join(f"- {problem}" for problem in result["problems"]) + "\n"
    (folder / "soak.md").write_text(text)
