/* report_tokens.c -- see report_tokens.h.
 *
 * A token's text is what it adds to the text of the tokens before it: some tokenizers write a blank
 * only between tokens.  A character of several tokens is shown by the first of them, whose span
 * says the ids of all. */
#include "core/run/report_tokens.h"
#include "core/base/html.h"

enum { MOST_DOCUMENTS = 4, MOST_TOKENS = 500, MOST_PARTS = 8 };

/* Ends with the mark that decoding writes for a character whose bytes are not all there. */
static bool is_cut(const ft_bytes *b)
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
        bool good = text_of(&b, tok, id, k);
        ft_bytes bytes = { b.p, b.n };
        bool cut = good && is_cut(&bytes);
        ft_buf_free(&b);
        if (!cut) return k;
    }
    return 1;
}

/* What id[from … from+n) add to the text of id[before … from). */
static void put_text(ft_buf *out, ft_tokenizer_run *tok, const int32_t *id, int64_t before,
                     int64_t from, int64_t n)
{
    ft_buf old = { 0 }, both = { 0 };
    bool good = text_of(&old, tok, id + before, from - before) &&
                text_of(&both, tok, id + before, from + n - before);
    if (good && both.n >= old.n && (old.n == 0 || !memcmp(both.p, old.p, old.n))) {
        ft_html_text(out, both.p ? both.p + old.n : "", both.n - old.n);
    } else if (text_of(&both, tok, id + from, n)) {
        ft_html_text(out, both.p ? both.p : "", both.n);
    } else {
        ft_buf_puts(out, "?");
    }
    ft_buf_free(&old);
    ft_buf_free(&both);
}

static bool is_special(ft_tokenizer_run *tok, int32_t id)
{
    return tok && id >= 0 && (uint32_t)id < tok->vocab.vocab_size &&
           tok->vt->special(tok->self, (uint32_t)id);
}

static void put_document(ft_buf *out, const int32_t *id, const int32_t *label, int64_t n,
                         ft_tokenizer_run *tok)
{
    int64_t show = n < MOST_TOKENS ? n : MOST_TOKENS, before = 0;
    ft_buf_puts(out, "<p class=\"tokens\">");
    for (int64_t i = 0, k; i < show; before = i, i += k) {
        k = tok ? whole(tok, id + i, n - i) : 1;
        bool trained = false;
        /* the first is never predicted */
        for (int64_t j = i; j < i + k; j++) trained |= j > 0 && label[j] >= 0;
        ft_buf_printf(out, "<span class=\"%s%s\" title=\"", trained ? "t" : "d",
                      is_special(tok, id[i]) ? " s" : "");
        for (int64_t j = i; j < i + k; j++) ft_buf_printf(out, "%s%d", j > i ? " " : "", id[j]);
        ft_buf_puts(out, "\">");
        if (tok) put_text(out, tok, id, before, i, k);
        else ft_buf_printf(out, "%d ", id[i]);
        ft_buf_puts(out, "</span>");
    }
    if (show < n) ft_buf_printf(out, " … %lld more tokens", (long long)(n - show));
    ft_buf_puts(out, "</p>\n");
}

void ft_report_tokens(ft_buf *out, const ft_token_set *s, ft_tokenizer_run *tok)
{
    int shown = 0;
    for (int64_t d = 0; d < s->n_docs && shown < MOST_DOCUMENTS; d++) {
        if (s->split[d] != FT_SPLIT_TRAIN) continue;
        put_document(out, s->ids + s->start[d], s->labels + s->start[d],
                     s->start[d + 1] - s->start[d], tok);
        shown++;
    }
}
