/* model.c -- the model of byte pair encoding: read from tokenizer.json or pieces, and written. */
#include "bpe.h"

static int make(tok *t)
{
    t->model = calloc(1, sizeof *t->model);
    if (!t->model) return tok_no_memory(t->h);
    t->model->prefix = t->model->suffix = "";
    return 0;
}

void bpe_done(tok *t)
{
    if (!t->model) return;
    free(t->model->merge);
    free(t->model->char_id);
    free(t->model);
}

/* ---- tokenizer.json -------------------------------------------------------------------------- */
/* A merge, "a b" or ["a", "b"]: the two halves as ranges of *text. */
static bool merge_halves(const ft_json *m, const ft_json **a, const ft_json **b, size_t *blank)
{
    *a = *b = m;
    if (m->type == FT_JSON_ARRAY) {
        if (m->len != 2) return false;
        *a = &m->item[0];
        *b = &m->item[1];
        return (*a)->type == FT_JSON_STRING && (*b)->type == FT_JSON_STRING;
    }
    const char *p = m->type == FT_JSON_STRING ? memchr(m->text, ' ', m->len) : NULL;
    if (!p) return false;
    *blank = (size_t)(p - m->text);
    return !memchr(p + 1, ' ', m->len - *blank - 1);
}

static int read_merges(tok *t, const ft_json *merges)
{
    uint32_t rank = 0, cut = (uint32_t)strlen(t->model->prefix);
    int code = bpe_merges_begin(t, merges->len);
    for (size_t i = 0; !code && i < merges->len; i++) {
        const ft_json *m = &merges->item[i], *a, *b;
        size_t blank = 0;
        if (m->type != merges->item[0].type || !merge_halves(m, &a, &b, &blank))
            return t->h->fail(t->h, FT_EFORMAT, "tokenizer.json: merge %zu is neither \"a b\" nor "
                              "[\"a\", \"b\"], or not written as the others are", i);
        if (a == b && m->len >= 8 && !memcmp(m->text, "#version", 8)) continue;
        if (a == b) code = bpe_merges_put(t, rank++, m->text, blank, m->text + blank + 1,
                                          m->len - blank - 1, cut);
        else code = bpe_merges_put(t, rank++, a->text, a->len, b->text, b->len, cut);
    }
    return code;
}

static int read_options(tok *t, const ft_json *model)
{
    const ft_json *dropout = ft_json_get(model, "dropout");
    tok_model *m = t->model;
    double p = 0;
    if (dropout && dropout->type != FT_JSON_NULL && (!t->json->to_real(dropout, &p) || p != 0))
        return t->h->fail(t->h, FT_EUNSUP, "tokenizer.json: model.dropout would make tokens a "
                          "matter of chance; set it to null");
    int code = tok_model_flag(t, model, "fuse_unk", &m->fuse_unk);
    if (!code) code = tok_model_flag(t, model, "byte_fallback", &m->byte_fallback);
    if (!code) code = tok_model_flag(t, model, "ignore_merges", &m->ignore_merges);
    if (!code) code = tok_model_text(t, model, "unk_token", &t->unk);
    if (!code) code = tok_model_text(t, model, "continuing_subword_prefix", &m->prefix);
    return code ? code : tok_model_text(t, model, "end_of_word_suffix", &m->suffix);
}

int bpe_read_json(tok *t, const ft_json *model, const ft_json *added)
{
    const ft_json *vocab = ft_json_get(model, "vocab"), *merges = ft_json_get(model, "merges");
    if (!merges || merges->type != FT_JSON_ARRAY)
        return tok_wrong_json(t, "a BPE model needs \"merges\", a list");
    int code = make(t);
    if (!code) code = read_options(t, model);
    if (!code) code = tok_read_vocab(t, vocab, added);
    return code ? code : read_merges(t, merges);
}

/* ---- pieces ---------------------------------------------------------------------------------- */
static int read_listed_merges(tok *t, const tok_pieces *p)
{
    const void *at = p->merges->data;
    int code = bpe_merges_begin(t, p->merges->n);
    for (uint64_t i = 0; !code && i < p->merges->n; i++) {
        const char *s;
        uint64_t n;
        ft_meta_next_str(&at, &s, &n);
        const char *blank = n > 1 ? memchr(s + 1, ' ', n - 1) : NULL; /* the first may be a token */
        if (!blank)
            return t->h->fail(t->h, FT_EFORMAT, "GGUF: tokenizer.ggml.merges: item %llu is not "
                              "\"a b\"", (unsigned long long)i);
        code = bpe_merges_put(t, (uint32_t)i, s, (size_t)(blank - s), blank + 1,
                              n - (size_t)(blank - s) - 1, 0);
    }
    return code;
}

int bpe_read_pieces(tok *t, const tok_pieces *p)
{
    bool sentence = p->style == TOK_SENTENCE;
    if (!p->merges && (!sentence || !p->scored))
        return t->h->fail(t->h, FT_EFORMAT, "%s: there is no tokenizer.ggml.%s", p->file,
                          sentence ? "scores" : "merges");
    int code = make(t);
    if (code) return code;
    t->model->fuse_unk = t->model->byte_fallback = sentence;
    t->model->ignore_merges = p->recipe && p->recipe->whole;
    return p->merges ? read_listed_merges(t, p) : bpe_merges_from_scores(t, p);
}

/* ---- writing --------------------------------------------------------------------------------- */
static int by_rank(const void *a, const void *b)
{
    uint32_t x = (*(const bpe_merge *const *)a)->rank, y = (*(const bpe_merge *const *)b)->rank;
    return x < y ? -1 : x > y;
}

const bpe_merge **bpe_ranked_merges(const tok *t, size_t *n)
{
    const bpe_merge **m = malloc((t->model->mask + 2) * sizeof *m);
    *n = 0;
    for (uint64_t i = 0; m && i <= t->model->mask; i++) {
        if (t->model->merge[i].id != TOK_NONE) m[(*n)++] = &t->model->merge[i];
    }
    if (m) qsort(m, *n, sizeof *m, by_rank);
    return m;
}

static bool put_merges(const tok *t, ft_buf *b)
{
    size_t n;
    const bpe_merge **m = bpe_ranked_merges(t, &n);
    if (!m) return false;
    ft_buf_puts(b, ",\"merges\":[");
    for (size_t i = 0; i < n; i++) {
        ft_buf_puts(b, i ? ",\n[" : "\n[");
        tok_put_token(t, b, (uint32_t)(m[i]->pair >> 32));
        ft_buf_putc(b, ',');
        tok_put_token(t, b, (uint32_t)m[i]->pair);
        ft_buf_putc(b, ']');
    }
    ft_buf_puts(b, "]");
    free(m);
    return true;
}

bool bpe_put_model(const tok *t, ft_buf *b)
{
    static const char *const word[] = { "false", "true" };
    const tok_model *m = t->model;
    ft_buf_puts(b, "{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":");
    if (*t->unk) ft_json_quote(b, t->unk, strlen(t->unk));
    else ft_buf_puts(b, "null");
    ft_buf_printf(b, ",\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,"
                  "\"fuse_unk\":%s,\"byte_fallback\":%s,\"ignore_merges\":%s,",
                  word[m->fuse_unk], word[m->byte_fallback], word[m->ignore_merges]);
    tok_put_vocab(t, b);
    bool fine = put_merges(t, b);
    ft_buf_putc(b, '}');
    return fine;
}
