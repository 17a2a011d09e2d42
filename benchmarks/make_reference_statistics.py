#!/usr/bin/env python3
"""Write made-up calibration statistics for the reference case of make_reference_checkpoint.py: what compress
--calibration costs there, without a text and a model that understands it.

Usage: make_reference_statistics.py OUT.safetensors [--layers N]

For q_proj, o_proj and gate_proj of every layer, inputs and gradients of width n are 2 n rows of correlated normal
numbers whose sizes differ by column; one sample serves all layers. 5.2 GB for all 32 layers. Needs NumPy only.
"""
import argparse
import json

import numpy as np

from make_reference_checkpoint import HIDDEN, INTERMEDIATE, LAYERS, write_header

OUTPUTS = {"self_attn.q_proj": HIDDEN, "self_attn.o_proj": HIDDEN, "mlp.gate_proj": INTERMEDIATE}


def packed_gram(width):
    """The upper triangle of X^T X, row by row."""
    random = np.random.default_rng(width)
    rows = random.standard_normal((2 * width, width), dtype=np.float32)
    rows += random.standard_normal((2 * width, 1), dtype=np.float32)
    rows *= np.exp(random.standard_normal(width, dtype=np.float32))
    gram = rows.T @ rows
    return gram[np.triu_indices(width)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--layers", type=int, default=LAYERS)
    arguments = parser.parse_args()
    samples = {width: packed_gram(width) for width in (HIDDEN, INTERMEDIATE)}

    tensors, layers, header, end = [], {}, {}, 0
    for layer in range(arguments.layers):
        for name, width in OUTPUTS.items():
            module = f"model.layers.{layer}.{name}"
            layers[module] = {"input": module, "tokens": 2 * HIDDEN, "gradient_tokens": 2 * width}
            for kind, data in (("input_gram", samples[HIDDEN]), ("gradient_gram", samples[width])):
                offsets = [end, end + data.nbytes]
                header[f"{module}.{kind}"] = {"dtype": "F32", "shape": [data.size], "data_offsets": offsets}
                tensors.append(data)
                end += data.nbytes
    header["__metadata__"] = {
        "lowrank.statistics": "1",
        "lowrank.text": "0000000000000000",
        "lowrank.layers": json.dumps(layers),
    }
    with open(arguments.out, "wb") as file:
        write_header(file, header)
        for data in tensors:
            file.write(data.data)


if __name__ == "__main__":
    main()
