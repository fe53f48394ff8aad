/* tokenizer-unigram.c -- the plugin: the Unigram language model of SentencePiece (Kudo 2018), which
 * cuts a text into the pieces of the highest total score.
 *
 * Reads tokenizer.json with a Unigram model, SentencePiece models of type Unigram and the "t5"
 * tokenizers of GGUF files.  Ids, offsets and decoded text equal HF tokenizers' (tokenizer.json)
 * and SentencePiece's (tokenizer.model).  Left out: sampling, n-best, pairs of sequences. */
#include "unigram.h"

/* Pieces and scores in a list, and no type: HF tokenizers takes it for a Unigram model. */
static bool has_scores(const ft_json *model)
{
    const ft_json *vocab = ft_json_get(model, "vocab");
    return vocab && vocab->type == FT_JSON_ARRAY;
}

const tok_kind tok_this = {
    .plugin = "tokenizer-unigram", .type = "Unigram", .untyped = has_scores,
    .read_json = unigram_read_json, .read_pieces = unigram_read_pieces, .finish = unigram_finish,
    .tokenize = unigram_tokenize, .put_model = unigram_put_model, .done = unigram_done,
};

static const ft_plugin plugin = {
    .abi = FT_ABI_INIT, .role = "ft.tokenizer/1", .name = "tokenizer-unigram", .version = "0.2.0",
    .summary = "Unigram pieces from tokenizer.json, SentencePiece or GGUF, exact with HF "
               "tokenizers",
    .params = tok_params, .config_size = sizeof(tok_config), .instance_size = sizeof(tok),
    .open = tok_open, .close = tok_close, .vtable = &tok_vtable,
};

FT_PLUGIN(plugin, "tokenizer-unigram");
