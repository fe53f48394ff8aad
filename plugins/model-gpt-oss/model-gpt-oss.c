/* model-gpt-oss.c -- gpt-oss: experts with a clamped SwiGLU, attention sinks, a window on every
 * second layer, YaRN.
 *
 * OpenAI 2025, arXiv:2508.10925; weight names as in transformers' GptOssForCausalLM.  The experts'
 * MXFP4 form is read by quant-mxfp4.  Held against transformers' logits and gradients
 * (tests/unit/test_model.c). */
#include "decoder/decoder.h"

static const decoder_experts experts = {
    .router = "mlp.router",
    .router_bias = true,
    .flags = FT_BIAS | FT_BY_IN,
    .joined = true,
    .inner = "intermediate_size",
    .normed = true,
    .act = { .interleaved = true, .alpha = 1.702, .limit = 7, .plus = 1 },
};

const decoder_family decoder_families[] = {
    { .model_type = "gpt_oss",
      .hf_class = "GptOssForCausalLM",
      .gguf = "gpt-oss",
      .traits = DECODER_QKV_BIAS | DECODER_ATTENTION_BIAS | DECODER_SINKS,
      .windows = DECODER_ALTERNATING,
      .window = 128,
      .every = 2,
      .head_dim = 64,
      .eps = 1e-5,
      .theta = 150000,
      .experts = &experts },
    { 0 },
};

static const ft_plugin plugin = {
    .abi = FT_ABI_INIT, .role = "ft.model/1", .name = "model-gpt-oss", .version = "0.1.0",
    .summary = "gpt-oss", .instance_size = sizeof(decoder),
    .open = decoder_open, .close = decoder_close, .vtable = &decoder_model,
};
FT_PLUGIN(plugin, "model-gpt-oss")
