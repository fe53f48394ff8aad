/* tokenizer-bpe.c -- the plugin: byte pair encoding as HF tokenizers and llama.cpp do it.
 *
 * Reads tokenizer.json with a BPE model (byte-level: GPT-2, Llama 3, Qwen2, SmolLM2, o200k,
 * DeepSeek; SentencePiece-like with byte fallback: Llama 2, Gemma) and the tokenizers of GGUF
 * files (models "gpt2" and "llama").  Ids, offsets and decoded text equal HF tokenizers'; see tok.h
 * for the way of a text.  Left out: dropout, pairs of sequences, truncation and padding (packing
 * is the stage's matter), Unigram and WordPiece models, which are other plugins'. */
#include "tok.h"

typedef struct { ft_tokenizer_args args; } config;

static const ft_param params[] = { FT_TOKENIZER_PARAMS(config, args), { 0 } };

static int open_plugin(void *self, const ft_host *h, const void *cfg)
{
    tok *t = self;
    (void)cfg;
    t->h = h;
    t->json = h->get(h, "ft.json/1");
    if (t->json) return 0;
    return h->fail(h, FT_EUNSUP, "tokenizer-bpe: this host has no interface ft.json/1");
}

static void close_plugin(void *self) { tok_free(self); }

/* A BPE model, or one that does not say what it is but has merges. */
static bool claims(const ft_source *s)
{
    const ft_json *model = ft_json_get(s->tokenizer, "model");
    const char *type = ft_json_str(model, "type", NULL);
    if (s->gguf) return tok_gguf_claims(s);
    return type ? !strcmp(type, "BPE") : ft_json_get(model, "merges") != NULL;
}

static int load(void *self, const ft_source *s, ft_vocab *out)
{
    tok *t = self;
    ft_vocab v = { .size = out->size, .bos = -1, .eos = -1, .pad = -1, .unk = -1 };
    if (!claims(s) || t->cls)
        return t->h->fail(t->h, FT_EUNSUP, t->cls ? "tokenizer-bpe: a tokenizer is loaded already"
                          : "tokenizer-bpe: %.200s has no BPE tokenizer", s->path ? s->path : "?");
    int code = s->gguf ? tok_load_gguf(t, s, &v) : tok_load_json(t, s, &v);
    if (!code) *out = v;
    return code;
}

static void *encoder(void *self) { return tok_enc_new(self); }

static void encoder_done(void *self, void *e)
{
    (void)self;
    tok_enc_free(e);
}

static int encode(void *self, void *e, const ft_text *text, unsigned flags, ft_tokens *out)
{
    (void)self;
    return tok_encode(e, text, flags, out);
}

static int decode(void *self, void *e, const uint32_t *id, size_t n, unsigned flags, ft_bytes *out)
{
    (void)self;
    return tok_decode(e, id, n, flags, out);
}

static const char *token(void *self, uint32_t id, size_t *len)
{
    return tok_spelling(self, id, len);
}

static int64_t find(void *self, const char *s, size_t n)
{
    const tok *t = self;
    uint32_t id = tok_vocab_find(&t->v, s, n, TOK_MODEL | TOK_ADDED);
    return id == TOK_NONE ? -1 : (int64_t)id;
}

static bool special(void *self, uint32_t id)
{
    const tok *t = self;
    return id < t->v.n_id && (t->v.flag[id] & TOK_SPECIAL);
}

static int json(void *self, ft_bytes *out) { return tok_export_json(self, out); }

static int gguf(void *self, const ft_source *s, uint64_t rows, ft_bytes *out, uint64_t *n_keys)
{
    return tok_export_gguf(self, s, rows, out, n_keys);
}

static const ft_tokenizer vtable = {
    .size = sizeof vtable, .args = offsetof(config, args), .claims = claims, .load = load,
    .encoder = encoder, .encoder_done = encoder_done, .encode = encode, .decode = decode,
    .token = token, .find = find, .special = special, .json = json, .gguf = gguf,
};

static const ft_plugin plugin = {
    .abi = FT_ABI_INIT, .role = "ft.tokenizer/1", .name = "tokenizer-bpe", .version = "0.1.0",
    .summary = "byte pair encoding from tokenizer.json or GGUF, exact with HF tokenizers",
    .params = params, .config_size = sizeof(config), .instance_size = sizeof(tok),
    .open = open_plugin, .close = close_plugin, .vtable = &vtable,
};

FT_PLUGIN(plugin, "tokenizer-bpe");
