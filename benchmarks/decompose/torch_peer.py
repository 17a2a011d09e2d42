#!/usr/bin/env python3
"""bench_decompose's peers torch.linalg.svd (thin) and torch.svd_lowrank(niter=2, q=rank + 8), in float32.

Reads one request a line from standard input and answers each with one line:
    case FILE ROWS COLS RANK         loads the matrix, float32 row-major; answers "ready"
    svd SECONDS | lowrank SECONDS    runs for about that long, at least once; answers with seconds, a call each
    error                            answers with the squared error of the last svd_lowrank
"""
import argparse
import sys
import time

import numpy as np
import torch


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, required=True)
    torch.set_num_threads(parser.parse_args().threads)
    weight, rank, factors = None, 0, None

    def run(kind):
        nonlocal factors
        if kind == "svd":
            torch.linalg.svd(weight, full_matrices=False)
        else:
            factors = torch.svd_lowrank(weight, q=rank + 8, niter=2)

    for line in sys.stdin:
        words = line.split()
        if words[0] == "case":
            rows, cols, rank = map(int, words[2:5])
            weight = torch.from_numpy(np.fromfile(words[1], dtype=np.float32).reshape(rows, cols))
            print("ready", flush=True)
        elif words[0] == "error":
            u, s, v = (t[..., :rank].double() for t in factors)
            print(float(((weight.double() - (u * s) @ v.T) ** 2).sum()), flush=True)
        else:
            times = []
            end = time.perf_counter() + float(words[1])
            while not times or time.perf_counter() < end:
                begin = time.perf_counter()
                run(words[0])
                times.append(time.perf_counter() - begin)
            print(*(f"{t:.9f}" for t in times), flush=True)


main()
