#!/usr/bin/env python3
"""Makes the test vectors of the tokenizer plugins: KIND/tokenizer.json (or tokenizer.gguf, tokenizer.model) and KIND/golden.jsonl.

  make.py [KIND…]     all kinds unless some are named

Every tokenizer is trained here, on the sentences below, which were written for this purpose; what HF
tokenizers (0.23.3) makes of the strings below is the truth.  Run it in this folder; it needs the Python
packages tokenizers and sentencepiece (the trainer numbers the symbols of clip and hashes by chance: those two differ each time).  A line of golden.jsonl: text; ids, byte_offsets (flat) without special tokens;
ids_special with them; decoded (of ids), decoded_skip (of ids_special, special tokens left out);
from SentencePiece: text, ids, decoded."""
import base64, collections, io, json, os, random, struct, sys
from tokenizers import AddedToken, Regex, Tokenizer, decoders as D, models, normalizers as N, pre_tokenizers as P, processors as X, trainers

CORPUS = """The little ferry crosses the bay every morning, and the gulls follow it to the other side.
We counted 12 boats on Monday, 345 on Tuesday and more than 6,789 in the whole of 2024.
She said she'd come if they'd let her; he's sure it won't rain. I'm not, you're not, we've no umbrella.
for (int i = 0; i < n; i++) { sum += row[i] * weight[i]; }
def mean(values):\n    return sum(values) / len(values)  # of numbers\n
HTTPServer parses theRequestLine and getsTheHeaders; snake_case_names stay_whole.
Un café noir, s'il vous plaît ! Où est la gare ? Ça coûte 3,50 € l'entrée.
Ein schöner Tag, größer als die Straße, mit süßen Äpfeln und Öl.
작은 배가 매일 아침 만을 건너고 갈매기가 따라갑니다. 오늘은 비가 오지 않아요. 한국어 문장을 씁니다.
小さな船は毎朝湾を渡ります。今日は雨が降りません。カモメがついて来ます。
小船每天早上穿过海湾,海鸥跟着它到对岸。今天不下雨。
Маленький паром каждое утро пересекает залив, и чайки летят за ним. Сегодня дождя нет.
Η μικρή βάρκα περνά τον κόλπο κάθε πρωί. यह छोटी नाव है। هذا قارب صغير.
🙂 🚢🌊 👩‍🚀 🇰🇷 → ≤ ≥ × ½ ① x² … — “quotes” ‘single’
a  b   c    d\t\te\r\n\r\nf\n\n\ng   \n  h""".split("\n") * 6

STRINGS = ["", " ", "  ", "\n", "\r\n\r\n", "a", " a", "a ", "   a  b ", "\t\tx\n\n y", "The little ferry", "the ferry's gulls'll FOLLOW'S 'Tis we'VE", "it’s", "'ſ x", "12 345 6789 01234567", "٣٤٥ ½ Ⅷ x²",
    "HTTPServer getsTheHeaders XMLHttp ABC abC", "snake_case_names", "for (int i = 0; i < n; i++) {\n\tx += 1;\n}\n", "https://example.org/a?b=c#d", "café", "cafe\u0301 e\u0301\u0323 q\u0323\u0307", "\u0301x", "Å \u212b ﬁ ① ㍿ ｶﾞ", "Straße İstanbul ǅ ΣΑΣ",
    "작은 배가 123개", "각\u1100\u1161\u11a8", "小さな船は毎朝", "小船,今天 English混合12", "Маленький паром", "यह छोटी नाव", "هذا قارب", "🙂🚢 👩‍🚀 🇰🇷", "\u00a0\u2003\u3000\u200b\u180e\ufeff", "\x00\x01\x1b\x7f\x85", "\ufffd\U0010ffff",
    "▁a ▁▁b", "Ġ Ċ", "<0x0A><0xE3>", "<s> </s> <unk>", "<|end|>", "a<|end|>b <|end|>", "<|start|>user\nhello<|end|>\n", "x <l> y", "x \n <l>y", "x<r> \t y", "a  <b>  c", "<b>", " \u3000<b>\u00a0", "<n> a<N>b <n>.", "<w> a<w>b a <w> b .<w>. é<w> _<w>", "red fox", "redfox red  fox", "<l><r><b>",
    "x" * 80, "ab" * 50, " " * 40 + "z", "=" * 33, "한" * 40, "e\u0301" * 40, "a.b,c!d?e;f:g", "((x))[y]{z}", "one-two--three", "quotes “a” ‘b’ «c»", "1a2b 3.14e-5 10%", "Ça coûte 3,50 €", "word" + "\u0301" * 5, "\n \n  \n x", "end \n", "a\r\rb\r\n", "$5 ^_^ `x` ~y~ |z| +-= <>",
    "a\u033d\u0301 q\u0307\u0301 e\u0301\u0301", "x\u0301\u1abf y\u32ff \ua7f2", "\u0915\u093c \u0958", "<r> <l>", "x<b> \t<b>y", "wait!!! no..", "\u2e43x\u166d", "a\x00 a\x00\x00", "aqqbq", "the ferry the ferrythe",
    "xAB cd CD xcd", "eeeee hooo hho lllt lt", "a<\nb<x", "漢字、々 ーabc12ef αabcd", "a_b c\u0301d\u200de", "\x0b\x0c\u0085", "they then"]

SPECIAL = [AddedToken("<|start|>", special=True, normalized=False), AddedToken("<|end|>", special=True, normalized=False), AddedToken("<l>", special=True, lstrip=True, normalized=False),
           AddedToken("<r>", special=True, rstrip=True, normalized=False), AddedToken("<b>", special=True, lstrip=True, rstrip=True, normalized=False)]
PLAIN = [AddedToken("<n>", normalized=True, special=False), AddedToken("<w>", single_word=True, normalized=False, special=False), AddedToken("red fox", normalized=True, special=False), AddedToken("café", normalized=True, special=False)]

CON = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
L3 = CON + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
Q2 = L3.replace(r"\p{N}{1,3}", r"\p{N}")
FRONT, REST, LEAD = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", r"[^\r\n\p{L}\p{N}]?"
TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O2 = f"{LEAD}{FRONT}*{REST}+{CON}?|{LEAD}{FRONT}+{REST}*{CON}?|" + r"\p{N}{1,3}" + TAIL
TK = f"{LEAD}{FRONT}*{REST}+|{LEAD}{FRONT}+{REST}*|" + r"\p{N}" + TAIL
DS = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
CL = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"   # run by PCRE2 here
sp = lambda rx, how="isolated", inv=False: P.Split(Regex(rx), how, inv)
BL = lambda: P.ByteLevel(add_prefix_space=False, use_regex=False)
SIZE = 420


def common(k):
    """The corpus in its k commonest characters (the trainer's own limit_alphabet breaks ties by chance)."""
    n = collections.Counter(c for line in CORPUS for c in line); keep = set(sorted(n, key=lambda c: (-n[c], c))[:k])
    return ["".join(c for c in line if c in keep) for line in CORPUS]


def finish(t):
    t.add_special_tokens(SPECIAL); t.add_tokens(PLAIN)
    return t


def byte_level(pre, norm=None, post=None, bos=None, edit=None, size=SIZE, add=True, alphabet=P.ByteLevel.alphabet(), **options):
    t = Tokenizer(models.BPE(**options)); t.pre_tokenizer = pre; t.decoder = D.ByteLevel()
    if norm: t.normalizer = norm
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, special_tokens=[bos or "<|endoftext|>"], show_progress=False))
    t.post_processor = post(t) if post else X.ByteLevel(trim_offsets=False)
    if edit:
        j = json.loads(t.to_str()); edit(j); t = Tokenizer.from_str(json.dumps(j))
    return finish(t) if add else t


def template(bos, eos=None):
    return lambda t: X.TemplateProcessing(single=f"{bos} $A" + (f" {eos}" if eos else ""), pair="$A $B", special_tokens=[(s, t.token_to_id(s)) for s in (bos, eos) if s])


def whole_words(j):
    v = j["model"]["vocab"]; j["model"]["ignore_merges"] = True
    for w in ("Ġqzjx", "getsThe", "Ġì"): v.setdefault(w, len(v))


def pieces(norm, pre, dec, **options):
    tr = Tokenizer(models.BPE()); tr.pre_tokenizer = P.Metaspace()
    tr.train_from_iterator(common(120), trainers.BpeTrainer(vocab_size=SIZE, show_progress=False))
    j = json.loads(tr.to_str()); v = {"<unk>": 0, "<s>": 1, "</s>": 2}
    if options.get("byte_fallback"): v.update({f"<0x{i:02X}>": 3 + i for i in range(256)})
    for w in sorted(j["model"]["vocab"], key=j["model"]["vocab"].get): v.setdefault(w, len(v))
    t = Tokenizer(models.BPE(vocab=v, merges=[tuple(m) for m in j["model"]["merges"]], **{"unk_token": "<unk>", **options}))
    if norm: t.normalizer = norm
    if pre: t.pre_tokenizer = pre
    if dec: t.decoder = dec
    t.add_special_tokens([AddedToken(x, special=True, normalized=False) for x in ("<unk>", "<s>", "</s>")])
    t.post_processor = template("<s>")(t)
    return finish(t)


def plain(pre, norm=None, dec=None, post=None, **options):
    """Character BPE without bytes."""
    t = Tokenizer(models.BPE(**options)); t.pre_tokenizer = pre
    if norm: t.normalizer = norm
    if dec: t.decoder = dec
    tr = {k: options[k] for k in ("continuing_subword_prefix", "end_of_word_suffix") if k in options}
    t.train_from_iterator(common(110), trainers.BpeTrainer(vocab_size=SIZE, show_progress=False, special_tokens=["[UNK]", "[CLS]", "[SEP]"], **tr))
    if post: t.post_processor = post(t)
    return finish(t)


def legacy_merges(j): j["model"]["merges"] = [" ".join(m) for m in j["model"]["merges"]]


def borders(*splits):
    """Tokens are bytes, others at the end of a word: the ids show where words end."""
    t = Tokenizer(models.BPE(vocab={c + e: i * 2 + (e > "") for i, c in enumerate(sorted(P.ByteLevel.alphabet())) for e in ("", "|")}, merges=[], end_of_word_suffix="|"))
    t.pre_tokenizer = P.Sequence([*splits, BL()]); t.decoder = D.ByteLevel()
    return t


META = lambda *more: D.Sequence([D.Replace("▁", " "), D.ByteFallback(), D.Fuse(), *more])
KINDS = {
    "gpt2": lambda: byte_level(P.ByteLevel(add_prefix_space=False), edit=legacy_merges),
    "roberta": lambda: byte_level(P.ByteLevel(add_prefix_space=True), post=lambda t: X.RobertaProcessing(("<|endoftext|>", 0), ("<|endoftext|>", 0), trim_offsets=True, add_prefix_space=True)),
    "trim": lambda: byte_level(P.ByteLevel(add_prefix_space=True), post=lambda t: X.ByteLevel(add_prefix_space=False, trim_offsets=True)),
    "llama3": lambda: byte_level(P.Sequence([sp(L3), BL()]), post=lambda t: X.Sequence([X.ByteLevel(trim_offsets=False), template("<|bos|>")(t)]), bos="<|bos|>", edit=whole_words),
    "qwen2": lambda: byte_level(P.Sequence([sp(Q2), BL()]), norm=N.NFC()),
    "smollm2": lambda: byte_level(P.Sequence([P.Digits(individual_digits=True), P.ByteLevel(add_prefix_space=False)])),
    "o200k": lambda: byte_level(P.Sequence([sp(O2), BL()])),
    "tekken": lambda: byte_level(P.Sequence([sp(TK), BL()]), edit=whole_words),
    "deepseek": lambda: byte_level(P.Sequence([sp(r"\p{N}{1,3}"), sp("[一-龥\u3040-ゟ゠-ヿ]+"), sp(DS), BL()]), post=template("<｜bos｜>"), bos="<｜bos｜>"),
    "cl100k": lambda: byte_level(P.Sequence([sp(CL), BL()])),
    "falcon": lambda: byte_level(P.Sequence([P.Punctuation("contiguous"), P.ByteLevel(add_prefix_space=False), P.Digits(individual_digits=False), sp("[0-9][0-9][0-9]")])),
    "merged": lambda: byte_level(P.Sequence([P.Split(" ", "merged_with_next"), sp(r"[,.;!?]", "merged_with_previous"), sp(r"\d+", "contiguous"), BL()]), norm=N.Sequence([N.Strip(), N.Replace(Regex(r"\s{2,}"), " ")])),
    "folded": lambda: byte_level(P.Sequence([sp(r"\w+|[^\w\s]+", "removed", True), P.ByteLevel(add_prefix_space=True, use_regex=False)]), norm=N.Sequence([N.NFKC(), N.Lowercase(), N.Replace("ss", "ß")])),
    "llama2": lambda: pieces(N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")]), None, META(D.Strip(" ", 1, 0)), fuse_unk=True, byte_fallback=True),
    "metaspace": lambda: pieces(None, P.Metaspace(prepend_scheme="first", split=False), META(D.Strip(" ", 1, 0)), fuse_unk=True, byte_fallback=True),
    "gemma": lambda: pieces(N.Replace(" ", "▁"), P.Split(" ", "merged_with_previous"), META(), fuse_unk=True, byte_fallback=True),
    "always": lambda: pieces(None, P.Metaspace(prepend_scheme="always", split=True), D.Metaspace(prepend_scheme="always"), fuse_unk=True),
    "never": lambda: pieces(N.NFD(), P.Sequence([P.WhitespaceSplit(), P.Metaspace(prepend_scheme="never")]), D.Metaspace(prepend_scheme="never"), fuse_unk=False),
    "clip": lambda: plain(P.Sequence([sp(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", "removed", True)]), norm=N.Sequence([N.NFC(), N.Replace(Regex(r"\s+"), " "), N.Lowercase()]), dec=D.BPEDecoder("</w>"), end_of_word_suffix="</w>", unk_token="[UNK]"),
    "hashes": lambda: plain(P.BertPreTokenizer(), norm=N.Sequence([N.NFKD(), N.Strip(left=True, right=False)]), continuing_subword_prefix="##", unk_token="[UNK]", post=lambda t: X.BertProcessing(("[SEP]", 2), ("[CLS]", 1))),
    "words": lambda: plain(P.Sequence([P.Whitespace(), P.Punctuation("removed")]), unk_token="[UNK]", fuse_unk=True),
    "dropped": lambda: plain(P.Sequence([sp(r"[a-z]+", "merged_with_next", True)])),
    "gappy": lambda: byte_level(P.ByteLevel(add_prefix_space=False), alphabet=[]),
    "gappyunk": lambda: byte_level(P.Sequence([sp(Q2), BL()]), alphabet=[], unk_token="<|endoftext|>"),
    "crossing": lambda: plain(P.Split("\n", "isolated"), norm=N.Replace(" ", "▁"), dec=META(), unk_token="[UNK]"),
    "empties": lambda: byte_level(P.Sequence([sp("x*"), BL()]), norm=N.Replace(Regex("(?<=[ab])q*"), "-")),
    "onig1": lambda: borders(sp(r"x(?i)ab|cd"), sp(r"e{2}+|ho{2}?|l{,2}t"), sp(r"(?m:<.)"), sp(r"\p{Han}+|\p{^Greek}\h{3,}")),
    "onig2": lambda: borders(sp(r"\b\w+\b"), sp(r"\v|[\w\u0041-\x{5a}]\d|^[\S]$"), sp(r"(?<=\d)\s+(?=\D)", "merged_with_previous")),
    "cuts": lambda: borders(P.Split(" ", "merged_with_next"), sp(r"[,.;!?]", "merged_with_previous"), sp(r"\d+", "contiguous"), sp(r"[(){}]", "merged_with_next"), sp("-", "removed"), sp("[a-z]+", "merged_with_previous", True)),
    "oldspace": lambda: pieces(None, P.Metaspace(prepend_scheme="never", split=True), META(), byte_fallback=True),
    "sparse": lambda: pieces(N.Replace(" ", "▁"), None, META(), unk_token=None),
    "normbytes": lambda: byte_level(P.Split(Regex(r"Ġ?[^Ġ]+"), "isolated"), norm=N.Sequence([N.NFC(), N.ByteLevel()])),
}

# ---- Unigram, WordPiece ----------------------------------------------------------------------------
def unigram(norm, pre, dec, edit=None, **options):
    t = Tokenizer(models.Unigram())
    if norm: t.normalizer = norm
    t.pre_tokenizer = pre; t.decoder = dec
    t.train_from_iterator(common(120), trainers.UnigramTrainer(vocab_size=SIZE, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False))
    t.post_processor = template("</s>")(t)
    j = json.loads(t.to_str())
    if edit: edit(j)
    return finish(Tokenizer.from_str(json.dumps(j)))


def with_bytes(j):
    j["model"]["byte_fallback"] = True; j["model"]["vocab"] += [[f"<0x{i:02X}>", -3.5] for i in range(256)]


def ties(j):
    """Scores whose sums are equal but for the order in which they are added; written with more digits than a double has."""
    r = random.Random(3); pieces = [c * n for c in "ab xyz▁" for n in (1, 2, 3, 4)] + ["ab", "ba", "aba", "bab", "▁a", "▁ab"]; unit = -0.1234567890123456789
    j["model"]["vocab"] = [["<pad>", 0], ["</s>", 0], ["<unk>", 0]] + [[p, unit * len(p) + r.choice((0, 0, 1e-16))] for p in dict.fromkeys(pieces)]


def wordpiece(norm, pre=None, cleanup=True, prefix="##", edit=None):
    t = Tokenizer(models.WordPiece(unk_token="[UNK]")); t.normalizer = norm; t.pre_tokenizer = pre or P.BertPreTokenizer(); t.decoder = D.WordPiece(prefix=prefix, cleanup=cleanup)
    t.train_from_iterator(common(110), trainers.WordPieceTrainer(vocab_size=SIZE, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], continuing_subword_prefix=prefix, show_progress=False))
    t.post_processor = template("[CLS]", "[SEP]")(t)
    j = json.loads(t.to_str()); j["model"]["continuing_subword_prefix"] = prefix
    if edit: edit(j)
    return finish(Tokenizer.from_str(json.dumps(j)))


def short_words(j): j["model"]["max_input_chars_per_word"] = 8


RULES = {"\ufb01": "fi", "\u2460": "1", "\u212b": "\u00c5", "e\u0301": "\u00e9", "\uff76": "\u30ab", "\uff76\uff9e": "\u30ac", "\u00a0": " ", "\u3000": " ", "\u200b": "", "\ufeff": "", "\u2026": "...", "\u00bd": "1/2", "\u00df": "ss", "\u00b2": "2"}


def fields(b):
    """The fields of a protocol buffer: number, value."""
    i = 0
    def varint():
        nonlocal i; v = s = 0
        while True:
            c = b[i]; i += 1; v |= (c & 127) << s; s += 7
            if c < 128: return v
    while i < len(b):
        key = varint(); n = {0: 0, 1: 8, 5: 4}.get(key & 7)
        if key & 7 == 0: yield key >> 3, varint(); continue
        if n is None: n = varint()
        yield key >> 3, b[i:i + n]; i += n


def sentencepiece(kind, **options):
    import sentencepiece as S
    tsv = "".join(" ".join(f"{ord(c):X}" for c in a) + "\t" + " ".join(f"{ord(c):X}" for c in b) + "\n" for a, b in RULES.items())
    open("/tmp/rules.tsv", "w").write(tsv); out = io.BytesIO()
    S.SentencePieceTrainer.train(sentence_iterator=iter([l.strip() for l in common(120) if l.strip()]), model_writer=out, model_type=kind, vocab_size=options.pop("size", 380), character_coverage=1.0, minloglevel=2,
                                 hard_vocab_limit=False, user_defined_symbols=["<w>", "red fox"], control_symbols=["<|start|>", "<|end|>"], num_threads=1, **options)
    return out.getvalue()


def charsmap():
    """The precompiled normalizer of RULES, as SentencePiece writes it."""
    m = dict((k, v) for k, v in fields(sentencepiece("bpe", normalization_rule_tsv="/tmp/rules.tsv")) if k == 3)
    return dict(fields(m[3]))[2]


def precompiled(j): j["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap()).decode()}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]}


SP = lambda scheme="always": P.Metaspace(prepend_scheme=scheme); SPD = lambda scheme="always": D.Metaspace(prepend_scheme=scheme)
KINDS.update({
    "unigram": lambda: unigram(N.Sequence([N.NFKC(), N.Replace(Regex(" {2,}"), " ")]), P.Sequence([P.WhitespaceSplit(), SP()]), SPD()),
    "unigram-bytes": lambda: unigram(N.Nmt(), P.Metaspace(prepend_scheme="first", split=False), META(D.Strip(" ", 1, 0)), edit=with_bytes),
    "unigram-ties": lambda: unigram(None, P.Metaspace(prepend_scheme="never", split=False), SPD("never"), edit=ties),
    "unigram-precompiled": lambda: unigram(None, SP(), SPD(), edit=precompiled),
    "unigram-accents": lambda: unigram(N.Sequence([N.NFKD(), N.StripAccents(), N.Lowercase()]), SP(), SPD()),
    "wordpiece": lambda: wordpiece(N.BertNormalizer()),
    "wordpiece-cased": lambda: wordpiece(N.BertNormalizer(lowercase=False, strip_accents=False, handle_chinese_chars=False), cleanup=False),
    "wordpiece-short": lambda: wordpiece(N.BertNormalizer(clean_text=False, strip_accents=True, lowercase=False), P.Whitespace(), prefix="@@", edit=short_words),
})

# ---- GGUF: the key-values of a file, without tensors -------------------------------------------------
def gguf(path, kv):
    def text(s): b = s.encode("utf-8"); return struct.pack("<Q", len(b)) + b
    def value(v):
        if isinstance(v, bool): return struct.pack("<IB", 7, v)
        if isinstance(v, int): return struct.pack("<II", 4, v)
        if isinstance(v, str): return struct.pack("<I", 8) + text(v)
        if isinstance(v, bytes): return struct.pack("<IIQ", 9, 0, len(v)) + v
        kind = {str: 8, float: 6, int: 5}[type(v[0])]
        return struct.pack("<IIQ", 9, kind, len(v)) + b"".join(text(x) if kind == 8 else struct.pack("<f" if kind == 6 else "<i", x) for x in v)
    with open(path, "wb") as f:
        f.write(b"GGUF" + struct.pack("<IQQ", 3, 0, len(kv)))
        for k, v in kv.items(): f.write(text(k) + value(v))


def gguf_smollm():
    """Byte-level, pre "smollm": digits one by one, then GPT-2's expression."""
    t = byte_level(P.Sequence([P.Digits(individual_digits=True), P.ByteLevel(add_prefix_space=False)]), add=False)
    t.add_special_tokens([AddedToken("<|start|>", special=True, normalized=False), AddedToken("<|end|>", special=True, normalized=False)])
    t.add_tokens([AddedToken("red fox", special=False, normalized=False)])
    t.post_processor = template("<|start|>")(t)
    j = json.loads(t.to_str()); v = t.get_vocab(with_added_tokens=True); n = len(v); sp = {a["id"]: a["special"] for a in j["added_tokens"]}
    gguf("gguf-smollm/tokenizer.gguf", {"general.architecture": "llama", "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": sorted(v, key=v.get), "tokenizer.ggml.token_type": [3 if sp.get(i) else 4 if i in sp else 1 for i in range(n)],
        "tokenizer.ggml.merges": [" ".join(m) for m in j["model"]["merges"]], "tokenizer.ggml.bos_token_id": v["<|start|>"], "tokenizer.ggml.eos_token_id": v["<|end|>"],
        "tokenizer.ggml.add_bos_token": True})
    return t


def gguf_llama():
    """SentencePiece with scores; merges follow from them: best score first, then longer halves."""
    base = pieces(None, None, None, fuse_unk=True, byte_fallback=True); v = json.loads(base.to_str())["model"]["vocab"]; words = sorted(v, key=v.get); n = len(words)
    mine = next(w for w in words if v[w] >= 259 and len(w) == 2 and w[0] != "▁")   # a piece that is user-defined: matched as a whole, not merged
    normal = [w for w in words if v[w] >= 259 and w != mine]; r = random.Random(5); order = list(range(len(normal))); r.shuffle(order)
    score = {w: -float(order[i]) for i, w in enumerate(normal)}; score[normal[-1]] = score[normal[-2]]   # one tie
    merges = [(score[w], len(w[:i]), len(w[i:]), -v[w], w[:i], w[i:]) for w in normal for i in range(1, len(w)) if w[:i] in score and w[i:] in score]
    merges = [m[4:] for m in sorted(merges, reverse=True)]
    t = Tokenizer(models.BPE(vocab=v, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")]); t.decoder = META(D.Strip(" ", 1, 0))
    t.add_special_tokens([AddedToken(x, special=True, normalized=False) for x in ("<unk>", "<s>", "</s>")])
    t.add_tokens([AddedToken(mine, special=False, normalized=False)])
    t.post_processor = X.TemplateProcessing(single="<s> $A </s>", pair="$A $B", special_tokens=[("<s>", 1), ("</s>", 2)])
    gguf("gguf-llama/tokenizer.gguf", {"general.architecture": "llama", "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.scores": [score.get(w, 0.0) for w in words], "tokenizer.ggml.token_type": [2, 3, 3] + [6] * 256 + [4 if w == mine else 1 for w in words[259:]],
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.unknown_token_id": 0, "tokenizer.ggml.add_eos_token": True})
    return t


def gguf_bert():
    t = Tokenizer.from_str(json.dumps(json.loads(wordpiece(N.BertNormalizer()).to_str()) | {"added_tokens": [], "pre_tokenizer": {"type": "BertPreTokenizer"}}))
    t.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"]); v = t.get_vocab(); words = sorted(v, key=v.get)
    t.post_processor = template("[CLS]", "[SEP]")(t)
    gguf("gguf-bert/tokenizer.gguf", {"general.architecture": "bert", "tokenizer.ggml.model": "bert", "tokenizer.ggml.pre": "jina-v2-en", "tokenizer.ggml.tokens": [w if i < 4 else w[2:] if w.startswith("##") else "▁" + w for i, w in enumerate(words)],
        "tokenizer.ggml.token_type": [3 if i < 4 else 1 for i in range(len(words))], "tokenizer.ggml.unknown_token_id": v["[UNK]"], "tokenizer.ggml.seperator_token_id": v["[SEP]"], "tokenizer.ggml.cls_token_id": v["[CLS]"], "tokenizer.ggml.padding_token_id": v["[PAD]"]})
    return t


# ---- SentencePiece: the library is the truth ----------------------------------------------------------
def model_kinds():
    return {"spm-bpe": lambda: sentencepiece("bpe", size=640, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False),
            "spm-bpe-rules": lambda: sentencepiece("bpe", normalization_rule_tsv="/tmp/rules.tsv", add_dummy_prefix=False),
            "spm-unigram": lambda: sentencepiece("unigram", normalization_rule_tsv="/tmp/rules.tsv"),
            "spm-unigram-bytes": lambda: sentencepiece("unigram", size=640, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False)}


def model_golden(kind, model):
    """Strings with pieces that are matched as a whole are left out: around them the library and transformers differ."""
    import sentencepiece as S
    p = S.SentencePieceProcessor(model_proto=model); matched = [p.id_to_piece(i) for i in range(p.get_piece_size()) if p.is_control(i) or p.is_unknown(i)] + ["<w>", "red fox"]
    with open(f"{kind}/golden.jsonl", "w", encoding="utf-8") as f:
        for s in STRINGS:
            if any(m in s for m in matched): continue
            ids = p.encode(s); f.write(json.dumps({"text": s, "ids": ids, "decoded": p.decode(ids)} if 0 not in ids else {"text": s, "ids": ids}, ensure_ascii=False, separators=(",", ":")) + "\n")


def gguf_t5(model):
    """The Unigram model of spm-unigram as GGUF."""
    pieces, spec = [], b""
    for k, v in fields(model):
        if k == 1: pieces.append(dict(fields(v)))
        if k == 3: spec = dict(fields(v))
    gguf("gguf-t5/tokenizer.gguf", {"general.architecture": "t5", "tokenizer.ggml.model": "t5", "tokenizer.ggml.tokens": [p[1].decode() for p in pieces], "tokenizer.ggml.scores": [struct.unpack("<f", p[2])[0] for p in pieces],
        "tokenizer.ggml.token_type": [p.get(3, 1) for p in pieces], "tokenizer.ggml.precompiled_charsmap": spec[2], "tokenizer.ggml.remove_extra_whitespaces": True, "tokenizer.ggml.add_space_prefix": True,
        "tokenizer.ggml.unknown_token_id": 0, "tokenizer.ggml.eos_token_id": 2})


def golden(kind, t):
    with open(f"{kind}/golden.jsonl", "w", encoding="utf-8") as f:
        for s in STRINGS:
            e, e2, pre = t.encode(s, add_special_tokens=False), t.encode(s), [0]
            for c in s: pre.append(pre[-1] + len(c.encode("utf-8")))
            row = {"text": s, "ids": e.ids, "byte_offsets": [pre[min(v, len(s))] for o in e.offsets for v in o], "ids_special": e2.ids,
                   "decoded": t.decode(e.ids, skip_special_tokens=False), "decoded_skip": t.decode(e2.ids, skip_special_tokens=True)}
            f.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    wanted = lambda kind: len(sys.argv) == 1 or kind in sys.argv[1:]
    for kind, make in KINDS.items():
        if not wanted(kind): continue
        os.makedirs(kind, exist_ok=True)
        j = json.loads(make().to_str())
        if kind == "gpt2": legacy_merges(j)
        if kind == "oldspace": j["pre_tokenizer"]["add_prefix_space"] = False   # older files say it twice
        with open(f"{kind}/tokenizer.json", "w", encoding="utf-8") as f: json.dump(j, f, ensure_ascii=False, separators=(",", ":")); f.write("\n")
        golden(kind, Tokenizer.from_file(f"{kind}/tokenizer.json"))
    for kind, make in {"gguf-smollm": gguf_smollm, "gguf-llama": gguf_llama, "gguf-bert": gguf_bert}.items():
        if wanted(kind): os.makedirs(kind, exist_ok=True); golden(kind, make())
    for kind, make in model_kinds().items():
        if not wanted(kind): continue
        os.makedirs(kind, exist_ok=True); model = make(); open(f"{kind}/tokenizer.model", "wb").write(model); model_golden(kind, model)
        if kind == "spm-unigram": os.makedirs("gguf-t5", exist_ok=True); gguf_t5(model); model_golden("gguf-t5", model)
