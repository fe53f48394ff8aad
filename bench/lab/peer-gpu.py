# peer-gpu.py -- what PyTorch + PEFT (+ bitsandbytes) reach on a GPU: tokens a second, memory.
#
#   python3 bench/lab/peer-gpu.py MODEL METHOD ROWS LENGTH [steps=N] [layers=N] [ckpt] [compile]
#                                 [fp32]
#
#   MODEL     8b, smollm2: the shapes of Llama-3.1-8B, SmolLM2-135M with random weights; tiny: a try
#   METHOD    lora (bf16 base) or qlora (bitsandbytes NF4, double quantization); r 16, all linear
#   ROWS, LENGTH   each row is one full document: packed, nothing is padding
#   ckpt      gradient checkpointing
#   compile   torch.compile of each layer
#   fp32      adapters in float under autocast, as the Trainer has them; else all in bf16: faster
#
# A step is forward, backward, clipping to 1, fused AdamW.  Prints the median and p10 … p90 of the
# timed steps, the most memory PyTorch held, first and last loss and the least gradient norm, which
# must not be zero: then nothing was trained.
import contextlib, statistics, sys, time
import torch, peft, transformers

SHAPES = {
    "8b": dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
               num_attention_heads=32, num_key_value_heads=8, vocab_size=128256,
               tie_word_embeddings=False),
    "smollm2": dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                    num_attention_heads=9, num_key_value_heads=3, vocab_size=49152,
                    tie_word_embeddings=True),
    "tiny": dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, vocab_size=512, tie_word_embeddings=True),
}
WARM = 4


def quantize(module, device):
    """Each linear layer but the head as NF4, as transformers does when it loads 4-bit."""
    import bitsandbytes as bnb
    for key, child in module.named_children():
        if isinstance(child, torch.nn.Linear) and key != "lm_head":
            new = bnb.nn.Linear4bit(child.in_features, child.out_features, bias=False,
                                    quant_type="nf4", compute_dtype=torch.bfloat16,
                                    compress_statistics=True, device="meta")
            new.weight = bnb.nn.Params4bit(child.weight.data, requires_grad=False, quant_type="nf4",
                                           compress_statistics=True, module=new).to(device)
            setattr(module, key, new)
        else:
            quantize(child, device)


def build(shape, method, flags, device):
    torch.manual_seed(1)
    torch.set_default_dtype(torch.bfloat16)
    config = transformers.LlamaConfig(**shape, max_position_embeddings=8192,
                                      attn_implementation="sdpa")
    with torch.device(device):
        model = transformers.LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    if method == "qlora":
        quantize(model, device)
        model.is_loaded_in_4bit = True
    if "ckpt" in flags:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    lora = peft.LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    model = peft.get_peft_model(model, lora, autocast_adapter_dtype="fp32" in flags)
    if "compile" in flags:
        for layer in model.base_model.model.model.layers:
            layer.compile()
    return model.train()


def main():
    name, method, rows, length = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    flags = dict(f.partition("=")[::2] for f in sys.argv[5:])
    gpu = torch.cuda.is_available()
    device = "cuda" if gpu else "cpu"
    shape = dict(SHAPES[name])
    shape["num_hidden_layers"] = int(flags.get("layers", shape["num_hidden_layers"]))
    model = build(shape, method, flags, device)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-4, fused=True)
    mixed = "fp32" in flags
    autocast = torch.autocast(device, torch.bfloat16) if mixed else contextlib.nullcontext()
    sync = torch.cuda.synchronize if gpu else lambda: None
    seconds, losses, norms = [], [], []
    if gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    for _ in range(WARM + int(flags.get("steps", 20))):
        ids = torch.randint(0, shape["vocab_size"], (rows, length), device=device)
        sync()
        begin = time.time()
        with autocast:
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        sync()
        seconds.append(time.time() - begin)
        losses.append(loss.item())
        norms.append(norm.item())
    timed = sorted(seconds[WARM:])
    median, tenth = statistics.median(timed), len(timed) // 10
    slow, fast = timed[-1 - tenth], timed[tenth]
    memory = torch.cuda.max_memory_allocated() / 2**30 if gpu else 0
    assert min(norms) > 0, "gradient norm 0: nothing was trained"
    print(f"{' '.join(sys.argv[1:])}: {rows * length / median:.0f} tokens/s"
          f" ({rows * length / slow:.0f} - {rows * length / fast:.0f}), {memory:.1f} GiB,"
          f" step {median * 1e3:.1f} ms, first {seconds[0]:.1f} s,"
          f" loss {losses[0]:.3f} - {losses[-1]:.3f}, |g| >= {min(norms):.2g},"
          f" {sum(p.numel() for p in trained)} trained, layers {shape['num_hidden_layers']}")


main()
