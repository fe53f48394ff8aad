#!/usr/bin/env python3
"""make.py: writes nf4.safetensors beside itself: random matrices, and what bitsandbytes makes of
them.

Needs torch, bitsandbytes (0.50.2) and safetensors.  Codes and absmax are bitsandbytes' own.  The
8-bit codes of double quantization follow the rule of its generic code, written out below, because
its CPU kernel looks codes up in a 16-bit table and is off by one near midpoints.

  dynamic_map          fp32 [256]
  CASE.weight          as given;  CASE.codes uint8;  CASE.absmax fp32;  CASE.dequant fp32 (some)
  CASE.dq.absmax uint8, .nested_absmax fp32, .offset fp32 [1], .dequant fp32
  mean.blocks int32, mean.offset, mean.last fp32: of so many blocks with the scales of scales(),
                       the offset and the last nested absmax
"""
import os
import torch
import bitsandbytes.functional as F
from safetensors.torch import save_file

g = torch.Generator().manual_seed(31)
rn = lambda *s: torch.randn(*s, generator=g)
torch.set_num_threads(1)                   # the order in which a mean is added
NF4 = F.get_4bit_type("nf4", device="cpu")
MAP = F.create_dynamic_map()


def nest(absmax):
    offset = absmax.mean()
    codes, top = [], []
    for b in (absmax - offset).split(256):
        m = b.abs().max()
        safe = m.clamp(min=1e-38)
        full = len(b) == 256
        x = (b * (1.0 / safe) if full else b / safe).clamp(-1, 1)
        codes.append(torch.bucketize(x, (MAP[:-1] + MAP[1:]) / 2).to(torch.uint8))
        top.append(m if full else safe)
    top = torch.stack(top)
    codes = torch.cat(codes)
    restored = MAP[codes.long()] * top.repeat_interleave(256)[: len(codes)] + offset
    return codes, top, offset, restored


def dequant(codes, absmax, shape):
    n = torch.Size(shape).numel()
    c = torch.stack([codes.flatten() >> 4, codes.flatten() & 15], 1).flatten()[:n].long()
    return (NF4[c] * absmax.repeat_interleave(64)[:n]).reshape(shape)


def midpoint_pairs(levels, top, n):
    """n values that get another code when they are divided by top than when multiplied."""
    mid = (levels[:-1] + levels[1:]) / 2
    found = []
    for step in range(-3, 4):
        v = torch.nextafter(mid * top, torch.tensor(float(step > 0) * 2 - 1)) if step % 2 else mid * top
        v = v * (1 + step * 6e-8)
        differ = torch.bucketize(v / top, mid) != torch.bucketize(v * (1.0 / top), mid)
        found += v[differ].tolist()
    return found[:n]


def tail_case():
    """A short block in which dividing matters."""
    while True:
        top = torch.rand(1, generator=g)[0] + 0.5
        v = midpoint_pairs(NF4, top, 20)
        if len(v) >= 4:
            return torch.tensor([[float(top)] + v])


def nested_tail_case(blocks=40):
    """A short nested block in which dividing matters: 40 blocks, all zero but for their scales."""
    mid = (MAP[:-1] + MAP[1:]) / 2
    while True:
        absmax = torch.rand(blocks, generator=g)
        b = absmax - absmax.mean()
        m = b.abs().max()
        if not torch.equal(torch.bucketize(b / m, mid), torch.bucketize(b * (1.0 / m), mid)):
            w = torch.zeros(blocks, 64)
            w[:, 5] = absmax
            return w


def scales(n, x):
    """n numbers above 0 that the C test makes, too."""
    out = []
    for _ in range(n):
        x = (x * 1664525 + 1013904223) % 2**32
        out.append((x >> 20) + 1.0)
    return 1.0 / torch.tensor(out)


zeros = rn(300, 65) * 0.02 * (1 + rn(300, 1).abs() * 3)
zeros[40:46] = 0
zeros[-1] = 0
tiny = rn(6, 48)
tiny[0] *= 1e-39
tiny[1:3] *= 3e-38
tiny[5] = 0
half = (rn(9, 70) * 0.05).half()
half[2] = (rn(70) * 1e-6).half()          # fp16 denormals
CASES = {
    "odd": rn(7, 37),                      # 259 numbers: blocks cross rows, an odd short block
    "bf16": (rn(13, 100) * 0.03).bfloat16(),
    "fp16": half,
    "nest": zeros.bfloat16(),              # 305 blocks: two nested blocks, zero blocks
    "full": (rn(128, 128) * 0.1).bfloat16(),  # exactly 256 blocks
    "tiny": tiny,                          # denormals, absmax below 1e-38
    "stack": rn(2, 5, 24) * 0.3,
    "short": rn(1, 9),                     # one short block alone
    "divided": tail_case(),
    "divided_scales": nested_tail_case(),
}
t = {"dynamic_map": MAP}
for name, w in CASES.items():
    q, s = F.quantize_4bit(w, blocksize=64, quant_type="nf4")
    codes, top, offset, restored = nest(s.absmax)
    t.update({f"{name}.weight": w, f"{name}.codes": q, f"{name}.absmax": s.absmax,
              f"{name}.dequant": dequant(q, s.absmax, w.shape), f"{name}.dq.absmax": codes,
              f"{name}.dq.nested_absmax": top, f"{name}.dq.offset": offset[None],
              f"{name}.dq.dequant": dequant(q, restored, w.shape)})
blocks = [*range(1, 24), *range(4, 10), *range(4, 10), *range(4, 10), 255, 256, 257, 600, 5000,
          *range(8200, 32000, 901)]
means = [nest(scales(n, 7 + i)) for i, n in enumerate(blocks)]
t["mean.blocks"] = torch.tensor(blocks, dtype=torch.int32)
t["mean.offset"] = torch.stack([m[2] for m in means])
t["mean.last"] = torch.stack([m[1][-1] for m in means])
for k in ("nest.dequant", "full.dequant", "full.dq.dequant"):
    del t[k]                               # for size
save_file({k: v.contiguous() for k, v in t.items()},
          os.path.join(os.path.dirname(os.path.abspath(__file__)), "nf4.safetensors"))
