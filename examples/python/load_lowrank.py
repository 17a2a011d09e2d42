#!/usr/bin/env python3
"""Load a folder written by `compress` into its Hugging Face model: each low-rank layer becomes a LowRankLinear.

    from load_lowrank import load_lowrank
    model = load_lowrank("SmolLM2-compressed", dtype=torch.bfloat16)

    load_lowrank.py FOLDER [PROMPT]     # as a program: lets the model continue the prompt

NAME.weight (out x in) is stored as NAME.w1 (out x rank) and NAME.w2 (rank x in), NAME.weight ~ NAME.w1 NAME.w2.
Needs torch, transformers and safetensors.
"""
import pathlib
import sys

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer


class LowRankLinear(torch.nn.Module):
    """y = x w2^T w1^T + b."""

    def __init__(self, linear, rank):
        super().__init__()
        like = {"device": linear.weight.device, "dtype": linear.weight.dtype}
        self.w1 = torch.nn.Parameter(torch.empty(linear.out_features, rank, **like))
        self.w2 = torch.nn.Parameter(torch.empty(rank, linear.in_features, **like))
        self.bias = linear.bias

    def forward(self, x):
        return torch.nn.functional.linear(torch.nn.functional.linear(x, self.w2), self.w1, self.bias)


def load_lowrank(folder, dtype=None):
    folder = pathlib.Path(folder)
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors.update(load_file(file))
    config = AutoConfig.from_pretrained(folder)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype or config.dtype).eval()
    for name in [key.removesuffix(".w1") for key in tensors if key.endswith(".w1")]:
        parent, _, child = name.rpartition(".")
        module = model.get_submodule(parent)
        setattr(module, child, LowRankLinear(getattr(module, child), tensors[f"{name}.w1"].shape[1]))
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    tied = set(getattr(model, "_tied_weights_keys", None) or ()) if config.tie_word_embeddings else set()
    wrong = [name for name in missing if name not in tied] + unexpected
    if wrong:
        raise ValueError(f"{folder}: does not fit the model: {', '.join(wrong)}")
    model.tie_weights()
    return model


def main():
    if len(sys.argv) not in (2, 3) or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    model = load_lowrank(sys.argv[1])
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    prompt = tokenizer(sys.argv[2] if len(sys.argv) == 3 else "Once upon a time", return_tensors="pt")
    print(tokenizer.decode(model.generate(**prompt, max_new_tokens=64, do_sample=False)[0]))


if __name__ == "__main__":
    main()
