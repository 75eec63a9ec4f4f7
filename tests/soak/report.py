"""The soak's result as a table, a plot and JSON."""

import json
import textwrap

LINES = [("memory_mib", "memory, MiB", "#1f6feb"), ("descriptors", "descriptors", "#2da44e"),
         ("processes", "processes", "#cf222e"), ("threads", "threads", "#8250df")]


def plot(samples):
    """Four small plots in a row. Each begins at zero, so that growth is visible in proportion."""
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
    rows = ["| | correct | unanswered or wrong | p50 | p99 |", "|---|---|---|---|---|"]
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
    hostile = ["| site | status codes |", "|---|---|"] + [f"| {deed} | {', '.join(sorted(seen))} |" for deed, seen in sorted(deeds.items())]
    grown = ["| of the supervisor | second third | last third |", "|---|---|---|"]
    names = dict((name, title) for name, title, _ in LINES)
    grown += [f"| {names[name]} | {middle:g} | {last:g} |" for name, (middle, last) in result["growth"].items()]
    count = result["count"]
    text = f"""# Soak test

`./x soak --minutes {result['minutes']:g} --write` writes this page. The run below took {result['minutes']:g} minutes on
{result['machine']} and **{'passed' if result['passed'] else 'failed'}**.

One `stockade serve` ran two correct sites and 14 hostile ones, each in containers. During the run,
{counts.get('workers killed', 0)} workers were killed at random with SIGKILL, {counts.get('configurations reloaded', 0)} configurations
were reloaded ({counts.get('configurations whose new worker was killed', 0)} were refused because their new worker was killed),
{counts.get('bad configurations refused', 0)} invalid configurations were refused, and {counts.get('certificates swapped', 0)} certificates were
replaced by a symbolic link. Mirrors were recycled after 2,000 requests.

## Correct sites

{chr(10).join(rows)}

No GET may be lost, whichever worker is killed, because another mirror retries it. Requests with a body, streams that have
begun and WebSockets end with their worker; the third column counts them.

{count['acknowledged']:,} increments of the shared counter were acknowledged, and {count['unknown']:,} ended without an answer. The counter
ended at {count['final']:,}. Finally the supervisor itself was killed with SIGKILL during increments and started again. Its workers
ended with it, and the value of the counter is the one that the new supervisor read.

{counts.get('kept connections closed', 0):,} idle connections were closed between two requests.

## Growth

{chr(10).join(grown)}

![memory, descriptors, processes and threads over time](soak.svg)

Memory is the anonymous resident memory (`RssAnon`) of the supervisor. Processes are all its descendants.

## Hostile sites

{chr(10).join(hostile)}

These are the status codes that clients received; `cut` is a response that ended early.
"""
    paragraphs = [part if part.lstrip().startswith(("#", "|", "!")) else textwrap.fill(part, 112)
                  for part in text.strip().split("\n\n")]
    text = "\n\n".join(paragraphs) + "\n"
    if result["problems"]:
        text += "\n## Failures\n\n" + "\n".join(f"- {problem}" for problem in result["problems"]) + "\n"
    (folder / "soak.md").write_text(text)
