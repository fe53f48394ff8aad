/* scores.c -- merges that follow from scores: SentencePiece's BPE, in GGUF and in its own files.
 *
 * Every way to cut a token into two others, best score first, then the longer left half (as
 * transformers' generate_merges).  Where the scores of a vocabulary are not in its merge order
 * (Gemma's GGUF files), the tokens are. */
#include "bpe.h"

enum { MAX_PIECE = 256 }; /* bytes of a token that merges are looked for in */

/* A token cut into two: `cut` in bytes, the halves' lengths in characters. */
typedef struct { float score; uint32_t id, cut, left, right; } way;

/* Best score first, then longer halves, then the order of the tokens. */
static int by_score(const void *a, const void *b)
{
    const way *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if (x->left != y->left) return x->left > y->left ? -1 : 1;
    if (x->right != y->right) return x->right > y->right ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* All ways to cut token id into two normal tokens. */
static void add_ways(tok *t, ft_buf *b, const tok_pieces *ps, uint32_t id, float score)
{
    tok_str s = t->v.str[id];
    const char *p = t->v.text.p + s.at;
    uint32_t chars = 0, left = 0, len;
    for (uint32_t i = 0; i < s.len; i++) chars += !tok_inside(p[i]);
    for (uint32_t cut = 0; cut < s.len; cut += len, left++) {
        tok_char(p, cut, &len);
        if (!cut) continue;
        uint32_t a = tok_vocab_find(&t->v, p, cut, TOK_MODEL);
        if (a == TOK_NONE || ps->piece[a].type != TOK_NORMAL) continue;
        uint32_t c = tok_vocab_find(&t->v, p + cut, s.len - cut, TOK_MODEL);
        if (c == TOK_NONE || ps->piece[c].type != TOK_NORMAL) continue;
        way w = { score, id, cut, left, chars - left };
        ft_buf_add(b, &w, sizeof w);
    }
}

int bpe_merges_from_scores(tok *t, const tok_pieces *ps)
{
    ft_buf b = { 0 };
    int code = 0;
    for (uint32_t id = 0; id < ps->n && !code; id++) {
        float score = ps->gemma ? -(float)id : ps->piece[id].score;
        if (score != score)
            code = t->h->fail(t->h, FT_EFORMAT, "%s: the score of token %u is no number", ps->file,
                              id);
        if (ps->piece[id].type == TOK_NORMAL && t->v.str[id].len <= MAX_PIECE)
            add_ways(t, &b, ps, id, score);
    }
    size_t n = b.n / sizeof(way);
    way *w = (way *)(void *)b.p;
    if (!code && b.oom) code = tok_no_memory(t->h);
    if (!code) code = bpe_merges_begin(t, n);
    if (!code && n) qsort(w, n, sizeof *w, by_score);
    for (size_t i = 0; !code && i < n; i++) {
        tok_str s = t->v.str[w[i].id];
        const char *p = t->v.text.p + s.at;
        code = bpe_merges_put(t, (uint32_t)i, p, w[i].cut, p + w[i].cut, s.len - w[i].cut, 0);
    }
    ft_buf_free(&b);
    return code;
}
