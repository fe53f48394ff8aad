/* decode.c -- from ids to text: the decoders of tokenizer.json.
 *
 * As in HF tokenizers a decoder turns a list of strings into a list of strings, and the last list
 * is joined: ByteLevel, Metaspace, Replace, ByteFallback, Fuse, Strip, BPEDecoder, WordPiece,
 * Sequence; with no decoder the tokens are joined by blanks.  A list is one buffer and the ends of
 * its strings; two of them are used in turn. */
#include "tok.h"

typedef struct { ft_buf *text, *ends; } list; /* ends: size_t each */

static size_t count(list l) { return l.ends->n / sizeof(size_t); }
static size_t end_of(list l, size_t i) { return ((const size_t *)(const void *)l.ends->p)[i]; }
static size_t begin_of(list l, size_t i) { return i ? end_of(l, i - 1) : 0; }
static void empty(list l)
{
    l.text->n = l.ends->n = 0;
    ft_buf_room(l.text, 0); /* so that its bytes have a place even when there are none */
}

static void close_string(list l) { ft_buf_add(l.ends, &l.text->n, sizeof l.text->n); }

/* Appends bytes as text: each maximal part that is no character becomes U+FFFD (the practice
 * that Unicode recommends, and Rust's from_utf8_lossy). */
static void add_lossy(ft_buf *out, const char *s, size_t n)
{
    size_t at = 0, bad;
    if (n == 0) return; /* s may be NULL */
    while (!tok_utf8_valid(s + at, n - at, &bad)) {
        const unsigned char *p = (const unsigned char *)s + at + bad;
        size_t left = n - at - bad, k = 1;
        unsigned char low = 0x80, high = 0xBF;
        int tails = p[0] >= 0xC2 && p[0] <= 0xDF ? 1 : p[0] >= 0xE0 && p[0] <= 0xEF ? 2
                  : p[0] >= 0xF0 && p[0] <= 0xF4 ? 3 : 0;
        if (p[0] == 0xE0) low = 0xA0;
        if (p[0] == 0xED) high = 0x9F;
        if (p[0] == 0xF0) low = 0x90;
        if (p[0] == 0xF4) high = 0x8F;
        for (; tails && k < left && p[k] >= low && p[k] <= high; k++, tails--) {
            low = 0x80;
            high = 0xBF;
        }
        ft_buf_add(out, s + at, bad);
        ft_buf_puts(out, "\xEF\xBF\xBD");
        at += bad + k;
    }
    ft_buf_add(out, s + at, n - at);
}

/* The bytes that a token spells in byte-level characters; a token with others: its own bytes. */
static void add_bytes(ft_buf *out, const char *s, size_t n)
{
    size_t from = out->n;
    uint32_t len;
    for (uint32_t i = 0; i < n; i += len) {
        int b = tok_char_byte(tok_char(s, i, &len));
        if (b < 0) {
            out->n = from;
            ft_buf_add(out, s, n);
            return;
        }
        ft_buf_putc(out, (char)b);
    }
}

static void byte_level(list out, list in, ft_buf *bytes)
{
    bytes->n = 0;
    for (size_t i = 0; i < count(in); i++)
        add_bytes(bytes, in.text->p + begin_of(in, i), end_of(in, i) - begin_of(in, i));
    if (bytes->oom) out.text->oom = true;
    else add_lossy(out.text, bytes->p, bytes->n);
    close_string(out);
}

/* Every character s->s becomes a blank; in the first token it goes, where one had been added. */
static void metaspace(list out, list in, const tok_dec *s)
{
    for (size_t i = 0; i < count(in); i++) {
        const char *p = in.text->p;
        for (size_t at = begin_of(in, i), end = end_of(in, i); at < end;) {
            if (end - at >= s->n && !memcmp(p + at, s->s, s->n)) {
                if (i || !s->prepend) ft_buf_putc(out.text, ' ');
                at += s->n;
            } else {
                ft_buf_putc(out.text, p[at++]);
            }
        }
        close_string(out);
    }
}

/* Replaces the matches of s->pattern in each string; `last`: by nothing in the last one. */
static int replace(tok_enc *e, list out, list in, const tok_dec *s, bool last)
{
    for (size_t i = 0; i < count(in); i++) {
        size_t from = begin_of(in, i);
        const char *p = in.text->p + from;
        tok_matches m = { .p = &s->pattern, .s = p, .n = (uint32_t)(end_of(in, i) - from),
                          .last = TOK_NONE };
        uint32_t b, end, done = 0;
        int found;
        while ((found = tok_next_match(e, &m, &b, &end)) > 0) {
            ft_buf_add(out.text, p + done, b - done);
            if (!last || i + 1 < count(in)) ft_buf_add(out.text, s->s, s->n);
            done = end;
        }
        if (found < 0) return found;
        ft_buf_add(out.text, p + done, m.n - done);
        close_string(out);
    }
    return 0;
}

/* The byte of a token "<0xXX>", or -1.  A sign is taken where Rust's from_str_radix takes it. */
static int fallback_byte(const char *s, size_t n)
{
    int v = 0;
    if (n != 6 || memcmp(s, "<0x", 3) || s[5] != '>') return -1;
    for (size_t i = s[3] == '+' ? 4 : 3; i < 5; i++) {
        char c = s[i];
        int d = c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f'
              ? (c | 0x20) - 'a' + 10 : -1;
        if (d < 0) return -1;
        v = v * 16 + d;
    }
    return v;
}

/* Ends a run of fallback bytes: one string when they are text, else a U+FFFD for each. */
static void end_run(list out, ft_buf *run)
{
    size_t bad;
    if (run->n && tok_utf8_valid(run->p, run->n, &bad)) {
        ft_buf_add(out.text, run->p, run->n);
        close_string(out);
    } else {
        for (size_t i = 0; i < run->n; i++) {
            ft_buf_puts(out.text, "\xEF\xBF\xBD");
            close_string(out);
        }
    }
    run->n = 0;
}

static void fall_back(list out, list in, ft_buf *run)
{
    run->n = 0;
    for (size_t i = 0; i < count(in); i++) {
        const char *s = in.text->p + begin_of(in, i);
        size_t n = end_of(in, i) - begin_of(in, i);
        int b = fallback_byte(s, n);
        if (b >= 0) {
            ft_buf_putc(run, (char)b);
            continue;
        }
        end_run(out, run);
        ft_buf_add(out.text, s, n);
        close_string(out);
    }
    end_run(out, run);
    if (run->oom) out.text->oom = true;
}

/* Up to start and stop characters s->s go from the ends of each string. */
static void strip(list out, list in, const tok_dec *s)
{
    for (size_t i = 0; i < count(in); i++) {
        size_t b = begin_of(in, i), end = end_of(in, i);
        const char *p = in.text->p;
        for (uint32_t k = 0; k < s->start && end - b >= s->n && !memcmp(p + b, s->s, s->n); k++)
            b += s->n;
        for (uint32_t k = 0; k < s->stop && end - b >= s->n && !memcmp(p + end - s->n, s->s, s->n);
             k++)
            end -= s->n;
        ft_buf_add(out.text, p + b, end - b);
        close_string(out);
    }
}

/* Blanks before punctuation and contractions go, one rule after the other. */
static void clean_up(ft_buf *b, size_t from)
{
    static const char *const rule[][2] = {
        { " .", "." }, { " ?", "?" }, { " !", "!" }, { " ,", "," }, { " ' ", "'" },
        { " n't", "n't" }, { " 'm", "'m" }, { " do not", " don't" }, { " 's", "'s" },
        { " 've", "'ve" }, { " 're", "'re" } };
    for (size_t i = 0; !b->oom && i < sizeof rule / sizeof *rule; i++) {
        const char *p = b->p + from, *end = b->p + b->n, *q;
        size_t old = strlen(rule[i][0]), n = strlen(rule[i][1]);
        char *to = b->p + from; /* no text is longer than what it replaces */
        while ((q = memmem(p, (size_t)(end - p), rule[i][0], old))) {
            memmove(to, p, (size_t)(q - p));
            to += q - p;
            memcpy(to, rule[i][1], n);
            to += n;
            p = q + old;
        }
        memmove(to, p, (size_t)(end - p));
        b->n = (size_t)(to + (end - p) - b->p);
    }
}

/* A token that begins with s->s continues the one before; a blank is put before any other. */
static void wordpiece(list out, list in, const tok_dec *s)
{
    for (size_t i = 0; i < count(in); i++) {
        const char *p = in.text->p + begin_of(in, i);
        size_t n = end_of(in, i) - begin_of(in, i), from = out.text->n;
        bool goes_on = n >= s->n && !memcmp(p, s->s, s->n);
        if (i && !goes_on) ft_buf_putc(out.text, ' ');
        if (i && goes_on) ft_buf_add(out.text, p + s->n, n - s->n);
        else ft_buf_add(out.text, p, n);
        if (s->cleanup) clean_up(out.text, from);
        close_string(out);
    }
}

static int run(tok_enc *e, const tok_dec *s, list out, list in)
{
    empty(out);
    switch (s->kind) {
    case TOK_D_BYTES: byte_level(out, in, &e->spell); return 0;
    case TOK_D_METASPACE: metaspace(out, in, s); return 0;
    case TOK_D_REPLACE: return replace(e, out, in, s, false);
    case TOK_D_SUFFIX: return replace(e, out, in, s, true);
    case TOK_D_FALLBACK: fall_back(out, in, &e->spell); return 0;
    case TOK_D_STRIP: strip(out, in, s); return 0;
    case TOK_D_WORDPIECE: wordpiece(out, in, s); return 0;
    case TOK_D_FUSE: break;
    }
    ft_buf_add(out.text, in.text->p, in.text->n);
    close_string(out);
    return 0;
}

/* The spellings of the ids; unknown ids are passed over. */
static int spell(tok_enc *e, list out, const uint32_t *id, size_t n, bool skip)
{
    const tok *t = e->t;
    empty(out);
    for (size_t i = 0; i < n; i++) {
        size_t len;
        const char *s = tok_spelling(t, id[i], &len);
        if (!s) continue;
        uint32_t same = skip ? tok_vocab_find(&t->v, s, len, TOK_SPECIAL) : TOK_NONE;
        if (same != TOK_NONE) continue; /* it is the spelling that makes a token special */
        if (!t->n_dec && out.ends->n) ft_buf_putc(out.text, ' ');
        ft_buf_add(out.text, s, len);
        close_string(out);
    }
    return out.text->oom || out.ends->oom ? tok_no_memory(t->h) : 0;
}

int tok_decode(tok_enc *e, const uint32_t *id, size_t n, unsigned flags, ft_bytes *out)
{
    list l[2] = { { &e->list[0], &e->ends[0] }, { &e->list[1], &e->ends[1] } };
    int turn = 0, code = spell(e, l[0], id, n, flags & FT_DECODE_SKIP_SPECIAL);
    e->cpu_start = e->cpu_bytes = e->cpu_count = 0;
    for (int i = 0; i < e->t->n_dec && !code; i++, turn = 1 - turn) {
        code = run(e, &e->t->dec[i], l[1 - turn], l[turn]);
        bool oom = l[1 - turn].text->oom || l[1 - turn].ends->oom;
        if (!code && oom) code = tok_no_memory(e->t->h);
    }
    if (!code) *out = (ft_bytes){ e->list[turn].p, e->list[turn].n };
    return tok_ended(e, code);
}
