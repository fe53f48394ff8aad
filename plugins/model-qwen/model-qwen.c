/* model-qwen.c -- Qwen2 and Qwen2.5 (biases on q, k and v), Qwen3 (q and k normed head by head) and
 * its mixtures of experts.
 *
 * Yang et al. 2024, arXiv:2407.10671 and arXiv:2412.15115; 2025, arXiv:2505.09388.  The window, on
 * the upper layers (of the mixtures on all), is off unless use_sliding_window says otherwise.  Left
 * out: Qwen2's mixtures, which have a shared expert, and vision members.  Held against
 * transformers' logits and gradients (tests/unit/test_model.c). */
#include "decoder/decoder.h"

static const decoder_experts experts = {
    .router = "mlp.gate",
    .inner = "moe_intermediate_size",
    .act = { .alpha = 1 },
};

const decoder_family decoder_families[] = {
    { .model_type = "qwen2",
      .hf_class = "Qwen2ForCausalLM",
      .gguf = "qwen2",
      .traits = DECODER_QKV_BIAS,
      .windows = DECODER_UPPER_LAYERS,
      .window = 4096,
      .eps = 1e-6,
      .theta = 10000 },
    { .model_type = "qwen3",
      .hf_class = "Qwen3ForCausalLM",
      .gguf = "qwen3",
      .traits = DECODER_ATTENTION_BIAS | DECODER_HEAD_NORMS,
      .windows = DECODER_UPPER_LAYERS,
      .window = 4096,
      .head_dim = 128,
      .eps = 1e-6,
      .theta = 10000 },
    { .model_type = "qwen3_moe",
      .hf_class = "Qwen3MoeForCausalLM",
      .gguf = "qwen3moe",
      .traits = DECODER_ATTENTION_BIAS | DECODER_HEAD_NORMS,
      .windows = DECODER_ALL_IF_USED,
      .window = 4096,
      .eps = 1e-6,
      .theta = 10000,
      .experts = &experts },
    { 0 },
};

static const ft_plugin plugin = {
    .abi = FT_ABI_INIT, .role = "ft.model/1", .name = "model-qwen", .version = "0.1.0",
    .summary = "Qwen2, Qwen2.5, Qwen3, Qwen3-MoE", .instance_size = sizeof(decoder),
    .open = decoder_open, .close = decoder_close, .vtable = &decoder_model,
};
FT_PLUGIN(plugin, "model-qwen")
