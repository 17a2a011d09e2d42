#!/usr/bin/env python3
"""Measure what `generate MODEL --speed P,N` measures, with the transformers library: tokens/s of reading P tokens and of
writing N, in bfloat16 and float32, medians of three runs after one that is not counted.

Usage: generate_transformers.py MODEL [--prefill P] [--decode N] [--threads T]

MODEL may be a folder that `compress` wrote. Needs torch, transformers and safetensors.
"""
import argparse
import pathlib
import statistics
import sys
import time

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "examples" / "python"))
from load_lowrank import load_lowrank  # noqa: E402

RUNS = 3


def read(model, ids):
    begin = time.perf_counter()
    model(ids, logits_to_keep=1)
    return time.perf_counter() - begin


def write(model, ids):
    cache, begin = None, time.perf_counter()
    for token in ids[0]:
        cache = model(token.reshape(1, 1), past_key_values=cache, use_cache=True).past_key_values
    return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--prefill", type=int, default=512)
    parser.add_argument("--decode", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for dtype in (torch.bfloat16, torch.float32):
        model = load_lowrank(arguments.model, dtype=dtype)
        count = max(arguments.prefill, arguments.decode)
        ids = torch.tensor([[(i * 7919 + 1) % model.config.vocab_size for i in range(count)]])
        with torch.inference_mode():
            for name, run, tokens in (("prefill", read, arguments.prefill), ("decode", write, arguments.decode)):
                run(model, ids[:, :tokens])
                seconds = statistics.median(run(model, ids[:, :tokens]) for _ in range(RUNS))
                print(f"{dtype} {name} {tokens / seconds:.1f} tokens/s ({tokens})", flush=True)


if __name__ == "__main__":
    main()
