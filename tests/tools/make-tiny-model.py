#!/usr/bin/env python3
"""Vectors of test_model and test_adapters: tiny checkpoints of each family, as transformers and PEFT see them.

    make-tiny-model.py OUT          (OUT: tests/data/tiny; needs torch, transformers, peft, safetensors)

No weight is stored.  Element i of the tensor NAME is (z >> 40) / 2^24 - 1/2, halved, plus 1 for norms, with
z = mix(FNV-1a(NAME) + (i + 1) * 0x9E3779B97F4A7C15), mix of SplitMix64: exact in fp32, the same in tests/tiny.h.

OUT/MODEL/config.json, weights.txt (a line for each tensor of the file: name and sizes) and golden.safetensors:
  input_ids, labels [B,S]; logits [B,S,V]; loss [1]; sketch.NAME [32]: the gradient of NAME, times 32 vectors of signs
  (bit 63 of the same numbers for "sketch K NAME"): enough for the relative error of any difference.
OUT/CASE/: as goldens/adapters: case.json, adapter_init/, batches.safetensors, first.safetensors (logits,
  grad.*), adapter_final/.  Ten steps of AdamW (lr 1e-3, decay 0.01), gradients clipped to norm 1.
"""
import json, os, shutil, sys
import numpy as np, torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

GOLD = np.uint64(0x9E3779B97F4A7C15)
SKETCH, STEPS, V = 32, 10, 96


def numbers(name, n):
    """The n 64-bit numbers that belong to a name."""
    h = 0xCBF29CE484222325
    for c in name.encode():
        h = (h ^ c) * 0x100000001B3 & (1 << 64) - 1
    with np.errstate(over="ignore"):
        z = np.uint64(h) + np.arange(1, n + 1, dtype=np.uint64) * GOLD
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        return z ^ z >> np.uint64(31)


def weight(name, shape):
    n = int(np.prod(shape))
    u = ((numbers(name, n) >> np.uint64(40)).astype(np.float64) / 2**24 - 0.5) / 2
    return torch.tensor(u + ("norm" in name), dtype=torch.float32).reshape(shape)


def sketch(name, g):
    g = g.detach().double().reshape(-1).numpy()
    sign = lambda k: 1.0 - 2.0 * (numbers(f"sketch {k} {name}", g.size) >> np.uint64(63)).astype(np.float64)
    return torch.tensor([float(sign(k) @ g) for k in range(SKETCH)], dtype=torch.float32)


def in_file(name, shape, kind):
    """The tensors of a folder that a parameter is made of, and how: Qwen3-MoE's experts have matrices of their own."""
    stem, _, last = name.rpartition(".")
    if kind != "qwen3_moe" or not stem.endswith("experts"): return [(name, shape)]
    rows = dict(gate_up_proj=[("gate_proj", shape[1] // 2), ("up_proj", shape[1] // 2)], down_proj=[("down_proj", shape[1])])
    return [(f"{stem}.{e}.{k}.weight", (n, shape[2])) for e in range(shape[0]) for k, n in rows[last]]


def model(out, name, kind="llama", **kw):
    """The checkpoint with its weights by name, saved to a temporary folder; returns the model."""
    c = AutoConfig.for_model(kind, **{**dict(vocab_size=V, hidden_size=64, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                                             num_key_value_heads=2, max_position_embeddings=128, rms_norm_eps=1e-5, pad_token_id=0,
                                             bos_token_id=1, eos_token_id=2), **kw})
    m = AutoModelForCausalLM.from_config(c, attn_implementation="eager").float()
    parts = {k: in_file(k, tuple(p.shape), kind) for k, p in m.named_parameters()}
    with torch.no_grad():
        for k, p in m.named_parameters(): p.copy_(torch.cat([weight(*t) for t in parts[k]]).reshape(p.shape))
    d = f"{out}/{name}"
    os.makedirs(d, exist_ok=True)
    c.architectures = [type(m).__name__]
    c.save_pretrained(d)
    with open(f"{d}/weights.txt", "w") as f:
        for t in parts.values():
            for k, shape in t: print(k, *shape, file=f)
    return m


def far_from_ties(m, x):
    """Whether no token's choice of experts hangs on a difference that rounding could turn."""
    gap, hooks = [1.0], []
    def look(router, _, out):
        t = out[0].float().sort(-1, descending=True).values
        gap.append((t[:, router.top_k - 1] - t[:, router.top_k]).min().item())
    for mod in m.modules():
        if type(mod).__name__.endswith("TopKRouter"): hooks.append(mod.register_forward_hook(look))
    with torch.no_grad(): m(input_ids=x, use_cache=False)
    for h in hooks: h.remove()
    return min(gap) > 1e-3


def rows(B, S, g):
    """Ids, and labels of which about a third carry no loss; rows differ in how many do."""
    x = torch.randint(3, V, (B, S), generator=g)
    y = x.clone()
    for b in range(B): y[b, torch.rand(S, generator=g) < 0.2 + 0.25 * (b % 3)] = -100
    y[:, -1] = x[:, -1]
    return x, y


def golden(out, name, m, seed):
    g = torch.Generator().manual_seed(seed)
    x, y = rows(2, 20, g)
    while not far_from_ties(m, x): x, y = rows(2, 20, g)
    m.zero_grad()
    r = m(input_ids=x, labels=y, use_cache=False)
    r.loss.backward()
    t = dict(input_ids=x, labels=y, logits=r.logits.detach(), loss=r.loss.detach().reshape(1))
    for k, p in m.named_parameters(): t["sketch." + k] = sketch(k, p.grad)
    save_file({k: v.contiguous() for k, v in t.items()}, f"{out}/{name}/golden.safetensors")


def adapter(out, name, base, make, seed, **kw):
    torch.manual_seed(seed)
    g = torch.Generator().manual_seed(seed)
    d = f"{out}/{name}"
    shutil.rmtree(d, ignore_errors=True)
    m = get_peft_model(make(), LoraConfig(**{**dict(task_type="CAUSAL_LM", lora_dropout=0.0), **kw}))
    with torch.no_grad():   # away from the start, where B is 0; exact in bf16, as it is stored
        for k, p in m.named_parameters():
            if not p.requires_grad: continue
            if "magnitude" in k: p.mul_(1 + 0.1 * torch.randn(p.shape, generator=g))
            elif "lora_B" in k or "bias" in k: p.add_(0.05 * torch.randn(p.shape, generator=g))
            p.copy_(p.bfloat16().float())

    def store(sub, dtype):
        m.save_pretrained(f"{d}/{sub}", save_embedding_layers=False)
        f = f"{d}/{sub}/adapter_model.safetensors"
        save_file({k: v.to(dtype) for k, v in load_file(f).items()}, f)
        c = json.load(open(f"{d}/{sub}/adapter_config.json"))
        c["base_model_name_or_path"] = base
        json.dump(c, open(f"{d}/{sub}/adapter_config.json", "w"), indent=1)
        if os.path.exists(f"{d}/{sub}/README.md"): os.remove(f"{d}/{sub}/README.md")

    store("adapter_init", torch.bfloat16)
    key = {v.data_ptr(): k for k, v in get_peft_model_state_dict(m, save_embedding_layers=False).items()}
    names = {key[p.data_ptr()]: p for k, p in m.named_parameters() if p.requires_grad}
    X, Y = map(torch.stack, zip(*[rows(2, 16, g) for _ in range(STEPS)]))
    save_file(dict(input_ids=X.int(), labels=Y.int()), f"{d}/batches.safetensors")
    opt = torch.optim.AdamW(list(names.values()), lr=1e-3, weight_decay=0.01)
    losses, norms = [], []
    for s in range(STEPS):
        r = m(input_ids=X[s], labels=Y[s], use_cache=False)
        r.loss.backward()
        if s == 0:
            save_file(dict(logits=r.logits.detach(), **{"grad." + k: p.grad.clone() for k, p in names.items()}), f"{d}/first.safetensors")
        norms.append(float(torch.nn.utils.clip_grad_norm_(list(names.values()), 1.0)))
        opt.step()
        opt.zero_grad()
        losses.append(float(r.loss))
    store("adapter_final", torch.float32)
    json.dump(dict(base=base, quantized_base=False, lr=1e-3, weight_decay=0.01, clip=1.0, steps=STEPS, losses=losses, grad_norms=norms),
              open(f"{d}/case.json", "w"), indent=1)
    print(f"{name}: {losses[0]:.5f} -> {losses[-1]:.5f}")


def main():
    out = sys.argv[1]
    specs = dict(tied=dict(tie_word_embeddings=True), untied=dict(tie_word_embeddings=False, head_dim=8),
                 biased=dict(tie_word_embeddings=False, attention_bias=True, mlp_bias=True, num_key_value_heads=1, rope_theta=500.0))
    # The other families, each with what it alone has; windows are shorter than the rows.
    rope = lambda **kw: dict(dict(rope_type="default", rope_theta=10000.0), **kw)
    specs |= dict(
        mistral=dict(kind="mistral", sliding_window=6, head_dim=20, tie_word_embeddings=False),
        qwen2=dict(kind="qwen2", use_sliding_window=True, sliding_window=5, max_window_layers=1, tie_word_embeddings=True,
                   rope_parameters=rope(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)),
        qwen3=dict(kind="qwen3", head_dim=12, num_key_value_heads=1, attention_bias=True, tie_word_embeddings=False),
        phi3=dict(kind="phi3", sliding_window=7, original_max_position_embeddings=64,
                  rope_parameters=rope(rope_type="longrope", partial_rotary_factor=0.75, short_factor=[1 + 0.2 * i for i in range(6)],
                                       long_factor=[2 + 0.5 * i for i in range(6)])),
        gemma2=dict(kind="gemma2", head_dim=20, query_pre_attn_scalar=32, sliding_window=5, attn_logit_softcapping=8.0,
                    final_logit_softcapping=7.0, num_hidden_layers=3),
        gemma3=dict(kind="gemma3_text", head_dim=12, num_key_value_heads=1, query_pre_attn_scalar=20, sliding_window=4,
                    layer_types=["sliding_attention", "full_attention"], attention_bias=True,
                    rope_parameters=dict(full_attention=rope(rope_type="linear", factor=8.0, rope_theta=1e6), sliding_attention=rope())))
    alternate = ["sliding_attention", "full_attention", "sliding_attention"]
    yarn = dict(rope_type="yarn", rope_theta=500.0, factor=4.0, beta_fast=16.0, beta_slow=1.0, truncate=False, original_max_position_embeddings=32)
    specs["oss"] = dict(kind="gpt_oss", hidden_size=40, intermediate_size=20, num_hidden_layers=3, head_dim=8, num_local_experts=6,
                        num_experts_per_tok=3, sliding_window=5, layer_types=alternate, swiglu_limit=0.4, swiglu_alpha=1.3,
                        rope_parameters=yarn, tie_word_embeddings=False)
    specs["mixture"] = dict(kind="qwen3_moe", hidden_size=40, num_hidden_layers=3, head_dim=8, moe_intermediate_size=12, num_experts=5,
                            num_experts_per_tok=2, norm_topk_prob=False, decoder_sparse_step=2, mlp_only_layers=[], sliding_window=None,
                            tie_word_embeddings=True)
    for i, (k, s) in enumerate(specs.items()): golden(out, k, model(out, k, **s), 40 + i)
    make = lambda k: lambda: model(out, k, **specs[k])
    all7 = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    adapter(out, "lora", "tied", make("tied"), 1, r=2, lora_alpha=6, target_modules=all7)
    adapter(out, "rslora", "untied", make("untied"), 2, r=3, lora_alpha=4, use_rslora=True, target_modules=["q_proj", "v_proj", "down_proj"])
    adapter(out, "dora", "untied", make("untied"), 3, r=2, lora_alpha=4, use_dora=True, target_modules=["q_proj", "k_proj", "up_proj"])
    adapter(out, "bias", "biased", make("biased"), 4, r=2, lora_alpha=3, bias="lora_only", target_modules=["q_proj", "o_proj"])
    both = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    adapter(out, "experts", "oss", make("oss"), 5, r=2, lora_alpha=3, target_modules=["q_proj", "o_proj"], target_parameters=both)
    adapter(out, "experts_down", "mixture", make("mixture"), 6, r=2, lora_alpha=4, target_modules=["down_proj"],
            target_parameters=["experts.down_proj"], rank_pattern={"down_proj": 3})
    for k in specs:
        for extra in ("generation_config.json",):
            if os.path.exists(f"{out}/{k}/{extra}"): os.remove(f"{out}/{k}/{extra}")


main()
