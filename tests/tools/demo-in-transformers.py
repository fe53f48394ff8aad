#!/usr/bin/env python3
"""Asks the model that a demo run exported, opened by transformers in bf16, the run's held-out questions.

    demo-in-transformers.py RUN_DIR [--questions data/demo/heldout.jsonl]

An answer counts as for eval-json: one JSON object, the keys in their order, lang right.  Printed beside it: how
many answers are the program's own to the letter, and how many prompts have its ids.  Exits 1 when fewer than 48
of 50 count.  Needs torch and transformers."""
import argparse
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def counts(answer, expected):
    try:
        said = json.loads(answer)
    except ValueError:
        return False
    return isinstance(said, dict) and list(said) == list(expected) and said["lang"] == expected["lang"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--questions", default="data/demo/heldout.jsonl")
    args = parser.parse_args()
    tok = AutoTokenizer.from_pretrained(args.run + "/model")
    model = AutoModelForCausalLM.from_pretrained(args.run + "/model", dtype=torch.bfloat16).eval()
    lines = lambda path: [json.loads(x) for x in open(path, encoding="utf-8")]
    rows, ours = lines(args.questions), lines(args.run + "/heldout.jsonl")
    right = subject = alike = ids = 0
    for row, own in zip(rows, ours, strict=True):
        x = tok.apply_chat_template(row["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True)
        prompt = x["input_ids"][0].tolist()
        with torch.no_grad():
            out = model.generate(**x, max_new_tokens=64, do_sample=False)[0][len(prompt):]
        answer, expected = tok.decode(out, skip_special_tokens=True), row["expected"]
        good = counts(answer, expected)
        right += good
        subject += good and json.loads(answer)["subject"] == expected["subject"]
        alike += answer.strip() == own["tuned"].strip()
        ids += prompt == own["prompt_ids"]
    print(f"{len(rows)} questions: {right} right, {subject} with the subject; {alike} answers as the program's own, "
          f"{ids} prompts with its ids")
    return 0 if right * 50 >= 48 * len(rows) and ids == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
