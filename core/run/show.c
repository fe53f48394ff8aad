/* show.c -- see show.h.
 *
 * A token's text is what it adds to the text of the tokens before it: some tokenizers write a blank
 * only between tokens.  A character of several tokens is shown by the first of them, whose piece
 * says the ids of all. */
#include "core/run/show.h"
#include "core/base/utf8.h"

enum { MOST_PARTS = 8 };

/* ---- pieces ---------------------------------------------------------------------------------- */

/* Ends with the mark that decoding writes for a character whose bytes are not all there. */
static bool is_cut(const ft_buf *b)
{
    return b->n >= 3 && !memcmp(b->p + b->n - 3, "\xEF\xBF\xBD", 3);
}

static bool text_of(ft_buf *out, ft_tokenizer_run *tok, const int32_t *id, int64_t n)
{
    ft_bytes b;
    out->n = 0;
    for (int64_t i = 0; i < n; i++) {
        if (id[i] < 0) return false;
    }
    if (ft_tokenizer_decode(tok, (const uint32_t *)(const void *)id, (size_t)n, 0, &b, NULL))
        return false;
    ft_buf_add(out, b.p, b.n);
    return !out->oom;
}

/* How many tokens from id on make whole characters together: 1, or more for split ones. */
static int64_t whole(ft_tokenizer_run *tok, const int32_t *id, int64_t n)
{
    for (int64_t k = 1; k <= n && k <= MOST_PARTS; k++) {
        ft_buf b = { 0 };
        bool cut = text_of(&b, tok, id, k) && is_cut(&b);
        ft_buf_free(&b);
        if (!cut) return k;
    }
    return 1;
}

/* What id[from … from+n) add to the text of id[before … from), into *out. */
static void added_text(ft_buf *out, ft_tokenizer_run *tok, const int32_t *id, int64_t before,
                       int64_t from, int64_t n)
{
    ft_buf old = { 0 }, both = { 0 };
    bool good = text_of(&old, tok, id + before, from - before) &&
                text_of(&both, tok, id + before, from + n - before);
    out->n = 0;
    if (good && both.n >= old.n && (old.n == 0 || !memcmp(both.p, old.p, old.n)))
        ft_buf_add(out, both.p ? both.p + old.n : "", both.n - old.n);
    else if (text_of(&both, tok, id + from, n))
        ft_buf_add(out, both.p ? both.p : "", both.n);
    else
        ft_buf_puts(out, "?");
    ft_buf_free(&old);
    ft_buf_free(&both);
}

static bool is_special(ft_tokenizer_run *tok, int32_t id)
{
    return tok && id >= 0 && (uint32_t)id < tok->vocab.vocab_size &&
           tok->vt->special(tok->self, (uint32_t)id);
}

/* The class of tokens i … i+k: trained when one of them is; the document's first is never
 * predicted. */
static ft_show_class class_of(const int32_t *label, const uint8_t *origin, int64_t i, int64_t k)
{
    for (int64_t j = i; j < i + k; j++) {
        if (j > 0 && label[j] >= 0) return FT_SHOW_TRAINED;
    }
    return origin && origin[i] == FT_FROM_TEMPLATE ? FT_SHOW_TEMPLATE : FT_SHOW_CONTEXT;
}

void ft_show_tokens(ft_tokenizer_run *tok, const int32_t *id, const int32_t *label,
                    const uint8_t *origin, int64_t n, int64_t most,
                    void (*put)(void *ctx, const ft_shown *piece), void *ctx)
{
    ft_buf text = { 0 };
    int64_t before = 0;
    for (int64_t i = 0, k; i < n && i < most; before = i, i += k) {
        k = tok ? whole(tok, id + i, n - i) : 1;
        text.n = 0;
        if (tok) added_text(&text, tok, id, before, i, k);
        else ft_buf_printf(&text, "%d ", id[i]);
        put(ctx, &(ft_shown){ text.p ? text.p : "", text.n, id + i, k,
                              class_of(label, origin, i, k), is_special(tok, id[i]) });
    }
    ft_buf_free(&text);
}

/* ---- a terminal ------------------------------------------------------------------------------ */

static const struct { const char *on, *off, *open, *close; } look[] = {
    [FT_SHOW_CONTEXT] = { "", "", "", "" },
    [FT_SHOW_TEMPLATE] = { "\x1b[2;36m", "\x1b[0m", "‹", "›" },
    [FT_SHOW_TRAINED] = { "\x1b[30;42m", "\x1b[0m", "«", "»" },
};

void ft_show_end(ft_buf *out, bool color, int *last)
{
    if (*last >= 0) ft_buf_puts(out, color ? look[*last].off : look[*last].close);
    *last = -1;
}

void ft_show_terminal(ft_buf *out, const ft_shown *piece, bool color, int *last)
{
    if (*last != (int)piece->what) {
        ft_show_end(out, color, last);
        ft_buf_puts(out, color ? look[piece->what].on : look[piece->what].open);
        *last = (int)piece->what;
    }
    for (size_t i = 0, k; i < piece->n; i += k) {
        const unsigned char *p = (const unsigned char *)piece->text + i;
        k = ft_utf8_length(piece->text + i, piece->n - i);
        bool c1 = k == 2 && p[0] == 0xC2 && p[1] < 0xA0; /* ESC [ and the like in one character */
        if (!k || c1 || (*p < 0x20 && *p != '\n' && *p != '\t') || *p == 0x7F) {
            k = k ? k : 1;
            ft_buf_printf(out, "\\x%02x", c1 ? p[1] : *p);
        } else if (*p == '\n' && color) { /* a coloured end of line would colour the rest of it */
            ft_buf_printf(out, "⏎%s\n%s", look[piece->what].off, look[piece->what].on);
        } else {
            ft_buf_add(out, p, k);
        }
    }
}
