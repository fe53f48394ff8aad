/* model-gemma.c -- Gemma 2 and the text models of Gemma 3: layers that slide between layers that
 * see everything, norms of 1 + w before and after each sublayer, GeGLU; Gemma 2 softcaps attention
 * scores and logits, Gemma 3 norms q and k head by head and gives its sliding layers rotary
 * positions of their own.
 *
 * Gemma team 2024, arXiv:2408.00118; 2025, arXiv:2503.19786.  GGUF files hold 1 + w.  Left out: the
 * image-and-text form of Gemma 3 (model_type gemma3), Gemma 1 and 3n.  Held against transformers'
 * logits and gradients (tests/unit/test_model.c). */
#include "decoder/decoder.h"

const decoder_family decoder_families[] = {
    { .model_type = "gemma2",
      .hf_class = "Gemma2ForCausalLM",
      .gguf = "gemma2",
      .traits = DECODER_GEMMA | DECODER_SCORE_CAP | DECODER_TIED | DECODER_ATTENTION_BIAS,
      .windows = DECODER_ALTERNATING,
      .window = 4096,
      .every = 2,
      .head_dim = 256,
      .big = 46,
      .eps = 1e-6,
      .theta = 10000 },
    { .model_type = "gemma3_text",
      .hf_class = "Gemma3ForCausalLM",
      .gguf = "gemma3",
      .traits = DECODER_GEMMA | DECODER_HEAD_NORMS | DECODER_LOCAL_ROPE | DECODER_TIED |
                DECODER_ATTENTION_BIAS,
      .windows = DECODER_ALTERNATING,
      .window = 4096,
      .every = 6,
      .head_dim = 256,
      .big = 62,
      .eps = 1e-6,
      .theta = 1e6 },
    { 0 },
};

static const ft_plugin plugin = {
    .abi = FT_ABI_INIT, .role = "ft.model/1", .name = "model-gemma", .version = "0.1.0",
    .summary = "Gemma 2, Gemma 3 (text)", .instance_size = sizeof(decoder),
    .open = decoder_open, .close = decoder_close, .vtable = &decoder_model,
};
FT_PLUGIN(plugin, "model-gemma")
