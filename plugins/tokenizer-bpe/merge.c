/* merge.c -- a word becomes tokens: byte pair encoding.
 *
 * A word starts as one symbol a byte (byte-level) or a character, and the pair of neighbours with
 * the lowest rank is merged, the leftmost of equals, until no pair is in the table.  Short words
 * scan for the lowest rank each time; long ones keep a heap, so that a word of 10^5 bytes costs
 * n log n.  How unknown characters are treated (byte fallback, unk, fused unk, dropped) follows HF
 * tokenizers' BPE::merge_word. */
#include "bpe.h"

enum { SHORT = 64 };

typedef struct { uint32_t rank, id; } joint; /* what two neighbours would merge to */

static inline joint look(const tok *t, uint32_t left, uint32_t right, bool bar)
{
    const bpe_merge *m = bpe_merge_of(t->model, left, right);
    if (!m || (bar && (t->v.flag[m->id] & TOK_SPECIAL))) return (joint){ TOK_NONE, 0 };
    return (joint){ m->rank, m->id };
}

/* Merges s[0, n), n <= SHORT; returns the number of symbols left. */
static uint32_t merge_short(const tok *t, tok_sym *s, uint32_t n, bool bar)
{
    joint p[SHORT];
    for (uint32_t i = 0; i + 1 < n; i++) p[i] = look(t, s[i].id, s[i + 1].id, bar);
    while (n > 1) {
        uint32_t at = 0;
        for (uint32_t i = 1; i + 1 < n; i++) {
            if (p[i].rank < p[at].rank) at = i;
        }
        if (p[at].rank == TOK_NONE) break;
        s[at].id = p[at].id;
        s[at].len += s[at + 1].len;
        n--;
        memmove(s + at + 1, s + at + 2, (n - at - 1) * sizeof *s);
        memmove(p + at, p + at + 1, (n - at) * sizeof *p); /* p[n - 1] is not read again */
        if (at + 1 < n) p[at] = look(t, s[at].id, s[at + 1].id, bar);
        if (at > 0) p[at - 1] = look(t, s[at - 1].id, s[at].id, bar);
    }
    return n;
}

static void heap_push(uint64_t *h, size_t *n, uint64_t v)
{
    size_t i = (*n)++;
    for (; i && h[(i - 1) / 2] > v; i = (i - 1) / 2) h[i] = h[(i - 1) / 2];
    h[i] = v;
}

static uint64_t heap_pop(uint64_t *h, size_t *n)
{
    uint64_t top = h[0], v = h[--*n];
    size_t i = 0, k;
    while ((k = 2 * i + 1) < *n) {
        if (k + 1 < *n && h[k + 1] < h[k]) k++;
        if (h[k] >= v) break;
        h[i] = h[k];
        i = k;
    }
    h[i] = v;
    return top;
}

/* A long word: symbols linked in order, and a heap of rank << 32 | place.  An entry counts only
 * while its place still has a pair of that rank. */
typedef struct {
    const tok *t;
    tok_sym *s;
    uint32_t *next, *prev, *rank, *made;
    uint64_t *heap;
    size_t n_heap;
    bool bar;
} long_word;

static void offer(long_word *w, uint32_t at)
{
    uint32_t right = w->next[at];
    joint p = { TOK_NONE, 0 };
    if (right != TOK_NONE) p = look(w->t, w->s[at].id, w->s[right].id, w->bar);
    w->rank[at] = p.rank;
    w->made[at] = p.id;
    if (p.rank != TOK_NONE) heap_push(w->heap, &w->n_heap, (uint64_t)p.rank << 32 | at);
}

static uint32_t merge_long(tok_enc *e, tok_sym *s, uint32_t n, bool bar)
{
    e->work[0].n = e->work[1].n = 0;
    uint32_t *links = ft_buf_grow(&e->work[0], 4 * sizeof *links * (size_t)n);
    uint64_t *heap = ft_buf_grow(&e->work[1], 3 * sizeof *heap * (size_t)n); /* n, and 2 a merge */
    if (!links || !heap) return 0;
    long_word w = { e->t, s, links, links + n, links + 2 * (size_t)n, links + 3 * (size_t)n,
                    heap, 0, bar };
    for (uint32_t i = 0; i < n; i++) {
        w.next[i] = i + 1 < n ? i + 1 : TOK_NONE;
        w.prev[i] = i ? i - 1 : TOK_NONE;
    }
    for (uint32_t i = 0; i < n; i++) offer(&w, i);
    while (w.n_heap) {
        uint64_t top = heap_pop(heap, &w.n_heap);
        uint32_t at = (uint32_t)top, right = w.next[at];
        if (w.rank[at] != top >> 32) continue;
        s[at].id = w.made[at];
        s[at].len += s[right].len;
        w.next[at] = w.next[right];
        if (w.next[at] != TOK_NONE) w.prev[w.next[at]] = at;
        w.rank[right] = TOK_NONE;
        offer(&w, at);
        if (w.prev[at] != TOK_NONE) offer(&w, w.prev[at]);
    }
    uint32_t out = 0;
    for (uint32_t i = 0; i != TOK_NONE; i = w.next[i]) s[out++] = s[i];
    return out;
}

/* ---- symbols ------------------------------------------------------------------------------- */
static void add_symbol(tok_enc *e, uint32_t id, uint32_t len)
{
    tok_sym s = { id, len };
    ft_buf_add(&e->sym, &s, sizeof s);
}

/* The id of one character at p as it stands in a word: alone, or with the prefix of continuing
 * characters and the suffix of last ones.  What was looked up is left in e->spell. */
static uint32_t symbol_id(tok_enc *e, const char *p, uint32_t len, bool first, bool last)
{
    const tok *t = e->t;
    const tok_model *m = t->model;
    const char *before = first ? "" : m->prefix, *behind = last ? m->suffix : "";
    e->spell.n = 0;
    if (!*before && !*behind && len < 4) {
        uint32_t same, id = m->char_id[tok_char(p, 0, &same)];
        if (id != TOK_NONE) return id;
    }
    ft_buf_puts(&e->spell, before);
    ft_buf_add(&e->spell, p, len);
    ft_buf_puts(&e->spell, behind);
    if (e->spell.oom) return TOK_NONE;
    return tok_vocab_find(&t->v, e->spell.p, e->spell.n, TOK_MODEL);
}

/* Adds <0xXX> for each byte of e->spell, or nothing when one of them has no token. */
static bool fall_back(tok_enc *e)
{
    const uint32_t *id = e->t->model->fallback_id;
    for (size_t i = 0; i < e->spell.n; i++) {
        if (id[(uint8_t)e->spell.p[i]] == TOK_NONE) return false;
    }
    for (size_t i = 0; i < e->spell.n; i++) add_symbol(e, id[(uint8_t)e->spell.p[i]], 1);
    return true;
}

static int char_symbols(tok_enc *e, const tok_text *x)
{
    const tok *t = e->t;
    uint32_t unk = TOK_NONE, unk_len = 0, len;
    for (uint32_t i = 0; i < x->n; i += len) {
        tok_char(x->p, i, &len);
        uint32_t id = symbol_id(e, x->p + i, len, i == 0, i + len == x->n);
        if (id != TOK_NONE) {
            if (unk != TOK_NONE) add_symbol(e, unk, unk_len);
            unk = TOK_NONE;
            add_symbol(e, id, len);
        } else if (t->model->byte_fallback && fall_back(e)) {
            continue; /* an unknown stretch goes on behind it, as HF has it */
        } else if (*t->unk) {
            if (unk != TOK_NONE && !t->model->fuse_unk) add_symbol(e, unk, unk_len);
            unk_len = unk != TOK_NONE && t->model->fuse_unk ? unk_len + len : len;
            unk = tok_vocab_find(&t->v, t->unk, strlen(t->unk), TOK_MODEL);
            if (unk == TOK_NONE)
                return t->h->fail(t->h, FT_EFORMAT, "tokenizer: the text has a character that the "
                                  "vocabulary lacks, and unk_token \"%.100s\" is not in it either",
                                  t->unk);
        }
    }
    if (unk != TOK_NONE) add_symbol(e, unk, unk_len);
    return 0;
}

/* The id of the word as a whole, or TOK_NONE; `bytes`: the word is not yet spelled. */
static uint32_t whole_word(tok_enc *e, const tok_text *x, bool bytes, bool bar)
{
    const tok *t = e->t;
    const char *s = x->p;
    size_t n = x->n;
    char u[4];
    if (bytes) {
        e->spell.n = 0;
        for (uint32_t i = 0; i < x->n; i++)
            ft_buf_add(&e->spell, u, tok_utf8_put(tok_byte_char((uint8_t)x->p[i]), u));
        if (e->spell.oom) return TOK_NONE;
        s = e->spell.p;
        n = e->spell.n;
    }
    uint32_t id = tok_vocab_find(&t->v, s, n, TOK_MODEL);
    return id != TOK_NONE && bar && (t->v.flag[id] & TOK_SPECIAL) ? TOK_NONE : id;
}

/* One symbol a byte; false when a byte has no token. */
static bool byte_symbols(tok_enc *e, const tok_text *x)
{
    e->sym.n = 0;
    tok_sym *s = (tok_sym *)ft_buf_grow(&e->sym, x->n * sizeof *s);
    for (uint32_t i = 0; s && i < x->n; i++) {
        s[i] = (tok_sym){ e->t->model->byte_id[(uint8_t)x->p[i]], 1 };
        if (s[i].id == TOK_NONE) return false;
    }
    return true;
}

/* Leaves the tokens of a word in e->sym.  `bytes`: the word is bytes; 1 when one has no token. */
static int merged(tok_enc *e, const tok_text *x, bool bytes, bool bar)
{
    const tok *t = e->t;
    uint32_t id = t->model->ignore_merges ? whole_word(e, x, bytes, bar) : TOK_NONE;
    int code = 0;
    e->sym.n = 0;
    if (id != TOK_NONE) add_symbol(e, id, x->n);
    else if (!bytes) code = char_symbols(e, x);
    else if (!byte_symbols(e, x)) code = 1;
    if (e->sym.oom || e->spell.oom) return tok_no_memory(t->h);
    if (code) return code;
    uint32_t n = (uint32_t)(e->sym.n / sizeof(tok_sym));
    tok_sym *s = (tok_sym *)(void *)e->sym.p;
    if (n > SHORT && !(n = merge_long(e, s, n, bar))) return tok_no_memory(t->h);
    if (n > 1 && n <= SHORT) n = merge_short(t, s, n, bar);
    e->sym.n = n * sizeof(tok_sym);
    return 0;
}

int bpe_tokenize(tok_enc *e, const tok_text *x, bool bar)
{
    tok_build *o = &e->step[TOK_MAX_STEPS - 1]; /* never a pre-tokenizer's: spelling was the last */
    int code = merged(e, x, e->t->model->byte_level, bar);
    if (code <= 0) return code;
    /* A byte without a token: the word is spelled in characters, as the model sees it. */
    o->n = 0;
    tok_map_bytes(o, x);
    tok_text y = tok_built(o);
    code = o->oom ? tok_no_memory(e->t->h) : merged(e, &y, false, bar);
    if (!code) code = tok_put_symbols(e, &y);
    return code ? code : 1;
}
