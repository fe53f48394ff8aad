/* word.c -- a word becomes tokens: by the cache, or by the plugin's model.
 *
 * The tokens of short words are remembered, keyed by their bytes: running text is mostly words seen
 * before.  Nothing is allocated for a word. */
#include "tok.h"

bool tok_emit_room(tok_enc *e, size_t more)
{
    if (more <= e->cap - e->n) return true;
    size_t cap = e->cap ? e->cap : 1024;
    while (cap - e->n < more) cap *= 2;
    uint32_t *p = realloc(e->id, cap * sizeof *p);
    if (p) e->id = p;
    uint32_t *q = realloc(e->lo, cap * sizeof *q);
    if (q) e->lo = q;
    uint32_t *r = realloc(e->hi, cap * sizeof *r);
    if (r) e->hi = r;
    if (!p || !q || !r) return false;
    e->cap = cap;
    return true;
}

int tok_emit(tok_enc *e, uint32_t id, uint32_t lo, uint32_t hi)
{
    if (!tok_emit_room(e, 1)) return tok_no_memory(e->t->h);
    e->id[e->n] = id;
    e->lo[e->n] = lo;
    e->hi[e->n++] = hi;
    return 0;
}

/* Room has been made.  A token that would reach beyond the word (a suffix that has fallen back to
 * bytes) stands for nothing behind it. */
static inline void put(tok_enc *e, const tok_text *x, uint32_t id, uint32_t a, uint32_t b)
{
    uint32_t *lo = &e->lo[e->n], *hi = &e->hi[e->n];
    e->id[e->n++] = id;
    if (b <= x->n) {
        tok_origin(x, a, b, lo, hi);
    } else {
        tok_origin(x, x->n - 1, x->n, lo, hi);
        *lo = *hi;
    }
}

int tok_put_symbols(tok_enc *e, const tok_text *x)
{
    const tok_sym *s = (const tok_sym *)(const void *)e->sym.p;
    size_t n = e->sym.n / sizeof *s;
    uint32_t at = 0;
    if (!tok_emit_room(e, n)) return tok_no_memory(e->t->h);
    for (size_t i = 0; i < n; i++) {
        put(e, x, s[i].id, at, at + s[i].len);
        at += s[i].len;
    }
    return 0;
}

/* True when tokens [from, e->n) hold a special one although the word has bytes from data. */
static bool forged(const tok_enc *e, size_t from)
{
    size_t i = from;
    while (i < e->n && !(e->t->v.flag[e->id[i]] & TOK_SPECIAL)) i++;
    return i < e->n && tok_from_data(e, e->lo[from], e->hi[e->n - 1]);
}

/* The cache's place for a word of 1 to 32 bytes; key receives its bytes, zeros behind. */
static inline tok_cached *cached(tok_enc *e, const char *p, uint32_t n, uint64_t key[4])
{
    uint64_t h = n;
    uint32_t words = (n + 7) / 8;
    for (uint32_t i = 0; i < words; i++) {
        memcpy(&key[i], p + 8 * i, 8); /* texts are padded */
        if (i + 1 == words && n % 8) key[i] &= (1ull << 8 * (n % 8)) - 1;
        h = (h ^ key[i]) * 0x9E3779B97F4A7C15u;
        h ^= h >> 32;
    }
    return &e->cache[h % TOK_CACHE];
}

static inline bool hit(const tok_cached *c, uint32_t n, const uint64_t key[4])
{
    if (c->len != n) return false;
    for (uint32_t i = 0; i < (n + 7) / 8; i++) {
        if (c->key[i] != key[i]) return false;
    }
    return true;
}

static void remember(tok_cached *c, const tok_enc *e, uint32_t n, const uint64_t key[4])
{
    const tok_sym *s = (const tok_sym *)(const void *)e->sym.p;
    size_t k = e->sym.n / sizeof *s;
    if (k > TOK_CACHED) return;
    c->len = (uint8_t)n;
    c->n = (uint8_t)k;
    for (uint32_t i = 0; i < (n + 7) / 8; i++) c->key[i] = key[i];
    for (size_t i = 0; i < k; i++) {
        c->id[i] = s[i].id;
        c->tok_len[i] = (uint8_t)s[i].len;
    }
}

/* A word that the cache does not have; c: where it may go. */
static int new_word(tok_enc *e, const tok_text *x, tok_cached *c, const uint64_t *key, bool bar)
{
    e->sym.n = 0;
    int code = tok_this.tokenize(e, x, bar);
    if (code) return code < 0 ? code : 0;
    if (c) remember(c, e, x->n, key);
    return tok_put_symbols(e, x);
}

int tok_word(tok_enc *e, const tok_text *x)
{
    size_t from = e->n;
    uint64_t key[4];
    tok_cached *c = x->n <= sizeof key ? cached(e, x->p, x->n, key) : NULL;
    int code = 0;
    if (c && hit(c, x->n, key)) {
        uint32_t at = 0;
        if (!tok_emit_room(e, TOK_CACHED)) return tok_no_memory(e->t->h);
        for (uint32_t i = 0; i < c->n; i++) {
            put(e, x, c->id[i], at, at + c->tok_len[i]);
            at += c->tok_len[i];
        }
    } else {
        code = new_word(e, x, c, key, false);
    }
    if (code || !e->bar || !e->t->special_by_model || !forged(e, from)) return code;
    e->n = from;
    return new_word(e, x, NULL, key, true);
}
