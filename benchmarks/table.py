#!/usr/bin/env python3
"""Prints a benchmark's JSON as the Markdown tables of docs/results.

    table.py RESULTS.json

Times are microseconds (forward) or milliseconds (decompose), the fastest low-rank product and our own default in bold.
A case's share of the memory's rate is that of our own, measured just before; "ideal" is the ratio of the parameters.
"""
import argparse
import json

SHORT = {
    "lowrank": "lowrank", "onednn": "oneDNN", "openblas": "OpenBLAS", "torch": "torch", "eigen": "Eigen", "dense": "own dense",
    "lowrank:excess 1e-2": "excess 1e-2", "lowrank:exact": "exact", "eigen:BDCSVD": "Eigen BDCSVD", "lapack:gesdd": "gesdd",
    "torch.linalg.svd": "torch.linalg.svd", "torch.svd_lowrank": "svd_lowrank", "two passes": "two passes",
}
FORWARD = ["lowrank", "onednn", "openblas", "torch", "eigen", "dense"]
DECOMPOSE = ["lowrank", "lowrank:excess 1e-2", "lowrank:exact", "eigen:BDCSVD", "lapack:gesdd", "torch.linalg.svd",
             "torch.svd_lowrank", "two passes"]


def row(cells):
    print("| " + " | ".join(cells) + " |")


def head(cells):
    row(cells)
    print("|" + "---|" * len(cells))


def cases(results):
    """(type, case) -> implementation -> result, in the order of the file."""
    found = {}
    for result in results:
        found.setdefault((result["type"], result["case"]), {})[result["impl"]] = result
    return found


def forward(results):
    by_case = cases(results)
    for kind in ("bf16", "f32", "f16"):
        rows = {case: impls for (of, case), impls in by_case.items() if of == kind}
        if not rows:
            continue
        shown = [impl for impl in FORWARD if any(impl in impls for impls in rows.values())]
        print(f"\n## {kind}\n")
        head(["X W1 W2"] + [SHORT[impl] for impl in shown]
             + ["best other dense", "speed-up over best dense / ideal", "of stream", "of peak"])
        last = None
        for case, impls in rows.items():
            shape, count = case.split(", ")
            own = impls["lowrank"]
            low = [impls[impl]["seconds"] for impl in shown if impl != "dense" and impl in impls]
            other = min((impls[impl]["seconds"], impl) for impl in impls if impl.endswith(":dense"))
            best_dense = min(other[0], impls["dense"]["seconds"])
            ideal = own["d_in"] * own["d_out"] / (own["rank"] * (own["d_in"] + own["d_out"]))
            cells = [case if shape != last else count]
            last = shape
            for impl in shown:
                seconds = impls[impl]["seconds"] if impl in impls else None
                text = "" if seconds is None else f"{seconds * 1e6:,.0f}"
                cells.append(f"**{text}**" if seconds == min(low) else text)
            cells += [f"{other[0] * 1e6:,.0f} {SHORT[other[1].split(':')[0]]}",
                      f"{best_dense / own['seconds']:.2f} / {ideal:.2f}",
                      f"{100 * own['stream_share']:.0f} %", f"{100 * own['peak_share']:.0f} %"]
            row(cells)


def milliseconds(impls, impl):
    if impl not in impls:
        return ""
    value = impls[impl]["seconds"] * 1e3
    text = f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    return f"**{text}**" if impl == "lowrank" else text


def decompose(results):
    head(["", *(SHORT[impl] for impl in DECOMPOSE), "faster than gesdd / linalg.svd / svd_lowrank", "excess"])
    for (kind, case), impls in cases(results).items():
        own = impls["lowrank"]["seconds"]
        ratios = [f"{impls[impl]['seconds'] / own:.1f}" if impl in impls else "-"
                  for impl in ("lapack:gesdd", "torch.linalg.svd", "torch.svd_lowrank")]
        excesses = [f"{impls[impl]['excess']:.1e}" if impl in impls else "-"
                    for impl in ("lowrank", "lowrank:excess 1e-2", "torch.svd_lowrank")]
        row([f"{case}, {kind}", *(milliseconds(impls, impl) for impl in DECOMPOSE), " / ".join(ratios),
             " / ".join(excesses)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", help="what bench_forward or bench_decompose wrote by --json")
    arguments = parser.parse_args()
    with open(arguments.results, encoding="utf-8") as file:
        document = json.load(file)
    print_tables = {"forward": forward, "decompose": decompose}
    print_tables[document["results"][0]["bench"]](document["results"])


if __name__ == "__main__":
    main()
