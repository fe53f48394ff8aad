"""Makes the files of this folder (run it here; needs numpy, gguf and safetensors from PyPI).

blocks/TYPE.safetensors   raw uint8 [n, bytes of a block], random but with scales of every kind (zero,
                          negative, subnormal, largest), and dequant fp32 [n, elements]: gguf-py's output
small.safetensors         written by the safetensors library: five tensors of other dtypes, metadata
small.gguf                written by gguf-py: a key of every type, plain and block tensors
"""
import os
import gguf
import numpy as np
from gguf import GGMLQuantizationType as T, quants
from safetensors.numpy import save_file

rng = np.random.default_rng(20240817)
# Where a block holds binary16 scales (byte offsets).
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82],
          "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0],
          "MXFP4": []}
os.makedirs("blocks", exist_ok=True)
for name, at in SCALES.items():
    elements, size = gguf.GGML_QUANT_SIZES[T[name]]
    n = 12 if elements == 32 else 6
    raw = rng.integers(0, 256, (n, size), dtype=np.uint8)
    special = np.array([0.0, -0.0, 5.96e-8, -6.0e-5, 65504.0, -1.5], np.float16)
    for o in at:
        scale = (rng.standard_normal(n) * 0.03).astype(np.float16)
        scale[:6] = rng.permutation(special)
        raw[:, o:o + 2] = scale.view(np.uint8).reshape(n, 2)
    if name == "MXFP4":
        raw[:, 0] = [0, 1, 2, 3, 127, 128, 100, 200, 253, 254, 255, 120]
    with np.errstate(all="ignore"):
        save_file({"raw": raw, "dequant": quants.dequantize(raw, T[name]).reshape(n, elements)},
                  f"blocks/{name}.safetensors")

save_file({"f32": np.arange(6, dtype=np.float32).reshape(2, 3), "f16": np.ones((1, 2, 1), np.float16),
           "u8": np.array([1, 2, 3], np.uint8), "i64": np.array(-5, np.int64), "none": np.zeros((0, 4), np.float32)},
          "small.safetensors", metadata={"format": "pt", "note": "größe \"1\""})

w = gguf.GGUFWriter("small.gguf", "llama")
w.add_uint8("t.u8", 200); w.add_int8("t.i8", -100); w.add_uint16("t.u16", 60000); w.add_int16("t.i16", -30000)
w.add_uint32("t.u32", 4000000000); w.add_int32("t.i32", -2000000000); w.add_float32("t.f32", 1.5)
w.add_bool("t.bool", True); w.add_string("t.string", "größe"); w.add_uint64("t.u64", 2**63 + 1)
w.add_int64("t.i64", -2**62); w.add_float64("t.f64", 0.1); w.add_array("t.ints", [1, 2, 3])
w.add_array("tokenizer.ggml.tokens", ["<s>", "</s>", "a", ""])
w.add_bos_token_id(0); w.add_eos_token_id(1); w.add_chat_template("{{ messages[0].content }}")
w.add_tensor("plain.weight", np.arange(6, dtype=np.float32).reshape(2, 3))
w.add_tensor("half.weight", np.arange(4, dtype=np.float16))
w.add_tensor("blocks.weight", quants.quantize(np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 64), T.Q8_0),
             raw_dtype=T.Q8_0)
w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
