#!/usr/bin/env python3
"""Holds a GGUF against llama.cpp: it opens, gives prompts the same token ids, and continues them
greedily as we do.

    gguf-peer.py MODEL.gguf [--adapter ADAPTER_DIR --lora ADAPTER.gguf] [--pipeline build/pipeline] [--tokens 32]

llama.cpp continues greedily; our logits for the same tokens then say where we would have gone on otherwise,
which is the same question as continuing ourselves and takes one pass. With an adapter: ours is the model with the PEFT folder, llama.cpp's is the model with the LoRA-GGUF.
A continuation that differs is looked at where it first does: a tie within 0.05 of a logit (llama.cpp
rounds activations to 8 or 16 bits) is counted apart.  Exits 1 when ids differ, or a continuation does
without a tie.  Needs llama-cpp-python, numpy, safetensors."""
import argparse
import json
import subprocess
import sys
import tempfile

import numpy as np
from llama_cpp import Llama
from safetensors.numpy import load_file, save_file

PROMPTS = [
    "The capital of France is", "Water boils at", "Once upon a time there was", "def add(a, b):", "1, 2, 3, 4,",
    "The three primary colours are", "A haiku about rain:", "To make bread you need", "In 1969,", "The opposite of hot is",
    "Q: What is 7 times 6?\nA:", "Dear Sir or Madam,", "for i in range(10):", "The sun rises in the", "SELECT name FROM",
    "El perro es", "안녕하세요,", "My favourite food is", "The first law of thermodynamics", "It's 10:30 and we'll",
]


def score(args, table):
    with tempfile.TemporaryDirectory() as d:
        rows, out = d + "/rows.safetensors", d + "/logits.safetensors"
        save_file({"input_ids": table, "labels": table.copy()}, rows)
        more = ["--adapter", args.adapter] if args.adapter else []
        subprocess.run([args.pipeline, "score", "--model", args.model, "--tokens", rows, "--out", out] + more,
                       check=True, stdout=subprocess.DEVNULL)
        return load_file(out)["logits"]


def our_ids(args):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as f:
        f.writelines(json.dumps(p) + "\n" for p in PROMPTS)
        f.flush()
        out = subprocess.run([args.pipeline, "tokenize", "--model", args.model, f.name], check=True, capture_output=True)
    return [json.loads(line)["ids"] for line in out.stdout.decode().splitlines()]


def theirs(llm, ids, steps):
    llm.reset()
    llm.eval(ids)
    out = []
    for _ in range(steps):
        out.append(int(np.argmax(llm.scores[llm.n_tokens - 1])))
        llm.eval([out[-1]])
    return out


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("--adapter")
    p.add_argument("--lora")
    p.add_argument("--pipeline", default="build/pipeline")
    p.add_argument("--tokens", type=int, default=32)
    args = p.parse_args()
    llm = Llama(args.model, lora_path=args.lora, n_ctx=128, n_threads=1, logits_all=True, verbose=False)
    ids = our_ids(args)
    wrong = sum(llm.tokenize(t.encode(), add_bos=False, special=True) != i for t, i in zip(PROMPTS, ids))
    conts = [theirs(llm, row, args.tokens) for row in ids]
    longest = max(map(len, ids)) + args.tokens
    table = np.zeros((len(ids), longest), np.int64)
    for k, (row, cont) in enumerate(zip(ids, conts)):
        table[k, :len(row) + args.tokens] = row + cont
    logits = score(args, table)
    same = ties = 0
    for k, (prompt, row, cont) in enumerate(zip(PROMPTS, ids, conts)):
        ours = logits[k, len(row) - 1:len(row) - 1 + args.tokens]
        differ = np.nonzero(ours.argmax(-1) != cont)[0]
        if not len(differ):
            same += 1
            continue
        at = differ[0]
        gap = float(ours[at].max() - ours[at][cont[at]])
        ties += gap < 0.05
        print(f"{prompt!r}: token {at} differs, by {gap:.3g} of a logit")
    print(f"ids equal for {len(ids) - wrong} of {len(ids)} prompts; {same} of {len(ids)} continued alike for "
          f"{args.tokens} tokens, {ties} more up to a tie")
    return wrong > 0 or same + ties < len(ids)


if __name__ == "__main__":
    sys.exit(main())
