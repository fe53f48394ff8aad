"""Holds the safetensors reader and writer against the reference (run by hand from the repository root).

    python tests/tools/diff_safetensors.py [--files 10000] [--seed 1] [--build build]

Needs safetensors, torch, numpy; transformers for --model DIR, which writes that model sharded by our writer
and opens it there. Mutates small valid files (bytes, tokens of the header, offsets, lengths, duplicated and
dropped parts) and compares who accepts what. Each disagreement must have one of the reasons in REASONS, each
a rule chosen on purpose; any other one is printed and makes the exit status 1. Where both accept, names,
dtypes, shapes, data and metadata must be equal.
"""
import argparse, collections, ctypes as C, json, os, random, struct, subprocess, sys, tempfile

import safetensors
from safetensors import deserialize, safe_open

# What our message says where the reference accepts, and why that is so.
REASONS = {
    "stands there twice": "10: a tensor name or __metadata__ twice (the reference: the last one wins)",
    "duplicate key": "9, 11: a key twice inside __metadata__ or an unknown field",
    "name of a tensor is empty": "25: empty name",
    "holds a zero byte": "25: zero byte in a name",
    "is not plain text": "8: zero byte in a metadata key or value",
    "\"__metadata__\" is not an object": "8: __metadata__ is null",
    "its entry is not an object": "12: entry written as a list [dtype, shape, offsets]",
    "\"dtype\" is missing or no text": "13: dtype written as {\"F32\": null}, or with a zero byte",
    "does not fit into 64 bits": "17: a product that overflows beside a dimension of 0",
    "integers from 0 to 2^63-1": "14: an integer of 2^63 and more",
    "dimensions; at most 8": "at most 8 dimensions",
}


class Err(C.Structure):
    _fields_ = [("code", C.c_int), ("msg", C.c_char * 2048)]


class Tensor(C.Structure):
    _fields_ = [("name", C.c_char_p), ("dtype", C.c_int), ("ndim", C.c_int32), ("dim", C.c_int64 * 8),
                ("scheme", C.c_char_p), ("data", C.c_void_p), ("bytes", C.c_uint64)]


def load(build):
    so = os.path.join(tempfile.mkdtemp(), "libft.so")
    subprocess.run(["cc", "-shared", "-o", so, "-Wl,--whole-archive", f"{build}/libft.a", "-Wl,--no-whole-archive",
                    "-lyaml", "-lpcre2-8", "-lm"], check=True)
    lib = C.CDLL(so)
    for name, result, args in [
            ("ft_tensors_parse", C.c_void_p, [C.c_char_p, C.c_char_p, C.c_size_t, C.c_uint, C.POINTER(Err)]),
            ("ft_tensors_open", C.c_void_p, [C.c_char_p, C.POINTER(Err)]),
            ("ft_tensors_close", None, [C.c_void_p]), ("ft_tensors_count", C.c_size_t, [C.c_void_p]),
            ("ft_tensors_at", C.POINTER(Tensor), [C.c_void_p, C.c_size_t]),
            ("ft_tensors_note", C.c_char_p, [C.c_void_p, C.c_char_p]),
            ("ft_dtype_name", C.c_char_p, [C.c_int]), ("ft_dtype_find", C.c_int, [C.c_char_p]),
            ("ft_st_new", C.c_void_p, [C.POINTER(Err)]), ("ft_st_free", None, [C.c_void_p]),
            ("ft_st_note", C.c_int, [C.c_void_p, C.c_char_p, C.c_char_p, C.POINTER(Err)]),
            ("ft_st_declare", C.c_int64, [C.c_void_p, C.c_char_p, C.c_int, C.POINTER(C.c_int64), C.c_int, C.POINTER(Err)]),
            ("ft_st_begin", C.c_int, [C.c_void_p, C.c_char_p, C.c_uint64, C.POINTER(Err)]),
            ("ft_st_write", C.c_int, [C.c_void_p, C.c_int64, C.c_char_p, C.c_size_t, C.POINTER(Err)]),
            ("ft_st_commit", C.c_int, [C.c_void_p, C.POINTER(Err)])]:
        f = getattr(lib, name)
        f.restype, f.argtypes = result, args
    return lib


def ours(lib, data):
    """(tensors by name, None) or (None, message)."""
    e = Err()
    keep = C.create_string_buffer(data, len(data))
    s = lib.ft_tensors_parse(b"f", C.cast(keep, C.c_char_p), len(data), 0, C.byref(e))
    if not s:
        assert e.code < 0 and e.msg, data
        return None, e.msg.decode(errors="replace")
    out = {}
    for i in range(lib.ft_tensors_count(s)):
        t = lib.ft_tensors_at(s, i).contents
        out[t.name.decode()] = (lib.ft_dtype_name(t.dtype).decode(), list(t.dim[:t.ndim]),
                                C.string_at(t.data, t.bytes) if t.bytes else b"")
    try:
        header = json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])
    except ValueError:
        header = {}
    for k, v in (header.get("__metadata__") or {}).items():
        assert lib.ft_tensors_note(s, k.encode()) == v.encode(), (k, v)
    lib.ft_tensors_close(s)
    return out, None


def name_twice(data):
    pairs = []
    try:
        json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]], object_pairs_hook=lambda x: pairs.append([k for k, _ in x]))
    except ValueError:
        return False
    return bool(pairs) and len(set(pairs[-1])) < len(pairs[-1]) # the outermost object comes last


def theirs(data):
    try:
        return {n: (t["dtype"], list(t["shape"]), bytes(t["data"])) for n, t in deserialize(data)}, None
    except (safetensors.SafetensorError, ValueError) as x:
        return None, str(x)


def seeds():
    def f(header, n):
        h = header.encode() if isinstance(header, str) else header
        return struct.pack("<Q", len(h)) + h + bytes(i & 255 for i in range(n))
    one = '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    return [
        f(one, 8),
        f('{"__metadata__":{"k":"v","x":"y"},"a":{"dtype":"I16","shape":[1,3],"data_offsets":[0,6]},'
          '"b":{"dtype":"U8","shape":[],"data_offsets":[6,7]},"c":{"dtype":"F4","shape":[4],"data_offsets":[7,9]}}', 9),
        f('{"z":{"dtype":"F64","shape":[0,3],"data_offsets":[4,4]},"y":{"dtype":"BF16","shape":[2,1],"data_offsets":'
          '[0,4]},"\\u00e9":{"dtype":"BOOL","shape":[1],"data_offsets":[4,5]}}   ', 5),
        f("{}", 0),
    ]


TOKENS = ["{", "}", "[", "]", ",", ":", '"', "0", "1", "-", ".", "e", "9", " ", "\n", "null", "true", '"a"', '"b"', "0,", "[]", "{}",
          '"dtype"', '"shape"', '"data_offsets"', '"__metadata__"', '"F32"', '"U8"', '"F4"', '"F8_E4M3FNUZ"', "\\u0000", "\\ud800",
          "\\n", '"":', '"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},', '"x":1,', '"k":"v",', "9223372036854775807",
          "18446744073709551615", "18446744073709551616", "4294967296", "0,4294967296,4294967296", "1.0", "1e0", "-0", "01",
          '{"F32":null}', '["F32",[2],[0,8]]', "\xff", "é"]


def mutate(rng, data):
    n = struct.unpack("<Q", data[:8])[0]
    h, body = bytearray(data[8:8 + n]), bytearray(data[8 + n:])
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3, 5])):
        kind, at = rng.randrange(10), rng.randrange(len(h) + 1)
        if kind == 0 and h:
            h[at % len(h)] ^= 1 << rng.randrange(8)
        elif kind <= 3:
            h[at:at + rng.choice([0, 0, 1, 2])] = rng.choice(TOKENS).encode("latin-1" if rng.random() < .5 else "utf-8")
        elif kind == 4:
            del h[at:at + rng.randrange(1, 8)]
        elif kind == 5:
            end = min(len(h), at + rng.randrange(1, 70))
            h[end:end] = h[at:end]
        elif kind == 6:
            digits = [i for i, c in enumerate(h) if 48 <= c < 58]
            if digits:
                h[rng.choice(digits)] = 48 + rng.randrange(10)
        elif kind == 7:
            body += bytes(rng.randrange(1, 9))
        elif kind == 8:
            del body[rng.randrange(len(body) + 1):]
        else: # a name or word takes the place of another
            words = [i for i, c in enumerate(h) if c == 34]
            if len(words) > 3:
                i, j = rng.sample(range(len(words) - 1), 2)
                h[words[i]:words[i + 1]] = h[words[j]:words[j + 1]]
    length = len(h) if rng.random() < .97 else rng.choice([0, len(h) + 1, len(h) - 1, 100000001, 2**63, 2**64 - 1, rng.randrange(1 << 16)])
    return struct.pack("<Q", length % 2**64) + bytes(h) + bytes(body)


BITS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "U8": 8, "F8_E5M2FNUZ": 8, "BF16": 16, "F32": 32, "C64": 64, "F9": 8}


def structured(rng):
    """A small file that is right but for, mostly, one value."""
    def odd(p, right, *wrong):
        return rng.choice(wrong) if rng.random() < p else right
    parts, at, n = [], 0, rng.randrange(5)
    for i in range(n):
        name = odd(.1, f"t{i}", "t0", "", "\\u0000", "x\\u0000y", "\\ud800", "\\ud83d\\ude00", "__metadata__", "\\u0074\\u0030")
        dtype = rng.choice(list(BITS)) if rng.random() < .97 else "f32"
        shape = [rng.choice([0, 1, 2, 3, 4, 8]) for _ in range(odd(.05, rng.randrange(4), 8, 9, 12))]
        size = BITS.get(dtype, 32)
        for d in shape:
            size *= d
        size = min(size // 8, 4096) + odd(.05, 0, 1, -1)
        size = max(size, 0)
        begin, end = at + odd(.04, 0, 1, -1), at + size
        at = end
        text = ",".join(odd(.03, str(d), f"{d}.0", f"-{d}", f"{d}e0", "4294967296,4294967296,4294967296,0", "0,4294967296,4294967296",
                            "9223372036854775808,0", "18446744073709551616,0", f'"{d}"', "null") for d in shape)
        fields = [f'"dtype":"{dtype}"', f'"shape":[{text}]', f'"data_offsets":[{begin},{end}]']
        fields[0] = odd(.03, fields[0], f'"dtype":{{"{dtype}":null}}', '"dtype":null', '"dtype":7', f'"dtype":["{dtype}"]')
        fields[2] = odd(.03, fields[2], f'"data_offsets":[{begin},{end},0]', f'"data_offsets":[{end}]', f'"data_offsets":[{end},{begin}]',
                        f'"data_offsets":{{"0":{begin},"1":{end}}}', f'"data_offsets":[{begin}.0,{end}]')
        if rng.random() < .06:
            fields.append(rng.choice(['"x":1', '"x":{"a":1,"a":2}', '"x":null', '"x":[[[]]]', '"":0', fields[0], fields[1]]))
        if rng.random() < .04:
            fields.pop(rng.randrange(len(fields)))
        rng.shuffle(fields)
        entry = "{" + ",".join(fields) + "}"
        entry = odd(.03, entry, "null", "{}", "7", f'["{dtype}",[{text}],[{begin},{end}]]')
        parts.append(f'"{name}":{entry}')
    for _ in range(odd(.1, rng.randrange(2), 2)):
        kv = ",".join(odd(.1, f'"k{i}":"v"', '"k0":"w"', '"k":7', '"k":null', '"":""', '"\\u0000":"v"', '"k":"a\\u0000"', '"k":{}')
                      for i in range(rng.randrange(4)))
        parts.append('"__metadata__":' + odd(.1, "{" + kv + "}", "null", "[]", '"x"', "7"))
    rng.shuffle(parts)
    space = lambda: odd(.1, "", " ", "\n\t", "\r", "\f", "\0", "\ufeff")
    h = (space() + "{" + space() + ",".join(parts) + odd(.02, "", ",") + "}" + space()).encode()
    return struct.pack("<Q", len(h)) + h + bytes(max(0, at + odd(.03, 0, 1, -1)))


def differential(lib, count, seed):
    rng, tally, bad = random.Random(seed), collections.Counter(), 0
    start = seeds()
    for i in range(count):
        data = structured(rng) if i % 2 else mutate(rng, rng.choice(start))
        a, why = ours(lib, data)
        b, other = theirs(data)
        if a is not None and b is not None:
            if a != b:
                bad += 1
                print("READ DIFFERENTLY", data)
            tally["both accept"] += 1
        elif a is None and b is None:
            tally["both refuse"] += 1
        else:
            reason = next((r for s, r in REASONS.items() if a is None and s in why), None)
            if not reason and a is None and name_twice(data):
                reason = "10: an entry that is wrong, which the reference drops for a later one of that name"
            if not reason:
                bad += 1
                print("NO REASON", data, "| ours:", why or "accepted", "| reference:", other or "accepted")
            tally["refused only here – " + str(reason)] += 1
    for k, v in sorted(tally.items()):
        print(f"{v:7d}  {k}")
    return bad


def written_model(lib, model):
    """Our writer, sharded: safetensors and transformers open it and see the same numbers."""
    import torch
    from transformers import AutoModelForCausalLM
    e, out = Err(), tempfile.mkdtemp()
    with safe_open(f"{model}/model.safetensors", "pt") as f:
        tensors = {k: f.get_tensor(k) for k in f.keys()}
    tensors["odd"] = torch.arange(3, dtype=torch.uint8) # leaves what follows it misaligned, if nothing is done
    names = {torch.float32: b"F32", torch.float16: b"F16", torch.bfloat16: b"BF16", torch.uint8: b"U8", torch.int64: b"I64"}
    for limit in (0, 40000):
        w = lib.ft_st_new(C.byref(e))
        lib.ft_st_note(w, b"format", b"pt", C.byref(e))
        items = sorted(tensors.items(), key=lambda x: x[0] != "odd")
        for k, t in items:
            assert lib.ft_st_declare(w, k.encode(), lib.ft_dtype_find(names[t.dtype]), (C.c_int64 * 8)(*t.shape), t.dim(), C.byref(e)) >= 0, e.msg
        assert lib.ft_st_begin(w, f"{out}/model.safetensors".encode(), limit, C.byref(e)) == 0, e.msg
        for i, (k, t) in enumerate(items):
            raw = t.contiguous().view(torch.uint8).numpy().tobytes() if t.dim() else t.reshape(1).view(torch.uint8).numpy().tobytes()
            for at in range(0, len(raw), 999):
                assert lib.ft_st_write(w, i, raw[at:at + 999], len(raw[at:at + 999]), C.byref(e)) == 0, e.msg
        assert lib.ft_st_commit(w, C.byref(e)) == 0, e.msg
        lib.ft_st_free(w)
        files = sorted(x for x in os.listdir(out) if x.endswith(".safetensors"))
        seen = {}
        for x in files:
            with safe_open(f"{out}/{x}", "pt") as f:
                assert f.metadata() == {"format": "pt"}
                seen.update({k: f.get_tensor(k) for k in f.keys()})
        assert seen.keys() == tensors.keys() and all(torch.equal(seen[k], tensors[k]) for k in tensors)
        subprocess.run(["cp", f"{model}/config.json", out], check=True)
        m, ref = AutoModelForCausalLM.from_pretrained(out), AutoModelForCausalLM.from_pretrained(model)
        assert all(torch.equal(p, q) for p, q in zip(m.parameters(), ref.parameters()))
        print(f"written with limit {limit}: {len(files)} files, opened by safetensors and transformers, equal")


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--files", type=int, default=10000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--build", default="build")
    p.add_argument("--model")
    args = p.parse_args()
    library = load(args.build)
    wrong = differential(library, args.files, args.seed)
    if args.model:
        written_model(library, args.model)
    sys.exit(wrong != 0)
