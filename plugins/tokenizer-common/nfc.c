/* nfc.c -- Unicode normal forms that know which character came from where.
 *
 * UAX #15 with utf8proc's data: decompose, sort marks by class, compose.  HF tokenizers uses a
 * library with the data of Unicode 9, whose characters carry their bookkeeping along: of what a
 * character decomposes into, the first replaces it and the others are new; composing adds up.
 * Both are repeated here, so that ids and offsets are equal; `newer` are the characters whose
 * data (decomposition or class) came after Unicode 9, which that library leaves alone. */
#include <utf8proc.h>
#include "tok.h"

typedef struct { uint32_t cp; int32_t change; uint32_t ccc; } mark;

static bool newer_than_9(uint32_t c)
{
    static const struct { uint32_t from, to; } newer[] = {
        { 0x7FD, 0x7FD }, { 0x898, 0x89F }, { 0x8CA, 0x8D3 }, { 0x9FE, 0x9FE }, { 0xC3C, 0xC3C },
        { 0xD3B, 0xD3C }, { 0xEBA, 0xEBA }, { 0x1715, 0x1715 }, { 0x1ABF, 0x1ACE },
        { 0x1DF6, 0x1DFA }, { 0x32FF, 0x32FF }, { 0xA7F2, 0xA7F4 }, { 0xA82C, 0xA82C },
        { 0xAB69, 0xAB69 }, { 0x10781, 0x107BA }, { 0x10D24, 0x10D27 }, { 0x10EAB, 0x10EAC },
        { 0x10F46, 0x10F50 }, { 0x10F82, 0x10F85 }, { 0x11070, 0x11070 }, { 0x1133B, 0x1133B },
        { 0x1145E, 0x1145E }, { 0x11839, 0x1183A }, { 0x11938, 0x11938 }, { 0x1193D, 0x1193E },
        { 0x11943, 0x11943 }, { 0x119E0, 0x119E0 }, { 0x11A34, 0x11A34 }, { 0x11A47, 0x11A47 },
        { 0x11A99, 0x11A99 }, { 0x11D42, 0x11D42 }, { 0x11D44, 0x11D45 }, { 0x11D97, 0x11D97 },
        { 0x16FF0, 0x16FF1 }, { 0x1E130, 0x1E136 }, { 0x1E2AE, 0x1E2AE }, { 0x1E2EC, 0x1E2EF },
        { 0x1F16C, 0x1F16C }, { 0x1FBF0, 0x1FBF9 },
    };
    for (size_t i = 0; i < sizeof newer / sizeof *newer && newer[i].from <= c; i++) {
        if (c <= newer[i].to) return true;
    }
    return false;
}

static uint32_t class_of(uint32_t c)
{
    if (c < 0x300 || newer_than_9(c)) return 0;
    return (uint32_t)utf8proc_get_property((utf8proc_int32_t)c)->combining_class;
}

/* The full decomposition of c into d; returns its length. */
static int decompose(uint32_t c, bool compat, utf8proc_int32_t d[32])
{
    int last = 0;
    utf8proc_ssize_t n = 0;
    if (c >= 0xA0 && !newer_than_9(c))
        n = utf8proc_decompose_char((utf8proc_int32_t)c, d, 32,
                                    compat ? UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT
                                           : UTF8PROC_DECOMPOSE, &last);
    if (n > 0 && n <= 32) return (int)n;
    d[0] = (utf8proc_int32_t)c;
    return 1;
}

/* The character that a and b compose to, or 0. */
static uint32_t compose(uint32_t a, uint32_t b)
{
    utf8proc_int32_t s[2] = { (utf8proc_int32_t)a, (utf8proc_int32_t)b };
    if (b < 0x300) return 0;
    utf8proc_ssize_t n = utf8proc_normalize_utf32(s, 2, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    return n == 1 && !newer_than_9((uint32_t)s[0]) ? (uint32_t)s[0] : 0;
}

/* Sorts a run of marks by class, stably: one pass for each class that occurs, at most 55. */
static void sort_marks(mark *m, mark *spare, size_t n)
{
    size_t out = 0;
    uint32_t low = 0;
    while (out < n) {
        uint32_t next = UINT32_MAX;
        for (size_t i = 0; i < n; i++) {
            if (m[i].ccc == low) spare[out++] = m[i];
            else if (m[i].ccc > low && m[i].ccc < next) next = m[i].ccc;
        }
        low = next;
    }
    memcpy(m, spare, n * sizeof *m);
}

/* Appends the sorted decomposition of x to b; false: out of memory. */
static bool decompose_text(ft_buf *b, const tok_text *x, bool compat)
{
    utf8proc_int32_t d[32];
    uint32_t len;
    for (uint32_t i = 0; i < x->n; i += len) {
        int k = decompose(tok_char(x->p, i, &len), compat, d);
        for (int j = 0; j < k; j++) {
            mark m = { (uint32_t)d[j], j > 0, class_of((uint32_t)d[j]) };
            ft_buf_add(b, &m, sizeof m);
        }
    }
    size_t n = b->n / sizeof(mark), longest = 0, run = 0;
    for (size_t i = 0; i < n; i++) {
        run = ((mark *)(void *)b->p)[i].ccc ? run + 1 : 0;
        if (run > longest) longest = run;
    }
    mark *spare = ft_buf_grow(b, longest * sizeof(mark)), *m = (mark *)(void *)b->p;
    if (b->oom) return false;
    for (size_t i = 0, from; i < n; i++) {
        for (from = i; i < n && m[i].ccc; i++) continue;
        if (i - from > 1) sort_marks(m + from, spare, i - from);
    }
    b->n = n * sizeof(mark);
    return true;
}

/* Composes m[0, n) in place; returns the new length. */
static size_t recompose(mark *m, size_t n)
{
    size_t out = 0, base = SIZE_MAX; /* index of the last starter among what is out */
    bool kept = false;               /* marks stand between it and the next character */
    uint32_t last = 0;               /* class of the last of them */
    for (size_t i = 0; i < n; i++) {
        mark c = m[i];
        uint32_t made = 0;
        bool blocked = kept && last >= c.ccc;
        if (base != SIZE_MAX && !blocked) made = compose(m[base].cp, c.cp);
        if (made) {
            m[base].cp = made;
            m[base].change += c.change - 1;
            continue;
        }
        if (c.ccc == 0) {
            base = out;
            kept = false;
        } else if (base != SIZE_MAX) {
            kept = true;
            last = c.ccc;
        }
        m[out++] = c;
    }
    return out;
}

/* True when c stays itself in this form whatever stands beside it. */
static bool inert(uint32_t c, tok_norm_kind kind)
{
    bool composed = kind == TOK_NFC || kind == TOK_NFKC;
    utf8proc_int32_t d[32];
    mark m[32];
    if (class_of(c)) return false;
    size_t n = (size_t)decompose(c, kind == TOK_NFKC || kind == TOK_NFKD, d);
    for (size_t i = 0; i < n; i++)
        m[i] = (mark){ (uint32_t)d[i], i > 0, class_of((uint32_t)d[i]) };
    if (composed) n = recompose(m, n);
    if (n != 1 || m[0].cp != c) return false;
    if (!composed) return true;
    /* Vowel and final jamo, and whatever else may join the character before it. */
    uint16_t index = utf8proc_get_property((utf8proc_int32_t)c)->comb_index;
    return !(c >= 0x1161 && c <= 0x11C2) && (index < 0x8000 || index == UINT16_MAX);
}

int tok_nf_prepare(tok *t, tok_norm_kind kind)
{
    uint8_t *bits = t->inert[kind];
    if (bits) return 0;
    bits = t->inert[kind] = calloc(0x10000 / 8, 1);
    if (!bits) return tok_no_memory(t->h);
    for (uint32_t c = 0; c < 0x10000; c++) {
        bool ideograph = c >= 0x3400 && c <= 0x9FFF, hangul = c >= 0xAC00 && c <= 0xD7A3;
        if (ideograph || (hangul && (kind == TOK_NFC || kind == TOK_NFKC)) || inert(c, kind))
            bits[c >> 3] |= (uint8_t)(1u << (c & 7));
    }
    return 0;
}

bool tok_nf_needed(const tok *t, const tok_text *x, tok_norm_kind kind)
{
    const uint8_t *bits = t->inert[kind];
    uint32_t len;
    for (uint32_t i = 0; i < x->n; i += len) {
        uint32_t c = tok_char(x->p, i, &len);
        if (c < 0x80) continue;
        if (c < 0x10000 ? !(bits[c >> 3] & 1u << (c & 7)) : !inert(c, kind)) return true;
    }
    return false;
}

int tok_nf(tok_enc *e, tok_build *o, const tok_text *x, tok_norm_kind kind)
{
    e->chars.n = 0;
    if (!decompose_text(&e->chars, x, kind == TOK_NFKC || kind == TOK_NFKD))
        return tok_no_memory(e->t->h);
    mark *m = (mark *)(void *)e->chars.p;
    size_t n = e->chars.n / sizeof *m;
    if (kind == TOK_NFC || kind == TOK_NFKC) n = recompose(m, n);
    e->changes.n = 0;
    for (size_t i = 0; i < n; i++) {
        tok_change c = { m[i].cp, m[i].change };
        ft_buf_add(&e->changes, &c, sizeof c);
    }
    if (e->changes.oom) return tok_no_memory(e->t->h);
    tok_build_changes(o, x, (const tok_change *)(const void *)e->changes.p, n);
    return o->oom ? tok_no_memory(e->t->h) : 0;
}
