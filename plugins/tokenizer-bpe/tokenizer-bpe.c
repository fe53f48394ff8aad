/* tokenizer-bpe.c -- the plugin: byte pair encoding as HF tokenizers, SentencePiece and llama.cpp
 * do it.
 *
 * Reads tokenizer.json with a BPE model (byte-level: GPT-2, Llama 3, Qwen2, SmolLM2, o200k,
 * DeepSeek; SentencePiece-like with byte fallback: Llama 2, Gemma), SentencePiece models of type
 * BPE and the tokenizers of GGUF files (models "gpt2" and "llama").  Ids, offsets and decoded text
 * equal HF tokenizers'; see tokenizer-common/tok.h for the way of a text.  Left out: dropout, pairs
 * of sequences, truncation and padding (packing is the stage's matter); Unigram and WordPiece
 * models are other plugins'. */
#include "bpe.h"

static bool has_merges(const ft_json *model) { return ft_json_get(model, "merges") != NULL; }

const tok_kind tok_this = {
    .plugin = "tokenizer-bpe", .type = "BPE", .untyped = has_merges, .read_json = bpe_read_json,
    .read_pieces = bpe_read_pieces, .finish = bpe_finish, .tokenize = bpe_tokenize,
    .put_model = bpe_put_model, .put_gguf = bpe_export_gguf, .done = bpe_done,
};

static const ft_plugin plugin = {
    .abi = FT_ABI_INIT, .role = "ft.tokenizer/1", .name = "tokenizer-bpe", .version = "0.2.0",
    .summary = "byte pair encoding from tokenizer.json, SentencePiece or GGUF, exact with HF "
               "tokenizers",
    .params = tok_params, .config_size = sizeof(tok_config), .instance_size = sizeof(tok),
    .open = tok_open, .close = tok_close, .vtable = &tok_vtable,
};

FT_PLUGIN(plugin, "tokenizer-bpe");
