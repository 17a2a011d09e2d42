#!/usr/bin/env python3
"""Draws a benchmark's JSON as SVG: for each case a group of bars, one for each implementation, by their time.

    plot.py IN.json OUT.svg [--types TYPE...]

A bar's length is the time of the case's fastest implementation divided by its own, so that longer is faster and every
case fills the width whatever its size; the time is written beside it. With an excess, as decompositions have, that too.
The same input gives the same bytes.
"""
import argparse
import json
from html import escape

# Okabe and Ito's colours, which colour-blind people can tell apart. An implementation keeps its colour in every plot;
# its dense form is the same, hatched.
COLOURS = {
    "lowrank": "#0072b2",
    "dense": "#0072b2",
    "torch": "#d55e00",
    "onednn": "#009e73",
    "openblas": "#cc79a7",
    "eigen": "#e69f00",
    "lapack": "#56b4e9",
}
LABEL, BARS, BAR, GAP, MARGIN = 150, 460, 13, 26, 12


def colour(impl):
    for name, value in COLOURS.items():
        if impl.startswith(name):
            return value
    return "#888888"


def time_text(seconds):
    for unit, scale in (("s", 1), ("ms", 1e3)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def limits(machine):
    texts = [f'{machine["stream_gbs"]:.0f} GB/s'] if "stream_gbs" in machine else []
    for key, kind in (("peak_gflops", "float"), ("peak_bf16_gflops", "bf16")):
        if key in machine:
            texts.append(f"{machine[key]:.0f} GFLOP/s of {kind}")
    return ", ".join(texts)


def draw(results, machine):
    cases = {}
    for result in results:
        cases.setdefault((result["type"], result["case"]), []).append(result)
    height = 58 + sum(GAP + 6 + BAR * len(entries) for entries in cases.values())
    width = LABEL + BARS + 150
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        ' font-family="sans-serif" font-size="11">',
        '<defs><pattern id="hatch" width="4" height="4" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect width="2" height="4" fill="#fff" fill-opacity="0.55"/></pattern></defs>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{MARGIN}" y="20" font-size="13" font-weight="bold">Longer is faster; '
        "1 is the fastest of each case</text>",
        f'<text x="{MARGIN}" y="37" fill="#555">{escape(machine["cpu"])}, {machine["threads"]} threads, '
        f'{machine["isa"]}; {limits(machine)}</text>',
    ]
    y = 50
    for (kind, case), entries in cases.items():
        fastest = min(entry["seconds"] for entry in entries)
        y += GAP - 8
        out.append(f'<text x="{MARGIN}" y="{y}" font-weight="bold">{escape(case)}, {kind}</text>')
        y += 6
        for entry in sorted(entries, key=lambda e: (e["seconds"], e["impl"])):
            impl, length = entry["impl"], BARS * fastest / entry["seconds"]
            bar = f'x="{LABEL}" y="{y + 1}" width="{length:.1f}" height="{BAR - 2}"'
            out.append(f'<text x="{LABEL - 6}" y="{y + BAR - 3}" text-anchor="end">{escape(impl)}</text>')
            out.append(f'<rect {bar} fill="{colour(impl)}"/>')
            if "dense" in impl:
                out.append(f'<rect {bar} fill="url(#hatch)"/>')
            text = time_text(entry["seconds"])
            if "excess" in entry:
                text += f', excess {100 * entry["excess"]:.2g} %'
            out.append(f'<text x="{LABEL + length + 5:.1f}" y="{y + BAR - 3}" fill="#333">{text}</text>')
            y += BAR
        y += 8
    out.append("</svg>")
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--types", nargs="+", help="only these: f32, bf16, f16, f64")
    arguments = parser.parse_args()
    with open(arguments.input, encoding="utf-8") as file:
        document = json.load(file)
    results = [r for r in document["results"] if not arguments.types or r["type"] in arguments.types]
    with open(arguments.output, "w", encoding="utf-8") as file:
        file.write(draw(results, document["machine"]))


main()
