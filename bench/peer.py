#!/usr/bin/env python3
"""The peer of every training figure: PyTorch + PEFT (+ bitsandbytes) on the same rows and first adapter.

A bare loop without a trainer around it: rows as they are, AdamW without decay at a constant rate, gradients
clipped to norm 1; adapters in fp32 under bf16 autocast, as TRL trains them; full fine-tuning in pure bf16.
Writes OUT/result.json: losses, grad_norms, step_seconds, tokens_per_s (median without the first step),
peak_rss_mib, startup_seconds; and OUT/adapter, the first values, when no --init was given.

  peer.py --model DIR --rows F.safetensors --method lora|qlora|dora|full --dtype bf16|fp32 --steps N
          [--init DIR] --threads N --out OUT
"""
import argparse, json, os, resource, statistics, time

START = time.time()
os.environ.setdefault("HF_HUB_OFFLINE", "1")
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def arguments():
    p = argparse.ArgumentParser()
    for name in ("model", "rows", "out"):
        p.add_argument("--" + name, required=True)
    p.add_argument("--method", choices=["lora", "qlora", "dora", "full"], required=True)
    p.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16")
    p.add_argument("--steps", type=int, required=True)
    p.add_argument("--threads", type=int, required=True)
    p.add_argument("--init")
    return p.parse_args()


a = arguments()
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

torch.set_num_threads(a.threads)
torch.manual_seed(0)
DTYPE = torch.bfloat16 if a.dtype == "bf16" else torch.float32


def quantization():
    if a.method != "qlora":
        return {}
    from transformers import BitsAndBytesConfig
    return {"quantization_config": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4",
                                                      bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=DTYPE)}


def adapted(model):
    """The model with its adapter: the one of --init, or a new one whose B is not zero, so that A has a gradient."""
    if a.method == "full":
        return model
    from peft import LoraConfig, PeftModel, get_peft_model
    if a.init:
        model = PeftModel.from_pretrained(model, a.init, is_trainable=True)
    else:
        model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM",
                                                 target_modules=TARGETS, use_dora=a.method == "dora"))
    for name, p in model.named_parameters():
        if p.requires_grad:
            p.data = p.data.float()
            if not a.init and "lora_B" in name:
                p.data.normal_(0, 0.02)
    if not a.init:
        model.save_pretrained(a.out + "/adapter")
    return model


def step(model, params, optimizer, ids, labels):
    with torch.autocast("cpu", dtype=DTYPE, enabled=a.dtype == "bf16" and a.method != "full"):
        loss = model(input_ids=ids, labels=labels).loss
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(params, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item(), float(norm)


os.makedirs(a.out, exist_ok=True)
model = AutoModelForCausalLM.from_pretrained(a.model, dtype=DTYPE, attn_implementation="sdpa", **quantization())
model.config.use_cache = False
model = adapted(model)
model.train()
params = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(params, lr=2e-4, weight_decay=0.0)
rows = load_file(a.rows)
result = dict(vars(a), losses=[], grad_norms=[], step_seconds=[], startup_seconds=time.time() - START)
for s in range(a.steps):
    t = time.time()
    loss, norm = step(model, params, optimizer, rows["input_ids"][s], rows["labels"][s])
    result["losses"].append(loss)
    result["grad_norms"].append(norm)
    result["step_seconds"].append(time.time() - t)
times = result["step_seconds"]
result["tokens_per_s"] = rows["input_ids"][0].numel() / statistics.median(times[1:] or times)
result["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
with open(a.out + "/result.json", "w") as f:
    json.dump(result, f, indent=1)
