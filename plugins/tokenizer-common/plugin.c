/* plugin.c -- the role ft.tokenizer/1, the same for every kind of model. */
#include "load.h"

const ft_param tok_params[] = { FT_TOKENIZER_PARAMS(tok_config, args), { 0 } };

int tok_open(void *self, const ft_host *h, const void *cfg)
{
    tok *t = self;
    (void)cfg;
    t->h = h;
    t->json = h->get(h, "ft.json/1");
    if (t->json) return 0;
    return h->fail(h, FT_EUNSUP, "%s: this host has no interface ft.json/1", tok_this.plugin);
}

void tok_close(void *self) { tok_free(self); }

static bool claims(const ft_source *s)
{
    const char *plugin;
    bool ours;
    return tok_kind_of(s, &plugin, &ours) && ours;
}

/* A tokenizer of another kind: says which plugin reads it. */
static int not_ours(const tok *t, const ft_source *s, const char *kind, const char *plugin)
{
    const char *path = s->path ? s->path : "?";
    if (!kind)
        return t->h->fail(t->h, FT_EUNSUP, "%s: %.200s has no tokenizer that is known",
                          tok_this.plugin, path);
    if (!plugin)
        return t->h->fail(t->h, FT_EUNSUP,
                          "%s: the tokenizer of %.200s is of kind \"%.60s\", which "
                          "no plugin reads",
                          tok_this.plugin, path, kind);
    return t->h->fail(t->h, FT_EUNSUP, "%s reads %s tokenizers, but that of %.200s is of kind "
                      "\"%.60s\"; write `use: %s`", tok_this.plugin, tok_this.type, path, kind,
                      plugin);
}

static int load(void *self, const ft_source *s, ft_vocab *out)
{
    tok *t = self;
    ft_vocab v = { .size = out->size, .bos = -1, .eos = -1, .pad = -1, .unk = -1 };
    const char *plugin;
    bool ours;
    const char *kind = tok_kind_of(s, &plugin, &ours);
    if (!kind || !ours) return not_ours(t, s, kind, plugin);
    if (t->cls)
        return t->h->fail(t->h, FT_EUNSUP, "%s: a tokenizer is loaded already", tok_this.plugin);
    int code = s->gguf        ? tok_load_gguf(t, s, &v)
               : s->tokenizer ? tok_load_json(t, s, &v)
                              : tok_load_spm(t, s, &v);
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
    tok *t = self;
    if (tok_this.put_gguf) return tok_this.put_gguf(t, s, rows, out, n_keys);
    return t->h->fail(t->h, FT_EUNSUP, "%s: its tokenizers are not written as GGUF; export with "
                      "export-hf", tok_this.plugin);
}

const ft_tokenizer tok_vtable = {
    .size = sizeof tok_vtable, .args = offsetof(tok_config, args), .claims = claims, .load = load,
    .encoder = encoder, .encoder_done = encoder_done, .encode = encode, .decode = decode,
    .token = token, .find = find, .special = special, .json = json, .gguf = gguf,
};
