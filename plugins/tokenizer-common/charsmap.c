/* charsmap.c -- SentencePiece's precompiled normalizer: a trie of texts and what each becomes.
 *
 *   u32 size, little-endian; size bytes of a double array (Darts); texts, each with a zero byte
 * A unit of the array: label in bits 0-7 and 31; bit 8: a value stands at its offset; offset in
 * bits 10-30, shifted by 8 where bit 9 is set.  A value is the place of the text that is put.
 *
 * SentencePiece replaces the longest match at each place.  HF tokenizers (normalizer Precompiled)
 * asks for each grapheme of less than 6 bytes, else for each of its characters, and takes the
 * shortest match at its start for the whole; both are here, each where its files come from. */
#include <utf8proc.h>
#include "load.h"

static int broken(tok *t, const char *what)
{
    return t->h->fail(t->h, FT_EFORMAT, "tokenizer: precompiled_charsmap %s", what);
}

int tok_charsmap_read(tok *t, tok_norm *s, const char *p, size_t n)
{
    uint32_t size;
    size_t bad;
    if (n > TOK_MAX_CHARSMAP) return broken(t, "has more than 16 MiB");
    if (n < 4) return broken(t, "has no size");
    memcpy(&size, p, 4);
    if (!size || size % 4 || size > n - 4) return broken(t, "has a trie beyond its end");
    s->trie = (const uint32_t *)(const void *)tok_keep(t, p + 4, size); /* it is aligned */
    if (!s->trie) return FT_ENOMEM;
    s->n_trie = size / 4;
    s->n = (uint32_t)(n - 4 - size);
    s->s = tok_keep(t, p + 4 + size, s->n);
    if (!s->s) return FT_ENOMEM;
    return tok_utf8_valid(s->s, s->n, &bad) ? 0 : broken(t, "has a text that is not valid UTF-8");
}

/* Where a unit leads to, as what is to be xored with its own place. */
static inline uint32_t offset(uint32_t unit)
{
    return (unit >> 10) << ((unit & 1u << 9) >> 6);
}

/* The shortest or the longest match at the start of p[0, n): its length, 0: none; *put: where its
 * text begins. */
static uint32_t look_up(const tok_norm *s, const char *p, uint32_t n, uint32_t *put)
{
    uint32_t at = 0, found = 0, unit = s->trie[0];
    for (uint32_t i = 0; i < n && p[i]; i++) {
        uint32_t c = (unsigned char)p[i];
        at ^= offset(unit) ^ c;
        if (at >= s->n_trie) break;
        unit = s->trie[at];
        if ((unit & (1u << 31 | 0xFF)) != c) break;
        uint32_t leaf = at ^ offset(unit);
        if (!(unit >> 8 & 1) || leaf >= s->n_trie) continue;
        uint32_t value = s->trie[leaf] & 0x7FFFFFFF;
        if (value > s->n || tok_inside(s->s[value])) continue; /* a broken table */
        *put = value;
        found = i + 1;
        if (!s->longest) break;
    }
    return found;
}

/* ---- as SentencePiece ------------------------------------------------------------------------ */
static int replace_longest(tok_enc *e, tok_build *o, const tok_text *x, const tok_norm *s)
{
    uint32_t n, put = 0, lo, hi;
    for (uint32_t i = 0; i < x->n; i += n) {
        n = look_up(s, x->p + i, x->n - i, &put);
        if (n) {
            const char *text = s->s + put;
            tok_origin(x, i, i + n, &lo, &hi);
            tok_build_put(o, text, (uint32_t)strlen(text), lo, hi);
        } else {
            tok_char(x->p, i, &n);
            tok_build_copy(o, x, i, i + n);
        }
    }
    return o->oom ? tok_no_memory(e->t->h) : 0;
}

/* ---- as HF tokenizers ------------------------------------------------------------------------ */
static uint32_t count_chars(const char *p, uint32_t n)
{
    uint32_t chars = 0;
    for (uint32_t i = 0; i < n; i++) chars += !tok_inside(p[i]);
    return chars;
}

/* `old` characters become the text at `put`. */
static void change(ft_buf *b, uint32_t old, const tok_norm *s, uint32_t put)
{
    const char *text = s->s + put;
    uint32_t n = (uint32_t)strlen(text), len, made = 0;
    uint32_t chars = count_chars(text, n);
    for (uint32_t i = 0; i < n; i += len, made++) {
        tok_change k = { tok_char(text, i, &len), made >= old };
        ft_buf_add(b, &k, sizeof k);
    }
    if (chars < old && b->n) {
        tok_change *last = (tok_change *)(void *)(b->p + b->n) - 1;
        last->change -= (int32_t)(old - chars);
    }
}

/* The end of the grapheme at i. */
static uint32_t grapheme_end(const tok_text *x, uint32_t i)
{
    utf8proc_int32_t state = 0;
    uint32_t len, c = tok_char(x->p, i, &len);
    for (i += len; i < x->n; i += len) {
        uint32_t d = tok_char(x->p, i, &len);
        if (utf8proc_grapheme_break_stateful((utf8proc_int32_t)c, (utf8proc_int32_t)d, &state))
            break;
        c = d;
    }
    return i;
}

static int replace_graphemes(tok_enc *e, tok_build *o, const tok_text *x, const tok_norm *s)
{
    ft_buf *b = &e->changes;
    uint32_t end, len, put = 0;
    b->n = 0;
    for (uint32_t i = 0; i < x->n; i = end) {
        end = grapheme_end(x, i);
        if (end - i < 6 && look_up(s, x->p + i, end - i, &put)) {
            change(b, count_chars(x->p + i, end - i), s, put);
            continue;
        }
        for (uint32_t k = i; k < end; k += len) {
            tok_change same = { tok_char(x->p, k, &len), 0 };
            if (look_up(s, x->p + k, len, &put)) change(b, 1, s, put);
            else ft_buf_add(b, &same, sizeof same);
        }
    }
    if (b->oom) return tok_no_memory(e->t->h);
    tok_build_changes(o, x, (const tok_change *)(const void *)b->p, b->n / sizeof(tok_change));
    return o->oom ? tok_no_memory(e->t->h) : 0;
}

int tok_charsmap(tok_enc *e, tok_build *o, const tok_text *x, const tok_norm *s)
{
    return s->longest ? replace_longest(e, o, x, s) : replace_graphemes(e, o, x, s);
}
