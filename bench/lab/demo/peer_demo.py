#!/usr/bin/env python3
"""The peer of the demo: the same rows, the same task and the same scoring with PyTorch and PEFT.

Trains LoRA (every linear layer but the head) on data/demo/train.jsonl and scores the 50 questions of
heldout.jsonl before (--base) and after, as the demo does:

  format   the answer parses as JSON, has exactly the expected keys in their order, and `lang` is right
  subject  `subject` is the expected string, too (counted apart); `type` likewise, for information

Loss is taken on the assistant's text and its <|im_end|>, summed over a step and divided by the trained tokens of
that step. The model's own chat template with its default system message is used. A micro-batch is padded, which
changes no token's loss. --packing L groups whole documents into rows of at most L tokens, first come first
served, as the pipeline does, and --batch then counts such rows.

--method qlora trains on weights rounded to NF4 (block 64) by bitsandbytes and back, once: the same numbers as
decoding them in every product, without bitsandbytes' slow CPU path; double quantisation (an 8-bit absmax) is kept.

Leaves out: evaluation during training, resuming, anything but a CPU.

Example (the demo's setting):
  python bench/lab/demo/peer_demo.py --model DIR --method qlora --lr 1e-3 --batch 4 --seed 1 --out result.json
"""
import argparse
import json
import math
import os
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
import torch.nn.functional as F
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "..", "..", "..", "data", "demo")


def arguments():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", required=True, help="HF directory of SmolLM2-135M-Instruct")
    ap.add_argument("--train", default=os.path.join(DATA, "train.jsonl"))
    ap.add_argument("--heldout", default=os.path.join(DATA, "heldout.jsonl"))
    ap.add_argument("--method", default="qlora", choices=["lora", "qlora"])
    ap.add_argument("--dtype", default="bf16", choices=["bf16", "fp32"])
    ap.add_argument("--r", type=int, default=16)
    ap.add_argument("--alpha", type=float, default=32)
    ap.add_argument("--dropout", type=float, default=0.0)
    ap.add_argument("--lr", type=float, default=1e-3)
    ap.add_argument("--schedule", default="cosine", choices=["constant", "linear", "cosine"])
    ap.add_argument("--warmup", type=float, default=0.1, help="share of the steps")
    ap.add_argument("--epochs", type=int, default=1)
    ap.add_argument("--batch", type=int, default=4, help="rows a step")
    ap.add_argument("--packing", type=int, default=0, help="tokens a packed row; 0: one document a row")
    ap.add_argument("--clip", type=float, default=1.0)
    ap.add_argument("--seed", type=int, default=1, help="order of the rows, dropout")
    ap.add_argument("--init-seed", type=int, default=1, help="the adapter's A")
    ap.add_argument("--new-tokens", type=int, default=64)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--base", action="store_true", help="score the untrained model, too")
    ap.add_argument("--show", action="store_true", help="print every answer that is not wholly right")
    ap.add_argument("--out", help="result as JSON")
    ap.add_argument("--answers", help="every held-out answer as JSON lines")
    return ap.parse_args()


def read_lines(path):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f]


def prompt_ids(tok, question):
    """Ids up to where the assistant speaks, and nothing of the answer."""
    text = tok.apply_chat_template([{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True)
    return tok.encode(text, add_special_tokens=False)


def documents(tok, rows):
    """[(ids, first trained position)]; the newline that the template puts after <|im_end|> ends the document."""
    docs = []
    for r in rows:
        prompt = prompt_ids(tok, r["messages"][0]["content"])
        answer = tok.encode(r["messages"][1]["content"] + "<|im_end|>", add_special_tokens=False)
        docs.append((prompt + answer, len(prompt)))
    return docs


def round_to_nf4(model):
    """Every linear weight but the head's becomes what NF4 keeps of it."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and "lm_head" not in name:
            w = module.weight.data
            packed, state = quantize_4bit(w.float().contiguous(), blocksize=64, quant_type="nf4", compress_statistics=True)
            # Flat, so that the library's blocks cannot start anew at each row (its CPU code does that).
            state.shape = torch.Size((w.numel() // 64, 64))
            module.weight.data = dequantize_4bit(packed, state).reshape(w.shape).to(w.dtype)


def epoch_steps(docs, epoch, a):
    """The steps of an epoch, each a list of documents: permuted, packed if asked, then --batch rows a step."""
    g = torch.Generator().manual_seed(1000 * a.seed + epoch)
    order = [docs[i] for i in torch.randperm(len(docs), generator=g).tolist()]
    rows = [[]]
    for d in order:
        room = a.packing - sum(len(x[0]) for x in rows[-1])
        if rows[-1] and (a.packing == 0 or len(d[0]) > room):
            rows.append([])
        rows[-1].append(d)
    return [[d for row in rows[i:i + a.batch] for d in row] for i in range(0, len(rows), a.batch)]


def rate(step, steps, a):
    """Learning rate of step 0…steps-1, as transformers' schedules give it."""
    warm = math.ceil(a.warmup * steps)
    if step < warm:
        return a.lr * step / warm if warm else a.lr
    done = (step - warm) / max(1, steps - warm)
    return a.lr * {"constant": 1, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done))}[a.schedule]


def loss_sum(model, docs, pad):
    """(sum of the trained tokens' losses, their number); logits are formed for trained tokens alone."""
    width = max(len(d[0]) for d in docs)
    ids = torch.tensor([d[0] + [pad] * (width - len(d[0])) for d in docs])
    labels = torch.tensor([[-100] * d[1] + d[0][d[1]:] + [-100] * (width - len(d[0])) for d in docs])
    mask = torch.arange(width)[None] < torch.tensor([len(d[0]) for d in docs])[:, None]
    core = model.base_model.model
    hidden = core.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state[:, :-1]
    target = labels[:, 1:]
    trained = target != -100
    return F.cross_entropy(core.lm_head(hidden[trained]).float(), target[trained], reduction="sum"), int(trained.sum())


def train(model, docs, a, pad):
    """Trains in place; figures of the run."""
    params = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=a.lr, weight_decay=0.0)
    plan = [s for e in range(a.epochs) for s in epoch_steps(docs, e, a)]
    torch.manual_seed(a.seed)
    losses, tokens, trained, start = [], 0, 0, time.time()
    model.train()
    for n, step in enumerate(plan):
        for group in opt.param_groups:
            group["lr"] = rate(n, len(plan), a)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.dtype == "bf16"):
            total, count = loss_sum(model, step, pad)
        (total / count).backward()
        torch.nn.utils.clip_grad_norm_(params, a.clip)
        opt.step()
        opt.zero_grad(set_to_none=True)
        losses.append(float(total.detach()) / count)
        tokens += sum(len(d[0]) for d in step)
        trained += count
    return {"steps": len(plan), "tokens": tokens, "trained_tokens": trained, "train_seconds": round(time.time() - start, 1),
            "loss_first": round(losses[0], 4), "loss_last8": round(sum(losses[-8:]) / len(losses[-8:]), 4)}


@torch.no_grad()
def answers(model, tok, questions, a, rows=25):
    """Greedy answers, `rows` questions at a time (padded at the left), up to the first <|im_end|>."""
    model.eval()
    end, out = tok.convert_tokens_to_ids("<|im_end|>"), []
    for i in range(0, len(questions), rows):
        ids = [prompt_ids(tok, q) for q in questions[i:i + rows]]
        width = max(map(len, ids))
        x = torch.tensor([[end] * (width - len(p)) + p for p in ids])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in ids])
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.dtype == "bf16"):
            y = model.generate(input_ids=x, attention_mask=mask, max_new_tokens=a.new_tokens, do_sample=False,
                               eos_token_id=end, pad_token_id=end)[:, width:].tolist()
        out += [tok.decode(r[:r.index(end)] if end in r else r) for r in y]
    return out


def judge(text, expected):
    """(format right, subject right, type right) of one answer."""
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except ValueError:
        return False, False, False
    if not isinstance(pairs, list) or any(not isinstance(p, tuple) for p in pairs):
        return False, False, False
    if [k for k, _ in pairs] != list(expected) or dict(pairs)["lang"] != expected["lang"]:
        return False, False, False
    return True, dict(pairs)["subject"] == expected["subject"], dict(pairs)["type"] == expected["type"]


def score(model, tok, held, a):
    """Counts over the held-out questions, and the answers."""
    texts = answers(model, tok, [h["messages"][0]["content"] for h in held], a)
    right = [judge(t, h["expected"]) for t, h in zip(texts, held)]
    if a.show:
        for t, h, r in zip(texts, held, right):
            if not all(r):
                print(r, h["messages"][0]["content"], "->", repr(t))
    return [sum(r[i] for r in right) for i in range(3)], texts


def main():
    a = arguments()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(a.threads)
    tok = AutoTokenizer.from_pretrained(a.model)
    dtype = torch.bfloat16 if a.dtype == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(a.model, dtype=dtype)
    held, result = read_lines(a.heldout), vars(a).copy()
    record = [{"question": h["messages"][0]["content"], "expected": h["expected"]} for h in held]
    if a.base:
        result["base"], texts = score(model, tok, held, a)
        for r, t in zip(record, texts):
            r["base"] = t
    if a.method == "qlora":
        round_to_nf4(model)
    torch.manual_seed(a.init_seed)
    model = get_peft_model(model, LoraConfig(r=a.r, lora_alpha=a.alpha, lora_dropout=a.dropout, target_modules="all-linear",
                                             task_type="CAUSAL_LM"))
    for p in model.parameters():
        if p.requires_grad:
            p.data = p.data.float()
    result.update(train(model, documents(tok, read_lines(a.train)), a, tok.pad_token_id))
    (result["tuned"], result["subjects"], result["types"]), texts = score(model, tok, held, a)
    for r, t in zip(record, texts):
        r["tuned"] = t
    if a.answers:
        with open(a.answers, "w", encoding="utf-8") as f:
            f.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in record)
    if a.out:
        with open(a.out, "w", encoding="utf-8") as f:
            json.dump(result, f, indent=1)
    keys = ("method", "dtype", "lr", "schedule", "batch", "packing", "epochs", "dropout", "seed", "init_seed", "steps", "tokens",
            "trained_tokens", "train_seconds", "loss_last8", "base", "tuned", "subjects", "types")
    print(json.dumps({k: result[k] for k in keys if k in result}), flush=True)


if __name__ == "__main__":
    main()
