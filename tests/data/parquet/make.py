#!/usr/bin/env python3
"""Makes the files of this folder (run it here; needs pyarrow from PyPI): Parquet files of every codec,
page version and encoding that data-parquet reads, with the rows that pyarrow reads from them as JSON
lines beside them, and some that must be refused.  All texts are of this script's own."""
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq

rng = random.Random(7)
WORDS = "boat bay gull morning ferry rain größe 한국어 🙂 \\ \" \n \u0000".split(" ")


def text(n):
    return " ".join(rng.choice(WORDS) for _ in range(n))


def message(role):
    calls = rng.choice([None, None, [], [{"name": "f", "args": {"x": "1", "y": text(1)}}, {"name": "g", "args": None}]])
    return {"role": role, "content": rng.choice([None, "", text(rng.randint(1, 9))]), "calls": calls}


CALL = pa.struct([("name", pa.string()), ("args", pa.map_(pa.string(), pa.string()))])
CHAT = pa.schema([("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string()), ("calls", pa.list_(CALL))]))),
                  ("id", pa.int64()), ("weight", pa.float64()), ("good", pa.bool_()), ("grid", pa.list_(pa.list_(pa.int32())))])


def chat_rows(n):
    return [{"messages": rng.choice([None, [], [message(r) for r in ["system", "user", "assistant"][rng.randint(0, 2):]]]) if i else [message("user")],
             "id": rng.choice([None, i, -i, 2**62 + i]), "weight": rng.choice([None, 0.5, -2.25, float(i)]), "good": rng.choice([None, True, False]),
             "grid": rng.choice([None, [], [[]], [None, [1, None, 3]], [[i] * rng.randint(0, 12)]])} for i in range(n)]


def as_json(v):
    if isinstance(v, list) and v and isinstance(v[0], tuple):
        return {k: as_json(x) for k, x in v}
    if isinstance(v, list):
        return [as_json(x) for x in v]
    if isinstance(v, dict):  # an empty map reads as an empty list
        return {k: ({} if k == "args" and x == [] else as_json(x)) for k, x in v.items()}
    return int(v) if isinstance(v, float) and v.is_integer() else v


def write(name, table, expected=None, **how):
    pq.write_table(table, name + ".parquet", **how)
    rows = [as_json(r) for r in (pq.read_table(name + ".parquet").to_pylist() if expected is None else expected)]
    with open(name + ".jsonl", "w", encoding="utf-8", newline="\n") as f:
        f.writelines(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)


for codec in ["none", "snappy", "gzip", "zstd"]:
    for version in ["1.0", "2.0"]:
        t = pa.Table.from_pylist(chat_rows(40), CHAT)
        write(f"chat-{codec}-{version[0]}", t, compression=codec, data_page_version=version, data_page_size=256, write_batch_size=8, row_group_size=17,
              use_dictionary=codec in ["none", "zstd"], write_page_checksum=codec == "zstd", store_schema=False)

N = 70
kinds = pa.table({"u8": pa.array([i % 256 for i in range(N)], pa.uint8()), "u64": pa.array([2**64 - 1 - i for i in range(N)], pa.uint64()), "i16": pa.array([-i for i in range(N)], pa.int16()),
                  "f32": pa.array([i / 4 + 0.25 for i in range(N)], pa.float32()), "bool": pa.array([i % 3 == 0 for i in range(N)]), "text": pa.array([text(2) for _ in range(N)]),
                  "large": pa.array([text(1) for _ in range(N)], pa.large_string()), "word": pa.array([WORDS[i % 4] for i in range(N)]).dictionary_encode(),
                  "bytes": pa.array([b"ab", b"\xff\xfe"] * (N // 2)), "none": pa.nulls(N), "fixed": pa.array([b"abcd"] * N, pa.binary(4)),
                  "money": pa.array([None] * N, pa.decimal128(9, 2)), "nan": pa.array([float("inf"), float("nan")] * (N // 2)), "day": pa.array([i for i in range(N)], pa.date32())})
want = [{**r, "bytes": "ab" if i % 2 == 0 else None, "fixed": None, "nan": None, "day": i} for i, r in enumerate(kinds.to_pylist())]
for version in ["1.0", "2.0"]:
    write("kinds-" + version[0], kinds, want, data_page_version=version, data_page_size=128, write_batch_size=16, store_schema=False)
write("empty", pa.table({"text": pa.array([], pa.string())}), store_schema=False)
pq.write_table(pa.table({"text": ["same"] * 5000, "none": pa.nulls(5000, pa.string())}), "long-run.parquet", compression="none", store_schema=False)

one = pa.table({"text": ["a", "b"]})
for codec in ["brotli", "lz4"]:
    pq.write_table(one, f"refused-{codec}.parquet", compression=codec)
pq.write_table(one, "refused-delta.parquet", use_dictionary=False, column_encoding={"text": "DELTA_BYTE_ARRAY"}, compression="none")

chat = [{"messages": [{"role": "user", "content": f"question {i}"}, {"role": "assistant", "content": f"answer {i}"}]} for i in range(3)]
pq.write_table(pa.Table.from_pylist(chat), "messages.parquet")
