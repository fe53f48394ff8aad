#!/usr/bin/env python3
"""Makes tests/data/quant/gguf.safetensors: generated numbers, and the blocks that ggml's own quantizers
make of them.

    gguf-vectors.py LIBGGML_BASE.so [OUT]

    x           fp32 [8, 256]: normal numbers of several sizes, one-sided ones, zeros, an outlier
    q4_0 … q4_k uint8: ggml_quantize_chunk of x without an importance matrix

Needs numpy, safetensors, and a libggml (llama-cpp-python brings one)."""
import ctypes
import sys

import numpy as np
from safetensors.numpy import save_file

TYPES = {"q4_0": (2, 32, 18), "q4_1": (3, 32, 20), "q5_0": (6, 32, 22), "q5_1": (7, 32, 24),
         "q8_0": (8, 32, 34), "q4_k": (12, 256, 144)}


def numbers():
    rng = np.random.default_rng(7)
    x = rng.standard_normal((8, 256)).astype(np.float32) * np.float32([[1e-3], [.02], [.02], [1], [30], [1], [1], [1]])
    x[2] = np.abs(x[2])
    x[3, ::7] = 0
    x[5, :96] = 0
    x[6] = 0
    x[7, 40] = 500
    return np.ascontiguousarray(x)


def main():
    lib = ctypes.CDLL(sys.argv[1])
    x, out = numbers(), {}
    out["x"] = x
    for name, (number, elements, size) in TYPES.items():
        raw = np.zeros(x.size // elements * size, np.uint8)
        lib.ggml_quantize_chunk(number, x.ctypes.data_as(ctypes.c_void_p), raw.ctypes.data_as(ctypes.c_void_p),
                                ctypes.c_int64(0), ctypes.c_int64(x.shape[0]), ctypes.c_int64(x.shape[1]), None)
        out[name] = raw
    save_file(out, sys.argv[2] if len(sys.argv) > 2 else "tests/data/quant/gguf.safetensors")


if __name__ == "__main__":
    main()
