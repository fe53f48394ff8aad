#!/usr/bin/env python3
"""Writes seeds/READER/NAME: small inputs that the fuzzing harnesses of this folder start from.

    tests/fuzz/make-seeds.py            (Python's standard library alone)

Each seed is well-formed and touches other parts of its reader; the damage is for the fuzzer to do.
The texts were written here.
"""
import gzip
import json
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))


def put(reader, name, content):
    folder = os.path.join(HERE, "seeds", reader)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(content if isinstance(content, bytes) else content.encode())


# ---- safetensors -----------------------------------------------------------------------------------
def safetensors(header, data, pad=0):
    text = json.dumps(header).encode() + b" " * pad
    return struct.pack("<Q", len(text)) + text + data


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


put("safetensors", "empty", safetensors({}, b""))
put("safetensors", "two", safetensors({"__metadata__": {"format": "pt", "é": "\n"},
                                       "a.weight": tensor("F32", [2, 3], 0, 24), "b": tensor("I64", [], 24, 32)}, bytes(range(32)), 5))
put("safetensors", "dtypes", safetensors({"four": tensor("F4", [4], 0, 2), "six": tensor("F6_E2M3", [4], 2, 5), "none": tensor("BF16", [0, 7], 5, 5),
                                          "b": tensor("BOOL", [1], 5, 6), "h": tensor("F16", [1, 1, 1], 6, 8), "c": tensor("C64", [1], 8, 16)}, bytes(16)))
put("safetensors", "turned", safetensors({"b": tensor("U8", [3], 2, 5), "a": tensor("I16", [1], 0, 2)}, b"abcde"))


# ---- GGUF ------------------------------------------------------------------------------------------
def s(text):
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def kv(key, kind, value):
    return s(key) + struct.pack("<I", kind) + value


def strings(items):
    return struct.pack("<IQ", 8, len(items)) + b"".join(map(s, items))


def gguf(keys, tensors, align=32, version=3):
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys)) + b"".join(keys)
    data = b""
    for name, dims, kind, raw in tensors:
        data += bytes(-len(data) % align)
        out += s(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", d) for d in dims) + struct.pack("<IQ", kind, len(data))
        data += raw
    return out + bytes(-len(out) % align) + data


put("gguf", "empty", gguf([], []))
put("gguf", "keys", gguf([kv(f"t{i}", i, struct.pack(f, v)) for i, (f, v) in enumerate(
    [("<B", 200), ("<b", -1), ("<H", 60000), ("<h", -3), ("<I", 7), ("<i", -7), ("<f", 1.5), ("<?", True)])]
    + [kv("text", 8, s("größe")), kv("list", 9, strings(["a", "", "ä"])), kv("ints", 9, struct.pack("<IQ3h", 3, 3, 1, 2, 3)),
       kv("u64", 10, struct.pack("<Q", 1 << 63)), kv("i64", 11, struct.pack("<q", -5)), kv("f64", 12, struct.pack("<d", 0.1))], []))
BLOCK = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84), 11: (256, 110), 12: (256, 144),
         13: (256, 176), 14: (256, 210), 20: (32, 18), 23: (256, 136), 30: (1, 2), 39: (32, 17)}
put("gguf", "blocks", gguf([kv("general.alignment", 4, struct.pack("<I", 8))],
                           [(f"q{k}", [n, 1], k, bytes(i * 37 % 256 for i in range(size))) for k, (n, size) in BLOCK.items()], 8, 2))
VOCAB = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)] + ["▁", "a", "b", "▁a", "ab", "▁ab"]
LLAMA = gguf([kv("general.architecture", 8, s("llama")), kv("tokenizer.ggml.model", 8, s("llama")), kv("tokenizer.ggml.tokens", 9, strings(VOCAB)),
              kv("tokenizer.ggml.scores", 9, struct.pack(f"<IQ{len(VOCAB)}f", 6, len(VOCAB), *[-float(i) for i in range(len(VOCAB))])),
              kv("tokenizer.ggml.token_type", 9, struct.pack(f"<IQ{len(VOCAB)}i", 5, len(VOCAB), *([2, 3, 3] + [6] * 256 + [1] * 6))),
              kv("tokenizer.ggml.bos_token_id", 4, struct.pack("<I", 1)), kv("tokenizer.ggml.eos_token_id", 4, struct.pack("<I", 2)),
              kv("tokenizer.chat_template", 8, s("{{ messages[0].content }}"))], [])
put("gguf", "tokenizer", LLAMA)


# ---- tokenizer.json --------------------------------------------------------------------------------
def byte_letters():
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    rest = [b for b in range(256) if b not in keep]
    return [chr(b) for b in keep] + [chr(256 + i) for i in range(len(rest))]


def added(i, text, **more):
    return {"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True, **more}


def tokenizer(vocab, merges, pairs=False, **parts):
    ids = {t: i for i, t in enumerate(vocab)}
    merges = [list(m) for m in merges] if pairs else [" ".join(m) for m in merges]
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
             "byte_fallback": False, "ignore_merges": False, "vocab": ids, "merges": merges, **parts.pop("model", {})}
    return json.dumps({"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": None,
                       "post_processor": None, "decoder": None, **parts, "model": model}, ensure_ascii=False)


LETTERS = byte_letters()
MERGES = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "w"), ("a", "a"), ("aa", "aa")]
BYTES = LETTERS + ["".join(m) for m in MERGES]
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
L3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def split(rx):
    return {"type": "Split", "pattern": {"Regex": rx}, "behavior": "Isolated", "invert": False}


put("tokenizer", "bytes.json", tokenizer(BYTES, MERGES, pre_tokenizer=BYTE_LEVEL, decoder=BYTE_LEVEL, added_tokens=[added(len(BYTES), "<|im_start|>")]))
put("tokenizer", "llama3.json", tokenizer(
    BYTES, MERGES, True, pre_tokenizer={"type": "Sequence", "pretokenizers": [split(L3), {**BYTE_LEVEL, "use_regex": False}]}, decoder=BYTE_LEVEL,
    added_tokens=[added(len(BYTES), "<s>"), added(BYTES.index("he"), "he", lstrip=True, rstrip=True, special=False, normalized=True)], model={"ignore_merges": True},
    post_processor={"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                    "special_tokens": {"<s>": {"id": "<s>", "ids": [len(BYTES)], "tokens": ["<s>"]}}}))
put("tokenizer", "strange.json", tokenizer(
    BYTES, MERGES, normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}, {"type": "Replace", "pattern": {"String": "x"}, "content": "yy"},
                                                                   {"type": "Strip", "strip_left": True, "strip_right": False}, {"type": "Prepend", "prepend": "▁"}]},
    pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, {"type": "Punctuation", "behavior": "Contiguous"},
                                                         split(r"(?<=[a-z])(?=[A-Z])|\d+|(a+)+$"), {**BYTE_LEVEL, "add_prefix_space": True}]}, decoder=BYTE_LEVEL))
PIECES = [("▁", "a"), ("▁a", "b"), ("a", "b")]
put("tokenizer", "sentencepiece.json", tokenizer(
    VOCAB, [], added_tokens=[added(0, "<unk>"), added(1, "<s>"), added(2, "</s>")], model={"byte_fallback": True, "unk_token": "<unk>", "fuse_unk": True,
                                                                                           "merges": [" ".join(p) for p in PIECES]},
    normalizer={"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
    decoder={"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
                                              {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}))
put("tokenizer", "metaspace.json", tokenizer(
    VOCAB, PIECES, pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True},
    decoder={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}, model={"byte_fallback": True, "unk_token": "<unk>"}))
put("tokenizer", "llama.gguf", LLAMA)

# Unigram and WordPiece, and SentencePiece models: partly of the files that tests/data/tok/make.py made
TOK = os.path.join(HERE, "..", "data", "tok")


def tok_file(reader, name, folder, file="tokenizer.json"):
    with open(os.path.join(TOK, folder, file), "rb") as f:
        put(reader, name, f.read())


def pieces_of_gguf(model, vocab, *keys):
    types = [2 if t in ("<unk>", "[UNK]") else 3 if t[0] in "<[" else 1 for t in vocab]
    return gguf([kv("tokenizer.ggml.model", 8, s(model)), kv("tokenizer.ggml.tokens", 9, strings(vocab)),
                 kv("tokenizer.ggml.token_type", 9, struct.pack(f"<IQ{len(vocab)}i", 5, len(vocab), *types)), *keys], [])


tok_file("tokenizer", "sentencepiece.model", "spm-bpe-rules", "tokenizer.model")
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
put("unigram", "unigram.json", tokenizer([], [], pre_tokenizer=METASPACE, decoder=METASPACE, added_tokens=[added(0, "<unk>"), added(5, "<|im_start|>")],
                                         model={"type": "Unigram", "unk_id": 0, "byte_fallback": False, "merges": None,
                                                "vocab": [["<unk>", 0.0], ["▁", -2.5], ["a", -3], ["aa", -3.25e0], ["▁He", -1.125]]}))
tok_file("unigram", "bytes.json", "unigram-ties")
tok_file("unigram", "precompiled.json", "unigram-precompiled")
tok_file("unigram", "sentencepiece.model", "spm-unigram", "tokenizer.model")
T5 = ["<pad>", "</s>", "<unk>", "▁", "▁He", "l", "lo", "a", "aa"]
put("unigram", "t5.gguf", pieces_of_gguf("t5", T5, kv("tokenizer.ggml.scores", 9, struct.pack(f"<IQ{len(T5)}f", 6, len(T5), *[-1.5 * i for i in range(len(T5))])),
                                         kv("tokenizer.ggml.eos_token_id", 4, struct.pack("<I", 1)), kv("tokenizer.ggml.remove_extra_whitespaces", 7, b"\1")))
WORDS = ["[UNK]", "[CLS]", "[SEP]", "hello", "world", "it", "'", "s", "##s", "20", "##24", "!", ",", "x", "a", "##a", "##aa"]
put("wordpiece", "bert.json", tokenizer(
    WORDS, [], added_tokens=[added(i, WORDS[i]) for i in range(3)], decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
    normalizer={"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}, pre_tokenizer={"type": "BertPreTokenizer"},
    post_processor={"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
    model={"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "merges": None}))
tok_file("wordpiece", "cased.json", "wordpiece-cased")
tok_file("wordpiece", "short.json", "wordpiece-short")
put("wordpiece", "bert.gguf", pieces_of_gguf("bert", ["▁" + t if t[0] not in "[#" else t.lstrip("#") for t in WORDS], kv("tokenizer.ggml.cls_token_id", 4, struct.pack("<I", 1)),
                                             kv("tokenizer.ggml.seperator_token_id", 4, struct.pack("<I", 2))))

# ---- chat templates --------------------------------------------------------------------------------
put("template", "chatml", "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
put("template", "generation", "{{- bos_token -}}{%- for m in messages -%}{%- if m.role == 'assistant' -%}{% generation %}{{ m.content|trim }}{{ eos_token }}{% endgeneration %}"
    "{%- else -%}[{{ m.role|upper }}] {{ m.content }}{%- endif -%}{%- endfor -%}")
put("template", "macros", "{%- macro f(x, y='-') -%}{{ x|tojson(indent=2) }}{{ y }}{%- endmacro -%}{% set ns = namespace(n=0) %}{% for m in messages|selectattr('role', 'equalto', 'user') "
    "%}{% set ns.n = ns.n + loop.index %}{{ f(m) }}{% else %}none{% endfor %}{{ ns.n }}{% call f(1) %}x{% endcall %}")
put("template", "expressions", "{{ 7 // 2 ** 2 - -n % 3 }}{{ 'a,b'.split(',')[::-1]|join('; ') }}{{ {'k': [1, 2.5, none]}.items()|list }}{{ messages[-1:]|map(attribute='content')|list }}"
    "{{ ('x' ~ 1) in ['x1'] and not false }}{{ '%05.2f|%s'|format(1.5, 'a') }}{{ strftime_now('%d %B %Y') }}{{ range(3)|batch(2, 0)|list }}")
put("template", "tools", "{% if tools is defined and tools is not none %}{{ raise_exception('no tools') }}{% endif %}{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.name }}"
    "({% for k, v in c.function.arguments|items %}{{ k }}={{ v|tojson }}{{ ', ' if not loop.last }}{% endfor %}){% endfor %}{% endfor %}")
put("template", "statements", "{%- set x %}a{% endset -%}{# c #}{% raw %}{{ x }}{% endraw %}{% filter upper|replace('A', 'b') %}{{ x }}{% endfilter %}{% with y = x %}{{ y }}{% endwith %}"
    "{% for a, b in [(1, 2), (3, 4)] if a > 1 recursive %}{{ loop.cycle('o', 'e') }}{% if b %}{% continue %}{% endif %}{% break %}{% endfor %}")
put("template", "variables", "{{ a.b[0] }}{% for k in a %}{{ k }}{{ a[k]|string|length }}{% endfor %}\0" + json.dumps({"a": {"b": ["\u00e9", 1e300, -0.0], "c": None}}))

# ---- rows: the first byte chooses the way (rows.c) ---------------------------------------------------
TALK = {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0},
                     {"role": "user", "content": "c"}, {"role": "assistant", "content": "d\n<|im_end|>"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]}
TREE = {"message_tree_id": "t", "tree_state": "ready_for_export", "prompt": {"message_id": "1", "role": "prompter", "text": "q", "replies": [
    {"message_id": "2", "role": "assistant", "text": "a", "rank": 1, "replies": []}, {"message_id": "3", "role": "assistant", "text": "b", "rank": 0, "replies": [
        {"message_id": "4", "role": "prompter", "text": "q2", "replies": [{"message_id": "5", "role": "assistant", "text": "c", "replies": []}]}]}]}}
ROWS = [TALK, {"instruction": "i", "input": "x", "output": "o", "history": [["a", "b"]]}, {"conversations": [{"from": "human", "value": "h"}, {"from": "gpt", "value": "g"}]},
        {"prompt": "p", "completion": "c"}, {"text": "t"}, {"prompt": "p", "chosen": "good", "rejected": "bad"},
        {"chosen": TALK["messages"], "rejected": TALK["messages"][:-1] + [{"role": "assistant", "content": "e"}]}, {"prompt": "p", "completion": "c", "label": False}, TREE]
LINES = "\n".join(json.dumps(r, ensure_ascii=False) for r in ROWS) + "\n"
put("rows", "lines", "\0" + LINES)
put("rows", "strict", "\1" + LINES)
put("rows", "array", "\0" + json.dumps(ROWS[1:6], indent=1))
put("rows", "packed.gz", b"\0" + gzip.compress(LINES.encode(), mtime=0))
put("rows", "table", "\2instruction,output\r\na,b\r\n\"c, \"\"d\"\"\",\"e\nf\"\r\n\r\ng,h\n")
put("rows", "texts", "\3one\n\n two \nthree\n")
put("rows", "paragraphs", "\4a\nb\n\nc\n")
put("rows", "document", "\5# a\n\nb\n")
put("rows", "tree", "\6" + json.dumps(TREE))
put("rows", "last", "\7" + json.dumps(TALK))

# ---- Parquet: of the files that tests/data/parquet/make.py made ---------------------------------------
PARQUET = os.path.join(HERE, "..", "data", "parquet")
for name in ["chat-none-1", "chat-snappy-2", "chat-zstd-1", "kinds-1", "messages"]:
    with open(os.path.join(PARQUET, name + ".parquet"), "rb") as f:
        put("parquet", name, f.read())

# ---- pipeline files --------------------------------------------------------------------------------
put("config", "sft", """version: 1
model: models/m
output_dir: runs/${name}
seed: 7
vars: { rate: 2e-4 }
memory_limit: 600MiB
stages:
  - use: data-chatml
    with: { path: data/train.jsonl, val_size: 0.1 }
  - use: lora
    id: big
    with:
      r: 16
      target_modules: [q_proj, "v_proj"]
  - use: train-sft
    with: { learning_rate: "${vars.rate}", optim_args: { beta1: 0.9 } }
""")
put("config", "overrides", "big.r=32\nseed=3\n~lora.alpha\nlora.use=dora\nvars.x=[a, b]\n---8<---\nversion: 1\nvars: { x: 1, y: \"${vars.x}\" }\nstages:\n  - use: lora\n    with: { r: 8, alpha: 16 }\n")
put("config", "shapes", "version: 1\nstages: [ { use: a, with: { m: { a: 1, b: ~ }, l: [1, [2, 3]], t: |\n  text\n   more\n, f: >-\n  x\n  y\n} } ]\n")
put("config", "wrong", "version: 1\na: &x [1]\nb: *x\nc: !!str 5\nversion: 2\nstages: {}\n")
put("config", "nameless", "~l\n---8<---\nversion: 1\nstages:\n  - { id: [1], use: lora }\n  - { r: 1 }\n")
put("config", "itself", "extends: f.yaml\nversion: 1\nstages: []\n")

# ---- adapters --------------------------------------------------------------------------------------
put("adapter", "lora", json.dumps({"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 16, "lora_dropout": 0.05, "target_modules": ["q_proj", "v_proj"], "bias": "none",
                                   "base_model_name_or_path": "m", "inference_mode": True, "use_rslora": False, "rank_pattern": {"a.q_proj": 4}, "alpha_pattern": {}, "modules_to_save": None,
                                   "layers_to_transform": [0, 1], "layers_pattern": None, "init_lora_weights": True, "peft_version": "0.18.0"}, indent=2))
put("adapter", "regex", json.dumps({"peft_type": "LORA", "r": 4, "target_modules": ".*_proj", "exclude_modules": "x", "use_dora": False, "lora_bias": False}))
put("adapter", "wrong", json.dumps({"peft_type": "LORA", "r": "four", "lora_alpha": 1.5, "target_modules": {"a": 1}, "corda_config": {"x": 1}}))
