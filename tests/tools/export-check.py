#!/usr/bin/env python3
"""Holds an exported folder against transformers: it opens without missing or unexpected weights, its
logits equal those of `pipeline score` in fp32, and its tokenizer gives the ids that training saw.

    export-check.py MODEL_DIR [--pipeline build/pipeline] [--chat ROWS.jsonl --tokens TOKENS.safetensors]

TOKENS is what the tokenizer stage made of ROWS in their order (OUTPUT_DIR/artifacts/tokenizer-bpe-*/).
Needs torch, transformers, safetensors, numpy.  Exits 1 when something differs."""
import argparse
import json
import os
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXT = "The quick brown fox jumps over the lazy dog. Water boils at 100 degrees; snow is white, and " \
       "most people who read this line have read it before, more than once, in some other place."


def logits_differ(args, tok, model):
    ids = np.array([tok.encode(TEXT, add_special_tokens=False)[:24]], dtype=np.int64)
    with tempfile.TemporaryDirectory() as d:
        rows, out = d + "/rows.safetensors", d + "/logits.safetensors"
        save_file({"input_ids": ids, "labels": ids.copy()}, rows)
        subprocess.run([args.pipeline, "score", "--model", args.model, "--tokens", rows, "--out", out],
                       check=True, stdout=subprocess.DEVNULL)
        ours = load_file(out)["logits"]
    with torch.no_grad():
        theirs = model(torch.tensor(ids)).logits.numpy()
    return float(np.abs(ours.reshape(theirs.shape) - theirs).max())


def ids_differ(args, tok):
    theirs = []
    for line in open(args.chat, encoding="utf-8"):
        text = tok.apply_chat_template(json.loads(line)["messages"], tokenize=False)
        theirs += tok(text, add_special_tokens=False)["input_ids"]
    return load_file(args.tokens)["ids"].tolist() != theirs


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("--pipeline", default="build/pipeline")
    p.add_argument("--chat")
    p.add_argument("--tokens")
    args = p.parse_args()
    tok = AutoTokenizer.from_pretrained(args.model)
    model, info = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32, output_loading_info=True)
    wrong = [k for k in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[k]]
    worst = logits_differ(args, tok, model)
    print(f"logits within {worst:.2g}; {'weights: ' + ', '.join(wrong) if wrong else 'all weights found'}")
    bad = bool(wrong) or not worst <= 2e-4
    if args.chat:
        differ = ids_differ(args, tok)
        print("chat ids", "differ" if differ else "are the same")
        bad |= differ
    return bad


if __name__ == "__main__":
    sys.exit(main())
