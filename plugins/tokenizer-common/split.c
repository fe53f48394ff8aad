/* split.c -- pre-tokenizers: text between added tokens is cut into words.
 *
 * Every pre-tokenizer of HF tokenizers comes down to four kinds of step (steps.c): cut at the
 * matches of a pattern with one of five behaviors; put a blank in front; turn blanks into a
 * visible character; spell bytes as characters.  Each step hands its pieces, one by one, to the
 * next one; nothing is collected. */
#include "tok.h"

/* A piece that waits to be joined with what follows. */
typedef struct {
    tok_enc *e;
    const tok_text *x;
    int next;               /* the step that pieces go to */
    uint32_t b, end;        /* the waiting piece */
    bool waits, matched;    /* whether there is one; whether the piece before was a match */
} cutter;

static int hand_on(cutter *c, uint32_t b, uint32_t end)
{
    if (b >= end) return 0;
    tok_text y = tok_cut(c->x, b, end);
    return tok_split(c->e, c->next, &y);
}

static int flush(cutter *c)
{
    bool had = c->waits;
    c->waits = false;
    return had ? hand_on(c, c->b, c->end) : 0;
}

/* One stretch of text, a match or what lies between two. */
static int stretch(cutter *c, tok_behavior how, uint32_t b, uint32_t end, bool match)
{
    bool join = false;
    if (how == TOK_REMOVED) return match ? 0 : hand_on(c, b, end);
    if (how == TOK_ISOLATED) return hand_on(c, b, end);
    if (how == TOK_CONTIGUOUS) join = match == c->matched;
    else if (how == TOK_MERGED_PREVIOUS) join = match && !c->matched;
    else join = !match && c->matched; /* MERGED_NEXT: this joins the match that waits */
    c->matched = match;
    if (c->waits && join) {
        c->end = end;
        return 0;
    }
    int code = flush(c);
    c->waits = true;
    c->b = b;
    c->end = end;
    return code;
}

static int cut(tok_enc *e, const tok_pre *s, int k, const tok_text *x)
{
    cutter c = { .e = e, .x = x, .next = k + 1 };
    tok_matches m = { .p = &s->pattern, .s = x->p, .n = x->n, .last = TOK_NONE };
    uint32_t b, end, done = 0;
    int found, code = 0;
    while (!code && (found = tok_next_match(e, &m, &b, &end)) != 0) {
        if (found < 0) return found;
        if (b > done) code = stretch(&c, s->behavior, done, b, s->invert);
        if (!code) code = stretch(&c, s->behavior, b, end, !s->invert);
        done = end;
    }
    if (!code && done < x->n) code = stretch(&c, s->behavior, done, x->n, s->invert);
    return code ? code : flush(&c);
}

/* The common case, a known expression that keeps every piece, without the bookkeeping. */
static int cut_isolated(tok_enc *e, const tok_pre *s, int k, const tok_text *x)
{
    const uint8_t *cls = e->t->cls;
    bool last = k + 1 == e->t->n_pre;
    uint32_t b, end, at = 0;
    int code = 0;
    while (at < x->n && !code) {
        b = at;
        if (!s->pattern.scan(cls, x->p, x->n, &b, &end)) b = end = x->n;
        if (b > at) {
            tok_text y = tok_cut(x, at, b);
            code = last ? tok_word(e, &y) : tok_split(e, k + 1, &y);
        }
        if (end > b && !code) {
            tok_text y = tok_cut(x, b, end);
            code = last ? tok_word(e, &y) : tok_split(e, k + 1, &y);
        }
        at = end;
    }
    return code;
}

static bool starts_with(const tok_text *x, const char *s)
{
    size_t n = strlen(s);
    return x->n >= n && !memcmp(x->p, s, n);
}

/* Blanks become s->rep, and one is put in front where the scheme says so. */
static int metaspace(tok_enc *e, const tok_pre *s, int k, const tok_text *x)
{
    uint32_t n = (uint32_t)strlen(s->rep), lo, hi;
    tok_build *o = &e->step[k];
    bool blank = *x->p == ' ' || starts_with(x, s->rep);
    tok_origin(x, 0, 1, &lo, &hi);
    o->n = 0;
    if (!blank && (s->prepend == TOK_ALWAYS || (s->prepend == TOK_FIRST && lo == 0)))
        tok_build_put(o, s->rep, n, lo, hi);
    int code = tok_build_replace(e, o, x, &s->pattern, s->rep, n);
    if (code) return code;
    tok_text y = tok_built(o);
    return tok_split(e, k + 1, &y);
}

static int rewritten(tok_enc *e, int k, tok_build *o)
{
    tok_text y = tok_built(o);
    return o->oom ? tok_no_memory(e->t->h) : tok_split(e, k + 1, &y);
}

int tok_split(tok_enc *e, int k, const tok_text *x)
{
    const tok_pre *s = &e->t->pre[k];
    if (!x->n) return 0;
    if (k == e->t->n_pre) return tok_word(e, x);
    switch (s->kind) {
    case TOK_SPLIT:
        return s->behavior == TOK_ISOLATED && s->pattern.kind == TOK_SCAN
             ? cut_isolated(e, s, k, x) : cut(e, s, k, x);
    case TOK_METASPACE: return metaspace(e, s, k, x);
    case TOK_PREFIX_SPACE:
        if (*x->p == ' ') return tok_split(e, k + 1, x);
        e->step[k].n = 0;
        tok_build_prefix(&e->step[k], x, " ", 1);
        break;
    case TOK_BYTES:
        e->step[k].n = 0;
        tok_map_bytes(&e->step[k], x);
        break;
    }
    return rewritten(e, k, &e->step[k]);
}
