#!/usr/bin/env python3
"""Write the reference case: a checkpoint shaped like StableLM-3B-4E1T, with random weights whose spectra decay.

Usage: make_reference_checkpoint.py OUT [--layers N] [--seed S]

bfloat16, sharded with an index as Hugging Face does: 2,795,443,200 parameters in 5.6 GB for all 32 layers. The same
arguments give the same bytes with the same release of NumPy. OUT appears only when it is complete. Needs NumPy only.

Each shape has one base matrix, U diag(s) V^T with s_i ~ i^-1/2, where U and V are orthogonal: products of random
signs, random permutations and Walsh-Hadamard transforms of blocks, so that it costs O(n^2 log n). Each weight is its
base with the rows and the columns permuted, their signs flipped at random, and a scale: every weight differs, and all
of a shape have the spectrum of the base.
"""
import argparse
import json
import math
import pathlib
import shutil
import sys
import tempfile

import numpy as np

HIDDEN, INTERMEDIATE, VOCABULARY, LAYERS, HEADS = 2560, 6912, 50304, 32, 32
FULL_PARAMETERS = 2_795_443_200
LINEARS = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN, HIDDEN),
    "self_attn.v_proj": (HIDDEN, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
    "mlp.up_proj": (INTERMEDIATE, HIDDEN),
    "mlp.down_proj": (HIDDEN, INTERMEDIATE),
}
DECAY = 0.5  # of the singular values; trained weights decay about as slowly
SHARD_BYTES = 2_000_000_000
CHUNK_ROWS = 1024
SIGNS = np.array([-1, 1], dtype=np.float32)


def to_bf16(weight):
    """The bits of bfloat16, rounded to nearest even; weight is finite float32, and is overwritten."""
    bits = weight.view(np.uint32)
    bits += 0x7FFF + ((bits >> 16) & 1)
    bits >>= 16
    return bits.astype("<u2")


def transform_blocks(x):
    """Orthogonal Walsh-Hadamard transforms, in place, of blocks of rows as large as a power of 2 can be."""
    rows = x.shape[0]
    block = rows & -rows
    half = 1
    while half < block:
        pairs = x.reshape(rows // (2 * half), 2, half, -1)
        difference = pairs[:, 0] - pairs[:, 1]
        pairs[:, 0] += pairs[:, 1]
        pairs[:, 1] = difference
        half *= 2
    x /= np.float32(math.sqrt(block))


def mix_rows(x, random):
    """Multiplies x from the left by a random orthogonal matrix; three rounds spread each row over all blocks."""
    for _ in range(3):
        x = x[random.permutation(x.shape[0])]
        x *= random.choice(SIGNS, size=(x.shape[0], 1))
        transform_blocks(x)
    return x


def base_matrix(rows, cols, random):
    """A float32 matrix, rows >= cols, with singular values i^-DECAY scaled to a root mean square of 1."""
    values = np.arange(1, cols + 1, dtype=np.float64) ** -DECAY
    values *= math.sqrt(rows * cols / np.sum(values**2))
    x = np.zeros((rows, cols), dtype=np.float32)
    np.fill_diagonal(x, values)
    x = mix_rows(x, random)
    return np.ascontiguousarray(mix_rows(np.ascontiguousarray(x.T), random).T)


class Bases:
    """The base matrix of each shape, made on first use; a shape and its transpose share one."""

    def __init__(self, seed):
        self._seed = seed
        self._made = {}

    def get(self, rows, cols):
        key = (max(rows, cols), min(rows, cols))
        if key not in self._made:
            self._made[key] = base_matrix(*key, np.random.default_rng([self._seed, *key]))
        return self._made[key] if (rows, cols) == key else self._made[key].T


# Each of these yields a tensor in chunks of rows, so that little of it is in memory.


def linear(bases, rows, cols, random):
    base = bases.get(rows, cols)
    row_order, col_order = random.permutation(rows), random.permutation(cols)
    row_factors = random.choice(SIGNS, size=(rows, 1)) * np.float32(random.uniform(0.5, 1.5) / math.sqrt(cols))
    col_factors = random.choice(SIGNS, size=cols)
    for begin in range(0, rows, CHUNK_ROWS):
        chunk = np.ascontiguousarray(base[row_order[begin : begin + CHUNK_ROWS]])[:, col_order]
        chunk = np.ascontiguousarray(chunk)
        chunk *= row_factors[begin : begin + CHUNK_ROWS]
        chunk *= col_factors
        yield to_bf16(chunk)


def table(rows, cols, random):
    for begin in range(0, rows, CHUNK_ROWS):
        chunk = random.standard_normal((min(CHUNK_ROWS, rows - begin), cols), dtype=np.float32)
        chunk *= np.float32(0.02)
        yield to_bf16(chunk)


def norm(centre, random):
    yield to_bf16((centre + 0.02 * random.standard_normal(HIDDEN)).astype(np.float32))


class Tensor:
    """A tensor to write: its name and shape, and the function of a random generator that yields its chunks."""

    def __init__(self, name, shape, chunks):
        self.name, self.shape, self.chunks = name, list(shape), chunks
        self.size = math.prod(shape)
        self.nbytes = 2 * self.size


def norm_pair(name):
    return [
        Tensor(f"{name}.weight", [HIDDEN], lambda random: norm(1, random)),
        Tensor(f"{name}.bias", [HIDDEN], lambda random: norm(0, random)),
    ]


def vocabulary_table(name):
    return Tensor(name, [VOCABULARY, HIDDEN], lambda random: table(VOCABULARY, HIDDEN, random))


def model_tensors(layers, seed):
    bases = Bases(seed)

    def linear_tensor(name, rows, cols):
        return Tensor(name, [rows, cols], lambda random: linear(bases, rows, cols, random))

    tensors = [vocabulary_table("model.embed_tokens.weight")]
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        tensors += norm_pair(f"{prefix}.input_layernorm")
        tensors += [linear_tensor(f"{prefix}.{name}.weight", *shape) for name, shape in LINEARS.items()]
        tensors += norm_pair(f"{prefix}.post_attention_layernorm")
    tensors += norm_pair("model.norm")
    tensors.append(vocabulary_table("lm_head.weight"))
    return tensors


def split_into_shards(tensors):
    shards, nbytes = [[]], 0
    for tensor in tensors:
        if shards[-1] and nbytes + tensor.nbytes > SHARD_BYTES:
            shards.append([])
            nbytes = 0
        shards[-1].append(tensor)
        nbytes += tensor.nbytes
    return shards


def write_header(file, header):
    """The header of a safetensors file, padded to 8 bytes."""
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)


def write_shard(path, shard, generators):
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for tensor in shard:
        header[tensor.name] = {
            "dtype": "BF16",
            "shape": tensor.shape,
            "data_offsets": [end, end + tensor.nbytes],
        }
        end += tensor.nbytes
    with open(path, "wb") as file:
        write_header(file, header)
        for tensor in shard:
            for chunk in tensor.chunks(next(generators)):
                file.write(chunk.data)


def model_config(layers):
    return {
        "architectures": ["StableLmForCausalLM"],
        "model_type": "stablelm",
        "hidden_act": "silu",
        "torch_dtype": "bfloat16",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 4096,
        "partial_rotary_factor": 0.25,
        "rope_theta": 10000,
        "layer_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "use_qkv_bias": False,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def write_model(folder, tensors, layers, seed):
    # A tensor's random numbers depend on its place alone.
    generators = (np.random.default_rng([seed, 0, i]) for i in range(len(tensors)))
    shards = split_into_shards(tensors)
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        file_name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        weight_map.update({tensor.name: file_name for tensor in shard})
        print(f"{file_name}: {len(shard)} tensors", flush=True)
        write_shard(folder / file_name, shard, generators)
    metadata = {"total_size": sum(tensor.nbytes for tensor in tensors)}
    write_json(folder / "model.safetensors.index.json", {"metadata": metadata, "weight_map": weight_map})
    write_json(folder / "config.json", model_config(layers))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT", type=pathlib.Path, help="folder to make; must not exist")
    parser.add_argument("--layers", type=int, default=LAYERS, help="1 to 32 (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="0 or more (default: %(default)s)")
    arguments = parser.parse_args()
    if not 1 <= arguments.layers <= LAYERS:
        parser.error(f"--layers must be 1 to {LAYERS}")
    if arguments.seed < 0:
        parser.error("--seed must be 0 or more")
    out = arguments.out
    if out.exists():
        sys.exit(f"make_reference_checkpoint.py: {out} exists already")

    tensors = model_tensors(arguments.layers, arguments.seed)
    parameters = sum(tensor.size for tensor in tensors)
    assert arguments.layers != LAYERS or parameters == FULL_PARAMETERS
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        write_model(temporary, tensors, arguments.layers, arguments.seed)
        temporary.chmod(0o755)
        temporary.rename(out)
    except BaseException:
        shutil.rmtree(temporary)
        raise
    print(f"{out}: {parameters:,} parameters")


if __name__ == "__main__":
    main()
