#!/usr/bin/env python3
"""make.py: writes adamw.safetensors and schedules.json beside itself.  Needs torch (2.13),
transformers (5.23) and safetensors.

adamw.safetensors, for CASE in CASES (the C test has the same table):
  CASE.p0 fp32 [n], CASE.grad fp32 [steps, n], CASE.p fp32 [steps, n]: parameters after each step,
  CASE.m, CASE.v fp32 [n]: the moments after the last
schedules.json: [{name, warmup, total, base, kwargs, factor: [...]}], lr / base of every third step
"""
import json
import os
import torch
from safetensors.torch import save_file
from transformers import get_scheduler

HERE = os.path.dirname(os.path.abspath(__file__))
g = torch.Generator().manual_seed(77)

# name: n, beta1, beta2, epsilon, lr, weight decay, factor of the gradients (clipping)
CASES = {
    "usual": (107, 0.9, 0.999, 1e-8, 3e-3, 0.05, 1.0),
    "clipped": (64, 0.9, 0.95, 1e-6, 1e-2, 0.0, 0.37),
    "short_memory": (37, 0.3, 0.6, 1e-4, 2e-2, 0.5, 1.0),
    "no_memory": (16, 0.0, 0.9, 1e-8, 1e-3, 0.01, 2.0),
}
STEPS = 8
t = {}
for name, (n, b1, b2, eps, lr, wd, scale) in CASES.items():
    p = torch.nn.Parameter(torch.randn(n, generator=g))
    grad = torch.randn(STEPS, n, generator=g) * 0.1
    grad[3] *= 1000
    grad[5, : n // 2] = 0
    o = torch.optim.AdamW([p], lr=lr, betas=(b1, b2), eps=eps, weight_decay=wd)
    t[f"{name}.p0"] = p.data.clone()
    t[f"{name}.grad"] = grad
    after = []
    for k in range(STEPS):
        p.grad = grad[k] * scale
        o.step()
        after.append(p.data.clone())
    t[f"{name}.p"] = torch.stack(after)
    t[f"{name}.m"] = o.state[p]["exp_avg"]
    t[f"{name}.v"] = o.state[p]["exp_avg_sq"]
save_file(t, os.path.join(HERE, "adamw.safetensors"))

rows = []


def schedule(name, warmup, total, base, **kw):
    p = torch.nn.Parameter(torch.zeros(1))
    o = torch.optim.SGD([p], lr=base)
    s = get_scheduler(name, o, num_warmup_steps=warmup, num_training_steps=total,
                      scheduler_specific_kwargs=kw or None)
    factor = []
    for step in range(total + 12):
        if step % 3 == 0:
            factor.append(s.get_last_lr()[0] / base)
        o.step()
        s.step()
    rows.append(dict(name=name, warmup=warmup, total=total, base=base, kwargs=kw, factor=factor))


for warmup, total, base in ((0, 37, 5e-5), (4, 61, 1e-3), (1, 9, 0.3), (20, 20, 2e-4)):
    for name in ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts",
                 "inverse_sqrt"):
        schedule(name, warmup, total, base)
    schedule("cosine", warmup, total, base, num_cycles=1.25)
    schedule("cosine_with_restarts", warmup, total, base, num_cycles=4)
    schedule("inverse_sqrt", warmup, total, base, timescale=11)
    schedule("cosine_with_min_lr", warmup, total, base, min_lr=base / 7)
    schedule("cosine_with_min_lr", warmup, total, base, min_lr_rate=0.3, num_cycles=1.5)
    schedule("cosine_warmup_with_min_lr", warmup, total, base, min_lr=base / 9)
    schedule("cosine_warmup_with_min_lr", warmup, total, base, min_lr_rate=0.05,
             warmup_lr_rate=0.2)
    if warmup != total:                       # a division by zero there
        schedule("polynomial", warmup, total, base)
        schedule("polynomial", warmup, total, base, power=0.5, lr_end=base / 50)
    for decay in ("cosine", "linear", "1-sqrt"):
        for up in ("linear", "cosine", "1-sqrt"):
            schedule("warmup_stable_decay", warmup, total, base, num_decay_steps=5,
                     min_lr_ratio=0.07, decay_type=decay, warmup_type=up)
    schedule("warmup_stable_decay", warmup, total, base, num_decay_steps=10, num_stable_steps=3)
    schedule("warmup_stable_decay", warmup, total, base, num_decay_steps=total, num_cycles=1.0)
    schedule("warmup_stable_decay", warmup, total, base, num_decay_steps=0)
with open(os.path.join(HERE, "schedules.json"), "w") as f:
    f.write("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")
print(len(rows), "schedules")
