#!/usr/bin/env python3
"""Models of every family as GGUF files, written here as llama.cpp's converter lays them out, held against transformers.

    model-gguf-diff.py [--build build] DIR …      (needs torch, numpy, safetensors, gguf; llama-cpp-python where it is there)

DIR: folders with config.json, model.safetensors and golden.safetensors (goldens/models/*, or those of model-diff.py --gguf --keep).
Each is written as F32 GGUF; `pipeline score` must give the golden's logits within 1e-4 of the largest, and llama.cpp, which
computes by its own arithmetic, those of the first row within 1e-2 of it.  A model that llama.cpp has no form for (biases on
every projection, another layer pattern …) is named and passed over.  Ends with 1 on a difference.
"""
import json, math, os, subprocess, sys, tempfile
import gguf, numpy as np, torch
from safetensors.torch import load_file

ARCH = dict(llama="llama", mistral="llama", qwen2="qwen2", qwen3="qwen3", phi3="phi3", gemma2="gemma2", gemma3_text="gemma3")
NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "input_layernorm": "attn_norm",
         "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.qkv_proj": "attn_qkv",
         "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
         "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm", "mlp.gate_proj": "ffn_gate",
         "mlp.up_proj": "ffn_up", "mlp.gate_up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


class NoForm(Exception): pass


def rope_of(c):
    r = c.get("rope_parameters") or dict(c.get("rope_scaling") or {}, rope_theta=c.get("rope_theta"), partial_rotary_factor=c.get("partial_rotary_factor"))
    local = (r["sliding_attention"]["rope_theta"] if "sliding_attention" in r else c.get("rope_local_base_freq", 10000.0))
    r = r.get("full_attention", r)
    return dict(r, rope_type=r.get("rope_type", r.get("type", "default"))), local


def llama3_factors(r, dim):
    out = []
    for i in range(dim // 2):
        wave = 2 * math.pi * r["rope_theta"] ** (2 * i / dim)
        orig, low, high, f = r["original_max_position_embeddings"], r["low_freq_factor"], r["high_freq_factor"], r["factor"]
        if wave < orig / high: out.append(1.0)
        elif wave > orig / low: out.append(f)
        else:
            s = (orig / wave - low) / (high - low)
            out.append(1 / ((1 - s) / f + s))
    return np.array(out, dtype=np.float32)


def checks(c, arch, r):
    """What GGUF cannot say."""
    gemma = arch.startswith("gemma")
    head = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    if c.get("attention_bias") or c.get("mlp_bias"): raise NoForm("biases on every projection")
    if c.get("hidden_act", "silu") != "silu": raise NoForm("activation")
    if arch in ("llama", "qwen2", "qwen3", "phi3") and c.get("sliding_window") and c.get("use_sliding_window", True): raise NoForm("window")
    if r["rope_type"] == "dynamic": raise NoForm("dynamic")
    if r["rope_type"] == "llama3" and r["high_freq_factor"] != 4: raise NoForm("other llama3 factors")
    if r["rope_type"] == "yarn" and (r.get("mscale") or r.get("attention_factor") or r.get("truncate") is False): raise NoForm("yarn variant")
    if gemma:
        n = 2 if arch == "gemma2" else 6
        want = ["full_attention" if (i + 1) % n == 0 else "sliding_attention" for i in range(c["num_hidden_layers"])]
        if c.get("layer_types", want) != want and arch == "gemma2": raise NoForm("layer pattern")
        if c["query_pre_attn_scalar"] != head: raise NoForm("scale of scores")
        if arch == "gemma2" and not (c.get("attn_logit_softcapping") and c.get("final_logit_softcapping")): raise NoForm("no softcap")


def write(path, d, c):
    arch = ARCH[c["model_type"]]
    r, local = rope_of(c)
    checks(c, arch, r)
    head = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    dim = int(head * (r.get("partial_rotary_factor") or 1))
    w = gguf.GGUFWriter(path, arch)
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_block_count(c["num_hidden_layers"])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(c["num_attention_heads"])
    w.add_head_count_kv(c["num_key_value_heads"])
    w.add_key_length(head)
    w.add_value_length(head)
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    w.add_rope_freq_base(r["rope_theta"])
    w.add_rope_dimension_count(dim)
    w.add_vocab_size(c["vocab_size"])
    if c.get("sliding_window") and arch not in ("llama", "qwen2", "qwen3"): w.add_sliding_window(c["sliding_window"])
    if arch == "gemma3":
        w.add_float32("gemma3.rope.freq_base_swa", local)
        if c.get("layer_types"): w.add_array("gemma3.attention.sliding_window_pattern", [t == "sliding_attention" for t in c["layer_types"]])
    if c.get("attn_logit_softcapping"): w.add_attn_logit_softcapping(c["attn_logit_softcapping"])
    if c.get("final_logit_softcapping"): w.add_final_logit_softcapping(c["final_logit_softcapping"])
    if r["rope_type"] in ("linear", "yarn"):
        w.add_rope_scaling_type(gguf.RopeScalingType(r["rope_type"]))
        w.add_rope_scaling_factor(r["factor"])
        if r["rope_type"] == "yarn":
            w.add_rope_scaling_orig_ctx_len(r["original_max_position_embeddings"])
            for k in ("beta_fast", "beta_slow"):
                if r.get(k): w.add_float32(f"{arch}.rope.scaling.yarn_{k}", r[k])
    if r["rope_type"] == "llama3": w.add_tensor("rope_freqs.weight", llama3_factors(r, dim))
    if r["rope_type"] == "longrope":
        orig = c.get("original_max_position_embeddings") or r["original_max_position_embeddings"]
        s = c["max_position_embeddings"] / orig
        w.add_rope_scaling_orig_ctx_len(orig)
        w.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(s) / math.log(orig)) if s > 1 else 1.0)
        w.add_tensor("rope_factors_long.weight", np.array(r["long_factor"], dtype=np.float32))
        w.add_tensor("rope_factors_short.weight", np.array(r["short_factor"], dtype=np.float32))
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list([f"t{i}" for i in range(c["vocab_size"])])
    w.add_token_types([1] * c["vocab_size"])
    w.add_token_merges(["t 0"])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    for k, v in load_file(f"{d}/model.safetensors").items():
        module, kind = k.rsplit(".", 1)
        x = v.float().numpy()
        if module.startswith("model.layers."):
            _, _, l, rest = module.split(".", 3)
            name = ("post_attention_norm" if arch.startswith("gemma") else "ffn_norm") if rest == "post_attention_layernorm" else NAMES[rest]
            name = f"blk.{l}.{name}"
        else: rest, name = module, NAMES[module]
        heads = {"self_attn.q_proj": c["num_attention_heads"], "self_attn.k_proj": c["num_key_value_heads"]}.get(rest)
        if heads and arch == "llama": x = x.reshape(heads, 2, x.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(x.shape)
        if arch.startswith("gemma") and "norm" in rest: x = x + 1
        w.add_tensor(f"{name}.{kind}", np.ascontiguousarray(x))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def llama_cpp_logits(path, ids):
    try: import llama_cpp
    except ImportError: return None
    m = llama_cpp.Llama(path, n_ctx=max(64, len(ids)), n_batch=512, logits_all=True, verbose=False, n_threads=1)
    m.eval(ids)
    return np.array(m.scores[:len(ids)])


def main():
    a = sys.argv[1:]
    build = "build"
    if a and a[0] == "--build": build, a = a[1], a[2:]
    worst, bad, held = 0.0, 0, 0
    with tempfile.TemporaryDirectory() as tmp:
        for d in a:
            c = json.load(open(f"{d}/config.json"))
            name = os.path.basename(d.rstrip("/"))
            if c["model_type"] not in ARCH: continue
            try: write(f"{tmp}/m.gguf", d, c)
            except NoForm as e:
                print(f"{name}: passed over: {e}")
                continue
            g = load_file(f"{d}/golden.safetensors")
            most = max(1.0, g["logits"].abs().max().item())
            p = subprocess.run([f"{build}/pipeline", "score", "--model", f"{tmp}/m.gguf", "--tokens", f"{d}/golden.safetensors", "--out", f"{tmp}/l.safetensors"],
                               capture_output=True, text=True)
            if p.returncode:
                print(f"{name}: {p.stderr.strip()}")
                bad += 1
                continue
            ours = (load_file(f"{tmp}/l.safetensors")["logits"] - g["logits"]).abs().max().item() / most
            longrope = rope_of(c)[0]["rope_type"] == "longrope"  # llama.cpp's least context, 256, is a long one
            try: other = None if longrope else llama_cpp_logits(f"{tmp}/m.gguf", g["input_ids"][0].tolist())
            except Exception as e: other = None; print(f"{name}: llama.cpp: {e}")
            theirs = float("nan") if other is None else np.abs(other - g["logits"][0].numpy()).max() / most
            wrong = ours > 1e-4 or theirs > 1e-2
            print(f"{name}: ours {ours:.1e}, llama.cpp {theirs:.1e}{'  WRONG' if wrong else ''}", flush=True)
            bad += wrong
            held += 1
            worst = max(worst, ours)
    print(f"{held} passed, {bad} failed; worst {worst:.1e}")
    sys.exit(bad > 0)


if __name__ == "__main__": main()
