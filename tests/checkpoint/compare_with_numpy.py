#!/usr/bin/env python3
"""Checks a folder written by `compress` against its original with NumPy alone: every tensor that was not factorised
has the same bytes; and the error of every W ~ w1 w2, its factors as stored, is the optimum of numpy.linalg.svd within
the tolerance (1e-4 for `--method exact`, the allowed excess for the fast method).

    compare_with_numpy.py ORIGINAL COMPRESSED [--tolerance 1e-4]
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np

ITEM = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32, "F64": np.float64}


def tensors(folder):
    """name -> (dtype, shape, bytes), mapped."""
    found = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        data = np.memmap(path, np.uint8, "r")
        size = int(data[:8].view(np.uint64)[0])
        for name, entry in json.loads(bytes(data[8 : 8 + size])).items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                found[name] = entry["dtype"], entry["shape"], data[8 + size + begin : 8 + size + end]
    if not found:
        sys.exit(f"{folder} has no *.safetensors")
    return found


def matrix(tensor):
    kind, shape, data = tensor
    items = np.frombuffer(bytes(data), ITEM[kind]).reshape(shape)
    if kind == "BF16":  # the upper half of a float
        items = (items.astype(np.uint32) << 16).view(np.float32)
    return items.astype(np.float64)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("original")
    parser.add_argument("compressed")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    arguments = parser.parse_args()
    before, after = tensors(arguments.original), tensors(arguments.compressed)

    excesses = {}
    for name in before:
        module = name.removesuffix(".weight")
        if name in after:
            if before[name][:2] != after[name][:2] or not np.array_equal(before[name][2], after[name][2]):
                sys.exit(f"{name} differs")
            continue
        w, w1, w2 = matrix(before[name]), matrix(after[module + ".w1"]), matrix(after[module + ".w2"])
        singular = np.linalg.svd(w, compute_uv=False)
        optimum = np.sqrt(np.sum(singular[w1.shape[1] :] ** 2))
        excesses[name] = np.linalg.norm(w - w1 @ w2) / optimum - 1
    expected = {n for n in before if n not in excesses}
    expected |= {n.removesuffix(".weight") + factor for n in excesses for factor in (".w1", ".w2")}
    if set(after) != expected:
        sys.exit(f"unexpected tensors: {sorted(set(after) ^ expected)[:4]}")

    count = [sum(int(np.prod(shape)) for _, shape, _ in folder.values()) for folder in (before, after)]
    same = len(before) - len(excesses)
    print(f"parameters {count[0]:,} -> {count[1]:,}; {same} tensors are the same in every bit")
    if excesses:
        worst = max(excesses, key=excesses.get)
        print(
            f"{len(excesses)} layers, error over the optimum - 1: median {np.median(list(excesses.values())):.2e}, "
            f"at most {excesses[worst]:.2e} ({worst})"
        )
        if not excesses[worst] <= arguments.tolerance:
            sys.exit(f"above the tolerance of {arguments.tolerance:.0e}")


main()
