/* normalize.c -- the normalizers of tokenizer.json, one after the other, on a stretch of text
 * between added tokens: NFC, NFD, NFKC, NFKD, Lowercase, Strip, Prepend, Replace, ByteLevel, and
 * those of bert.c and charsmap.c.
 *
 * Each is HF tokenizers' of the same name, offsets included; but where Replace puts text before the
 * first character for an empty match, HF goes on to double it, which is not repeated here.  A step
 * that would change nothing does nothing, so that text stays in place as long as possible. */
#include <utf8proc.h>
#include "tok.h"

static int lowercase(tok_enc *e, tok_build *o, const tok_text *x)
{
    uint32_t len;
    e->changes.n = 0;
    for (uint32_t i = 0; i < x->n; i += len) {
        uint32_t c = tok_char(x->p, i, &len);
        tok_change k = { (uint32_t)utf8proc_tolower((utf8proc_int32_t)c), 0 };
        ft_buf_add(&e->changes, &k, sizeof k);
        /* The one character with a longer lower case: i, and a dot above. */
        if (c == 0x130) ft_buf_add(&e->changes, &(tok_change){ 0x307, 1 }, sizeof k);
    }
    if (e->changes.oom) return tok_no_memory(e->t->h);
    tok_build_changes(o, x, (const tok_change *)(const void *)e->changes.p,
                      e->changes.n / sizeof(tok_change));
    return o->oom ? tok_no_memory(e->t->h) : 0;
}

/* White space at the ends: the text is only cut. */
static void strip(tok_text *x, bool left, bool right)
{
    uint32_t a = 0, b = x->n, len;
    while (left && a < b && (tok_class_of(tok_char(x->p, a, &len)) & TOK_WS)) a += len;
    while (right && b > a) {
        uint32_t at = b - 1;
        while (tok_inside(x->p[at])) at--;
        if (!(tok_class_of(tok_char(x->p, at, &len)) & TOK_WS)) break;
        b = at;
    }
    *x = tok_cut(x, a, b);
}

static bool needed(const tok *t, const tok_norm *s, const tok_text *x)
{
    switch (s->kind) {
    case TOK_NFC: case TOK_NFD: case TOK_NFKC: case TOK_NFKD: return tok_nf_needed(t, x, s->kind);
    case TOK_REPLACE:
        return s->pattern.kind != TOK_LITERAL || memmem(x->p, x->n, s->pattern.s, s->pattern.n);
    case TOK_CLEAN: case TOK_CHINESE: case TOK_DROP_MN: case TOK_DROP_M: case TOK_NMT:
        return tok_bert_needed(x, s->kind);
    default: return true;
    }
}

void tok_map_bytes(tok_build *o, const tok_text *x)
{
    char s[4];
    uint32_t lo, hi;
    for (uint32_t i = 0; i < x->n; i++) {
        tok_origin(x, i, i + 1, &lo, &hi);
        tok_build_put(o, s, (uint32_t)tok_utf8_put(tok_byte_char((uint8_t)x->p[i]), s), lo, hi);
    }
}

static int run(tok_enc *e, const tok_norm *s, tok_build *o, const tok_text *x)
{
    switch (s->kind) {
    case TOK_NFC: case TOK_NFD: case TOK_NFKC: case TOK_NFKD: return tok_nf(e, o, x, s->kind);
    case TOK_LOWERCASE: return lowercase(e, o, x);
    case TOK_REPLACE: return tok_build_replace(e, o, x, &s->pattern, s->s, s->n);
    case TOK_CLEAN: case TOK_CHINESE: case TOK_DROP_MN: case TOK_DROP_M: case TOK_NMT:
        return tok_bert(e, o, x, s->kind);
    case TOK_CHARSMAP: return tok_charsmap(e, o, x, s);
    case TOK_PREPEND: tok_build_prefix(o, x, s->s, s->n); break;
    case TOK_MAP_BYTES: tok_map_bytes(o, x); break;
    case TOK_STRIP: break;
    }
    return o->oom ? tok_no_memory(e->t->h) : 0;
}

int tok_normalize(tok_enc *e, tok_text *x)
{
    int turn = 0, code = 0;
    for (int i = 0; i < e->t->n_norm && x->n && !code; i++) {
        const tok_norm *s = &e->t->norm[i];
        if (s->kind == TOK_STRIP) {
            strip(x, s->left, s->right);
        } else if (needed(e->t, s, x)) {
            tok_build *o = &e->norm[turn];
            turn = 1 - turn;
            o->n = 0;
            code = run(e, s, o, x);
            *x = tok_built(o);
        }
    }
    return code;
}
