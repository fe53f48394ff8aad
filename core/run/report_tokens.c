/* report_tokens.c -- see report_tokens.h; what a piece is: show.h. */
#include "core/run/report_tokens.h"
#include "core/base/html.h"
#include "core/run/show.h"

enum { MOST_DOCUMENTS = 4, MOST_TOKENS = 500 };

static void put_piece(void *ctx, const ft_shown *piece)
{
    static const char *const class[] = {
        [FT_SHOW_CONTEXT] = "d", [FT_SHOW_TEMPLATE] = "f", [FT_SHOW_TRAINED] = "t"
    };
    ft_buf *out = ctx;
    ft_buf_printf(out, "<span class=\"%s%s\" title=\"", class[piece->what],
                  piece -> special ? " s" : "");
    for (int64_t j = 0; j < piece->n_ids; j++)
        ft_buf_printf(out, "%s%d", j ? " " : "", piece->id[j]);
    ft_buf_puts(out, "\">");
    ft_html_text(out, piece->text, piece->n);
    ft_buf_puts(out, "</span>");
}

void ft_report_tokens(ft_buf *out, const ft_token_set *s, ft_tokenizer_run *tok)
{
    int shown = 0;
    for (int64_t d = 0; d < s->n_docs && shown < MOST_DOCUMENTS; d++) {
        int64_t at = s->start[d], n = s->start[d + 1] - at;
        if (s->split[d] != FT_SPLIT_TRAIN) continue;
        ft_buf_puts(out, "<p class=\"tokens\">");
        ft_show_tokens(tok, s->ids + at, s->labels + at, s->origin ? s->origin + at : NULL, n,
                       MOST_TOKENS, put_piece, out);
        if (n > MOST_TOKENS)
            ft_buf_printf(out, " … %lld more tokens", (long long)(n - MOST_TOKENS));
        ft_buf_puts(out, "</p>\n");
        shown++;
    }
}
