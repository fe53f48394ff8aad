/* export.c -- tokenizer.json for a tokenizer that came from GGUF.
 *
 * Opened by HF tokenizers it gives the same ids: all tokens stand in the model's vocabulary, so
 * that added tokens keep their numbers, and merges in the order of their ranks. */
#include "tok.h"

static void put_token(const tok *t, ft_buf *b, uint32_t id)
{
    ft_json_quote(b, t->v.text.p + t->v.str[id].at, t->v.str[id].len);
}

static void put_added(const tok *t, ft_buf *b)
{
    ft_buf_puts(b, "\"added_tokens\":[");
    for (uint32_t i = 0; i < t->n_added; i++) {
        const tok_added *a = &t->added[i];
        ft_buf_printf(b, "%s\n{\"id\":%u,\"content\":", i ? "," : "", a->id);
        put_token(t, b, a->id);
        ft_buf_printf(b, ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
                      "\"normalized\":false,\"special\":%s}", a->special ? "true" : "false");
    }
    ft_buf_puts(b, "],\n");
}

static int by_rank(const void *a, const void *b)
{
    uint32_t x = (*(const tok_merge *const *)a)->rank, y = (*(const tok_merge *const *)b)->rank;
    return x < y ? -1 : x > y;
}

const tok_merge **tok_ranked_merges(const tok *t, size_t *n)
{
    const tok_merge **m = malloc((t->v.merge_mask + 2) * sizeof *m);
    *n = 0;
    for (uint64_t i = 0; m && i <= t->v.merge_mask; i++) {
        if (t->v.merge[i].id != TOK_NONE) m[(*n)++] = &t->v.merge[i];
    }
    if (m) qsort(m, *n, sizeof *m, by_rank);
    return m;
}

static bool put_merges(const tok *t, ft_buf *b)
{
    size_t n;
    const tok_merge **m = tok_ranked_merges(t, &n);
    if (!m) return false;
    ft_buf_puts(b, ",\"merges\":[");
    for (size_t i = 0; i < n; i++) {
        ft_buf_puts(b, i ? ",\n[" : "\n[");
        put_token(t, b, (uint32_t)(m[i]->pair >> 32));
        ft_buf_putc(b, ',');
        put_token(t, b, (uint32_t)m[i]->pair);
        ft_buf_putc(b, ']');
    }
    free(m);
    return true;
}

int tok_export_json(tok *t, ft_bytes *out)
{
    ft_buf *b = &t->exported;
    if (!t->shell)
        return t->h->fail(t->h, FT_EUNSUP, "tokenizer-bpe: this tokenizer was read from a "
                          "tokenizer.json; copy that file");
    b->n = 0;
    ft_buf_puts(b, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\n");
    put_added(t, b);
    ft_buf_add(b, t->shell, strlen(t->shell) - 1); /* its last brace closes the model */
    ft_buf_puts(b, ",\"vocab\":{");
    for (uint32_t id = 0; id < t->v.n_id; id++) {
        ft_buf_puts(b, id ? ",\n" : "\n");
        put_token(t, b, id);
        ft_buf_printf(b, ":%u", id);
    }
    ft_buf_puts(b, "}");
    bool fine = put_merges(t, b);
    ft_buf_puts(b, "]}}\n");
    if (!fine || b->oom) {
        ft_buf_free(b);
        return tok_no_memory(t->h);
    }
    *out = (ft_bytes){ b->p, b->n };
    return 0;
}
