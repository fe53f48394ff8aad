#!/usr/bin/env python3
"""Every model type that the plugins read, through a training and out again: does transformers open it, with our numbers?

    export-all.py [--types llama,…] [--models 1] [--seed 1] [--keep DIR] [--pipeline build/pipeline]
                          (needs torch, transformers, peft, safetensors; bitsandbytes for the packed folders)

For each type tiny random models (sizes, heads, windows, rotary scaling by chance: model-diff.py) with a tokenizer of tests/data;
a few steps of LoRA or DoRA in fp32, then merge and export in each of these forms:

    plain, sharded      a folder in the model's dtype         opened by transformers: no key missing or left over, the logits of
                                                              `pipeline score`, and those of PEFT with the adapter
    qlora               the same, trained on NF4
    nf4, nf4-double     a folder packed for bitsandbytes      multiplied by the numbers of its written rule
    mxfp4               gpt_oss whose experts came as MXFP4   written plain; transformers' own reading of MXFP4 is the reference
    gguf                a GGUF file, opened by llama.cpp where llama-cpp-python is there (within 1e-2 of the largest logit: it
                        keeps keys and values in fp16), and the folder made from `model: FILE.gguf`
    gguf-q8             the same in Q8_0: it opens, and the numbers that it holds, as F32, are within 1e-2 (llama.cpp also rounds
                        activations to 8 bits, which can turn a choice of experts)
    gguf-any            the same as gguf of a model that GGUF may lack a form for: exact, or refused by name

Logits within 1e-4 (gemma: of the largest), in fp32.  Ends with 1 on a difference."""
import argparse, glob, importlib.util, json, os, random, shutil, subprocess, sys, tempfile
os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, logging
logging.set_verbosity_error()
logging.disable_progress_bar()
HERE = os.path.dirname(os.path.abspath(__file__))


def tool(name):
    spec = importlib.util.spec_from_file_location(name.replace("-", "_"), f"{HERE}/{name}.py")
    m = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(m)
    return m


diff, check, llama = tool("model-diff"), tool("export-check"), tool("model-gguf-diff")
TYPES = ["llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "phi3", "gemma2", "gemma3_text", "gpt_oss"]
WORDS = f"{HERE}/../data/tok/smollm2/tokenizer.json"
VOCAB = 432     # 429 words and rows of padding


# ---- a model, and rows to train on ----------------------------------------------------------------

def weights(m, kind, g):
    with torch.no_grad():
        for k, p in m.named_parameters():
            p.copy_(torch.randn(p.shape, generator=g) * (0.2 if p.dim() == 1 else p.shape[-1] ** -0.5))
            if "norm" in k and "gemma" not in kind: p.add_(1)


def make(d, kind, seed, gguf, wide):
    """wide: sizes that blocks of 32 divide.  Returns the random numbers, to go on with."""
    r, g = random.Random(seed), torch.Generator().manual_seed(seed)
    c = diff.config(r, kind)
    c = dict(diff.for_gguf(c, kind) if gguf else c, vocab_size=VOCAB)
    if gguf: c.pop("layer_types", None)   # llama.cpp has its own
    if wide: c.update(hidden_size=64, intermediate_size=96, **(dict(moe_intermediate_size=32) if kind == "qwen3_moe" else {}))
    c = AutoConfig.for_model(kind, **c)
    m = AutoModelForCausalLM.from_config(c, attn_implementation="eager").float().eval()
    weights(m, kind, g)
    m.save_pretrained(d)
    shutil.copy(WORDS, f"{d}/tokenizer.json")
    json.dump(dict(tokenizer_class="PreTrainedTokenizerFast", eos_token="<|end|>", pad_token="<|endoftext|>",
                   chat_template="{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>{% endfor %}"),
              open(f"{d}/tokenizer_config.json", "w"))
    x = torch.randint(3, VOCAB - 3, (4, 24), generator=g)
    save_file(dict(input_ids=x, labels=x.clone()), f"{d}/rows.safetensors")
    if seed % 2 and not wide:
        j = json.load(open(f"{d}/config.json"))
        json.dump(diff.older(j), open(f"{d}/config.json", "w"), indent=1)
    return r, g


def as_mxfp4(d, g):
    """The experts' matrices of a gpt_oss folder as random blocks, and the configuration that says so."""
    t, c = load_file(f"{d}/model.safetensors"), json.load(open(f"{d}/config.json"))
    for k in [k for k in t if k.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        e, n_in, n_out = t.pop(k).shape
        t[k + "_blocks"] = torch.randint(0, 256, (e, n_out, n_in // 32, 16), generator=g).byte()
        t[k + "_scales"] = torch.randint(120, 125, (e, n_out, n_in // 32), generator=g).byte()
    save_file(t, f"{d}/model.safetensors", metadata=dict(format="pt"))
    c["quantization_config"] = dict(quant_method="mxfp4", modules_to_not_convert=["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"])
    json.dump(c, open(f"{d}/config.json", "w"), indent=1)


def method(r, kind):
    """An adapter stage by chance."""
    if kind == "phi3": names = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]
    else: names = ["q_proj", "k_proj", "v_proj", "o_proj"] + ["gate_proj", "up_proj", "down_proj"] * (kind not in ("gpt_oss", "qwen3_moe"))
    moe = kind in ("gpt_oss", "qwen3_moe")
    use = "lora" if moe else r.choice(["lora", "lora", "dora"])
    p = dict(r=r.choice([1, 2, 4]), lora_alpha=r.choice([4, 8]))
    p["target_modules"] = "all-linear" if r.random() < 0.3 else r.sample(names, r.randint(1, len(names)))
    if use == "lora" and not moe and r.random() < 0.3: p["use_rslora"] = True
    if moe and r.random() < 0.8: p["target_parameters"] = r.choice([["mlp.experts.gate_up_proj", "mlp.experts.down_proj"], ["mlp.experts.down_proj"]])
    return f"  - {{ use: {use}, with: {json.dumps(p)} }}\n"


# ---- running and comparing ------------------------------------------------------------------------

class Wrong(Exception): pass


def run(a, model, out, stages):
    """Runs the stages on the model; Wrong with the error."""
    os.makedirs(out, exist_ok=True)
    with open(f"{out}.yaml", "w") as f: f.write(f"version: 1\nmodel: {model}\noutput_dir: {out}\nstages:\n{stages}")
    p = subprocess.run([a.pipeline, "run", f"{out}.yaml"], capture_output=True, text=True, env=dict(os.environ, PIPELINE_CACHE=f"{os.path.dirname(out)}/cache"))
    if p.returncode: raise Wrong((p.stderr.strip() or "status %d" % p.returncode).splitlines()[-1])


def score(a, model, rows, adapter=None):
    with tempfile.TemporaryDirectory() as d:
        p = subprocess.run([a.pipeline, "score", "--model", model, "--tokens", rows, "--out", f"{d}/l.safetensors"] + (["--adapter", adapter] if adapter else []),
                           capture_output=True, text=True)
        if p.returncode: raise Wrong(p.stderr.strip())
        return load_file(f"{d}/l.safetensors")["logits"]


def opened(d):
    """The model in fp32 and eager attention; Wrong where a key is missing or left over."""
    m, info = AutoModelForCausalLM.from_pretrained(d, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager", output_loading_info=True)
    for k in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[k]: raise Wrong(f"{k}: {info[k]}")
    if getattr(m.config, "quantization_config", None): check.unpack(m)
    return m.eval()


@torch.no_grad()
def logits(m, ids): return m(input_ids=ids, use_cache=False).logits.float()


def same_words(model, out):
    text = "How many days? 366 — café red fox"
    if AutoTokenizer.from_pretrained(model)(text)["input_ids"] != AutoTokenizer.from_pretrained(out)(text)["input_ids"]: raise Wrong("other token ids")


class Held:
    """Differences of one model, against 1e-4 (gemma: of the largest logit)."""
    def __init__(self, kind): self.kind, self.worst = kind, 0.0
    def same(self, what, a, b):
        d = (a - b).abs().max().item() / (max(1.0, b.abs().max().item()) if "gemma" in self.kind else 1.0)
        self.worst = max(self.worst, d)
        if not d <= 1e-4: raise Wrong(f"{what}: logits differ by {d:.2e}")


# ---- the forms ------------------------------------------------------------------------------------

def plain(a, c, name, stages, before=""):
    run(a, c.model, f"{c.root}/{name}", c.train(before) + "  - use: merge\n" + stages)
    m, ours = opened(f"{c.root}/{name}/model"), score(a, f"{c.root}/{name}/model", c.rows)
    c.held.same("transformers", logits(m, c.ids), ours)
    same_words(c.model, f"{c.root}/{name}/model")
    adapted = score(a, c.model, c.rows, f"{c.root}/{name}/adapter")
    if before: return
    c.held.same("merged", ours, adapted)
    from peft import PeftModel
    c.held.same("PEFT", logits(PeftModel.from_pretrained(opened(c.model), f"{c.root}/{name}/adapter"), c.ids), adapted)
    if (adapted - score(a, c.model, c.rows)).abs().max() < 1e-3: raise Wrong("the adapter changes nothing")


def sharded(a, c, name):
    plain(a, c, name, "  - { use: export-hf, with: { max_shard_size: 40KB } }\n")
    if len(glob.glob(f"{c.root}/{name}/model/*.safetensors")) < 2: raise Wrong("one file")


def packed(a, c, name):
    run(a, c.model, f"{c.root}/{name}", c.train("") + f"  - {{ use: export-hf, with: {{ quantization: {name}, lossy: true }} }}\n")
    c.held.same("transformers", logits(opened(f"{c.root}/{name}/model"), c.ids), score(a, f"{c.root}/{name}/model", c.rows))


def mxfp4(a, c, name):
    if c.kind != "gpt_oss": return "not for this type"
    from transformers import Mxfp4Config
    d = f"{c.root}/mx"
    _, g = make(d, c.kind, c.seed, False, True)
    as_mxfp4(d, g)
    m = AutoModelForCausalLM.from_pretrained(d, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager", quantization_config=Mxfp4Config(dequantize=True)).eval().float()
    c.held.same("as it is", score(a, d, f"{d}/rows.safetensors"), logits(m, c.ids_of(d)))
    run(a, d, f"{c.root}/{name}", c.train("", d) + "  - use: merge\n  - { use: export-hf, with: { dtype: fp32 } }\n")
    out = f"{c.root}/{name}"
    ours = score(a, f"{out}/model", f"{d}/rows.safetensors")
    c.held.same("transformers", logits(opened(f"{out}/model"), c.ids_of(d)), ours)
    c.held.same("merged", ours, score(a, d, f"{d}/rows.safetensors", f"{out}/adapter"))


def gguf(a, c, name):
    d, out, q8 = f"{c.root}/for-{name}", f"{c.root}/{name}", name == "gguf-q8"
    make(d, c.kind, c.seed, name != "gguf-any", q8)
    try: run(a, d, out, c.train("", d) + "  - { use: export-gguf, with: { type: %s, lossy: %s } }\n" % (("q8_0", "true") if q8 else ("auto", "false")))
    except Wrong as e:
        if any(k in str(e) for k in ("in GGUF", "takes for granted", "the model's context is", "a model for 1 tokens")): return "refused: " + str(e).split("): ")[-1]
        raise
    ours = score(a, f"{out}/gguf/model.gguf", f"{d}/rows.safetensors")
    want = ours if q8 else score(a, d, f"{d}/rows.safetensors", f"{out}/adapter")
    c.held.same("GGUF", ours, want)
    run(a, f"{out}/gguf/model.gguf", f"{out}-back", "  - { use: export-hf, with: { dtype: fp32 } }\n")
    c.held.same("from GGUF", logits(opened(f"{out}-back/model"), c.ids_of(d)), want)
    same_words(d, f"{out}-back/model")
    if "longrope" in json.dumps(json.load(open(f"{d}/config.json"))): return None  # llama.cpp's least context, 256, is a long one
    off = llama_cpp_differs(f"{out}/gguf/model.gguf", c.ids_of(d)[0], want[0])
    if q8 and off is not None:
        said = f", {off:.1e} in 8 bits"
        run(a, f"{out}/gguf/model.gguf", f"{out}-f32", "  - { use: export-gguf, with: { type: f32, lossy: true } }\n")
        off = llama_cpp_differs(f"{out}-f32/gguf/model.gguf", c.ids_of(d)[0], want[0])
    if off is None: return None
    if not off <= 1e-2: raise Wrong(f"llama.cpp: logits differ by {off:.1e} of the largest")
    return f"within {c.held.worst:.1e}, llama.cpp within {off:.1e} of the largest" + (said if q8 else "")


def llama_cpp_differs(file, ids, want):
    theirs = llama.llama_cpp_logits(file, ids.tolist())
    return None if theirs is None else (torch.tensor(theirs) - want).abs().max().item() / max(1.0, want.abs().max().item())


FORMS = dict(plain=lambda a, c, n: plain(a, c, n, "  - use: export-hf\n"), sharded=sharded,
             qlora=lambda a, c, n: plain(a, c, n, "  - { use: export-hf, with: { dtype: fp32 } }\n", "  - use: quant-nf4\n"),
             **{"nf4": packed, "nf4-double": packed}, mxfp4=mxfp4, gguf=gguf, **{"gguf-any": gguf, "gguf-q8": gguf})


class Case:
    def __init__(self, root, kind, seed):
        self.root, self.kind, self.seed, self.held = f"{root}/{kind}-{seed}", kind, seed, Held(kind)
        self.model = f"{self.root}/base"
        r, _ = make(self.model, kind, seed, False, False)
        self.rows, self.method = f"{self.model}/rows.safetensors", method(r, kind)
        self.ids = self.ids_of(self.model)

    def ids_of(self, d): return load_file(f"{d}/rows.safetensors")["input_ids"]

    def train(self, before, d=None):
        return (f"  - {{ use: data-tokens, with: {{ path: {d or self.model}/rows.safetensors }} }}\n{before}{self.method}"
                "  - { use: train-sft, with: { max_steps: 4, per_device_train_batch_size: 2, learning_rate: 2e-2, compute_dtype: fp32 } }\n")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--types", default=",".join(TYPES))
    p.add_argument("--forms", default=",".join(FORMS))
    p.add_argument("--models", type=int, default=1)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--keep")
    p.add_argument("--pipeline", default="build/pipeline")
    a = p.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as tmp:
        for kind in a.types.split(","):
            for seed in range(a.seed, a.seed + a.models):
                c = Case(os.path.abspath(a.keep or tmp), kind, seed)
                for name in a.forms.split(","):
                    c.held.worst = 0.0
                    try: said = FORMS[name](a, c, name)
                    except Exception as e:
                        bad += 1
                        said = f"WRONG: {e if isinstance(e, Wrong) else repr(e)}"
                    print(f"{kind}-{seed} {name}: {said or f'within {c.held.worst:.1e}'}", flush=True)
    print("all of them are the same" if not bad else f"{bad} differ")
    return bad > 0


if __name__ == "__main__": sys.exit(main())
