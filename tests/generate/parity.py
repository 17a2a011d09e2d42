#!/usr/bin/env python3
"""Compares `generate` with the tokenizers and transformers libraries on a real model, and prints a table.

    parity.py GENERATE MODEL [--compressed FOLDER] [--text FILE] [--tokens N] [--tokenizer-only]

Exit status 1 if anything differs by more than the issue allows. Needs torch, transformers, tokenizers, safetensors.
"""
import argparse
import json
import math
import pathlib
import random
import subprocess
import sys
import tempfile
import unicodedata

import tokenizers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "examples" / "python"))

LOGITS_BOUND = 2e-3
PERPLEXITY_BOUND = 5e-3  # relative
NEW_TOKENS = 64
WINDOW = 512
PROMPTS = ["Why is the sky blue?", "Once upon a time, in a small village by the sea,",
           "def fibonacci(n):\n    ", "The capital of France is", "Ingredients: 3 eggs, 200 g flour,"]
failures = []


def check(name, passed, shown):
    print(f"| {name} | {shown} | {'yes' if passed else 'NO'} |", flush=True)
    if not passed:
        failures.append(name)


# Characters that every Unicode library of the last twenty years classifies alike.
ASSIGNED = [chr(c) for c in range(0x110000)
            if unicodedata.ucd_3_2_0.category(chr(c)) not in ("Cn", "Cs", "Co") and c != 0x0A]
EMOJI = list("😀🎉👍🏽🤖❤️🇫🇷👩‍💻🧪🚀✨")
SPACES = [" ", "  ", "    ", "\t", "\r", "\v", "\f", "\x85", "\u00a0", "\u2009", "\u2028", "\u3000", "\u180e"]
WORDS = ("the of and to don't I'm we'll they've it's IT'S you'd café naïve über Straße ångström coöperate "
         "Привет мир 你好 世界 こんにちは 안녕하세요 مرحبا שלום नमस्ते e\u0301 x\u0327\u0302 ﬁ Å").split()
CODE = ["for (int i = 0; i < n; ++i) {", "    return x[i] * 2.5e-3f;", "}", "#include <vector>", "print(f'{x!r:>10}')",
        "=>", "!=", "&&", "<<=", "->", "//", "/* */", "\\n", "$PATH", "a_b_c", "camelCase", "HTTPServer", "x86_64"]
NUMBERS = ["0", "7", "42", "1,234,567.89", "3.14159", "1e-10", "0xFF", "²³", "½", "Ⅻ", "٣٤٥", "２０２４", "१२३"]


def line(rng, special):
    kinds = [WORDS, CODE, NUMBERS, EMOJI, SPACES, special, ASSIGNED]
    weights = [rng.random() for _ in kinds]
    text = ""
    for _ in range(rng.randint(0, 30)):
        text += rng.choice(rng.choices(kinds, weights)[0])
        if rng.random() < 0.5:
            text += rng.choice([" ", " ", " ", "", "-", ".", ", ", "\t"])
    return text


def run(generate, *arguments, text=None):
    result = subprocess.run([generate, *map(str, arguments)], input=text, capture_output=True, check=False)
    if result.returncode != 0:
        sys.exit(f"{' '.join(map(str, arguments))}: {result.stderr.decode()}")
    return result.stdout


def compare_tokenizers(generate, model, count=10_000):
    reference = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    special = [token.content for token in reference.get_added_tokens_decoder().values()]
    rng = random.Random(2024)
    lines = [line(rng, special) for _ in range(count)]
    wanted = [encoding.ids for encoding in reference.encode_batch(lines)]
    found = run(generate, model, "--tokenize", text="".join(text + "\n" for text in lines).encode())
    found = [[int(token) for token in row.split()] for row in found.decode().split("\n")[:-1]]
    equal = sum(a == b for a, b in zip(wanted, found))
    check(f"token ids of {count:,} lines ({sum(map(len, wanted)):,} tokens)", equal == count, f"{equal:,} equal")
    texts = reference.decode_batch(wanted)
    rows = "".join(" ".join(map(str, ids)) + "\n" for ids in wanted)
    joined = run(generate, model, "--detokenize", text=rows.encode()).decode()
    equal_text = joined == "".join(text + "\n" for text in texts)
    check("text of these ids", equal_text, "equal" if equal_text else "different")


def logits_of(generate, model, ids, kind):
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "logits.safetensors"
        run(generate, model, "--type", kind, "--ids", ",".join(map(str, ids)), "--logits", file)
        return load_file(file)["logits"]


def greedy(model, ids):
    """The ids and the NEW_TOKENS most likely ones after them; transformers' own loop always stops at stop tokens."""
    import torch

    answer, cache, step = list(ids), None, ids
    for _ in range(NEW_TOKENS):
        with torch.no_grad():
            out = model(torch.tensor([step]), past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        step = [out.logits[0, -1].argmax().item()]
        answer += step
    return answer


def compare_logits(name, generate, folder, model, tokenizer):
    import torch

    worst, same = 0.0, 0
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt).ids
        answer = greedy(model, ids)
        with torch.no_grad():
            wanted = model(torch.tensor([answer])).logits[0]
        found = logits_of(generate, folder, answer, "f32")
        worst = max(worst, (wanted - found).abs().max().item())
        with tempfile.TemporaryDirectory() as scratch:
            report = pathlib.Path(scratch) / "report.json"
            run(generate, folder, "--type", "f32", "--raw", "--no-stop", "--prompt", prompt, "--tokens", NEW_TOKENS,
                "--json", report)
            same += json.loads(report.read_text())["models"][0]["tokens"] == answer[len(ids):]
    check(f"{name}: largest difference of logits, float32, {len(PROMPTS)} prompts", worst <= LOGITS_BOUND,
          f"{worst:.1e}")
    check(f"{name}: the same {NEW_TOKENS} greedy tokens", same == len(PROMPTS), f"{same} of {len(PROMPTS)}")


def torch_perplexity(model, ids):
    import torch

    loss, count = 0.0, 0
    for begin in range(0, len(ids), WINDOW):
        window = torch.tensor([ids[begin : begin + WINDOW]])
        if window.shape[1] < 2:
            continue
        with torch.no_grad():
            logits = model(window).logits[0, :-1].double()
        loss += torch.nn.functional.cross_entropy(logits, window[0, 1:], reduction="sum").item()
        count += window.shape[1] - 1
    return math.exp(loss / count)


def our_perplexity(generate, folder, text, tokens, kind):
    with tempfile.TemporaryDirectory() as scratch:
        report = pathlib.Path(scratch) / "report.json"
        run(generate, folder, "--type", kind, "--perplexity", text, "--tokens", tokens, "--window", WINDOW, "--quiet",
            "--json", report)
        return json.loads(report.read_text())["models"][0]["perplexity"]


def compare_perplexity(name, generate, folder, model, tokenizer, text, tokens):
    wanted = torch_perplexity(model, tokenizer.encode(text.read_text()).ids[:tokens])
    for kind in ("f32", "bf16"):
        found = our_perplexity(generate, folder, text, tokens, kind)
        check(f"{name}: perplexity of {tokens:,} tokens, {kind} (torch in float32: {wanted:.4f})",
              abs(found / wanted - 1) <= PERPLEXITY_BOUND, f"{found:.4f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generate", type=pathlib.Path)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--compressed", type=pathlib.Path, help="a folder that `compress` wrote")
    parser.add_argument("--text", type=pathlib.Path, help="also compare the perplexity of this text")
    parser.add_argument("--tokens", type=int, default=16384, help="of the text (default: %(default)s)")
    parser.add_argument("--tokenizer-only", action="store_true")
    arguments = parser.parse_args()
    generate = arguments.generate.resolve()

    print("| compared | generate | as it must be |\n| --- | --- | --- |", flush=True)
    compare_tokenizers(generate, arguments.model)
    if not arguments.tokenizer_only:
        import torch
        from load_lowrank import load_lowrank

        tokenizer = tokenizers.Tokenizer.from_file(str(arguments.model / "tokenizer.json"))
        for folder in filter(None, (arguments.model, arguments.compressed)):
            model = load_lowrank(folder, dtype=torch.float32)
            compare_logits(folder.name, generate, folder, model, tokenizer)
            if arguments.text is not None:
                compare_perplexity(folder.name, generate, folder, model, tokenizer, arguments.text, arguments.tokens)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
