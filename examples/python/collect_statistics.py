#!/usr/bin/env python3
"""Collect the calibration statistics of a Hugging Face causal language model, for `compress --calibration`.

Usage: collect_statistics.py MODEL TEXT OUT [--tokens 32768] [--gradient-tokens 16384] [--window 512]

Runs windows of TEXT through MODEL and sums, for every linear layer but the output embedding, X^T X and the column sums
of its inputs X, and over the first --gradient-tokens tokens also D^T D, with D the gradients of the summed next-token
cross-entropy with respect to the layer's outputs. OUT has the format of include/lowrank/checkpoint/statistics_format.hpp;
layers that read the same tensor (q, k and v; gate and up) store its sums once. Needs torch, transformers and
safetensors, and memory for the square of every layer's width.
"""
import argparse
import json

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer


class Moments:
    """Sums of rows and of their outer products, in double."""

    def __init__(self, width):
        self.gram = torch.zeros(width, width, dtype=torch.float64)
        self.sum = torch.zeros(width, dtype=torch.float64)
        self.tokens = 0

    def add(self, rows):
        rows = rows.detach().reshape(-1, rows.shape[-1])
        self.gram += rows.T @ rows
        self.sum += rows.sum(0, dtype=torch.float64)
        self.tokens += rows.shape[0]

    def packed(self):
        """The upper triangle, row by row."""
        return self.gram[tuple(torch.triu_indices(*self.gram.shape))].float()


class Collector:
    def __init__(self, model):
        head = model.get_output_embeddings()
        self.inputs, self.gradients, self.input_of = {}, {}, {}
        self.last = (None, None)  # the tensor read last, and the layer that its sums are stored under
        for name, layer in model.named_modules():
            if isinstance(layer, torch.nn.Linear) and layer is not head:
                layer.register_forward_hook(lambda layer, args, y, name=name: self.see(name, args[0], y))

    def see(self, name, x, y):
        if self.last[0] is not x:
            self.last = (x, self.input_of.get(name, name))
            self.inputs.setdefault(self.last[1], Moments(x.shape[-1])).add(x)
        self.input_of[name] = self.last[1]
        if y.requires_grad:
            moments = self.gradients.setdefault(name, Moments(y.shape[-1]))
            y.register_hook(moments.add)


def text_hash(data):
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def run(model, ids, window, gradient_tokens):
    model.requires_grad_(False)
    for start in range(0, len(ids), window):
        batch = ids[start : start + window].unsqueeze(0)
        embedded = model.get_input_embeddings()(batch).requires_grad_(start < gradient_tokens)
        with torch.set_grad_enabled(start < gradient_tokens):
            logits = model(inputs_embeds=embedded, use_cache=False).logits
        if start < gradient_tokens:
            torch.nn.functional.cross_entropy(logits[0, :-1].float(), batch[0, 1:], reduction="sum").backward()
        print(f"\r{start + batch.shape[1]} of {len(ids)} tokens", end="", flush=True)
    print()


def save(collector, text, path):
    tensors, layers = {}, {}
    for name, moments in collector.inputs.items():
        tensors[name + ".input_gram"], tensors[name + ".input_sum"] = moments.packed(), moments.sum.float()
    for name, source in collector.input_of.items():
        layers[name] = {"input": source, "tokens": collector.inputs[source].tokens, "gradient_tokens": 0}
    for name, moments in collector.gradients.items():
        tensors[name + ".gradient_gram"] = moments.packed()
        layers[name]["gradient_tokens"] = moments.tokens
    notes = {"lowrank.statistics": "1", "lowrank.text": text_hash(text), "lowrank.layers": json.dumps(layers)}
    save_file(tensors, path, metadata=notes)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("out")
    parser.add_argument("--tokens", type=int, default=32768)
    parser.add_argument("--gradient-tokens", type=int, default=16384)
    parser.add_argument("--window", type=int, default=512)
    arguments = parser.parse_args()
    with open(arguments.text, "rb") as file:
        text = file.read()
    ids = AutoTokenizer.from_pretrained(arguments.model)(text.decode(), return_tensors="pt").input_ids[0]
    ids = ids[: arguments.tokens // arguments.window * arguments.window]
    if len(ids) < arguments.window:
        parser.exit(1, f"{arguments.text}: has only {len(ids)} tokens, fewer than one window\n")
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    collector = Collector(model)
    run(model, ids, arguments.window, arguments.gradient_tokens)
    save(collector, text, arguments.out)


if __name__ == "__main__":
    main()
