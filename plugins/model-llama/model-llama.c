/* model-llama.c -- LLaMA 1 to 3 and every checkpoint of type llama (SmolLM2 …), and Mistral, which
 * is the same with a window on the attention of all layers.
 *
 * Touvron et al. 2023, arXiv:2302.13971; Jiang et al. 2023, arXiv:2310.06825.  Weight names as in
 * transformers' LlamaForCausalLM.  A Mistral in a GGUF file is of architecture llama, and has no
 * window there.  Held against transformers' logits and gradients (tests/unit/test_model.c). */
#include "decoder/decoder.h"

const decoder_family decoder_families[] = {
    { .model_type = "llama",
      .hf_class = "LlamaForCausalLM",
      .gguf = "llama",
      .traits = DECODER_ATTENTION_BIAS | DECODER_MLP_BIAS | DECODER_INTERLEAVED,
      .eps = 1e-6,
      .theta = 10000 },
    { .model_type = "mistral",
      .hf_class = "MistralForCausalLM",
      .traits = DECODER_INTERLEAVED, /* as a llama in GGUF files */
      .windows = DECODER_ALL_LAYERS,
      .window = 4096,
      .eps = 1e-6,
      .theta = 10000 },
    { 0 },
};

static const ft_plugin plugin = {
    .abi = FT_ABI_INIT, .role = "ft.model/1", .name = "model-llama", .version = "0.2.0",
    .summary = "LLaMA, SmolLM2, Mistral", .instance_size = sizeof(decoder),
    .open = decoder_open, .close = decoder_close, .vtable = &decoder_model,
};
FT_PLUGIN(plugin, "model-llama")
