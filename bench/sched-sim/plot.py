#!/usr/bin/env python3
"""plot.py IN.csv OUT.html: the table of `sched_sim --csv` as one page of SVG plots, goodput over load; no scripts, no network.

Of the grid of Triton-style settings only the best of each load is drawn: once over all, once over those without a queue timeout.
"""

import csv
import html
import sys
from collections import defaultdict

WIDTH, HEIGHT, LEFT, TOP = 420, 260, 46, 28
LINES = {  # name: (colour, dash)
    "of bound": ("#bbbbbb", "2 3"),
    "deadline": ("#c0392b", ""),
    "deadline, none sent": ("#e67e22", "6 3"),
    "best of the grid": ("#2980b9", ""),
    "best without timeout": ("#2980b9", "2 3"),
    "linear": ("#27ae60", ""),
    "aimd": ("#8e44ad", ""),
    "fixed": ("#7f8c8d", ""),
}


def read(path):
    """{(model, trace): {name: {load: share of what was offered}}}"""
    plots = defaultdict(lambda: defaultdict(dict))
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            lines = plots[row["model"], row["trace"]]
            load, good = float(row["load"]), float(row["good_of_offered"])
            names = [row["policy"]]
            if row["policy"].startswith("triton"):
                names = ["best of the grid"] + (["best without timeout"] if row["policy"].endswith("/none") else [])
            for name in names:
                lines[name][load] = max(good, lines[name].get(load, 0))
            if row["policy"] == "deadline" and float(row["good_of_bound"]) > 0:
                lines["of bound"][load] = good / float(row["good_of_bound"])
    return plots


def svg(title, lines):
    most = max(load for line in lines.values() for load in line)
    x = lambda load: LEFT + (WIDTH - LEFT - 10) * load / most
    y = lambda share: TOP + (HEIGHT - TOP - 34) * (1 - min(share, 1.02))
    out = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" aria-label="{html.escape(title)}">',
           f'<text x="{LEFT}" y="16" font-weight="bold">{html.escape(title)}</text>']
    for tenth in range(0, 11, 2):
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{y(tenth / 10):.1f}" y2="{y(tenth / 10):.1f}" stroke="#eee"/>'
                   f'<text x="{LEFT - 6}" y="{y(tenth / 10) + 4:.1f}" text-anchor="end">{tenth / 10}</text>')
    for load in sorted({load for line in lines.values() for load in line}):
        out.append(f'<text x="{x(load):.1f}" y="{HEIGHT - 18}" text-anchor="middle" font-size="8">{load:g}</text>')
    out.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 4}" text-anchor="middle">load, of C</text>')
    for name, (colour, dash) in LINES.items():
        points = " ".join(f"{x(load):.1f},{y(share):.1f}" for load, share in sorted(lines.get(name, {}).items()))
        if points:
            out.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8" stroke-dasharray="{dash}">'
                       f"<title>{html.escape(name)}</title></polyline>")
    return "\n".join(out + ["</svg>"])


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: plot.py IN.csv OUT.html")
    plots = read(sys.argv[1])
    legend = " ".join(f'<span style="color:{colour}">&#9632; {html.escape(name)}</span>' for name, (colour, _) in LINES.items())
    body = "\n".join(svg(f"{model}, {trace}", lines) for (model, trace), lines in plots.items())
    with open(sys.argv[2], "w") as file:
        file.write("<!doctype html><meta charset=utf-8><title>Scheduling policies</title>"
                   "<style>body{font:13px sans-serif;max-width:1400px;margin:1em auto}svg{font:10px sans-serif}</style>"
                   f"<h1>Answers within the target, as a share of what was offered</h1><p>{legend}</p>{body}\n")


main()
