#!/usr/bin/env python3
"""Makes the packed row files of this folder: python3 make.py (needs libzstd.so.1).

rows.jsonl.gz, rows.jsonl.zst    200 rows {"text": "row N …"}, Zstandard with a check sum
members.gz, frames.zst           the same rows in two members or frames
window.zst                       a frame that asks for a window of 64 MiB
blank.gz, blank.zst              20 MiB of line breaks
long.zst                         a row of 1.1 GiB
"""
import ctypes
import gzip
import os

HERE = os.path.dirname(os.path.abspath(__file__))
zstd = ctypes.CDLL("libzstd.so.1")
for f in ("ZSTD_createCCtx", "ZSTD_compressBound", "ZSTD_compress2"):
    getattr(zstd, f).restype = ctypes.c_void_p if f == "ZSTD_createCCtx" else ctypes.c_size_t
CHECKSUM, WINDOW, LEVEL = 201, 101, 100


def pack(data, **params):
    """A Zstandard frame, streamed in blocks so that no content size is stored when `stream`."""
    cctx = ctypes.c_void_p(zstd.ZSTD_createCCtx())
    for key, value in ((CHECKSUM, 1), (LEVEL, 19), *((k, v) for k, v in params.get("set", ()))):
        zstd.ZSTD_CCtx_setParameter(cctx, key, value)
    room = zstd.ZSTD_compressBound(ctypes.c_size_t(len(data)))
    out = ctypes.create_string_buffer(room)
    n = zstd.ZSTD_compress2(cctx, out, ctypes.c_size_t(room), data, ctypes.c_size_t(len(data)))
    return out.raw[:n]


def put(name, data):
    with open(os.path.join(HERE, name), "wb") as f:
        f.write(data)


rows = b"".join(b'{"text": "row %d %s"}\n' % (i, b"x%d " % (i * 7919 % 1000) * (i % 9)) for i in range(200))
half = rows.index(b"\n", len(rows) // 2) + 1
put("rows.jsonl.gz", gzip.compress(rows, mtime=0))
put("members.gz", gzip.compress(rows[:half], mtime=0) + gzip.compress(rows[half:], mtime=0))
put("rows.jsonl.zst", pack(rows))
put("frames.zst", pack(rows[:half]) + pack(rows[half:]))
# A frame header by hand: no single segment, window of 2^26, then the rows as one raw block.
put("window.zst", bytes([0x28, 0xB5, 0x2F, 0xFD, 0x00, (26 - 10) << 3]) + ((len(rows) << 3) | 1).to_bytes(3, "little") + rows)
put("blank.gz", gzip.compress(b"\n" * (20 << 20), mtime=0))
put("blank.zst", pack(b"\n" * (20 << 20)))
chunk = pack(b"x" * (32 << 20))
put("long.zst", pack(b'{"text": "') + chunk * 36)
