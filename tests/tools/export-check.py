#!/usr/bin/env python3
"""Holds an exported folder against transformers: it opens without missing or unexpected weights, its
logits equal those of `pipeline score` in fp32, and its tokenizer gives the ids that training saw.

    export-check.py MODEL_DIR [--pipeline build/pipeline] [--chat ROWS.jsonl --tokens TOKENS.safetensors]

TOKENS is what the tokenizer stage made of ROWS in their order (OUTPUT_DIR/artifacts/tokenizer-bpe-*/).
A folder packed for bitsandbytes is multiplied by the numbers that its written rule gives (its own CPU kernels
round further). Needs torch, transformers, safetensors, numpy, and bitsandbytes for such a folder.  Exits 1 when something differs."""
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


def unpack(model):
    """Linear layers of 4 bits as plain products: level[code] * absmax, the first code in the high nibble."""
    import bitsandbytes as bnb
    packed = [m for m in model.modules() if isinstance(m, bnb.nn.Linear4bit)]
    for m in packed:
        s = m.weight.quant_state
        codes = m.weight.data.flatten()
        codes = torch.stack([codes >> 4, codes & 15], 1).flatten()[:s.shape.numel()].long()
        absmax = s.absmax
        if s.nested:
            absmax = s.state2.code[absmax.long()] * s.state2.absmax.repeat_interleave(s.state2.blocksize)[:len(absmax)] + s.offset
        w = (s.code[codes] * absmax.repeat_interleave(s.blocksize)[:len(codes)]).reshape(s.shape)
        m.forward = lambda x, w=w.float(), m=m: torch.nn.functional.linear(x, w, m.bias)
    for p in model.parameters():
        if p.is_floating_point():
            p.data = p.data.float()
    return len(packed)


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
    if getattr(model.config, "quantization_config", None):
        print(f"{unpack(model)} linear layers are packed")
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
