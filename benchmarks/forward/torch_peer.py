#!/usr/bin/env python3
"""bench_forward's peer torch: F.linear twice, and dense.

Reads one request a line from standard input and answers each with one line of seconds, a call each:
    case D_IN D_OUT RANK ROWS f32|bf16|f16 WEIGHT_BYTES    makes the layers; answers "ready" or "no REASON"
    low_rank SECONDS | dense SECONDS                       runs for about that long, at least once
"""
import argparse
import sys
import time

import torch
import torch.nn.functional as F

TYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


class Case:
    def __init__(self, d_in, d_out, rank, rows, dtype, weight_bytes):
        def layers(shapes):
            size = sum(rows * cols for rows, cols in shapes) * dtype.itemsize
            originals = [(torch.rand(shape) - 0.5).to(dtype) for shape in shapes]
            return [[w.clone() for w in originals] for _ in range(int(weight_bytes / size) + 1)]

        self.x = (torch.rand(rows, d_in) - 0.5).to(dtype)
        self.layers = {"low_rank": layers([(rank, d_in), (d_out, rank)]), "dense": layers([(d_out, d_in)])}
        self.turn = 0

    def run(self, kind, seconds):
        layers = self.layers[kind]
        times = []
        end = time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            weights = layers[self.turn % len(layers)]
            self.turn += 1
            begin = time.perf_counter()
            y = self.x
            for w in weights:
                y = F.linear(y, w)
            times.append(time.perf_counter() - begin)
        return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, required=True)
    torch.set_num_threads(parser.parse_args().threads)
    case = None
    with torch.inference_mode():
        for line in sys.stdin:
            words = line.split()
            try:
                if words[0] == "case":
                    d_in, d_out, rank, rows = map(int, words[1:5])
                    case = None
                    case = Case(d_in, d_out, rank, rows, TYPES[words[5]], float(words[6]))
                    case.run("low_rank", 0)
                    case.run("dense", 0)
                    print("ready", flush=True)
                else:
                    print(*(f"{t:.9f}" for t in case.run(words[0], float(words[1]))), flush=True)
            except RuntimeError as error:
                print("no", str(error).splitlines()[0], flush=True)


main()
