/* model-phi3.c -- Phi-3, Phi-3.5-mini, Phi-4 and Phi-4-mini: one projection for q, k and v, one for
 * gate and up; some rotate a part of each head only.
 *
 * Abdin et al. 2024, arXiv:2404.14219.  Longrope: rows up to the original context, where
 * short_factor holds; longer ones are refused.  Left out: Phi-3-small, Phi-3.5-MoE, vision.  Held
 * against transformers' logits and gradients (tests/unit/test_model.c). */
#include "decoder/decoder.h"

const decoder_family decoder_families[] = {
    { .model_type = "phi3",
      .hf_class = "Phi3ForCausalLM",
      .gguf = "phi3",
      .traits = DECODER_FUSED | DECODER_PARTIAL_ROPE,
      .windows = DECODER_ALL_LAYERS,
      .eps = 1e-5,
      .theta = 10000 },
    { 0 },
};

static const ft_plugin plugin = {
    .abi = FT_ABI_INIT, .role = "ft.model/1", .name = "model-phi3", .version = "0.1.0",
    .summary = "Phi-3 and Phi-4", .instance_size = sizeof(decoder),
    .open = decoder_open, .close = decoder_close, .vtable = &decoder_model,
};
FT_PLUGIN(plugin, "model-phi3")
