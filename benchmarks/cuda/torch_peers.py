#!/usr/bin/env python3
"""What torch makes of bench_cuda's cases on the same GPU; adds its results to bench_cuda's JSON.

    torch_peers.py BENCH.json

torch.linalg.svd and torch.svd_lowrank for the decomposition; F.linear once (dense) and twice for forward, plain and as a
CUDA graph, with as many weights in turn as bench_cuda uses. Prints why and changes nothing where torch has no GPU.
"""
import json
import statistics
import sys

CYCLED_BYTES = 256 << 20


def timed(torch, call, runs, count):
    """Median seconds of device time for one of `count` calls, after one run that does not count."""
    seconds = []
    for run in range(runs + 1):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(count):
            call()
        end.record()
        end.synchronize()
        if run > 0:
            seconds.append(start.elapsed_time(end) / 1000 / count)
    return statistics.median(seconds)


def timed_as_graph(torch, call, runs, count):
    call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(count):
            call()
    return timed(torch, graph.replay, runs, 1) / count


def cycle(make, entries):
    weights = [make() for _ in range(max(1, CYCLED_BYTES // (2 * entries)))]
    turn = iter(range(1 << 60))
    return lambda: weights[next(turn) % len(weights)]


def peers(torch, case):
    linear = torch.nn.functional.linear
    d_in, d_out, rank = case["d_in"], case["d_out"], case["rank"]

    def normal(*shape):
        return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)

    if case["bench"] == "decompose":
        weight = normal(d_in, d_out).float()
        optimum = torch.linalg.svdvals(weight)[rank:].square().sum().sqrt()
        yield "torch.linalg.svd", timed(torch, lambda: torch.linalg.svd(weight, full_matrices=False), 1, 1), 0.0
        seconds = timed(torch, lambda: torch.svd_lowrank(weight, q=rank, niter=2), 3, 1)
        u, s, v = torch.svd_lowrank(weight, q=rank, niter=2)
        yield "torch.svd_lowrank", seconds, float((weight - (u * s) @ v.T).norm() / optimum - 1)
        return
    x = normal(case["rows"], d_in)
    factors = cycle(lambda: (normal(rank, d_in), normal(d_out, rank)), rank * (d_in + d_out))
    dense = cycle(lambda: normal(d_out, d_in), d_in * d_out)

    def low_rank():
        first, second = factors()
        return linear(linear(x, first), second)

    count = 20 if case["rows"] >= 512 else 60
    for name, call in (("torch", low_rank), ("torch:dense", lambda: linear(x, dense()))):
        yield name, timed(torch, call, 7, count), None
        yield name + ":graph", timed_as_graph(torch, call, 7, count), None


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: torch_peers.py BENCH.json")
    try:
        import torch
    except ImportError as error:
        print(f"no peers: {error}")
        return
    if not torch.cuda.is_available():
        print("no peers: torch has no GPU here")
        return
    with open(sys.argv[1], encoding="utf-8") as file:
        bench = json.load(file)
    cases = [r for r in bench["results"] if r["impl"] == "lowrank"]
    with torch.inference_mode():
        for case in cases:
            for impl, seconds, excess in peers(torch, case):
                entry = {**case, "impl": impl, "seconds": seconds}
                for key in ("gflops", "excess"):
                    entry.pop(key, None)
                if excess is not None:
                    entry["excess"] = excess
                bench["results"].append(entry)
    bench["machine"]["torch"] = torch.__version__
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump(bench, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
