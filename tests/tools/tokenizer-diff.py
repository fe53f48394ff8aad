#!/usr/bin/env python3
"""Holds the tokenizer plugins against HF tokenizers on random strings.

  tokenizer-diff.py [--build build] [--strings 100000] [--seed 1] [--golden] DIR_OR_GGUF…

DIR holds a tokenizer.json; a GGUF file is compared with HF tokenizers reading the tokenizer.json that
the plugin writes for it.  Compared are: ids, byte offsets, ids with special tokens around, and both
decoded texts.  --golden reads DIR/golden.jsonl instead of making strings.  --speed FILE times both on
one text.  --classes takes every character assigned in Unicode 14 in a few surroundings instead of random strings.
--borders keeps the steps of a tokenizer.json, takes a model that shows where its words end, and compares ids alone.
Needs Python 3.11 (its tables are Unicode 14's), the package tokenizers and a C compiler.
Exit status 1 when anything differs."""
import argparse, json, os, random, struct, subprocess, sys, tempfile, time, unicodedata

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("RAYON_NUM_THREADS", "1")
from tokenizers import Tokenizer

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def build_helper(build):
    out = os.path.join(build, "tests", "tokenizer-helper")
    os.makedirs(os.path.dirname(out), exist_ok=True)
    subprocess.check_call([os.environ.get("CC", "cc"), "-std=gnu11", "-O1", "-g", "-D_GNU_SOURCE", *os.environ.get("SAN", "").split(),
                           "-I.", "-Iinclude", "-Itests", "tests/tools/tokenizer-helper.c", f"{build}/libft.a", "-ldl", "-lm", "-o", out], cwd=ROOT)
    return out


class Ours:
    def __init__(self, helper, build, path, plugin):
        kind = "json" if os.path.isdir(path) else "gguf"
        self.p = subprocess.Popen([helper, build, plugin, kind, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)

    def read(self, n):
        b = self.p.stdout.read(n)
        if len(b) != n: raise SystemExit(f"the helper ended: {self.p.wait()}")
        return b

    def u32(self): return struct.unpack("<I", self.read(4))[0]
    def ids(self, n): return list(struct.unpack(f"<{n}I", self.read(4 * n)))
    def text(self): return self.read(self.u32()).decode("utf-8")

    def ask(self, text):
        b = text.encode("utf-8")
        self.p.stdin.write(struct.pack("<I", len(b)) + b); self.p.stdin.flush()
        if struct.unpack("<i", self.read(4))[0]: return {"error": self.text()}
        n = self.u32(); r = {"ids": self.ids(n)}; lo, hi = self.ids(n), self.ids(n)
        r["byte_offsets"] = [v for p in zip(lo, hi) for v in p]
        r["ids_special"] = self.ids(self.u32() // 4)
        r["decoded"] = self.text(); r["decoded_skip"] = self.text()
        return r

    def decode(self, ids):
        b = struct.pack(f"<{len(ids)}I", *ids)
        self.p.stdin.write(struct.pack("<II", 0xFFFFFFFD, len(b)) + b); self.p.stdin.flush()
        return self.text(), self.text()

    def json(self):
        self.p.stdin.write(struct.pack("<I", 0xFFFFFFFF)); self.p.stdin.flush()
        return self.text()

    def seconds(self, text):
        b = text.encode("utf-8")
        self.p.stdin.write(struct.pack("<II", 0xFFFFFFFE, len(b)) + b); self.p.stdin.flush()
        return struct.unpack("<Q", self.read(8))[0] / 1e9


PLUGINS = {"BPE": "tokenizer-bpe", "Unigram": "tokenizer-unigram", "WordPiece": "tokenizer-wordpiece"}


def plugin_for(path):
    """By the model of a tokenizer.json; GGUF files and folders with a tokenizer.model are tokenizer-bpe's unless --plugin says so."""
    f = os.path.join(path, "tokenizer.json")
    return PLUGINS[json.load(open(f, encoding="utf-8"))["model"]["type"]] if os.path.exists(f) else "tokenizer-bpe"


def theirs(tok, text):
    e = tok.encode(text, add_special_tokens=False); e2 = tok.encode(text)
    pre = [0]
    for c in text: pre.append(pre[-1] + len(c.encode("utf-8")))
    return {"ids": e.ids, "byte_offsets": [pre[min(v, len(text))] for o in e.offsets for v in o], "ids_special": e2.ids,
            "decoded": tok.decode(e.ids, skip_special_tokens=False), "decoded_skip": tok.decode(e2.ids, skip_special_tokens=True)}


# ---- strings ---------------------------------------------------------------------------------------
ASSIGNED = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF and unicodedata.category(chr(c)) != "Cn"]
PLAIN = [c for c in ASSIGNED if not 0xE000 <= c <= 0xF8FF and c < 0xF0000]
MARKS = [c for c in PLAIN if unicodedata.category(chr(c))[0] == "M"]
SPACES = [c for c in PLAIN if chr(c).isspace() or c in (0x180E, 0x200B, 0xFEFF)]
DIGITS = [c for c in PLAIN if unicodedata.category(chr(c))[0] == "N"]
PUNCT = [c for c in PLAIN if unicodedata.category(chr(c))[0] in "PS"]
DECOMP = [c for c in PLAIN if unicodedata.decomposition(chr(c))]
RANGES = [(0x61, 0x7A), (0x41, 0x5A), (0x20, 0x7E), (0x0, 0x7F), (0xA0, 0x24F), (0x370, 0x3FF), (0x400, 0x4FF), (0x5D0, 0x5EA), (0x620, 0x64A), (0x905, 0x939),
          (0xE01, 0xE3A), (0x1100, 0x11FF), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x4FFF), (0xAC00, 0xAFFF), (0xFF01, 0xFF5E), (0x1F300, 0x1F6FF), (0x1D400, 0x1D4FF), (0x2500, 0x25FF)]
WORDS = ("the of and to in a is that it was for on with he as his they be at one have this from or had by hot but some what there we can out other were all your when up use word how said an "
         "each she which do their time if will way about many then them would write like so these her long make thing see him two has look more day could go come did my sound no most number who over "
         "I'm you're we've he'll she'd it's DON'T CAN'T 'S o'clock don’t camelCase HTTPResponse snake_case x1 2nd C++ #include <html> {\"a\": [1,2]} https://a.b/c?d=e#f foo@bar.com "
         "naïve café Straße Ünïcödé Привет мир 안녕하세요 세계 こんにちは 世界 你好 مرحبا नमस्ते สวัสดี שלום Γειά ΣΊΣΥΦΟΣ İstanbul ĲSSEL ﬁn 'ſ 1,000,000 3.14159 -2e10 0x1F ١٢٣ ½ Ⅷ ①").split()
SPECIALS = ["\r\n", "\n\n", "\n", "\t", "  ", "   ", " ", " ", "\r", "\u00a0", "\u3000", "'s", "'S", "'ll", "'", "’", "▁", "Ġ", "<0x0A>", "\u200d", "\u0301", "\u0323", "\ufffd", "/", "\x00", "😀", "👨‍👩‍👧‍👦", "🇰🇷"]


def one_string(r, added):
    parts = []
    for _ in range(r.choice((1, 2, 3, 5, 8, 13, 30))):
        k = r.randrange(14)
        if k == 0: parts.append(chr(r.choice(PLAIN)) * r.choice((1, 1, 2, 3)))
        elif k == 1: parts.append(chr(r.choice(SPACES)) * r.choice((1, 1, 2, 5)))
        elif k == 2: parts.append("".join(chr(r.choice(DIGITS if r.random() < .3 else range(48, 58))) for _ in range(r.randrange(1, 8))))
        elif k == 3: parts.append("".join(chr(r.choice(PUNCT if r.random() < .3 else range(33, 48))) for _ in range(r.randrange(1, 5))))
        elif k == 4: parts.append(chr(r.choice(range(97, 123))) + "".join(chr(r.choice(MARKS)) for _ in range(r.randrange(1, 4))))
        elif k == 5: parts.append(chr(r.choice(DECOMP)))
        elif k == 6 and added:
            a = r.choice(added); parts.append(r.choice((a, a, a, a[:-1], a.upper(), " " + a + " ", "\n " + a, a + " \t", a + a, unicodedata.normalize("NFD", a))))
        elif k in (7, 8): parts.append(r.choice(SPECIALS))
        elif k == 9:
            a, b = r.choice(RANGES); parts.append("".join(chr(r.randint(a, b)) for _ in range(r.randrange(1, 12))))
        elif k == 10 and r.random() < .1: parts.append(r.choice(("a", "ab", "xyz", "한", "0", " ", "=", "\n", "e\u0301", "Aa")) * r.choice((30, 70, 300)))
        else: parts.append(r.choice(("", " ", " ")) + r.choice(WORDS))
    s = "".join(parts)
    if r.random() < .05:  # what becomes of invalid UTF-8
        b = bytearray(s.encode("utf-8"))
        for _ in range(3):
            if b: b[r.randrange(len(b))] = r.choice((0x80, 0xC3, 0xE2, 0xF0, 0xFF, 0xED))
        s = b.decode("utf-8", "replace")
    return "".join(c for c in s if unicodedata.category(c) != "Cn")


def compare(ours, rows, keys):
    bad = n = tokens = 0
    for want in rows:
        got = ours.ask(want["text"])
        n += 1; tokens += len(want["ids"])
        wrong = [k for k in keys if got.get(k) != want[k]]
        if wrong:
            bad += 1
            if bad <= 2:
                print(f"  {ascii(want['text'])[:300]}: {', '.join(wrong)}", got.get("error", ""))
                for k in wrong[:2]: print(f"    want {k} {ascii(want[k])[:300]}\n    got  {k} {ascii(got.get(k))[:300]}")
    return bad, n, tokens


def compare_decoding(ours, tok, r, n):
    """Random ids, unknown ones among them; few different ones, so that neighbours join."""
    size = max(tok.get_vocab(with_added_tokens=True).values()) + 1; bad = 0
    for _ in range(n):
        top = r.choice((3, 262, 300, size, size + 2))
        ids = [r.randrange(top) for _ in range(r.choice((0, 1, 2, 3, 8, 40)))]
        want = tok.decode(ids, skip_special_tokens=False), tok.decode(ids, skip_special_tokens=True)
        if ours.decode(ids) != want:
            bad += 1
            if bad <= 3: print("  decode", ids, "want", ascii(want), "got", ascii(ours.decode(ids)))
    return bad


def every_character():
    """Each assigned character in a few surroundings, 50 to a string."""
    for i in range(0, len(PLAIN), 50):
        for form in ("a{0}b {0} 1{0}2", " {0}'s{0}", "{0}\n{0} ", "\u0323{0}\u0301A{0}"):
            yield "".join(form.format(chr(c)) for c in PLAIN[i:i + 50])


def borders_only(spec):
    """The same steps with a model that shows where words end: every character is a token of its own, and another one
    at the end of a word.  A small vocabulary hides most borders, since its merges do not cross them anyway."""
    from tokenizers.pre_tokenizers import ByteLevel
    tokens = ["<unk>"] + [f"<0x{i:02X}>" for i in range(256)] + [c + e for e in ("", "|") for c in sorted(set(ByteLevel.alphabet()) | set("▁ "))]
    vocab = {}
    for t in tokens: vocab.setdefault(t, len(vocab))
    added = [dict(t, id=len(vocab) + i) for i, t in enumerate(t for t in spec["added_tokens"] if t["content"] not in vocab)]
    model = {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": "|", "fuse_unk": False,
             "byte_fallback": True, "ignore_merges": False, "vocab": vocab, "merges": []}
    return dict(spec, model=model, added_tokens=added, post_processor=None)


def main():
    a = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    a.add_argument("paths", nargs="+"); a.add_argument("--build", default="build"); a.add_argument("--strings", type=int, default=100000)
    a.add_argument("--seed", type=int, default=1); a.add_argument("--golden", action="store_true"); a.add_argument("--speed"); a.add_argument("--classes", action="store_true"); a.add_argument("--borders", action="store_true"); a.add_argument("--plugin")
    a = a.parse_args()
    helper = build_helper(os.path.join(ROOT, a.build) if not os.path.isabs(a.build) else a.build); failed = False
    for path in a.paths:
        name = path
        if a.borders:
            spec = borders_only(json.load(open(os.path.join(path, "tokenizer.json")))); path = tempfile.mkdtemp()
            json.dump(spec, open(os.path.join(path, "tokenizer.json"), "w"))
        if os.path.exists(os.path.join(path, "tokenizer.gguf")): path = os.path.join(path, "tokenizer.gguf")
        ours = Ours(helper, a.build, os.path.abspath(path), a.plugin or plugin_for(path))
        if os.path.isdir(path): tok = Tokenizer.from_file(os.path.join(path, "tokenizer.json")); spec = json.load(open(os.path.join(path, "tokenizer.json")))
        else: text = ours.json(); tok = Tokenizer.from_str(text); spec = json.loads(text)
        if a.speed:
            text = open(a.speed, encoding="utf-8").read(); n = len(text.encode("utf-8")); best = 1e9
            tok.no_truncation()
            for _ in range(2): t0 = time.perf_counter(); tok.encode(text, add_special_tokens=False); best = min(best, time.perf_counter() - t0)
            s = ours.seconds(text); print(f"{path}: ours {n / s / 1e6:.1f} MB/s, HF {n / best / 1e6:.2f} MB/s, ratio {best / s:.1f}"); continue
        r = random.Random(a.seed); added = [t["content"] for t in spec["added_tokens"]]
        if a.golden: rows = [json.loads(l) for l in open(os.path.join(name, "golden.jsonl"), encoding="utf-8")]
        else: rows = ({"text": t, **theirs(tok, t)} for t in (every_character() if a.classes else (one_string(r, added) for _ in range(a.strings))))
        bad, n, tokens = compare(ours, rows, ("ids",) if a.borders else ("ids", "byte_offsets", "ids_special", "decoded", "decoded_skip"))
        undone = 0 if a.golden else compare_decoding(ours, tok, r, a.strings)
        print(f"{name}: {n} strings, {tokens} tokens, {bad} differ" + ("" if a.golden else f"; {a.strings} lists of ids decoded, {undone} differ"), flush=True)
        failed |= bad + undone > 0
    sys.exit(failed)


main()
