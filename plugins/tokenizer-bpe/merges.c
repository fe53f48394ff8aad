/* merges.c -- the table of merges, found by the ids of the two halves.
 *
 * Open addressing at most half full, keyed with a random seed, so that no file can choose its
 * collisions.  A pair that a file lists twice keeps the later rank, as HF tokenizers has it. */
#include "bpe.h"

int bpe_merges_begin(tok *t, uint64_t n_merges)
{
    tok_model *m = t->model;
    if (n_merges >= UINT32_MAX / 4)
        return t->h->fail(t->h, FT_EFORMAT, "tokenizer: %llu merges are too many",
                          (unsigned long long)n_merges);
    uint64_t size = tok_table_size(n_merges);
    m->merge = malloc(size * sizeof *m->merge);
    if (!m->merge) return tok_no_memory(t->h);
    m->mask = size - 1;
    m->seed = t->v.seed;
    memset(m->merge, 0xFF, size * sizeof *m->merge); /* id = TOK_NONE: free */
    return 0;
}

/* The id of what a and b merge to, or TOK_NONE.  Files list merges in the order in which their
 * tokens were made, so that the token behind the last one is tried first. */
static uint32_t joined_id(const tok *t, const char *a, size_t a_len, const char *b, size_t b_len)
{
    char text[2048], *j = text;
    const tok_vocab *v = &t->v;
    uint32_t guess = t->model->guess + 1;
    if (guess < v->n_id && (v->flag[guess] & TOK_MODEL)) {
        tok_str s = v->str[guess];
        const char *p = v->text.p + s.at;
        if (s.len == a_len + b_len && !memcmp(p, a, a_len) && !memcmp(p + a_len, b, b_len))
            return guess;
    }
    if (a_len + b_len > sizeof text && !(j = malloc(a_len + b_len))) return TOK_NONE;
    memcpy(j, a, a_len);
    memcpy(j + a_len, b, b_len);
    uint32_t id = tok_vocab_find(v, j, a_len + b_len, TOK_MODEL);
    if (j != text) free(j);
    return id;
}

static int no_such_token(const tok *t, uint32_t rank, const char *how, const char *a,
                         size_t a_len, const char *b, size_t b_len)
{
    return t->h->fail(t->h, FT_EFORMAT, "tokenizer: merge %u %s \"%.*s%.*s\", which the vocabulary "
                      "does not have", rank, how, (int)(a_len < 100 ? a_len : 100), a,
                      (int)(b_len < 100 ? b_len : 100), b);
}

int bpe_merges_put(tok *t, uint32_t rank, const char *a, size_t a_len, const char *b, size_t b_len,
                   size_t cut)
{
    tok_model *m = t->model;
    uint32_t left = tok_vocab_find(&t->v, a, a_len, TOK_MODEL);
    uint32_t right = tok_vocab_find(&t->v, b, b_len, TOK_MODEL);
    if (left == TOK_NONE) return no_such_token(t, rank, "names", a, a_len, "", 0);
    if (right == TOK_NONE || b_len < cut) return no_such_token(t, rank, "names", b, b_len, "", 0);
    uint32_t id = joined_id(t, a, a_len, b + cut, b_len - cut);
    if (id == TOK_NONE) return no_such_token(t, rank, "makes", a, a_len, b + cut, b_len - cut);
    uint64_t pair = (uint64_t)left << 32 | right, x = (pair ^ m->seed) * 0x9E3779B97F4A7C15u;
    uint64_t i = (x ^ x >> 32) & m->mask;
    while (m->merge[i].id != TOK_NONE && m->merge[i].pair != pair) i = (i + 1) & m->mask;
    m->merge[i] = (bpe_merge){ pair, rank, id };
    m->guess = id;
    return 0;
}
