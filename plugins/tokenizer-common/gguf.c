/* gguf.c -- a tokenizer from the metadata of a GGUF file.
 *
 * A GGUF has the tokens and either merges (tokenizer.ggml.model "gpt2", byte-level BPE) or scores
 * ("llama", SentencePiece BPE; "t5", Unigram), or the tokens alone ("bert", WordPiece).  A value of
 * another type or count than it must have is an error. */
#include "load.h"


/* ---- typed metadata ------------------------------------------------------------------------- */
static int wrong_type(tok *t, const char *key, const char *want)
{
    return t->h->fail(t->h, FT_EFORMAT, "GGUF: %s must be %s", key, want);
}

/* An id below n; -1 when the key is absent. */
static int get_id(tok *t, const ft_source *s, const char *key, uint64_t n, int64_t *out)
{
    const ft_meta *m = ft_source_meta(s, key);
    uint64_t v = 0;
    *out = -1;
    if (!m) return 0;
    size_t size = m->type == FT_META_U64 || m->type == FT_META_I64 ? 8
                : m->type == FT_META_U32 || m->type == FT_META_I32 ? 4 : 0;
    if (!size) return wrong_type(t, key, "a 32 or 64 bit integer");
    memcpy(&v, m->data, size);
    if (v >= n)
        return t->h->fail(t->h, FT_EFORMAT, "GGUF: %s = %llu, but there are %llu tokens", key,
                          (unsigned long long)v, (unsigned long long)n);
    *out = (int64_t)v;
    return 0;
}

static int get_flag(tok *t, const ft_source *s, const char *key, bool other, bool *out)
{
    const ft_meta *m = ft_source_meta(s, key);
    *out = other;
    if (!m) return 0;
    if (m->type != FT_META_BOOL) return wrong_type(t, key, "a truth value");
    *out = *(const uint8_t *)m->data != 0;
    return 0;
}

/* Compares the text value of a key; false when it is absent or no text. */
static bool text_is(const ft_source *s, const char *key, const char *want)
{
    const ft_meta *m = ft_source_meta(s, key);
    const void *at = m ? m->data : NULL;
    const char *p;
    uint64_t n;
    if (!m || m->type != FT_META_STRING) return false;
    ft_meta_next_str(&at, &p, &n);
    return n == strlen(want) && !memcmp(p, want, n);
}

/* An array of `n` items (0: any number), or NULL: absent or, with *code set, wrong. */
static const ft_meta *get_array(tok *t, const ft_source *s, const char *key, ft_meta_type item,
                                uint64_t n, int *code)
{
    const ft_meta *m = ft_source_meta(s, key);
    if (!m || *code) return NULL;
    bool integers = item == FT_META_I32 && m->item == FT_META_U32;
    if (m->type != FT_META_ARRAY || (m->item != item && !integers)) {
        *code = wrong_type(t, key, item == FT_META_STRING ? "a list of texts"
                           : item == FT_META_F32 ? "a list of floats"
                           : "a list of 32 bit integers");
        return NULL;
    }
    if (n && m->n != n) {
        *code = t->h->fail(t->h, FT_EFORMAT, "GGUF: %s has %llu items, but there are %llu tokens",
                           key, (unsigned long long)m->n, (unsigned long long)n);
        return NULL;
    }
    return m;
}

/* ---- tokens --------------------------------------------------------------------------------- */
/* Fills ps->piece from the three lists; types and scores may be NULL. */
static int read_pieces(tok *t, tok_pieces *ps, const ft_meta *tokens, const ft_meta *types,
                       const ft_meta *scores)
{
    const void *at = tokens->data;
    ps->piece = calloc(tokens->n, sizeof *ps->piece);
    if (!ps->piece) return tok_no_memory(t->h);
    ps->n = tokens->n;
    ps->scored = scores != NULL;
    for (uint64_t i = 0; i < ps->n; i++) {
        tok_piece *x = &ps->piece[i];
        ft_meta_next_str(&at, &x->p, &x->n);
        x->type = TOK_NORMAL;
        if (types) memcpy(&x->type, (const char *)types->data + 4 * i, 4);
        if (scores) memcpy(&x->score, (const char *)scores->data + 4 * i, 4);
    }
    return 0;
}

static int read_lists(tok *t, const ft_source *s, tok_pieces *ps)
{
    int code = 0;
    const ft_meta *tokens = get_array(t, s, "tokenizer.ggml.tokens", FT_META_STRING, 0, &code);
    if (code) return code;
    if (!tokens || !tokens->n)
        return t->h->fail(t->h, FT_EFORMAT, "GGUF: tokenizer.ggml.tokens is absent or empty");
    const uint64_t n = tokens->n;
    const ft_meta *types = get_array(t, s, "tokenizer.ggml.token_type", FT_META_I32, n, &code);
    const ft_meta *scores = get_array(t, s, "tokenizer.ggml.scores", FT_META_F32, n, &code);
    ps->merges = get_array(t, s, "tokenizer.ggml.merges", FT_META_STRING, 0, &code);
    ps->gemma = text_is(s, "general.architecture", "gemma") ||
                text_is(s, "general.architecture", "gemma2") ||
                text_is(s, "general.architecture", "gemma3");
    return code ? code : read_pieces(t, ps, tokens, types, scores);
}

/* tokenizer.ggml.precompiled_charsmap: bytes, as U8 or I8. */
static int read_charsmap(tok *t, const ft_source *s, tok_pieces *ps)
{
    const char *key = "tokenizer.ggml.precompiled_charsmap";
    const ft_meta *m = ft_source_meta(s, key);
    if (!m || !m->n) return 0;
    if (m->type != FT_META_ARRAY || (m->item != FT_META_U8 && m->item != FT_META_I8))
        return wrong_type(t, key, "a list of bytes");
    ps->charsmap = m->data;
    ps->n_charsmap = m->n;
    return 0;
}

static int read_ids(tok *t, const ft_source *s, const tok_pieces *ps, ft_vocab *out)
{
    uint64_t n = ps->n;
    int64_t cls = -1, sep = -1;
    int code = get_id(t, s, "tokenizer.ggml.bos_token_id", n, &out->bos);
    if (!code) code = get_id(t, s, "tokenizer.ggml.eos_token_id", n, &out->eos);
    if (!code) code = get_id(t, s, "tokenizer.ggml.padding_token_id", n, &out->pad);
    if (!code) code = get_id(t, s, "tokenizer.ggml.unknown_token_id", n, &out->unk);
    if (!code) code = get_id(t, s, "tokenizer.ggml.cls_token_id", n, &cls);
    if (!code) code = get_id(t, s, "tokenizer.ggml.seperator_token_id", n, &sep); /* (sic) */
    if (ps->style == TOK_BERT && cls >= 0) out->bos = cls;
    if (ps->style == TOK_BERT && sep >= 0) out->eos = sep;
    return code;
}

/* What the values of tokenizer.ggml.model mean where the file says nothing else. */
typedef struct { const char *name; tok_style style; bool bos, eos, prefix, squeeze; } ggml_model;
static const ggml_model models[] = {
    { "gpt2", TOK_BYTE_LEVEL, false, false, false, false },
    { "llama", TOK_SENTENCE, true, false, true, false },
    { "t5", TOK_SENTENCE, false, true, true, true },
    { "bert", TOK_BERT, true, true, false, false },
};

int tok_load_gguf(tok *t, const ft_source *s, ft_vocab *out)
{
    tok_pieces ps = { .file = "GGUF", .every = true };
    const ggml_model *m = models;
    bool unigram;
    while (!text_is(s, "tokenizer.ggml.model", m->name)) m++; /* claimed: it is one of them */
    ps.style = m->style;
    unigram = ps.style == TOK_SENTENCE && m->eos;
    if (ps.style == TOK_BYTE_LEVEL && !(ps.recipe = tok_find_recipe(t, s))) return FT_EUNSUP;
    bool bos = ps.recipe ? ps.recipe->bos : m->bos;
    int code = get_flag(t, s, "tokenizer.ggml.add_bos_token", bos, &out->add_bos);
    if (!code) code = get_flag(t, s, "tokenizer.ggml.add_eos_token", m->eos, &out->add_eos);
    if (!code) code = get_flag(t, s, "tokenizer.ggml.add_space_prefix", m->prefix, &ps.prefix);
    if (!code) code = get_flag(t, s, "tokenizer.ggml.remove_extra_whitespaces", m->squeeze,
                               &ps.squeeze);
    ps.squeeze = ps.squeeze && unigram; /* llama.cpp does it for this model alone */
    if (!code && unigram) code = read_charsmap(t, s, &ps);
    if (!code) code = read_lists(t, s, &ps);
    if (!code) code = read_ids(t, s, &ps, out);
    if (!code) code = tok_load_pieces(t, &ps, out);
    free(ps.piece);
    return code;
}
