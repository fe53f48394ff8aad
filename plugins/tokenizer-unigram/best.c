/* best.c -- the best way to cut a word into pieces: Viterbi over the sum of their scores.
 *
 * best[i] is the best sum of scores of pieces that cover the first i bytes; where no piece covers
 * one character alone, that character is unknown, at the score of the worst piece less 10.  Of
 * equal sums the one found first stays.  As in SentencePiece (EncodeOptimized) and HF tokenizers,
 * which join unknown characters that stand together.  A piece is found by narrowing the range of
 * the sorted pieces that begin with the bytes read so far: O(longest piece × log pieces) a
 * place. */
#include "unigram.h"

typedef struct { double score; uint32_t from1, id; } node; /* from1: where the piece begins + 1 */

typedef struct { const tok *t; node *best; bool bar; } search;

static void offer(const search *s, uint32_t at, uint32_t to, double score, uint32_t id)
{
    node *x = &s->best[to];
    score += s->best[at].score;
    if (s->t->model->single && id == s->t->model->unk) score = (float)score;
    if (x->from1 && !(score > x->score)) return;
    *x = (node){ s->t->model->single ? (float)score : score, at + 1, id };
}

/* The first of sorted[a, b) whose byte `depth` is at least c; all are longer than that. */
static uint32_t narrow(const tok *t, uint32_t a, uint32_t b, uint32_t depth, unsigned c)
{
    const tok_model *m = t->model;
    while (a < b) {
        uint32_t mid = a + (b - a) / 2;
        const char *p = t->v.text.p + t->v.str[m->sorted[mid]].at;
        if ((unsigned char)p[depth] < c) a = mid + 1;
        else b = mid;
    }
    return a;
}

/* Offers all pieces that begin at `at`; true when one of them is a single character. */
static bool offer_pieces(const search *s, const tok_text *x, uint32_t at, uint32_t len)
{
    const tok *t = s->t;
    const tok_model *m = t->model;
    unsigned c = (unsigned char)x->p[at];
    uint32_t a = m->first[c], b = m->first[c + 1];
    bool single = false;
    for (uint32_t n = 1; a < b; n++) {
        uint32_t id = m->sorted[a];
        if (t->v.str[id].len == n) { /* the shortest of a range comes first */
            bool barred = s->bar && (t->v.flag[id] & TOK_SPECIAL);
            if (!barred) offer(s, at, at + n, m->score[id], id);
            single = single || (!barred && n == len);
            a++;
        }
        if (at + n >= x->n || a == b) break;
        c = (unsigned char)x->p[at + n];
        a = narrow(t, a, b, n, c);
        b = narrow(t, a, b, n, c + 1);
    }
    return single;
}

/* Appends the pieces of the best way to e->sym from the last to the first; a run of unknown
 * characters is one, with id TOK_NONE. */
static void trace(tok_enc *e, const node *best, uint32_t n)
{
    const uint32_t unk = e->t->model->unk;
    for (uint32_t end = n; end;) {
        const node *x = &best[end];
        bool unknown = x->id == unk;
        tok_sym *last = e->sym.n ? (tok_sym *)(void *)(e->sym.p + e->sym.n) - 1 : NULL;
        tok_sym s = { unknown ? TOK_NONE : x->id, end - (x->from1 - 1) };
        if (unknown && last && last->id == TOK_NONE) last->len += s.len;
        else ft_buf_add(&e->sym, &s, sizeof s);
        end = x->from1 - 1;
    }
}

/* The id of joined unknown characters: they may spell a piece; else TOK_NONE, to fall back to
 * bytes, or unk. */
static uint32_t unknown_id(const tok *t, const char *p, uint32_t n, bool bar)
{
    const tok_model *m = t->model;
    uint32_t id = tok_vocab_find(&t->v, p, n, TOK_MODEL);
    if (id != TOK_NONE && !(bar && (t->v.flag[id] & TOK_SPECIAL))) return id;
    for (uint32_t i = 0; m->byte_fallback; i++) {
        if (i == n) return TOK_NONE;
        if (m->byte_id[(unsigned char)p[i]] == TOK_NONE) break;
    }
    return m->unk;
}

/* Puts the bytes of p[0, n) out, each standing for the whole. */
static int put_bytes(tok_enc *e, const tok_text *x, uint32_t at, uint32_t n)
{
    uint32_t lo, hi;
    int code = 0;
    tok_origin(x, at, at + n, &lo, &hi);
    for (uint32_t i = at; i < at + n && !code; i++)
        code = tok_emit(e, e->t->model->byte_id[(unsigned char)x->p[i]], lo, hi);
    return code;
}

/* Turns e->sym round and gives unknown runs their ids; *bytes: some fall back to bytes. */
static void settle(tok_enc *e, const tok_text *x, bool bar, bool *bytes)
{
    tok_sym *s = (tok_sym *)(void *)e->sym.p;
    size_t n = e->sym.n / sizeof *s;
    uint32_t at = 0;
    *bytes = false;
    for (size_t i = 0; i < n / 2; i++) {
        tok_sym other = s[i];
        s[i] = s[n - 1 - i];
        s[n - 1 - i] = other;
    }
    for (size_t i = 0; i < n; at += s[i++].len) {
        if (s[i].id != TOK_NONE) continue;
        s[i].id = unknown_id(e->t, x->p + at, s[i].len, bar);
        *bytes = *bytes || s[i].id == TOK_NONE;
    }
}

static int put_all(tok_enc *e, const tok_text *x)
{
    const tok_sym *s = (const tok_sym *)(const void *)e->sym.p;
    size_t n = e->sym.n / sizeof *s;
    uint32_t at = 0, lo, hi;
    int code = 0;
    for (size_t i = 0; i < n && !code; at += s[i++].len) {
        if (s[i].id == TOK_NONE) {
            code = put_bytes(e, x, at, s[i].len);
            continue;
        }
        tok_origin(x, at, at + s[i].len, &lo, &hi);
        code = tok_emit(e, s[i].id, lo, hi);
    }
    return code ? code : 1;
}

int unigram_tokenize(tok_enc *e, const tok_text *x, bool bar)
{
    const tok *t = e->t;
    const tok_model *m = t->model;
    uint32_t len;
    bool bytes;
    e->work[0].n = 0;
    node *best = ft_buf_grow(&e->work[0], ((size_t)x->n + 1) * sizeof *best);
    if (!best) return tok_no_memory(t->h);
    const search s = { t, best, bar };
    for (uint32_t at = 0; at < x->n; at += len) {
        tok_char(x->p, at, &len);
        if (offer_pieces(&s, x, at, len)) continue;
        if (m->unk == TOK_NONE)
            return t->h->fail(t->h, FT_EFORMAT, "tokenizer: the text has \"%.*s\", which no piece "
                              "covers, and the model has no unk_id", (int)len, x->p + at);
        offer(&s, at, at + len, m->unk_score, m->unk);
    }
    trace(e, best, x->n);
    if (e->sym.oom) return tok_no_memory(t->h);
    settle(e, x, bar, &bytes);
    return bytes ? put_all(e, x) : 0;
}
