#!/usr/bin/env python3
"""Tiny random models of many families, seeds and shapes, held against transformers by test_model.

    model-diff.py [--models 40] [--seed 1] [--keep DIR] [--gguf] [--build build]   (needs torch, transformers, safetensors)

Each model gets sizes, heads, windows, layer patterns, biases, rotary scalings and activations by chance, its config.json in
one of the two spellings, and rows of 24 to 60 tokens; golden.safetensors holds logits, loss and every gradient (eager
attention, fp32).  test_model compares: logits 1e-4 of the largest, gradients 1e-3 relative.  Ends with 1 on a difference.
--gguf: only what GGUF files can say, for model-gguf-diff.py.
"""
import argparse, json, os, random, subprocess, sys, tempfile
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM


def scaling(r, dim):
    """Rotary parameters of a random type."""
    theta = r.choice([500.0, 10000.0, 1e6])
    kind = r.choice(["default", "default", "linear", "dynamic", "llama3", "yarn"])
    p = dict(rope_type=kind, rope_theta=theta)
    if kind != "default": p["factor"] = r.choice([2.0, 4.0, 8.0])
    if kind in ("llama3", "yarn"): p["original_max_position_embeddings"] = r.choice([16, 32, 100])
    if kind == "llama3": p.update(low_freq_factor=1.0, high_freq_factor=r.choice([2.0, 4.0]))
    if kind == "yarn":
        p.update(r.choice([{}, dict(beta_fast=8.0, beta_slow=2.0), dict(truncate=False), dict(attention_factor=0.9), dict(mscale=1.0, mscale_all_dim=0.7)]))
    return p


def common(r):
    kv = r.choice([1, 2, 3])
    heads = kv * r.choice([1, 2, 4])
    return dict(vocab_size=r.choice([96, 131, 256]), hidden_size=heads * r.choice([8, 12, 20]), intermediate_size=r.choice([24, 50, 96]),
                num_hidden_layers=r.choice([1, 2, 3, 4]), num_attention_heads=heads, num_key_value_heads=kv, max_position_embeddings=128,
                rms_norm_eps=r.choice([1e-5, 1e-6]), tie_word_embeddings=r.random() < 0.5, pad_token_id=0, bos_token_id=1, eos_token_id=2)


def config(r, kind):
    c = common(r)
    own = c["hidden_size"] // c["num_attention_heads"]
    dim = r.choice([own, 6, 10, 16, 34])
    act = r.choice(["silu", "silu", "gelu", "gelu_pytorch_tanh", "relu"])
    types = [r.choice(["sliding_attention", "full_attention"]) for _ in range(c["num_hidden_layers"])]
    window = r.choice([1, 2, 5, 16, 200])
    if kind == "llama": c.update(head_dim=dim, hidden_act=act, attention_bias=r.random() < 0.5, mlp_bias=r.random() < 0.5, rope_parameters=scaling(r, dim))
    if kind == "mistral": c.update(head_dim=dim, hidden_act=act, sliding_window=r.choice([None, window]), rope_parameters=scaling(r, dim))
    if kind in ("qwen2", "qwen3"):
        c.update(hidden_act=act, use_sliding_window=r.random() < 0.5, sliding_window=window, max_window_layers=r.choice([0, 1, 2, 28]), rope_parameters=scaling(r, own))
        if kind == "qwen3": c.update(head_dim=dim, attention_bias=r.random() < 0.5)
        if c["use_sliding_window"] and r.random() < 0.5: c["layer_types"] = types
    if kind == "phi3":
        part = r.choice([1.0, 1.0, 0.5, 0.75])
        n = int(own * part) // 2
        if int(own * part) % 2: part, n = 1.0, own // 2
        rope = dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=part)
        if r.random() < 0.5: rope.update(rope_type="longrope", short_factor=[r.uniform(1, 2) for _ in range(n)], long_factor=[r.uniform(2, 9) for _ in range(n)])
        c.update(hidden_act=act, sliding_window=r.choice([None, window]), rope_parameters=rope, original_max_position_embeddings=r.choice([64, 100]))
    if kind in ("gemma2", "gemma3_text"):
        c.update(head_dim=dim, query_pre_attn_scalar=r.choice([8, 20, 256]), sliding_window=window, attention_bias=r.random() < 0.3,
                 final_logit_softcapping=r.choice([None, 5.0, 30.0]))
        if r.random() < 0.6: c["layer_types"] = types
        if kind == "gemma2": c.update(attn_logit_softcapping=r.choice([None, 3.0, 50.0]), rope_parameters=scaling(r, dim))
        else: c["rope_parameters"] = dict(full_attention=scaling(r, dim), sliding_attention=dict(rope_type="default", rope_theta=r.choice([500.0, 10000.0])))
    if kind == "gpt_oss":
        c.update(head_dim=dim, num_local_experts=r.choice([3, 4, 7]), num_experts_per_tok=r.choice([1, 2, 3]), sliding_window=window, tie_word_embeddings=False,
                 swiglu_limit=7.0, rope_parameters=scaling(r, dim))
        if r.random() < 0.5: c["layer_types"] = types
    if kind == "qwen3_moe":
        c.update(head_dim=dim, hidden_act="silu", attention_bias=r.random() < 0.3, moe_intermediate_size=r.choice([8, 20, 33]), num_experts=r.choice([3, 4, 7]),
                 num_experts_per_tok=r.choice([1, 2, 3]), norm_topk_prob=r.random() < 0.7, decoder_sparse_step=r.choice([1, 1, min(2, c["num_hidden_layers"])]), sliding_window=None,
                 rope_parameters=scaling(r, dim))
    return c


def for_gguf(c, kind):
    """Without what llama.cpp has no form for."""
    for k in ("attention_bias", "mlp_bias"): c[k] = False
    if "gemma" not in kind: c["hidden_act"] = "silu"
    if "gemma" not in kind and kind != "gpt_oss": c.update(sliding_window=None, use_sliding_window=False)
    if kind == "gpt_oss": c.update(attention_bias=True)
    if kind == "qwen3_moe": c.update(norm_topk_prob=True, decoder_sparse_step=1)
    if "gemma" in kind: c.update(tie_word_embeddings=True, query_pre_attn_scalar=c["head_dim"], final_logit_softcapping=20.0, attn_logit_softcapping=9.0 if kind == "gemma2" else None)
    if kind == "gemma2" or "gemma" not in kind: c.pop("layer_types", None)
    for p in (c["rope_parameters"], c["rope_parameters"].get("full_attention", {})):
        if p.get("rope_type") == "dynamic": p["rope_type"] = "linear"
        if p.get("rope_type") == "llama3": p["high_freq_factor"] = 4.0
        for k in ("mscale", "mscale_all_dim", "truncate", "attention_factor"): p.pop(k, None)
    return c


def older(d):
    """The same configuration as files on the Hub spell it."""
    d = dict(d)
    rope = d.pop("rope_parameters")
    d["torch_dtype"] = d.pop("dtype", "float32")
    if "full_attention" in rope:
        d["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    rope = dict(rope)
    d["rope_theta"] = rope.pop("rope_theta")
    if "partial_rotary_factor" in rope: d["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    if rope["rope_type"] != "default" and random.random() < 0.5: rope["type"] = rope.pop("rope_type")
    d["rope_scaling"] = None if rope.get("rope_type") == "default" else rope
    return d


def make(d, kind, seed, gguf):
    r = random.Random(seed)
    g = torch.Generator().manual_seed(seed)
    c = config(r, kind)
    c = AutoConfig.for_model(kind, **(for_gguf(c, kind) if gguf else c))
    m = AutoModelForCausalLM.from_config(c, attn_implementation="eager").float().eval()
    with torch.no_grad():
        for k, p in m.named_parameters():
            p.copy_(torch.randn(p.shape, generator=g) * (0.2 if p.dim() == 1 else p.shape[-1] ** -0.5))
            if "norm" in k and "gemma" not in kind: p.add_(1)
    V, B, S = c.vocab_size, r.choice([1, 2]), r.randrange(24, 61)
    x = torch.randint(3, V, (B, S), generator=g)
    y = x.clone()
    y[torch.rand(B, S, generator=g) < 0.3] = -100
    y[:, -1] = x[:, -1]
    out = m(input_ids=x, labels=y, use_cache=False)
    out.loss.backward()
    m.save_pretrained(d)
    t = dict(input_ids=x, labels=y, logits=out.logits.detach(), loss=out.loss.detach().reshape(1))
    t.update({"grad." + k: p.grad for k, p in m.named_parameters()})
    save_file({k: v.contiguous() for k, v in t.items()}, f"{d}/golden.safetensors")
    if seed % 2:
        j = json.load(open(f"{d}/config.json"))
        json.dump(older(j), open(f"{d}/config.json", "w"), indent=1)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--models", type=int, default=40)
    a.add_argument("--seed", type=int, default=1)
    a.add_argument("--keep")
    a.add_argument("--gguf", action="store_true")
    a.add_argument("--build", default="build")
    a = a.parse_args()
    kinds = ["llama", "mistral", "qwen2", "qwen3", "phi3", "gemma2", "gemma3_text"]
    with tempfile.TemporaryDirectory() as tmp:
        root = a.keep or tmp
        for i in range(a.models): make(f"{root}/{kinds[i % len(kinds)]}-{a.seed + i}", kinds[i % len(kinds)], a.seed + i, a.gguf)
        env = dict(os.environ, FT_MODELS=root, BUILD=a.build, CK_RUN_CASE="given", CK_DEFAULT_TIMEOUT="3000")
        sys.exit(subprocess.run([f"{a.build}/tests/unit/test_model"], env=env).returncode)


if __name__ == "__main__": main()
