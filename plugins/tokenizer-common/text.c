/* text.c -- text that remembers where each of its bytes came from.
 *
 * HF tokenizers' NormalizedString: every byte of rewritten text carries the range of original bytes
 * it stands for.  Text that nothing has rewritten carries none: a byte then stands for the whole
 * character around it.  The rules for replaced, new and removed characters are those of
 * NormalizedString::transform, ::prepend and ::replace. */
#include "tok.h"

void tok_origin(const tok_text *x, uint32_t a, uint32_t b, uint32_t *lo, uint32_t *hi)
{
    if (x->lo) {
        *lo = x->lo[a];
        *hi = x->hi[b - 1];
        return;
    }
    while (a > 0 && tok_inside(x->p[a])) a--;
    while (b < x->n && tok_inside(x->p[b])) b++;
    *lo = x->base + a;
    *hi = x->base + b;
}

tok_text tok_cut(const tok_text *x, uint32_t a, uint32_t b)
{
    tok_text y = { .p = x->p + a, .n = b - a, .base = x->base + a };
    if (x->lo) {
        y.lo = x->lo + a;
        y.hi = x->hi + a;
    }
    return y;
}

static bool grow_array(uint32_t **a, size_t n)
{
    uint32_t *p = realloc(*a, n * sizeof *p);
    if (!p) return false;
    *a = p;
    return true;
}

static bool room(tok_build *o, uint32_t more)
{
    if (o->oom) return false;
    if (more <= o->cap - o->n) return true;
    uint64_t want = (uint64_t)o->n + more, cap = o->cap ? o->cap : 256;
    while (cap < want) cap *= 2;
    char *p = cap < UINT32_MAX - TOK_PAD ? realloc(o->p, cap + TOK_PAD) : NULL;
    if (p) o->p = p;
    o->oom = !p || !grow_array(&o->lo, cap) || !grow_array(&o->hi, cap);
    if (!o->oom) o->cap = (uint32_t)cap;
    return !o->oom;
}

void tok_build_put(tok_build *o, const char *s, uint32_t n, uint32_t lo, uint32_t hi)
{
    if (!room(o, n)) return;
    for (uint32_t i = 0; i < n; i++) {
        o->p[o->n] = s[i];
        o->lo[o->n] = lo;
        o->hi[o->n++] = hi;
    }
}

void tok_build_copy(tok_build *o, const tok_text *x, uint32_t a, uint32_t b)
{
    uint32_t n = b - a, len, lo, hi;
    if (!n || !room(o, n)) return;
    if (x->lo) {
        memcpy(o->p + o->n, x->p + a, n);
        memcpy(o->lo + o->n, x->lo + a, n * sizeof *o->lo);
        memcpy(o->hi + o->n, x->hi + a, n * sizeof *o->hi);
        o->n += n;
        return;
    }
    for (; a < b; a += len) {
        tok_char(x->p, a, &len);
        tok_origin(x, a, a + len, &lo, &hi);
        tok_build_put(o, x->p + a, len, lo, hi);
    }
}

tok_text tok_built(tok_build *o)
{
    if (o->p) memset(o->p + o->n, 0, TOK_PAD);
    return (tok_text){ .p = o->p, .n = o->n, .lo = o->lo, .hi = o->hi };
}

void tok_build_free(tok_build *o)
{
    free(o->p);
    free(o->lo);
    free(o->hi);
    *o = (tok_build){ 0 };
}

void tok_build_prefix(tok_build *o, const tok_text *x, const char *s, uint32_t n)
{
    uint32_t len, lo, hi;
    if (!x->n) return;
    tok_char(x->p, 0, &len);
    tok_origin(x, 0, len, &lo, &hi);
    tok_build_put(o, s, n, lo, hi);
    tok_build_copy(o, x, 0, x->n);
}

int tok_build_replace(tok_enc *e, tok_build *o, const tok_text *x, const tok_pattern *p,
                      const char *s, uint32_t n)
{
    tok_matches m = { .p = p, .s = x->p, .n = x->n, .last = TOK_NONE };
    uint32_t b, end, done = 0, lo = 0, hi = 0;
    int found;
    while ((found = tok_next_match(e, &m, &b, &end)) > 0) {
        tok_build_copy(o, x, done, b);
        /* New characters stand for what the last replaced byte stood for, or the one before an
         * empty match; at the very start for nothing. */
        if (end) tok_origin(x, end - 1, end, &lo, &hi);
        tok_build_put(o, s, n, end ? lo : 0, end ? hi : 0);
        done = end;
    }
    if (found < 0) return found;
    tok_build_copy(o, x, done, x->n);
    return o->oom ? tok_no_memory(e->t->h) : 0;
}

void tok_build_changes(tok_build *o, const tok_text *x, const tok_change *c, size_t n)
{
    uint32_t at = 0, len, lo, hi;
    char s[4];
    for (size_t i = 0; i < n; i++) {
        uint32_t k = (uint32_t)tok_utf8_put(c[i].cp, s);
        if (c[i].change > 0) {
            lo = hi = 0;
            if (at) tok_origin(x, at - 1, at, &lo, &hi);
        } else {
            if (at >= x->n) return; /* more characters replaced than there were: cannot be */
            tok_origin(x, at, at + 1, &lo, &hi);
            for (int32_t skip = c[i].change; skip <= 0 && at < x->n; skip++) {
                tok_char(x->p, at, &len);
                at += len;
            }
        }
        tok_build_put(o, s, k, lo, hi);
    }
}
