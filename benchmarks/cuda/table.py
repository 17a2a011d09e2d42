#!/usr/bin/env python3
"""bench_cuda's JSON as a table: `table.py BENCH.json`. Times are per layer; the last lines sum the reference model."""
import json
import sys


def seconds_text(seconds):
    if seconds is None:
        return "not measured"
    return f"{seconds * 1e6:.1f} us" if seconds < 1e-2 else f"{seconds * 1e3:.1f} ms"


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: table.py BENCH.json")
    with open(sys.argv[1], encoding="utf-8") as file:
        bench = json.load(file)
    machine = bench["machine"]
    print("GPU: " + machine["gpu"] + (f", torch {machine['torch']}" if "torch" in machine else "") + "\n")
    print("| bench | case | rows | implementation | time | GFLOP/s | excess |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for r in bench["results"]:
        gflops = f"{r['gflops']:.0f}" if "gflops" in r else ""
        excess = f"{r['excess']:.5f}" if "excess" in r else ""
        print(f"| {r['bench']} | {r['case']} | {r.get('rows', '')} | {r['impl']} | {seconds_text(r.get('seconds'))} "
              f"| {gflops} | {excess} |")
    totals = {}
    for r in bench["results"]:
        if r["bench"] == "decompose" and r["layers"] > 0:
            totals.setdefault(r["impl"], []).append((r["layers"], r.get("seconds")))
    for impl, layers in totals.items():
        if any(seconds is None for _, seconds in layers):
            continue
        count = sum(n for n, _ in layers)
        total = sum(n * seconds for n, seconds in layers)
        print(f"\n{impl}: {count} layers of the reference model, one after the other: {total:.3f} s")


if __name__ == "__main__":
    main()
